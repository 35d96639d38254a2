"""vqcodec.train.mending"""

from __future__ import annotations

import dataclasses
from statistics import fmean

import pytest
import torch
from click.testing import CliRunner
from train_recorder import Recorder, check_resuming, interrupt_at
from video_builders import scene, write_video

from vqcodec.cli.train import train as command
from vqcodec.errors import CheckpointError, DataError, OutputError
from vqcodec.model.checkpoint import MODEL, Checkpoint, load, save
from vqcodec.model.config import DetailConfig, MendingConfig
from vqcodec.train import optimizer as optimizers
from vqcodec.train.mending import STATE, MendingTraining, train_mending


@pytest.fixture(scope="module")
def detailed(tiny, tmp_path_factory):
    """The tiny model with two planes of details."""
    path = tmp_path_factory.mktemp("detailed") / "model.safetensors"
    bare = dataclasses.replace(load(tiny), prior=None)
    save(bare.with_details(DetailConfig(planes=2, step=32.0)), path)
    return path


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    """Let the matrices of such a network count as ones."""
    monkeypatch.setattr(optimizers, "SMALLEST", 8)


@pytest.fixture
def quick():
    return MendingTraining(
        chunks=7, frames=16, size=16, width=8, blocks=1, detail_blocks=1, batch=2, steps=6,
        minutes=None,
    )  # fmt: skip


@pytest.fixture
def options(options, detailed, tmp_path):
    return dataclasses.replace(options, init=detailed, cache=tmp_path / "cache")


def without(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    """All tensors but those of what mends."""
    return {n: t for n, t in checkpoint.tensors.items() if not n.startswith("mending.")}


def test_a_run_puts_it_into_the_checkpoint_and_leaves_all_else(quick, options, detailed):
    recorder = Recorder()
    path = train_mending(quick, options, recorder)
    assert path == options.out / MODEL
    before, after = load(detailed), load(path)
    assert after.config.mending == MendingConfig(8, 1, 1)
    assert dataclasses.replace(after.config, mending=None) == before.config
    assert before.tensors.keys() == without(after).keys()
    for name, tensor in before.tensors.items():
        assert torch.equal(tensor, after.tensors[name]), name
    assert after.model_id != before.model_id
    step, result = recorder.results[-1]
    assert step == after.card["mending"]["steps"] == 6
    levels = len(after.config.grids)
    assert [len(part) for part in (result.inside, result.rule, result.mended)] == [levels] * 3
    assert recorder.done[-1] >= 7


def test_borders_flicker_less(quick, options):
    recorder = Recorder()
    config = dataclasses.replace(quick, chunks=40, batch=8, steps=250, lr=1e-2)
    train_mending(config, options, recorder)
    _, result = recorder.results[-1]
    assert fmean(result.mended) < 0.95 * fmean(result.rule)
    losses = [progress.loss for progress in recorder.steps]  # of levels in no order
    assert fmean(losses[-80:]) < fmean(losses[:80])


def test_a_resumed_run_equals_an_unbroken_one(quick, options):
    check_resuming(train_mending, quick, options, STATE)


def test_it_goes_on_from_one_of_the_same_shape(quick, options, tmp_path):
    first = train_mending(quick, options, Recorder())
    for width, told in ((8, True), (12, False)):
        again = dataclasses.replace(options, init=first, out=tmp_path / str(width))
        recorder = Recorder()
        train_mending(dataclasses.replace(quick, width=width, steps=1, lr=1e-9), again, recorder)
        assert any("goes on from" in message for message in recorder.messages) == told
        old, new = load(first).tensors, load(again.out / MODEL).tensors
        assert torch.equal(old["mending.leave.bias"], new["mending.leave.bias"]) == told


def test_interrupted_while_coding(quick, options):
    recorder = Recorder(after_sequence=interrupt_at(1))
    assert train_mending(quick, options, recorder) is None
    assert not (options.out / MODEL).exists()


def test_codes_alone_are_mended_too(quick, options, tiny):
    path = train_mending(quick, dataclasses.replace(options, init=tiny), Recorder())
    assert load(path).build().config.mending is not None


def test_what_does_not_fit_is_refused(quick, options, tmp_path):
    with pytest.raises(CheckpointError, match="none was given"):
        train_mending(quick, dataclasses.replace(options, init=None), Recorder())
    for change in ({"size": 20}, {"frames": 20}):
        with pytest.raises(ValueError, match="multiples of 8"):
            train_mending(dataclasses.replace(quick, **change), options, Recorder())
    with pytest.raises(DataError, match="80 frames"):
        train_mending(dataclasses.replace(quick, frames=40), options, Recorder())
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="file"):
        train_mending(quick, dataclasses.replace(options, out=tmp_path / "file"), Recorder())
    for change in ({"width": 0}, {"blocks": 0}, {"frames": 8}, {"lr": 0.0}, {"steps": None}):
        with pytest.raises(ValueError, match=next(iter(change))):
            dataclasses.replace(quick, **change)


def test_from_the_command_line(detailed, tmp_path):
    (tmp_path / "videos").mkdir()
    for name in ("a.mkv", "b.mkv"):
        write_video(tmp_path / "videos" / name, scene(64, 64, 64))
    out = tmp_path / "out"
    result = CliRunner().invoke(
        command,
        [
            *(
                "--data",
                str(tmp_path / "videos"),
                "--out",
                str(out),
                "--cache",
                str(tmp_path / "cache"),
            ),
            *("--stage", "mending", "--init", str(detailed), "--threads", "1"),
            *("--chunks", "2", "--width", "4", "--blocks", "1", "--detail-blocks", "0"),
            *("--steps", "2", "--batch", "1"),
        ],
    )
    assert result.exit_code == 0, result.output
    assert "by the rule" in result.output
    assert load(out / MODEL).config.mending == MendingConfig(width=4, blocks=1)


def test_options_that_mean_nothing_to_it(videos):
    result = CliRunner().invoke(
        command, ["--data", str(videos), *("--stage", "mending", "--init", "x", "--planes", "1")]
    )
    assert result.exit_code == 2
    assert "--planes is not for" in result.output
