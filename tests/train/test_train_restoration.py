"""vqcodec.train.restoration"""

from __future__ import annotations

import dataclasses
from statistics import fmean

import pytest
import torch
from click.testing import CliRunner
from detail_values import known_of, symbols_of
from train_recorder import Recorder, check_resuming, interrupt_at

from vqcodec.cli.train import train as command
from vqcodec.errors import CheckpointError, OutputError
from vqcodec.model.checkpoint import MODEL, load
from vqcodec.model.config import RestorationConfig
from vqcodec.model.details import lacking
from vqcodec.train import optimizer as optimizers
from vqcodec.train.config import RunOptions, TrainConfig
from vqcodec.train.details import DetailTraining, train_details
from vqcodec.train.loop import train
from vqcodec.train.prior import PriorTraining, train_prior
from vqcodec.train.restoration import STATE, RestorationTraining, train_restoration


@pytest.fixture(scope="module")
def detailed(tiny, videos, tmp_path_factory):
    """The tiny model with two planes of details and a prior."""
    folder = tmp_path_factory.mktemp("detailed")
    config = PriorTraining(
        chunks=2, frames=16, size=16, hidden=4, embedding=2, batch=1, steps=1, minutes=None
    )  # fmt: skip
    options = RunOptions((videos,), folder / "prior", folder / "cache", init=tiny)
    options = dataclasses.replace(
        options, init=train_prior(config, options, Recorder()), out=folder / "details"
    )
    details = DetailTraining(
        planes=2, step=32.0, chunks=4, frames=16, size=16, steps=1, minutes=None
    )
    return train_details(details, options, Recorder())


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    """Let the matrices of such a network count as ones."""
    monkeypatch.setattr(optimizers, "SMALLEST", 8)


@pytest.fixture
def quick():
    return RestorationTraining(
        chunks=7, frames=16, size=16, width=8, blocks=1, detail_blocks=1, interval_width=8,
        interval_blocks=1, batch=2, steps=6, minutes=None,
    )  # fmt: skip


@pytest.fixture
def options(options, detailed, tmp_path):
    return dataclasses.replace(options, init=detailed, cache=tmp_path / "cache")


def test_a_run_puts_it_into_the_checkpoint_and_leaves_all_else(quick, options, detailed):
    recorder = Recorder()
    path = train_restoration(quick, options, recorder)
    assert path == options.out / MODEL
    before, after = load(detailed), load(path)
    assert after.config.restoration == RestorationConfig(8, 1, 1, 8, 1)
    assert dataclasses.replace(after.config, restoration=None) == before.config
    assert after.prior.build().digest() == before.prior.build().digest()
    for name, tensor in before.tensors.items():
        assert torch.equal(tensor, after.tensors[name]), name
    added = after.tensors.keys() - before.tensors.keys()
    assert all(name.startswith("restoration.") for name in added)
    assert after.model_id != before.model_id
    step, result = recorder.results[-1]
    assert step == after.card["restoration"]["steps"] == 6
    assert len(result.before) == len(result.after) == len(after.config.grids) == 6
    assert recorder.done[-1] == 7


def test_pictures_come_closer_to_their_source(quick, options):
    recorder = Recorder()
    config = dataclasses.replace(quick, chunks=24, batch=4, steps=250, lr=1e-2)
    train_restoration(config, options, recorder)
    _, result = recorder.results[-1]
    for before, after in zip(result.before, result.after, strict=True):
        assert after > before + 0.05
    losses = [progress.loss for progress in recorder.steps]  # of levels in no order
    assert fmean(losses[-80:]) < fmean(losses[:80])


def test_a_resumed_run_equals_an_unbroken_one(quick, options):
    check_resuming(train_restoration, quick, options, STATE)


def test_it_goes_on_from_one_of_the_same_shape(quick, options, tmp_path):
    first = train_restoration(quick, options, Recorder())
    again = dataclasses.replace(options, init=first, out=tmp_path / "again")
    recorder = Recorder()
    train_restoration(dataclasses.replace(quick, steps=1, lr=1e-9), again, recorder)
    assert any("goes on from the restoration" in message for message in recorder.messages)
    old, new = load(first).tensors, load(again.out / MODEL).tensors
    assert torch.equal(old["restoration.enter.mix.weight"], new["restoration.enter.mix.weight"])


def test_blocks_for_details_join_one_that_has_none(quick, options, tmp_path):
    less = {"detail_blocks": 0, "interval_width": 0, "interval_blocks": 0}
    first = train_restoration(dataclasses.replace(quick, **less), options, Recorder())
    assert not any("detail_blocks" in name or "interval" in name for name in load(first).tensors)
    del less["detail_blocks"]
    more = {"interval_blocks": 2}
    for number, change in enumerate((less, {}, more)):  # then intervals, then more of theirs
        again = dataclasses.replace(options, init=first, out=tmp_path / str(number))
        recorder = Recorder()
        config = dataclasses.replace(quick, steps=1, lr=1e-9, **change)
        path = train_restoration(config, again, recorder)
        assert any("goes on from the restoration" in message for message in recorder.messages)
        before, after = load(first).build().restoration, load(path).build().restoration
        for old, new in zip(before.blocks, after.blocks, strict=True):
            assert all(map(torch.equal, old.parameters(), new.parameters()))
        decoded, residual = torch.rand(2, 1, 3, 8, 16, 16).unbind()
        details = load(path).config.details
        found = known_of(symbols_of(lacking(255 * residual, details), details, 2), details)
        # What is new begins as the identity, but for intervals, and these are for details alone.
        for some, level in ((None, 4),) if number == 1 else ((None, 4), (found, 6)):
            with torch.inference_mode():
                shown = [part(decoded, some, torch.tensor([level])) for part in (before, after)]
            torch.testing.assert_close(*shown)
        first = path


def test_it_does_not_go_on_from_a_wider_or_deeper_one(quick, options, tmp_path):
    larger = {"width": 16}, {"blocks": 2}, {"interval_blocks": 2}
    for number, change in enumerate(larger):
        out = tmp_path / str(number)
        first = train_restoration(
            dataclasses.replace(quick, steps=1, **change),
            dataclasses.replace(options, out=out),
            Recorder(),
        )
        again = dataclasses.replace(options, init=first, out=out / "again")
        recorder = Recorder()
        train_restoration(dataclasses.replace(quick, steps=1), again, recorder)
        assert not any("goes on from" in message for message in recorder.messages)


def test_interrupted_while_coding(quick, options):
    recorder = Recorder(after_sequence=interrupt_at(1))
    assert train_restoration(quick, options, recorder) is None
    assert not (options.out / MODEL).exists()


def test_what_does_not_fit_is_refused(quick, options, tmp_path):
    with pytest.raises(CheckpointError, match="none was given"):
        train_restoration(quick, dataclasses.replace(options, init=None), Recorder())
    for change, told in (({"size": 20}, "multiples of 8"), ({"chunks": 3}, "at least 4")):
        with pytest.raises(ValueError, match=told):
            train_restoration(dataclasses.replace(quick, **change), options, Recorder())
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="file"):
        train_restoration(quick, dataclasses.replace(options, out=tmp_path / "file"), Recorder())
    for change in ({"width": 0}, {"blocks": 0}, {"lr": 0.0}, {"seed": -1}, {"steps": None}):
        with pytest.raises(ValueError, match=next(iter(change))):
            dataclasses.replace(quick, **change)


def test_codes_alone_are_restored_too(quick, options, tiny):
    path = train_restoration(quick, dataclasses.replace(options, init=tiny), Recorder())
    config = load(path).build().config
    assert config.details is None
    assert config.restoration is not None


def test_it_goes_where_what_it_restores_behind_does(quick, options, recorder, tmp_path):
    path = train_restoration(quick, options, Recorder())
    start = dataclasses.replace(options, init=path)
    details = DetailTraining(planes=1, chunks=2, frames=16, size=16, steps=1, minutes=None)
    other = load(train_details(details, dataclasses.replace(start, out=tmp_path / "a"), Recorder()))
    assert other.config.restoration is None
    assert not any(name.startswith("restoration.") for name in other.tensors)
    other.build()
    network = TrainConfig(model="tiny", frames=16, size=16, batch=2, steps=1, perceptual="none")
    after = load(train(network, dataclasses.replace(start, out=tmp_path / "b"), recorder))
    assert after.config.details is after.config.restoration is None
    prior = PriorTraining(
        chunks=2, frames=16, size=16, hidden=4, embedding=2, batch=1, steps=1, minutes=None
    )
    kept = load(train_prior(prior, dataclasses.replace(start, out=tmp_path / "c"), Recorder()))
    assert kept.config == load(path).config
    kept.build()


def test_details_that_it_aims_are_trained_once_more(quick, options, tmp_path):
    before = load(train_restoration(quick, options, Recorder()))
    start = dataclasses.replace(options, init=options.out / MODEL, out=tmp_path / "again")
    details = DetailTraining(
        planes=2, step=32.0, chunks=4, frames=16, size=16, steps=1, minutes=None, seed=5
    )
    after = load(train_details(details, start, Recorder()))
    assert after.config == before.config
    assert after.tensors.keys() == before.tensors.keys()
    assert all(torch.equal(before.tensors[name], after.tensors[name]) for name in before.tensors)
    assert after.prior.build().digest() != before.prior.build().digest()
    assert after.card.keys() >= before.card.keys()


def test_from_the_command_line(videos, detailed, tmp_path):
    out = tmp_path / "out"
    result = CliRunner().invoke(
        command,
        [
            *("--data", str(videos), "--out", str(out), "--cache", str(tmp_path / "cache")),
            *("--stage", "restoration", "--init", str(detailed), "--threads", "1"),
            *("--chunks", "4", "--width", "4", "--blocks", "1", "--detail-blocks", "0"),
            *("--interval-width", "4", "--interval-blocks", "0", "--steps", "2", "--batch", "1"),
        ],
    )
    assert result.exit_code == 0, result.output
    assert "dB (" in result.output
    found = load(out / MODEL)
    assert found.card["restoration"]["steps"] == 2
    assert found.config.restoration == RestorationConfig(width=4, blocks=1, interval_width=4)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--stage", "restoration"], "--init"),
        (["--stage", "restoration", "--init", "x", "--planes", "1"], "--planes is not for"),
    ],
)
def test_options_that_mean_nothing_to_it(videos, tmp_path, arguments, told):
    result = CliRunner().invoke(command, ["--data", str(videos), *arguments])
    assert result.exit_code == 2
    assert told in result.output
