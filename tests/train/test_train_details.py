"""vqcodec.train.details and .loudness"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from train_recorder import Recorder, check_resuming, interrupt_at

from vqcodec.cli.train import train as command
from vqcodec.codec import Codec
from vqcodec.entropy.coder import decode, encode
from vqcodec.entropy.details import (
    BAND,
    CLASSES,
    CONTEXTS,
    ENTRIES,
    HIDDEN,
    OVERALL,
    SPACES,
    TIMES,
    WITHIN,
)
from vqcodec.entropy.loudness import DetailPrior, block_codes, block_means, scaled
from vqcodec.errors import CheckpointError, OutputError
from vqcodec.model.checkpoint import MODEL, load
from vqcodec.train.config import RunOptions
from vqcodec.train.details import STATE, DetailTraining, _Run, train_details
from vqcodec.train.prior import PriorTraining, train_prior


@pytest.fixture(scope="module")
def predicted(tiny, videos, tmp_path_factory):
    """The tiny model with a prior."""
    folder = tmp_path_factory.mktemp("predicted")
    config = PriorTraining(
        chunks=2, frames=16, size=16, hidden=4, embedding=2, batch=1, steps=1, minutes=None
    )
    options = RunOptions((videos,), folder / "out", folder / "cache", init=tiny)
    return train_prior(config, options, Recorder())


@pytest.fixture
def quick():
    return DetailTraining(
        planes=2, step=24.0, chunks=5, frames=16, size=16, batch=8, steps=6, minutes=None
    )


@pytest.fixture
def options(options, predicted, tmp_path):
    return dataclasses.replace(options, init=predicted, cache=tmp_path / "cache")


def test_a_run_adds_levels_to_the_checkpoint_and_leaves_all_else(quick, options, predicted):
    recorder = Recorder()
    path = train_details(quick, options, recorder)
    assert path == options.out / MODEL
    before, after = load(predicted), load(path)
    assert [grid.entries for grid in after.config.detail_grids] == [31, 3]
    assert after.config.details.step == 24
    assert dataclasses.replace(after.config, details=None) == before.config
    for name, tensor in before.tensors.items():
        assert torch.equal(tensor, after.tensors[name]), name
    for name, tensor in before.prior.tensors.items():
        assert torch.equal(tensor, after.prior.tensors[name]), name
    step, result = recorder.results[-1]
    assert step == after.card["details"]["steps"] == 6
    assert len(result.bpp) == 2
    assert min(result.bpp) > 0
    assert recorder.done[-1] == 5


def test_files_with_these_levels(quick, options):
    """They need no other packer, cost fewer bits than raw, and show more with each level."""
    codec = Codec(load(train_details(quick, options, Recorder())))
    frames = (np.random.default_rng(0).random((16, 16, 16, 3)) * 255).astype(np.uint8)
    grids = codec.encode(frames)
    shapes = [grid.shape for grid in grids]
    assert shapes[-2:] == [(49, 16, 16), (48, 16, 16)]  # a page with the first
    stream, lengths = encode(codec.prior, grids)
    assert all(map(np.array_equal, decode(codec.prior, stream, shapes), grids))
    assert len(stream) - lengths[-3] < 48 * 16 * 16  # raw: 7 bits each

    def error(quality):
        return np.square(codec.decode(grids[:quality]).astype(float) - frames).mean()

    codes = len(grids) - 2
    assert error(codes + 2) < error(codes + 1) < error(codes)


def test_training_takes_bits_away(quick, options, tmp_path):
    results = []
    for steps in (1, 100):
        recorder = Recorder()
        config = dataclasses.replace(quick, chunks=24, steps=steps, batch=32, lr=1e-2)
        elsewhere = dataclasses.replace(options, out=tmp_path / str(steps))
        train_details(config, elsewhere, recorder)
        results.append(np.array(recorder.results[-1][1].bpp))
    first, last = results
    assert (last < first).all()
    assert last.sum() < 0.97 * first.sum()


@pytest.fixture
def run(quick, options):
    run = _Run(dataclasses.replace(quick, chunks=8, step=100.0), options, Recorder())
    return run, run.code(lambda: False)[0]


def test_what_is_stored_computes_what_was_trained(run):
    """Floating point and integers choose the same class, but where they round."""
    run, coded = run
    with torch.no_grad():
        for network in run.networks:
            for parameter in network.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
    for network, samples in zip(run.networks, coded.samples, strict=True):
        tensors = network.tensors()
        costs = np.zeros((CONTEXTS, ENTRIES[min(network.plane, 1)]), np.int8)
        prior = DetailPrior({**tensors, "costs": costs})
        tables = [tensors[f"codes.{level}"] for level in range(run.levels + 1)]
        means = block_means([level.numpy() for level in coded.blocks], tables)
        blocks = np.arange(len(samples.ends))
        owners, rows = samples.of(blocks)
        inputs, places = (column.numpy() for column in rows[:2])
        own, active = means[owners.numpy()], inputs[:, OVERALL:].any(1)
        assert 0 < active.sum() < len(active)
        loud, still = (
            value.detach().numpy() for value in network.values(coded.blocks, owners, rows)
        )
        colours, spots = divmod(places, TIMES * SPACES)
        of_places = prior.still_by_spot(colours, spots, inputs[:, BAND])
        of_blocks = prior.still_by_block(colours, own[:, HIDDEN], inputs[:, WITHIN])
        for found, expected in (
            (prior.still(of_places, of_blocks)[~active] - CLASSES, still[~active]),
            (prior.active(inputs, places, scaled(own[:, :HIDDEN]))[active], loud[active]),
        ):
            # Means of codes are rounded down, here they are not.
            near = np.clip(expected * 4, 0, CLASSES - 1)
            assert np.abs(found + 0.5 - near).max() <= 1.5


def test_samples_stand_for_all_coefficients(run):
    _, coded = run
    for plane, samples in enumerate(coded.samples):
        owners, (inputs, places, symbols, weights) = samples.of(np.arange(len(samples.ends)))
        assert len(owners) == len(inputs) == samples.ends[-1]
        assert (np.diff(owners) >= 0).all()
        assert int(places.max()) < 3 * TIMES * SPACES
        assert int(symbols.max()) < (31 if plane == 0 else 3)
        assert float(weights.min()) >= 1
        # Passes behind the last that holds anything have no samples.
        assert weights.sum() + samples.known.sum() < 1.3 * 8 * 48 * 16 * 16
    assert coded.samples[0].known.sum() == 0
    assert coded.samples[1].known.sum() > 0


def test_codes_of_blocks():
    coarse = np.arange(2 * 1 * 2).reshape(2, 1, 2).astype(np.int16)  # 16 pixels a cell
    fine = np.arange(4 * 4 * 8).reshape(4, 4, 8).astype(np.int16)  # 4 pixels a cell
    found = block_codes([coarse, fine], (3, 16, 32))
    assert [level.shape for level in found] == [(8, 2), (8, 16)]
    assert found[0][3].tolist() == [1, 3]
    assert sorted(found[1][5].tolist()) == sorted(fine[:, 2:4, 2:4].ravel().tolist())
    tables = [np.arange(-8, 0)[:, None], np.arange(128)[:, None]]
    means = block_means(found, tables)
    assert means[5, 0] == 32 * (-8 - 6) // 2 + 32 * int(fine[:, 2:4, 2:4].sum()) // 16


def test_a_resumed_run_equals_an_unbroken_one(quick, options):
    check_resuming(train_details, quick, options, STATE)


def test_interrupted_while_coding(quick, options):
    recorder = Recorder(after_sequence=interrupt_at(1))
    assert train_details(quick, options, recorder) is None
    assert not (options.out / MODEL).exists()


def test_what_does_not_fit_is_refused(quick, options, tiny, tmp_path):
    for init, told in ((None, "none was given"), (tiny, "need a prior")):
        with pytest.raises(CheckpointError, match=told):
            train_details(quick, dataclasses.replace(options, init=init), Recorder())
    with pytest.raises(ValueError, match="multiples of 8"):
        train_details(dataclasses.replace(quick, size=20), options, Recorder())
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="file"):
        train_details(quick, dataclasses.replace(options, out=tmp_path / "file"), Recorder())
    for change in ({"planes": 0}, {"step": 0.5}, {"lr": 0.0}, {"seed": -1}, {"steps": None}):
        with pytest.raises(ValueError, match=next(iter(change))):
            dataclasses.replace(quick, **change)


def test_from_the_command_line(videos, predicted, tmp_path):
    out = tmp_path / "out"
    result = CliRunner().invoke(
        command,
        [
            *("--data", str(videos), "--out", str(out), "--cache", str(tmp_path / "cache")),
            *("--stage", "details", "--init", str(predicted), "--threads", "1", "--planes", "1"),
            *("--chunks", "2", "--steps", "2", "--batch", "4", "--step", "32"),
        ],
    )
    assert result.exit_code == 0, result.output
    assert "bits a pixel, plane by plane" in result.output
    assert load(out / MODEL).card["details"]["steps"] == 2


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--stage", "details"], "--init"),
        (["--stage", "details", "--init", "x", "--hidden", "8"], "--hidden is not for"),
        (["--stage", "prior", "--init", "x", "--planes", "2"], "--planes is not for"),
        (["--stage", "details", "--init", "x", "--fp32"], "--fp32 is not for"),
    ],
)
def test_options_that_mean_nothing_to_it(videos, tmp_path, arguments, told):
    result = CliRunner().invoke(command, ["--data", str(videos), *arguments])
    assert result.exit_code == 2
    assert told in result.output
