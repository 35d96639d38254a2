"""vqcodec.model.details: the transform, its planes, and the network with them."""

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
import torch
from detail_values import dequantise
from video_builders import scene

from vqcodec.entropy.details import LIMIT
from vqcodec.errors import CheckpointError
from vqcodec.model.checkpoint import Checkpoint, load, save
from vqcodec.model.config import PRESETS, DetailConfig, ModelConfig
from vqcodec.model.details import (
    analyse,
    analyse_blocks,
    by_block,
    quantise,
    quantised,
    synthesise,
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


@pytest.mark.parametrize("shape", [(1, 3, 8, 8, 8), (2, 3, 24, 16, 32), (1, 3, 64, 8, 16)])
def test_the_transform_is_orthonormal(shape):
    residual = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    found = analyse(residual)
    assert found.shape == (shape[0], 3 * shape[2], *shape[3:])
    assert torch.allclose(found.square().sum(), residual.square().sum(), rtol=1e-4)
    assert torch.allclose(synthesise(found), residual, atol=1e-5)
    assert torch.allclose(by_block(found), analyse_blocks(residual), atol=1e-5)


def test_a_grey_clip_that_stands_still_has_one_coefficient_a_block():
    found = analyse(torch.ones(1, 3, 16, 16, 24))
    assert int((found.abs() > 1e-4).sum()) == 6
    # The first colour, frequency 0 in time, and all blocks' frequency 0 side by side.
    assert torch.allclose(found[0, 0, :2, :3], torch.tensor((3 * 16 * 64) ** 0.5))


def test_what_is_known_is_whole_steps_and_their_pixels():
    coefficients = torch.randn(2, 24, 16, 16, generator=torch.Generator().manual_seed(0)) * 100
    for count in (1, 2, 3):
        found = quantised(quantise(coefficients, DETAILS, count), DETAILS)
        assert (found.plane, found.step) == (count - 1, DETAILS.step_at(count - 1))
        whole = (coefficients / found.step).trunc().to(torch.int16)
        assert torch.equal(found.values, by_block(whole))
        likely = torch.from_numpy(DETAILS.likely(whole.numpy())) * found.step
        assert torch.allclose(255 * found.likely, synthesise(likely), atol=1e-3)
        part = found.of(slice(1, 2)).rows(slice(8, 16))
        assert torch.equal(part.likely, found.likely[1:, :, :, 8:])
        assert torch.equal(part.values, found.values[1:, :, :, 1:])


def test_each_plane_halves_the_error_bound_and_is_a_beginning():
    coefficients = torch.randn(2, 24, 16, 16, generator=torch.Generator().manual_seed(0)) * 100
    aims = by_block(coefficients)
    planes = quantise(coefficients, DETAILS, 3)
    assert all(
        torch.equal(a, b) for a, b in zip(quantise(coefficients, DETAILS, 2), planes, strict=False)
    )
    inside = aims.abs() < DETAILS.step * (LIMIT + 1)
    for count in (1, 2, 3):
        found = dequantise(planes[:count], DETAILS)
        off = (found - aims)[inside].abs().max()
        assert DETAILS.step_at(count - 1) * 0.9 < off <= DETAILS.step_at(count - 1)
        zero = aims.abs() < DETAILS.step_at(count - 1)
        assert not found[zero].any()


def test_what_is_beyond_the_first_plane_stays_finite_and_nested():
    coefficients = torch.full((1, 24, 8, 8), 1e6)
    planes = quantise(coefficients, DETAILS, 3)
    assert int(planes[0].max()) == 2 * LIMIT - 1
    found = [float(dequantise(planes[:count], DETAILS).max()) for count in (1, 2, 3)]
    assert found[0] < found[1] < found[2] < DETAILS.step * (LIMIT + 1)


def test_quality_rises_with_every_plane(network, clips):
    codes = len(network.config.code_grids)
    grids = network.encode(clips)
    assert [grid.shape[1] for grid in grids[codes:]] == [48] * 3
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
