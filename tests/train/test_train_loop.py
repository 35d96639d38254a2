"""vqcodec.train.loop, in one process"""

from __future__ import annotations

import dataclasses
import itertools
import os
import signal
import types

import numpy as np
import pytest
import torch
from faults import largest_file
from PIL import Image

from vqcodec.errors import CheckpointError, DataError, OutputError, SettingError
from vqcodec.model.checkpoint import MODEL, export, load, read_safetensors, save
from vqcodec.model.config import PRESETS
from vqcodec.model.network import MSVQVAE
from vqcodec.train import loop
from vqcodec.train import optimizer as optimizers
from vqcodec.train.config import TrainConfig
from vqcodec.train.loop import STATE, train
from vqcodec.train.stills import Motion


def interrupt_after(step, number=signal.SIGTERM):
    def act(progress):
        if progress.step == step:
            os.kill(os.getpid(), number)

    return act


def state_of(options):
    return read_safetensors(options.out / STATE)


def in_folder(options, name):
    return dataclasses.replace(options, out=options.out.parent / name)


@pytest.fixture
def narrow(monkeypatch):
    """Let Muon move the matrices of the tiny network too."""
    monkeypatch.setattr(optimizers, "SMALLEST", 8)


@pytest.fixture
def plain(monkeypatch):
    """An architecture that differs from tiny only in that nothing refines it."""
    config = dataclasses.replace(PRESETS["tiny"], refinement=None)
    monkeypatch.setitem(PRESETS, "plain", config)
    return "plain"


def test_a_run_ends_with_a_model_and_a_state(quick, options, recorder):
    path = train(quick, options, recorder)
    assert path == options.out / MODEL
    model = load(path)
    assert model.config == PRESETS["tiny"]
    assert model.card["steps"] == 6
    assert model.card["clip_steps"] == 12
    assert model.card["training"]["lr"] == quick.lr
    assert model.card["videos"] == 4
    assert model.card["validation"]["psnr"] == list(recorder.validations[-1][1].psnr)
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
        {
            "bf16": True,
            "short_clips": 0.5,
            "frames": 32,
            "rotation": True,
            "clip_grad": 1.0,
            "optimizer": "muon",
            "level_weights": (1.0, 2.0, 1.0, 2.0),
        },
        {"bf16": False, "still_share": 0.5},
    ],
)
def test_a_resumed_run_equals_an_unbroken_one(
    quick, options, new_recorder, changes, narrow, photographs
):
    settings = dict(changes)
    options = dataclasses.replace(options, bf16=settings.pop("bf16"), stills=(photographs,))
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
    slots = {name.rsplit(".", 1)[-1] for name in found if name.startswith("optimizer.")}
    assert ("momentum" in slots) == (config.optimizer == "muon")


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


def test_another_configuration_does_not_resume(quick, options, recorder, photographs):
    options = dataclasses.replace(options, stills=(photographs,))
    train(quick, options, recorder)
    for change in (
        {"lr": 0.5},
        {"model": "single-level"},
        {"optimizer": "muon"},
        {"level_weights": (1.0, 1.0, 1.0, 1.0)},
        {"still_share": 0.5},
    ):
        with pytest.raises(SettingError, match="other settings"):
            train(dataclasses.replace(quick, **change), options, recorder)


def test_stills_are_trained_on(quick, options, recorder, photographs, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "Motion", lambda: Motion(brightness=1, unsteady_light=0, noise=0))
    (tmp_path / "bad.png").write_bytes(b"noise")
    Image.new("RGB", (40, 40), (200, 10, 60)).save(tmp_path / "red.png")
    seen = []
    cut_short = loop._Run._cut_short

    def watch(run, batch):
        seen.append(batch)
        return cut_short(run, batch)

    monkeypatch.setattr(loop._Run, "_cut_short", watch)
    options = dataclasses.replace(options, stills=(tmp_path / "bad.png", tmp_path / "red.png"))
    model = load(train(dataclasses.replace(quick, still_share=1.0), options, recorder))
    red = torch.tensor([200, 10, 60], dtype=torch.uint8)[:, None, None, None]
    assert all(bool((batch == red).all()) for batch in seen)
    assert (model.card["videos"], model.card["stills"]) == (4, 2)
    assert [message for message in recorder.messages if "skipped" in message] == [
        message for message in recorder.messages if f"{tmp_path / 'bad.png'}: " in message
    ]
    assert len(recorder.messages) == 1


def test_stills_change_nothing_where_they_have_no_share(quick, options, new_recorder, photographs):
    train(quick, in_folder(options, "without"), new_recorder())
    options = dataclasses.replace(options, stills=(photographs,))
    train(quick, options, new_recorder())
    (_, expected), (_, found) = state_of(in_folder(options, "without")), state_of(options)
    for name, tensor in expected.items():
        assert torch.equal(tensor, found[name]), name


def test_stills_that_are_not_there_are_an_error(quick, options, recorder, tmp_path):
    config = dataclasses.replace(quick, still_share=0.5)
    with pytest.raises(ValueError, match="still_share needs stills"):
        train(config, options, recorder)
    with pytest.raises(DataError, match="no pictures found"):
        train(config, dataclasses.replace(options, stills=(tmp_path,)), recorder)
    (tmp_path / "bad.png").write_bytes(b"noise")
    config = dataclasses.replace(config, still_share=1.0)
    with pytest.raises(DataError, match=r"cannot be read, such as .*bad\.png"):
        train(config, dataclasses.replace(options, stills=(tmp_path,)), recorder)


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


def test_the_time_budget_stops(quick, options, recorder, monkeypatch):
    seconds = itertools.count()  # by as many calls
    clock = types.SimpleNamespace(monotonic=lambda: float(next(seconds)))
    monkeypatch.setattr(loop, "time", clock)
    config = dataclasses.replace(quick, steps=None, minutes=20 / 60, delay=0)
    train(config, options, recorder)
    last = recorder.steps[-1]
    assert 15 < last.elapsed <= 22
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
        quick, steps=80, lr=1e-2, frames=8, batch=4, delay=20, commitment=0.25
    )
    train(config, dataclasses.replace(options, bf16=False), recorder)
    losses = [progress.loss for progress in recorder.steps]
    assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:5])
    assert max(recorder.validations[-1][1].psnr) > 12


def test_perceptual_losses_join_in(quick, options, recorder):
    config = dataclasses.replace(quick, perceptual="ms-ssim", perceptual_weight=1000.0, steps=1)
    train(config, options, recorder)
    assert recorder.steps[0].loss > 10


def test_fine_tuning_starts_from_the_checkpoint(quick, options, new_recorder, tmp_path):
    first = train(dataclasses.replace(quick, delay=0), in_folder(options, "first"), new_recorder())
    tuned = dataclasses.replace(quick, steps=1, lr=1e-9, delay=100)
    options = dataclasses.replace(options, init=first)
    recorder = new_recorder()
    train(tuned, options, recorder)
    before, after = load(first), load(options.out / MODEL)
    assert after.config == before.config
    for name, tensor in before.tensors.items():
        if name.endswith("codebook"):
            # All but the few entries that were just used; in a refinement's 16, they are many.
            moved = (after.tensors[name] - tensor).norm(dim=1) / (tensor.norm(dim=1) + 1e-9)
            assert float(moved.median()) < (1e-3 if len(moved) > 16 else 0.1)
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


@pytest.mark.parametrize("decoder_only", [False, True])
def test_a_prior_comes_along_and_entries_keep_their_numbers(
    quick, options, recorder, foresight, decoder_only
):
    tuned = dataclasses.replace(quick, steps=1, lr=1e-9, decoder_only=decoder_only)
    after = load(train(tuned, dataclasses.replace(options, init=foresight), recorder))
    before = load(foresight)
    assert after.prior.config == before.prior.config
    assert after.prior.digest == before.prior.digest
    after.prior.build()
    for name, tensor in before.tensors.items():
        if name.endswith("codebook"):
            nearest = torch.cdist(tensor, after.tensors[name]).argmin(1)
            kept = (nearest == torch.arange(len(tensor))).float().mean()
            assert kept > (0.9 if len(tensor) > 16 else 0.4), name


@pytest.mark.parametrize("content", [None, b"noise"])
def test_fine_tuning_from_nothing_is_an_error(quick, options, recorder, tmp_path, content):
    path = tmp_path / "init.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"init\.safetensors"):
        train(quick, dataclasses.replace(options, init=path), recorder)


@pytest.mark.parametrize(
    "change",
    [
        {"tail_blocks": 2},
        {"levels": PRESETS["tiny"].levels[1:]},
        {"refinement": dataclasses.replace(PRESETS["tiny"].refinement, stages=1)},
    ],
)
def test_fine_tuning_another_architecture_is_refused(quick, options, recorder, tmp_path, change):
    other = dataclasses.replace(PRESETS["tiny"], **change)
    save(export(MSVQVAE(other), {}), tmp_path / "init.safetensors")
    options = dataclasses.replace(options, init=tmp_path / "init.safetensors")
    with pytest.raises(CheckpointError, match=r"init\.safetensors: of another architecture"):
        train(quick, options, recorder)
    assert not (options.out / STATE).exists()


def test_a_refinement_is_not_dropped(quick, options, recorder, tmp_path, plain):
    save(export(MSVQVAE(PRESETS["tiny"]), {}), tmp_path / "init.safetensors")
    options = dataclasses.replace(options, init=tmp_path / "init.safetensors")
    with pytest.raises(CheckpointError, match="another architecture than plain"):
        train(dataclasses.replace(quick, model=plain), options, recorder)


@pytest.mark.parametrize("steps", [2, 4])
def test_a_refinement_starts_afresh_on_a_network_without_one(
    quick, options, recorder, tmp_path, plain, steps
):
    torch.manual_seed(1)
    before = export(MSVQVAE(PRESETS[plain]), {})
    save(before, tmp_path / "init.safetensors")
    options = dataclasses.replace(options, init=tmp_path / "init.safetensors")
    train(dataclasses.replace(quick, steps=steps, lr=1e-9, delay=3), options, recorder)
    _, state = state_of(options)
    for name, tensor in before.tensors.items():
        found = state[f"network.{name}"]
        if name.endswith("codebook"):
            moved = (found - tensor).norm(dim=1) / tensor.norm(dim=1)
            assert float(moved.median()) < 1e-3
        elif name != "synthesis.quality.weight":  # it has more levels now
            torch.testing.assert_close(found, tensor.float())
    # The levels go on at once; the stages wait for their delay.
    assert all(state[f"network.quantizers.{n}.age"] == 4 + steps for n in (0, 1))
    assert all(state[f"network.refiner.stages.{n}.age"] == steps for n in (0, 1))
    started = steps > 3
    assert any("no use" in message for message in recorder.messages) != started


def test_a_model_of_other_thresholds_is_a_start(quick, options, recorder, tmp_path, monkeypatch):
    top, bottom = PRESETS["tiny"].levels
    tiny, other = (
        dataclasses.replace(
            PRESETS["tiny"],
            levels=(top, dataclasses.replace(bottom, split=True, worth=worth)),
            refinement=dataclasses.replace(PRESETS["tiny"].refinement, worth=worth, decay=decay),
        )
        for worth, decay in ((0.2, 0.5), (0.0, 1.0))
    )
    monkeypatch.setitem(PRESETS, "tiny", tiny)
    save(export(MSVQVAE(other), {}), tmp_path / "init.safetensors")
    options = dataclasses.replace(options, init=tmp_path / "init.safetensors")
    first = load(train(dataclasses.replace(quick, lr=1e-9), options, recorder))
    assert first.config == tiny
    name = "synthesis.stages.0.join.weight"
    assert torch.equal(first.tensors[name], load(options.init).tensors[name])
    # A decoder alone goes with the codes that there are.
    options = dataclasses.replace(options, out=tmp_path / "decoder")
    alone = dataclasses.replace(quick, decoder_only=True)
    assert load(train(alone, options, recorder)).config == other


def test_transferred_levels_code_and_decode_as_before(tmp_path, plain):
    torch.manual_seed(1)
    save(export(MSVQVAE(PRESETS[plain]), {}), tmp_path / "plain.safetensors")
    ready = load(tmp_path / "plain.safetensors").build()
    network = MSVQVAE(PRESETS["tiny"], delay=3)
    loop._transfer(ready, network)
    assert not network.started
    assert [book.started for book in network.quantizers] == [True, True]
    clip = torch.rand(1, 3, 8, 16, 16)
    indices = network.eval().encode(clip, 2)
    assert all(torch.equal(a, b) for a, b in zip(indices, ready.encode(clip), strict=True))
    # New blocks start as the identity, and the embeddings of levels at zero.
    torch.testing.assert_close(network.decode(indices), ready.decode(indices))


def test_a_level_that_is_split_codes_as_before(tmp_path):
    tiny = PRESETS["tiny"]
    torch.manual_seed(1)
    ready = MSVQVAE(tiny)
    torch.nn.init.normal_(ready.synthesis.quality.weight)
    halves = dataclasses.replace(tiny.levels[1], split=True)
    network = MSVQVAE(dataclasses.replace(tiny, levels=(tiny.levels[0], halves)))
    shapes = [loop._shape(each.config) for each in (ready, network)]
    assert shapes[0] in loop._beginnings(shapes[1])
    assert shapes[1] not in loop._beginnings(shapes[0])
    loop._transfer(ready, network)
    clip = torch.rand(1, 3, 16, 16, 16)
    before, after = ready.eval().encode(clip), network.eval().encode(clip)
    for quality in (1, 2, 3, 4):
        assert torch.equal(
            network.decode(after[: quality + (quality > 1)]), ready.decode(before[:quality])
        )
    torch.nn.init.normal_(network.synthesis.quality.weight)
    again = MSVQVAE(network.config)
    loop._transfer(network, again)
    for name, tensor in network.synthesis.state_dict().items():
        assert torch.equal(again.synthesis.state_dict()[name], tensor), name


@pytest.mark.parametrize("split", [False, True])
def test_decoder_only_keeps_the_codes(quick, options, new_recorder, narrow, monkeypatch, split):
    tiny = PRESETS["tiny"]
    if split:
        halves = dataclasses.replace(tiny.levels[1], split=True, worth=0.2)
        tiny = dataclasses.replace(tiny, levels=(tiny.levels[0], halves))
        monkeypatch.setitem(PRESETS, "tiny", tiny)
    first = train(dataclasses.replace(quick, delay=0), in_folder(options, "first"), new_recorder())
    tuned = dataclasses.replace(
        quick,
        steps=4,
        lr=1e-2,
        decoder_only=True,
        optimizer="muon",
        level_weights=(1.0,) * len(tiny.grids),
    )
    options = dataclasses.replace(options, init=first)
    recorder = new_recorder(after_step=interrupt_after(2))
    train(tuned, options, recorder)
    train(tuned, options, recorder)
    assert [progress.step for progress in recorder.steps] == [1, 2, 3, 4]
    before, after = load(first), load(options.out / MODEL)
    moved = {
        name
        for name, tensor in before.tensors.items()
        if not torch.equal(tensor, after.tensors[name])
    }
    assert {name.split(".")[1] for name in moved} == {"refine", "refined", "quality", "tail"}
    clip = torch.rand(2, 3, 8, 16, 16)
    grids = before.build().encode(clip)
    assert all(torch.equal(a, b) for a, b in zip(grids, after.build().encode(clip), strict=True))


def test_decoder_only_needs_codes_to_keep(quick, options, recorder, tmp_path, plain):
    config = dataclasses.replace(quick, decoder_only=True)
    save(export(MSVQVAE(PRESETS[plain]), {}), tmp_path / "init.safetensors")
    for init in (None, tmp_path / "init.safetensors"):
        with pytest.raises(ValueError, match="decoder_only needs a checkpoint"):
            train(config, dataclasses.replace(options, init=init), recorder)


def run_at(config, rank=0):
    run = object.__new__(loop._Run)
    run.config, run.rank, run.step = config, rank, 0
    return run


def test_level_weights_say_how_often_each_level_is_drawn():
    weights = (1.0, 5.0, 0.0, 4.0)
    run = run_at(TrainConfig(model="tiny", level_weights=weights))
    counts = np.zeros(4)
    for step in range(500):
        run.step = step
        quality = run._quality(8)
        assert quality.shape == (8,)
        counts += np.bincount(quality - 1, minlength=4)
        assert torch.equal(quality, run._quality(8))
    np.testing.assert_allclose(counts / counts.sum(), np.array(weights) / 10, atol=0.03)
    assert counts[2] == 0


def test_processes_draw_levels_of_their_own():
    config = TrainConfig(model="tiny", level_weights=(1.0,) * 4)
    assert not torch.equal(run_at(config)._quality(50), run_at(config, rank=1)._quality(50))


def test_without_level_weights_every_clip_is_at_the_highest():
    assert run_at(TrainConfig(model="tiny"))._quality(3) is None


def test_the_levels_drawn_are_the_ones_trained(quick, options, recorder, monkeypatch):
    seen = []
    forward = MSVQVAE.forward

    def watch(network, clip, quality=None):
        if network.training:
            seen.append(quality.tolist())
        return forward(network, clip, quality)

    monkeypatch.setattr(MSVQVAE, "forward", watch)
    config = dataclasses.replace(quick, steps=2, delay=0, level_weights=(0.0, 0.0, 1.0, 0.0))
    train(config, options, recorder)
    assert seen == [[3, 3], [3, 3]]
    _, state = state_of(options)
    # The rows of the embedding that no clip used are as they began.
    rows = state["network.synthesis.quality.weight"].any(dim=1)
    assert rows.tolist() == [False, False, True, False]


@pytest.mark.parametrize("groups", [1, 2])
def test_the_learning_rate_is_that_of_all_groups(quick, options, new_recorder, monkeypatch, groups):
    monkeypatch.setattr(optimizers, "SMALLEST", 8 if groups == 2 else 64)
    made = []

    def make(*arguments, **more):
        made.append(optimizers.make_optimizer(*arguments, **more))
        return made[0]

    monkeypatch.setattr(loop, "make_optimizer", make)
    rates = []

    def look(progress):
        rates.append([group["lr"] for group in made[0].param_groups])
        assert rates[-1] == [progress.lr] * groups

    config = dataclasses.replace(quick, steps=3, optimizer="muon", warmup=2)
    train(config, options, new_recorder(after_step=look))
    assert len({rate for rate, *_ in rates}) == 3


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


def test_a_disk_that_is_full_leaves_the_last_state(quick, options, new_recorder):
    config = dataclasses.replace(quick, steps=8)
    whole, broken = in_folder(options, "whole"), in_folder(options, "broken")
    train(config, whole, new_recorder())
    train(config, broken, new_recorder(after_step=interrupt_after(3)))
    before = sorted((path.name, path.read_bytes()) for path in broken.out.iterdir())

    full = dataclasses.replace(broken, save_every=1)
    with largest_file(10_000), pytest.raises(OutputError, match=f"{STATE}: File too large"):
        train(config, full, new_recorder())
    assert sorted((path.name, path.read_bytes()) for path in broken.out.iterdir()) == before

    train(config, broken, new_recorder())
    for name, tensor in state_of(whole)[1].items():
        assert torch.equal(tensor, state_of(broken)[1][name]), name


def test_a_disk_that_is_full_of_footage(quick, options, recorder, tmp_path):
    empty = dataclasses.replace(options, cache=tmp_path / "empty")
    with largest_file(1_000), pytest.raises(OutputError, match=r"empty/.*\.npy: File too large"):
        train(quick, empty, recorder)
    assert list(empty.cache.iterdir()) == []


def test_nothing_is_fetched_or_made_where_there_is_no_footage(
    quick, options, recorder, monkeypatch
):
    def fetch(*_arguments, **_options):
        raise AssertionError

    monkeypatch.setattr("vqcodec.train.loop.perceptual_loss", fetch)
    config = dataclasses.replace(quick, perceptual="vgg16", perceptual_weight=0.4)
    nowhere = dataclasses.replace(options, data=(options.out / "none",))
    with pytest.raises(DataError, match="no such folder"):
        train(config, nowhere, recorder)
    assert not options.out.exists()
