"""vqcodec.model.details: the transform, its planes, and the network with them."""

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
import torch
from detail_values import dequantise, known_of, planes_of, symbols_of
from video_builders import scene

from vqcodec.entropy.details import LIMIT
from vqcodec.errors import CheckpointError
from vqcodec.model.checkpoint import Checkpoint, load, save
from vqcodec.model.config import PRESETS, DetailConfig, ModelConfig
from vqcodec.model.details import (
    Coefficients,
    aimed,
    analyse,
    analyse_blocks,
    by_block,
    grid_of,
    lacking,
    quantise,
    quantised,
    synthesise,
    synthesise_blocks,
)
from vqcodec.model.network import MSVQVAE

DETAILS = DetailConfig(planes=3, step=64)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    config = dataclasses.replace(PRESETS["tiny"], details=DETAILS)
    return MSVQVAE(config).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def clips():
    frames = np.stack([scene(16, 32, 48), scene(32, 32, 48)[16:]])
    return torch.from_numpy(frames).permute(0, 4, 1, 2, 3).float() / 255


def noise(*shape):
    """Coefficients of noise, blocks split in all ways."""
    generator = torch.Generator().manual_seed(0)
    splits = torch.randint(0, 4, (shape[0], shape[2] // 8, shape[3] // 8), generator=generator)
    return Coefficients(torch.randn(shape, generator=generator) * 100, splits)


@pytest.mark.parametrize("shape", [(1, 3, 8, 8, 8), (2, 3, 24, 16, 32), (1, 3, 64, 8, 16)])
def test_the_transform_is_orthonormal(shape):
    residual = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    for way in range(4):
        splits = torch.full((shape[0], shape[3] // 8, shape[4] // 8), way)
        splits[:, 0, 0] = 1
        found = analyse(residual, splits)
        assert found.shape == (shape[0], 3 * shape[2], *shape[3:])
        assert torch.allclose(found.square().sum(), residual.square().sum(), rtol=1e-4)
        assert torch.allclose(synthesise(Coefficients(found, splits)), residual, atol=1e-5)
        assert torch.allclose(by_block(found), analyse_blocks(residual, splits), atol=1e-5)


def test_a_grey_clip_that_stands_still_has_one_coefficient_a_block():
    found, splits = lacking(torch.ones(1, 3, 16, 16, 24), DETAILS)
    assert not splits.any()
    assert int((found.abs() > 1e-4).sum()) == 6
    # The first colour, frequency 0 in time, and all blocks' frequency 0 side by side.
    assert torch.allclose(found[0, 0, :2, :3], torch.tensor((3 * 16 * 64) ** 0.5))


def test_parts_lie_side_by_side():
    """Of a block that changes once, on the border of two parts of four, all else is 0."""
    residual = torch.zeros(1, 3, 16, 8, 16)
    residual[:, :, 8:, :, 8:] = 64  # the other block is 0
    found, splits = lacking(residual, DETAILS)
    assert splits.tolist() == [[[0, 1]]]
    assert (found.abs() > 1e-3).nonzero().tolist() == [[0, 1, 0, 1]]
    found = analyse(residual, torch.tensor([[[0, 2]]]))
    assert (found.abs() > 1e-3).nonzero().tolist() == [[0, 2, 0, 1], [0, 3, 0, 1]]
    few = analyse(torch.ones(1, 3, 2, 8, 8), torch.tensor([[[3]]]))  # of two frames two parts
    assert (few.abs() > 1e-3).nonzero().tolist() == [[0, 0, 0, 0], [0, 1, 0, 0]]


def test_blocks_that_move_are_split(clips):
    """And it takes fewer bits, by the estimate it goes by."""
    frames = torch.from_numpy(scene(32, 32, 48)).permute(3, 0, 1, 2)[None].float()
    moving = torch.stack([frames[0].roll(3 * t, 3)[:, t] for t in range(32)], 1)[None]
    still = frames[:, :, :1].expand(-1, -1, 32, -1, -1)
    assert not lacking(still - 128, DETAILS).splits.any()
    found = lacking(moving - 128, DETAILS)
    assert (found.splits > 0).float().mean() > 0.5
    whole = analyse(moving - 128, torch.zeros_like(found.splits))

    def bits(grid):
        return (grid / (0.6 * DETAILS.step_at(2))).square().log1p().sum()

    assert bits(found.grid) < 0.9 * bits(whole)


def test_the_page_says_how_blocks_are_split():
    coefficients = noise(2, 24, 16, 24)
    first, second = symbols_of(coefficients, DETAILS, 2)
    assert first.shape == (2, 25, 16, 24)
    assert second.shape == (2, 24, 16, 24)
    assert torch.equal(first[:, 24, :2, :3], coefficients.splits.to(torch.int16))
    assert not first[:, 24, 2:].any()
    assert not first[:, 24, :, 3:].any()
    assert torch.equal(known_of([first, second], DETAILS).splits, coefficients.splits)
    first[:, 24] = 30  # no more ways than there are
    assert (known_of([first], DETAILS).splits == 3).all()


def test_what_is_known_is_whole_steps_and_their_pixels():
    """As long as nothing is aimed at."""
    coefficients = noise(2, 24, 16, 16)
    for count in (1, 2, 3):
        planes = planes_of(coefficients, DETAILS, count)
        found = known_of([plane.symbols for plane in planes], DETAILS)
        step = DETAILS.step_at(count - 1)
        assert (found.plane, found.step) == (count - 1, step)
        torch.testing.assert_close(planes[-1].aims, coefficients.grid / step)
        whole = by_block((coefficients.grid / step).trunc())
        assert torch.equal(found.values, whole.to(torch.int16))
        inner, outer = whole.abs() * step, (whole.abs() + 1) * step
        assert torch.equal(found.low, torch.where(whole > 0, inner, -outer))
        assert torch.equal(found.high, torch.where(whole < 0, -inner, outer))
        likely = torch.from_numpy(DETAILS.likely(whole.numpy())) * step
        torch.testing.assert_close(found.likely, likely)
        expected = synthesise(Coefficients(grid_of(likely), coefficients.splits))
        assert torch.allclose(255 * found.picture, expected, atol=1e-3)
        part = found.of(slice(1, 2)).rows(slice(8, 16))
        assert torch.allclose(part.picture, found.picture[1:, :, :, 8:], atol=1e-6)
        for name in ("values", "low", "high", "likely"):
            assert torch.equal(getattr(part, name), getattr(found, name)[1:, :, :, 1:])
        assert torch.equal(part.splits, found.splits[1:, 1:])


def seen_at_random(known, seed, scale=40.0):
    """What a picture might tell: pixels of nearly any coefficients."""
    generator = torch.Generator().manual_seed(seed)
    found = scale * torch.randn(known.likely.shape, generator=generator)
    return synthesise_blocks(found, known.splits) / 255


def test_coefficients_are_where_planes_say_whatever_these_aim_at():
    wanted, known = noise(2, 24, 16, 16), None
    aims = by_block(wanted.grid)
    inside = aims.abs() < DETAILS.step * (LIMIT + 1)
    for plane in range(3):
        symbols = quantise(wanted, known, DETAILS).symbols
        found = quantised(symbols, known, DETAILS)
        assert (found.low <= aims + 1e-3)[inside].all()
        assert (aims <= found.high + 1e-3)[inside].all()
        assert (found.low <= found.likely).all()
        assert (found.likely <= found.high).all()
        if known is not None:
            zero, still = known.values == 0, found.values == 0
            assert (found.low >= known.low).all()
            assert (found.high <= known.high).all()
            near = (aims - known.likely).abs() < DETAILS.step_at(plane)
            assert torch.equal(still[zero & inside], near[zero & inside])
            halved = (found.high - found.low) / (known.high - known.low)
            torch.testing.assert_close(halved[~zero], torch.full_like(halved[~zero], 0.5))
        known = aimed(found, seen_at_random(found, plane))
        assert (known.low <= known.likely).all()
        assert (known.likely <= known.high).all()
        assert torch.equal(known.low, found.low)
        assert torch.equal(known.values, found.values)


def test_what_a_picture_tells_right_takes_no_symbols():
    wanted = noise(1, 24, 16, 16)
    known = quantised(quantise(wanted, None, DETAILS).symbols, None, DETAILS)
    told = aimed(known, synthesise(wanted) / 255)
    torch.testing.assert_close(
        told.likely, by_block(wanted.grid).clamp(known.low, known.high), atol=1e-3, rtol=1e-3
    )
    zero = grid_of(known.values == 0)
    assert quantise(wanted, known, DETAILS).symbols[zero].any()
    assert not quantise(wanted, told, DETAILS).symbols[zero].any()


def test_pictures_that_differ_a_little_make_as_little_difference():
    """As those of another machine may: what symbols say is theirs, give or take that little."""
    wanted = noise(1, 24, 16, 16)
    known = quantised(quantise(wanted, None, DETAILS).symbols, None, DETAILS)
    seen = seen_at_random(known, 0)
    here, there = (aimed(known, seen + off) for off in (0, 1e-5 * seen_at_random(known, 1)))
    symbols = quantise(wanted, here, DETAILS).symbols
    ours, theirs = (quantised(symbols, told, DETAILS) for told in (here, there))
    assert torch.equal(ours.values, theirs.values)
    for name in ("low", "high", "likely"):
        a, b = getattr(ours, name), getattr(theirs, name)
        assert 0 < (a - b).abs().max() < 1e-2


@pytest.mark.parametrize("symbol", [1, 2])
def test_symbols_that_no_encoder_writes_leave_intervals_in_order(symbol):
    wanted = noise(1, 24, 16, 16)
    known = quantised(quantise(wanted, None, DETAILS).symbols, None, DETAILS)
    for plane in (1, 2):
        known = aimed(known, seen_at_random(known, plane, scale=400.0))
        known = quantised(torch.full((1, 24, 16, 16), symbol), known, DETAILS)
        assert (known.low <= known.high).all()
        assert (known.low <= known.likely).all()
        assert (known.likely <= known.high).all()
        assert torch.isfinite(known.picture).all()
        quantise(wanted, known, DETAILS)  # nor does it divide by the width of nothing


def test_each_plane_halves_the_error_bound_and_is_a_beginning():
    coefficients = noise(2, 24, 16, 16)
    aims = by_block(coefficients.grid)
    planes = symbols_of(coefficients, DETAILS, 3)
    inside = aims.abs() < DETAILS.step * (LIMIT + 1)
    for count in (1, 2, 3):
        found = dequantise(planes[:count], DETAILS)
        off = (found - aims)[inside].abs().max()
        assert DETAILS.step_at(count - 1) * 0.9 < off <= DETAILS.step_at(count - 1)
        zero = aims.abs() < DETAILS.step_at(count - 1)
        assert not found[zero].any()


def test_what_is_beyond_the_first_plane_stays_finite_and_nested():
    coefficients = Coefficients(torch.full((1, 24, 8, 8), 1e6), torch.zeros(1, 1, 1).long())
    planes = symbols_of(coefficients, DETAILS, 3)
    assert int(planes[0].max()) == 2 * LIMIT - 1
    found = [float(dequantise(planes[:count], DETAILS).max()) for count in (1, 2, 3)]
    assert found[0] < found[1] < found[2] < DETAILS.step * (LIMIT + 1)


def test_quality_rises_with_every_plane(network, clips):
    codes = len(network.config.code_grids)
    grids = network.encode(clips)
    assert [grid.shape[1] for grid in grids[codes:]] == [49, 48, 48]
    errors = [
        (network.decode(grids[:count]) - clips).square().flatten(1).mean(1)
        for count in range(codes, len(grids) + 1)
    ]
    for worse, better in pairwise(errors):
        assert (better < worse).all()


def test_a_quality_between_has_the_same_first_planes(network, clips):
    grids = network.encode(clips)
    for count in range(1, len(grids)):
        for a, b in zip(network.encode(clips, count), grids[:count], strict=True):
            assert torch.equal(a, b)


def test_details_are_part_of_configuration_and_identity(network, tmp_path, checkpoint):
    plain = checkpoint
    detailed = dataclasses.replace(plain, config=network.config)
    assert ModelConfig.from_json(detailed.config.to_json()) == detailed.config
    assert plain.model_id != detailed.model_id
    coarser = dataclasses.replace(network.config, details=DetailConfig(planes=3, step=65))
    assert detailed.model_id != dataclasses.replace(plain, config=coarser).model_id
    save(detailed, tmp_path / "detailed.safetensors")
    assert load(tmp_path / "detailed.safetensors").config == network.config


def test_a_prior_without_their_tables_is_refused(checkpoint, tmp_path):
    from synthetic import random_config, random_tensors

    from vqcodec.model.checkpoint import store

    config = random_config([grid[:3] for grid in checkpoint.config.grids], 8, 4)
    prior = store(config, random_tensors(config, 0))
    detailed = dataclasses.replace(checkpoint.config, details=DETAILS)
    save(Checkpoint(detailed, checkpoint.tensors, {}, prior), tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match="another architecture"):
        load(tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    "values", [{"planes": 0}, {"planes": 5}, {"step": 0}, {"step": "8"}, {"first": 2}]
)
def test_impossible_details_are_refused(values):
    with pytest.raises(ValueError, match=next(iter(values))):
        DetailConfig(**{"planes": 2, "step": 8, **values})


def test_details_count_at_fixed_length(network):
    assert network.config.bits_per_pixel() == pytest.approx(
        network.config.bits_per_pixel(len(network.config.code_grids)) + 3 * (5 + 2 + 2)
    )
