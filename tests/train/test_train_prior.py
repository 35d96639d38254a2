"""vqcodec.train.prior and .codes"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from train_recorder import Recorder, check_resuming, interrupt_at

from vqcodec.cli.train import train as command
from vqcodec.entropy.prior import Prior
from vqcodec.errors import CheckpointError, OutputError, SettingError
from vqcodec.model.checkpoint import MODEL, load
from vqcodec.train import codes as codes_module
from vqcodec.train.codes import Codes, Sequences, encode_training, encode_validation
from vqcodec.train.details import DetailTraining, train_details
from vqcodec.train.prior import STATE, PriorTraining, _Grids, _Run, train_prior


@pytest.fixture
def quick():
    return PriorTraining(
        chunks=6, frames=16, size=16, hidden=8, embedding=4, batch=2, steps=6, minutes=None
    )


@pytest.fixture
def options(options, tiny, tmp_path):
    return dataclasses.replace(options, init=tiny, cache=tmp_path / "cache")


# Sequences of chunks


def test_sequences_are_whole_chunks_in_a_row(footage):
    sequences = Sequences(footage, frames=16, size=16, seed=0)
    lengths = set()
    for number in range(30):
        clips = sequences(number)
        assert clips.dtype == torch.uint8
        assert clips.shape[1:] == (3, 16, 16, 16)
        assert torch.equal(clips, sequences(number))
        lengths.add(len(clips))
    assert lengths == {1, 2, 3, 4}  # 5, 40, 50 and 70 frames
    assert not torch.equal(sequences(0), Sequences(footage, frames=16, size=16, seed=1)(0))


def encode(checkpoint, footage, folder, **changes):
    settings = {"chunks": 6, "frames": 16, "size": 16, "seed": 0, **changes}
    return encode_training(checkpoint, footage, folder, **settings)


def test_codes_are_kept_and_found_again(tiny, footage, tmp_path, monkeypatch):
    monkeypatch.setattr(codes_module, "SHARD", 3)
    checkpoint = load(tiny)
    codes = encode(checkpoint, footage, tmp_path)
    assert len(codes) == 6
    shapes = [(2, 2, 2), *[(4, 4, 4)] * (len(codes.grids) - 1)]
    for grid, shape, level in zip(codes.grids, shapes, checkpoint.config.grids, strict=True):
        assert grid.dtype == np.int16
        assert grid.shape == (len(codes), *shape)
        assert grid.min() >= 0
        assert grid.max() < level.entries
    assert not codes.follows[0]

    monkeypatch.setattr(type(checkpoint), "build", None)  # nothing is encoded any more
    same(encode(checkpoint, footage, tmp_path), codes)
    same(encode(checkpoint, footage, tmp_path, chunks=4), codes.first(4))
    monkeypatch.undo()
    more = encode(checkpoint, footage, tmp_path, chunks=9)
    same(more.first(6), codes)
    same(more, encode(checkpoint, footage, tmp_path / "at once", chunks=9))
    damaged = sorted(tmp_path.glob("*/*.npz"))[0]
    damaged.write_bytes(damaged.read_bytes()[:100])
    same(encode(checkpoint, footage, tmp_path), codes)


def same(one: Codes, other: Codes):
    for a, b in zip((*one.grids, one.follows), (*other.grids, other.follows), strict=True):
        np.testing.assert_array_equal(a, b)


def test_stopped_encoding_goes_on(tiny, footage, tmp_path, monkeypatch):
    monkeypatch.setattr(codes_module, "SHARD", 3)
    checkpoint = load(tiny)
    assert encode(checkpoint, footage, tmp_path / "a", report=lambda done: done > 4) is None
    assert list((tmp_path / "a").rglob("*.npz"))
    same(encode(checkpoint, footage, tmp_path / "a"), encode(checkpoint, footage, tmp_path / "b"))


def test_validation_codes_are_those_of_the_centre_square(tiny, footage):
    from vqcodec.codec import Codec

    square = next(item for item in footage if item.source.name == "square.avi")
    codes = encode_validation(load(tiny), [square], frames=16, size=32)
    assert codes.follows.tolist() == [False, True, True, True]
    grids = Codec.load(tiny).encode(square.read(16, 32))
    for grid, level in zip(grids, codes.grids, strict=True):
        np.testing.assert_array_equal(grid, level[1])


# The loop


def test_a_run_puts_a_prior_into_the_checkpoint(quick, options, tiny):
    recorder = Recorder()
    path = train_prior(quick, options, recorder)
    assert path == options.out / MODEL
    before, after = load(tiny), load(path)
    assert after.network_id == before.network_id
    assert after.model_id != before.model_id
    assert after.prior.build().levels == after.prior.config.levels
    card = after.card["prior"]
    assert card["steps"] == 6
    assert card["training"]["hidden"] == 8
    step, result = recorder.results[-1]
    assert step == 6
    assert card["validation"]["memory"] == list(result.memory)
    assert result.fixed == tuple((level.entries - 1).bit_length() for level in before.config.grids)
    assert {name: value for name, value in after.card.items() if name != "prior"} == before.card
    assert [progress.step for progress in recorder.steps] == [1, 2, 3, 4, 5, 6]
    assert recorder.steps[-1].lr < recorder.steps[0].lr * 10


def test_a_resumed_run_equals_an_unbroken_one(quick, options):
    check_resuming(train_prior, quick, options, STATE)
    assert load(options.out / "broken" / MODEL).prior is not None


def test_a_run_stopped_while_encoding_has_no_model_yet(quick, options):
    recorder = Recorder(after_sequence=interrupt_at(1))
    assert train_prior(quick, options, recorder) is None
    assert not recorder.steps
    assert any("while encoding" in message for message in recorder.messages)
    assert train_prior(quick, options, Recorder()) is not None


def test_other_settings_or_another_network_do_not_resume(quick, options, stranger):
    train_prior(quick, options, Recorder())
    for config, where in (
        (dataclasses.replace(quick, lr=0.5), options),
        (quick, dataclasses.replace(options, init=stranger)),
    ):
        with pytest.raises(SettingError, match="other settings"):
            train_prior(config, where, Recorder())
    recorder = Recorder()
    train_prior(dataclasses.replace(quick, steps=7), options, recorder)
    assert [progress.step for progress in recorder.steps] == [7]
    # The result is a checkpoint of the same network, and may be its own start.
    again = dataclasses.replace(options, init=options.out / MODEL)
    train_prior(dataclasses.replace(quick, steps=8), again, recorder)
    assert recorder.steps[-1].step == 8


@pytest.mark.parametrize(("hidden", "goes_on"), [(8, True), (12, True), (4, False)])
def test_a_prior_goes_on_from_one_that_is_not_wider(quick, options, hidden, goes_on):
    first = train_prior(quick, dataclasses.replace(options, out=options.out / "a"), Recorder())
    again = dataclasses.replace(options, init=first, out=options.out / "b")
    recorder = Recorder()
    _Run(dataclasses.replace(quick, hidden=hidden), again, recorder)
    assert any("goes on" in message for message in recorder.messages) == goes_on


def test_what_does_not_fit_is_refused(quick, options, tmp_path):
    with pytest.raises(CheckpointError, match="none was given"):
        train_prior(quick, dataclasses.replace(options, init=None), Recorder())
    with pytest.raises(ValueError, match="multiples of 8"):
        train_prior(dataclasses.replace(quick, size=20), options, Recorder())
    (tmp_path / "file").touch()
    for name in ("out", "cache"):
        with pytest.raises(OutputError, match="file"):
            train_prior(
                quick, dataclasses.replace(options, **{name: tmp_path / "file"}), Recorder()
            )
    for change in ({"hidden": 0}, {"memory": 2.0}, {"lr": 0.0}, {"seed": -1}, {"steps": None}):
        with pytest.raises(ValueError, match=next(iter(change))):
            dataclasses.replace(quick, **change)


def predictable(checkpoint, chunks, seed):
    """Codes that repeat in time, whole sequences of two chunks."""
    rng = np.random.default_rng(seed)
    grids = []
    for number, level in enumerate(checkpoint.config.grids):
        steps, side = (2, 2) if number == 0 else (4, 4)
        still = rng.integers(level.entries, size=(chunks // 2, 1, 1, side, side))
        grid = np.broadcast_to(still, (chunks // 2, 2, steps, side, side))
        grids.append(grid.reshape(chunks, steps, side, side).astype(np.int16))
    return Codes(tuple(grids), np.arange(chunks) % 2 == 1)


def test_what_repeats_gets_cheap(options, tiny):
    checkpoint = load(tiny)
    config = PriorTraining(
        hidden=32, embedding=16, batch=16, steps=120, minutes=None, size=16, frames=16, lr=1e-2
    )
    run = _Run(config, options, Recorder())
    training, held_out = predictable(checkpoint, 400, 1), predictable(checkpoint, 20, 2)
    run.train((training, held_out), lambda: False)
    _, result = run.reporter.results[-1]
    refinement = slice(len(checkpoint.config.levels), None)  # of few entries, soon learnt
    assert max(result.memory[refinement]) < 0.3 * min(result.entropy[refinement])
    for memory, alone in zip(result.memory[refinement], result.alone[refinement], strict=True):
        assert memory < alone - 0.3  # the first step of a chunk that follows another

    # What is reported is what the coder will spend.
    prior = Prior.from_tensors(run.network.config, run.network.tensors())
    spent = [
        prior.cost(
            [grid[n] for grid in held_out.grids],
            [grid[n - 1] for grid in held_out.grids] if held_out.follows[n] else None,
        )
        for n in range(len(held_out))
    ]
    for number, bits in enumerate(result.memory):
        coded = np.mean([cost[number].mean() for cost in spent])
        # The coder never spends more than 24 bits on a digit, however sure of another.
        assert coded < 1.005 * bits + 0.005
        if bits < 1:
            assert coded == pytest.approx(bits, rel=0.005, abs=0.005)


def test_memory_reaches_the_chunk_before_and_no_further(options, quick, tiny):
    codes = predictable(load(tiny), 6, 0)
    grids = _Grids(codes, _Run(quick, options, Recorder()).network, "cpu")
    current, previous = grids.take(np.array([1, 2, 3]), np.array([True, True, False]))
    for now, before, stored, level in zip(
        current, previous, codes.grids, load(tiny).config.grids, strict=True
    ):
        np.testing.assert_array_equal(now.numpy(), stored[1:4])
        np.testing.assert_array_equal(before[0].numpy(), stored[0])
        assert (before[1:] == level.entries).all()


# The command line


def invoke(videos, tiny, tmp_path, *arguments):
    fixed = ["--data", str(videos), "--out", str(tmp_path / "out")]
    return CliRunner().invoke(
        command, [*fixed, "--cache", str(tmp_path / "cache"), *arguments], catch_exceptions=True
    )


def test_from_the_command_line(videos, tiny, tmp_path):
    result = invoke(
        *(videos, tiny, tmp_path, "--stage", "prior", "--init", str(tiny), "--threads", "1"),
        *("--chunks", "3", "--hidden", "8", "--steps", "2", "--batch", "1"),
    )
    assert result.exit_code == 0, result.output
    assert "bits an index" in result.output
    assert load(tmp_path / "out" / MODEL).card["prior"]["steps"] == 2


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--stage", "prior"], "--init"),
        (["--stage", "prior", "--init", "x", "--delay", "3"], "--delay is not for --stage prior"),
        (["--stage", "prior", "--init", "x", "--fp32"], "--fp32 is not for"),
        (["--stage", "prior", "--init", "x", "--vgg-weights", "y"], "--vgg-weights is not for"),
        (["--hidden", "8"], "--hidden is not for --stage autoencoder"),
        (["--width", "8"], "--width is not for --stage autoencoder"),
        (["--stage", "prior", "--init", "x", "--blocks", "1"], "--blocks is not for --stage prior"),
        (["--chunks", "8"], "--chunks is not for --stage autoencoder"),
    ],
)
def test_options_of_the_other_stage_are_refused(videos, tiny, tmp_path, arguments, told):
    result = invoke(videos, tiny, tmp_path, *arguments)
    assert result.exit_code == 2
    assert told in result.output


# Details


def test_details_stay_as_they_are(quick, options, tmp_path):
    """Another prior for the same codes leaves what follows them alone."""
    first = train_prior(quick, options, Recorder())
    details = DetailTraining(
        planes=1, step=64.0, chunks=2, frames=16, size=16, steps=1, minutes=None
    )
    behind = dataclasses.replace(options, init=first, out=tmp_path / "details")
    before = load(train_details(details, behind, Recorder()))
    recorder = Recorder()
    elsewhere = dataclasses.replace(options, init=behind.out / MODEL, out=tmp_path / "second")
    after = load(train_prior(dataclasses.replace(quick, lr=1e-2), elsewhere, recorder))
    assert "goes on from the prior of --init" in recorder.messages
    assert after.config == before.config
    assert after.prior.config.planes == 1
    same = {
        name: torch.equal(tensor, after.prior.tensors[name])
        for name, tensor in before.prior.tensors.items()
    }
    assert all(kept for name, kept in same.items() if name.startswith("details."))
    assert not all(same.values())
