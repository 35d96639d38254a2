"""vqcodec.train.loop, in one process"""

from __future__ import annotations

import dataclasses
import os
import signal

import numpy as np
import pytest
import torch

from vqcodec.errors import CheckpointError, DataError, OutputError
from vqcodec.model.checkpoint import export, load, read_safetensors, save
from vqcodec.model.config import PRESETS, LevelConfig, ModelConfig
from vqcodec.model.network import MSVQVAE
from vqcodec.train.loop import MODEL, STATE, train


def interrupt_after(step, number=signal.SIGTERM):
    def act(progress):
        if progress.step == step:
            os.kill(os.getpid(), number)

    return act


def state_of(options):
    return read_safetensors(options.out / STATE)


def in_folder(options, name):
    return dataclasses.replace(options, out=options.out.parent / name)


def test_a_run_ends_with_a_model_and_a_state(quick, options, recorder):
    path = train(quick, options, recorder)
    assert path == options.out / MODEL
    model = load(path)
    assert model.config == PRESETS["tiny"]
    assert model.card["steps"] == 6
    assert model.card["clip_steps"] == 12
    assert model.card["training"]["lr"] == quick.lr
    assert model.card["videos"] == 4
    assert model.card["validation"]["psnr"] == recorder.validations[-1][1].psnr
    model.build()
    assert [progress.step for progress in recorder.steps] == [1, 2, 3, 4, 5, 6]
    assert recorder.steps[-1].clips_per_second > 0
    rates = [progress.lr for progress in recorder.steps]
    expected = quick.lr / 2 * (1 + np.cos(np.pi * np.arange(6) / 6))
    np.testing.assert_allclose(rates, expected)


@pytest.mark.parametrize(
    "changes",
    [
        {"bf16": False},
        {"bf16": True, "short_clips": 0.5, "frames": 32, "rotation": True, "clip_grad": 1.0},
    ],
)
def test_a_resumed_run_equals_an_unbroken_one(quick, options, new_recorder, changes):
    settings = dict(changes)
    options = dataclasses.replace(options, bf16=settings.pop("bf16"))
    config = dataclasses.replace(quick, steps=8, **settings)
    whole, broken = in_folder(options, "whole"), in_folder(options, "broken")
    train(config, whole, new_recorder())

    # Once before the codebooks start, once after; by both signals; and with a validation between.
    broken = dataclasses.replace(broken, validate_every=4)
    for step, number in ((1, signal.SIGTERM), (5, signal.SIGINT)):
        recorder = new_recorder(after_step=interrupt_after(step, number))
        train(config, broken, recorder)
        assert recorder.steps[-1].step == step
        assert any("run again to resume" in message for message in recorder.messages)
    recorder = new_recorder()
    train(config, broken, recorder)
    assert recorder.messages == ["resumed at step 5"]
    assert [progress.step for progress in recorder.steps] == [6, 7, 8]

    (_, expected), (_, found) = state_of(whole), state_of(broken)
    assert expected.keys() == found.keys()
    assert {name.split(".")[0] for name in found} == {"network", "optimizer", "random"}
    for name, tensor in expected.items():
        assert torch.equal(tensor, found[name]), name


def test_a_finished_run_is_not_trained_further(quick, options, new_recorder):
    train(quick, options, new_recorder())
    _, before = state_of(options)
    recorder = new_recorder()
    train(quick, options, recorder)
    assert not recorder.steps
    for name, tensor in state_of(options)[1].items():
        assert torch.equal(tensor, before[name])


def test_a_longer_schedule_goes_on(quick, options, new_recorder):
    train(quick, options, new_recorder())
    recorder = new_recorder()
    train(dataclasses.replace(quick, steps=8), options, recorder)
    assert [progress.step for progress in recorder.steps] == [7, 8]


def test_no_resume_starts_over(quick, options, new_recorder):
    train(quick, options, new_recorder())
    recorder = new_recorder()
    train(quick, dataclasses.replace(options, resume=False), recorder)
    assert recorder.steps[0].step == 1


def test_another_configuration_does_not_resume(quick, options, recorder):
    train(quick, options, recorder)
    for change in ({"lr": 0.5}, {"model": "single-level"}):
        with pytest.raises(CheckpointError, match="other settings"):
            train(dataclasses.replace(quick, **change), options, recorder)


@pytest.mark.parametrize("content", [b"", b"noise", None])
def test_a_damaged_state_is_an_error(quick, options, recorder, content):
    options.out.mkdir()
    if content is None:
        save(export(MSVQVAE(PRESETS["tiny"]), {}), options.out / STATE)
    else:
        (options.out / STATE).write_bytes(content)
    with pytest.raises(CheckpointError, match=STATE):
        train(quick, options, recorder)


def test_saves_and_validates_on_time(quick, options, new_recorder):
    options = dataclasses.replace(options, validate_every=2, save_every=3)
    seen = {}

    def look(progress):
        seen[progress.step] = (options.out / STATE).exists()

    recorder = new_recorder(after_step=look)
    train(quick, options, recorder)
    assert seen == {1: False, 2: False, 3: False, 4: True, 5: True, 6: True}
    assert [step for step, _ in recorder.validations] == [2, 4, 6, 6]


def test_the_time_budget_stops(quick, options, recorder):
    config = dataclasses.replace(quick, steps=None, minutes=1.5 / 60, delay=0)
    train(config, options, recorder)
    last = recorder.steps[-1]
    assert 1.0 < last.elapsed < 5
    assert last.lr < recorder.steps[0].lr
    assert not any("resume" in message for message in recorder.messages)
    recorder.steps.clear()
    train(config, options, recorder)  # the budget counts earlier sessions
    assert not recorder.steps


def test_epochs_count_clips_of_the_footage(quick, options, new_recorder):
    recorder = new_recorder(after_step=interrupt_after(1))
    train(dataclasses.replace(quick, steps=None, epochs=2.0), options, recorder)
    train(dataclasses.replace(quick, steps=None, epochs=2.0), options, recorder)
    # 50, 40, 5, 70 and 45 frames are 3, 2, 1, 4 and 2 clips of 16; one video is set aside.
    assert recorder.steps[-1].step in {12 - aside for aside in (1, 2, 3, 4)}


def test_loss_falls(quick, options, recorder):
    config = dataclasses.replace(
        quick, steps=120, lr=1e-2, frames=8, batch=4, delay=20, commitment=0.25
    )
    train(config, dataclasses.replace(options, bf16=False), recorder)
    losses = [progress.loss for progress in recorder.steps]
    assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:5])
    assert recorder.validations[-1][1].psnr > 12


def test_perceptual_losses_join_in(quick, options, recorder):
    config = dataclasses.replace(quick, perceptual="ms-ssim", perceptual_weight=1000.0, steps=1)
    train(config, options, recorder)
    assert recorder.steps[0].loss > 10


def test_fine_tuning_starts_from_the_checkpoint(quick, options, new_recorder, tmp_path):
    first = train(dataclasses.replace(quick, delay=0), in_folder(options, "first"), new_recorder())
    tuned = dataclasses.replace(quick, steps=1, lr=1e-9, delay=100, model="base")
    options = dataclasses.replace(options, init=first)
    recorder = new_recorder()
    train(tuned, options, recorder)
    before, after = load(first), load(options.out / MODEL)
    assert after.config == before.config
    for name, tensor in before.tensors.items():
        if name.endswith("codebook"):
            moved = (after.tensors[name] - tensor).norm(dim=1) / tensor.norm(dim=1)
            assert float(moved.median()) < 1e-3  # all but the few entries that were just used
        else:
            torch.testing.assert_close(after.tensors[name], tensor)
    assert not any("no use" in message for message in recorder.messages)


def test_a_fine_tuned_run_stays_quantised_when_resumed_without_init(quick, options, new_recorder):
    first = train(quick, in_folder(options, "first"), new_recorder())
    tuned = dataclasses.replace(quick, delay=100)
    train(
        tuned,
        dataclasses.replace(options, init=first),
        new_recorder(after_step=interrupt_after(3)),
    )
    recorder = new_recorder()
    train(tuned, options, recorder)
    assert not any("no use" in message for message in recorder.messages)


@pytest.mark.parametrize("content", [None, b"noise"])
def test_fine_tuning_from_nothing_is_an_error(quick, options, recorder, tmp_path, content):
    path = tmp_path / "init.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"init\.safetensors"):
        train(quick, dataclasses.replace(options, init=path), recorder)


def test_fine_tuning_takes_the_architecture_of_the_checkpoint(quick, options, recorder, tmp_path):
    small = LevelConfig(4, 4, entries=16, dim=8, lookup_dim=4, width=8)
    save(export(MSVQVAE(ModelConfig((small,))), {}), tmp_path / "init.safetensors")
    options = dataclasses.replace(options, init=tmp_path / "init.safetensors")
    train(dataclasses.replace(quick, steps=1), options, recorder)
    assert load(options.out / MODEL).config == ModelConfig((small,))


def test_a_model_stopped_before_quantisation_is_called_useless(quick, options, recorder):
    train(dataclasses.replace(quick, steps=2, delay=2), options, recorder)
    assert any("no use" in message for message in recorder.messages)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 20}, "size must be a multiple of 8"),
        ({"frames": 12}, "frames must be a multiple of 8"),
        ({"frames": 16, "short_clips": 0.1}, "frames must be a multiple of 32"),
        ({"size": 8, "perceptual": "ms-ssim"}, "at least 11"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(quick, options, recorder, change, message):
    with pytest.raises(ValueError, match=message):
        train(dataclasses.replace(quick, **change), options, recorder)


def test_a_step_without_finite_gradient_is_skipped(quick, options, recorder, monkeypatch):
    from vqcodec.train import loop

    def broken(kind, decoded, clip):
        return decoded.mean() * float("nan")

    monkeypatch.setattr(loop, "reconstruction_loss", broken)
    train(quick, options, recorder)
    assert sum("skipped" in message for message in recorder.messages) == 6
    assert all(bool(tensor.isfinite().all()) for tensor in state_of(options)[1].values())


def test_footage_problems_are_reported(quick, options, recorder, tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"noise")
    train(
        dataclasses.replace(quick, steps=1),
        dataclasses.replace(options, data=(*options.data, tmp_path / "broken.mp4")),
        recorder,
    )
    assert len(recorder.problems) == 1
    with pytest.raises(DataError):
        train(quick, dataclasses.replace(options, data=(tmp_path,)), recorder)


def test_handlers_are_put_back(quick, options, recorder):
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    train(dataclasses.replace(quick, steps=1), options, recorder)
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


@pytest.mark.parametrize("name", ["out", "cache"])
def test_an_unusable_folder_is_an_output_error(quick, options, recorder, tmp_path, name):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="file"):
        train(quick, dataclasses.replace(options, **{name: tmp_path / "file"}), recorder)
