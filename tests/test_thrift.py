"""vqcodec.thrift: the last plane of details with the least D + λR"""

import dataclasses

import numpy as np
import pytest
import torch
from detail_values import dequantise, planes_of
from synthetic import random_config, random_tensors
from video_builders import scene

from vqcodec.entropy.details import CONTEXTS, ENTRIES, Known, refined
from vqcodec.entropy.prior import Prior
from vqcodec.entropy.tables import costs_of
from vqcodec.model.checkpoint import load
from vqcodec.model.config import PRESETS, DetailConfig
from vqcodec.model.details import by_block, lacking
from vqcodec.model.registry import find
from vqcodec.thrift import thrifty

DETAILS = DetailConfig(planes=3, step=48)
CODES = [np.zeros((2, 4, 6), np.int16)]


class Counter(Known):
    def __init__(self, grid):
        super().__init__(grid)
        self.counts = np.zeros((CONTEXTS, ENTRIES[1]))

    def run(self, colour, contexts, places):
        symbols = super().run(colour, contexts, places)
        np.add.at(self.counts, (contexts, np.minimum(symbols, 2)), 1)
        return symbols


class Bits(Known):
    """What symbols cost, each in its own context."""

    def __init__(self, grid, table):
        super().__init__(grid)
        self.table, self.total = table, 0.0

    def run(self, colour, contexts, places):
        symbols = super().run(colour, contexts, places)
        self.total += float(self.table.bits[contexts, symbols].sum())
        return symbols


@pytest.fixture(scope="module")
def wanted():
    frames = scene(16, 32, 48).astype(np.float32)
    frames += np.random.default_rng(0).normal(0, 12, frames.shape)
    pictures = torch.from_numpy(frames - frames.mean()).permute(3, 0, 1, 2)[None].float()
    return lacking(pictures, DETAILS)


@pytest.fixture(scope="module")
def planes(wanted):
    return planes_of(wanted, DETAILS, 3)


@pytest.fixture(scope="module")
def grids(planes):
    return [plane.symbols.numpy()[0] for plane in planes]


@pytest.fixture(scope="module")
def prior(grids):
    """It knows how often symbols are in each context, the contexts being chosen by chance."""
    config = dataclasses.replace(random_config([(8, 8, 16)], hidden=4, embedding=2), planes=3)
    tensors = random_tensors(config, 0)
    for plane in range(3):
        costs = f"details.{plane}.costs"
        tensors[costs] = np.abs(tensors[costs])
    planes = Prior.from_tensors(config, tensors).planes(CODES, grids[0].shape)
    for plane, grid in enumerate(grids):
        planes.code(counter := Counter(grid))
        found = costs_of(counter.counts)
        if plane == 0:  # the greater magnitudes cost as much as any
            found = np.concatenate([found, np.repeat(found[:, 2:] + np.int8(0), 28, 1)], 1)
        tensors[f"details.{plane}.costs"] = found
    return Prior.from_tensors(config, tensors)


def score(planes, wanted, prior, price):
    found = dequantise([torch.from_numpy(plane)[None] for plane in planes], DETAILS)
    error = float((found - by_block(wanted.grid)).square().sum())
    state = prior.planes(CODES, planes[0].shape)
    bits = 0.0
    for plane, found in zip(planes, prior.details, strict=False):
        coder = Bits(plane, found.table)
        state.code(coder)
        bits += coder.total
    return error, bits, error + price * bits


@pytest.mark.parametrize("count", [1, 2, 3])
def test_d_and_r_together_fall(planes, grids, wanted, prior, count):
    natural, aims = grids[:count], planes[count - 1].aims[0].numpy()
    bits = []
    for price in (100.0, 1000.0, 10000.0):
        last = thrifty([*CODES, *natural], aims, DETAILS, prior, price)
        chosen = score([*natural[:-1], last], wanted, prior, price)
        assert chosen[2] <= score(natural, wanted, prior, price)[2]
        bits.append(chosen[1])
        assert last.dtype == np.int16
    assert bits[0] > bits[1] > bits[2]


@pytest.mark.parametrize("count", [1, 3])
def test_d_and_r_together_fall_under_the_shipped_prior(count):
    model = load(find(None))
    network, prior = model.build(), model.prior.build()
    config, levels = network.config.details, len(prior.levels)
    step = config.step_at(count - 1)
    frames = torch.from_numpy(scene(32, 64, 64)).permute(3, 0, 1, 2)[None].float() / 255
    with torch.inference_mode():
        codes = network.encode(frames, levels)
        decoded = network.reconstruct(codes).clip
        planes = network.details(decoded, network.lacking(frames, decoded), count).planes
    natural = [g[0].to(torch.int16).numpy() for g in (*codes, *(p.symbols for p in planes))]
    aims, known = planes[-1].aims[0].numpy(), np.zeros(aims_shape := planes[-1].aims.shape[1:], int)
    for plane, grid in enumerate(natural[levels:-1]):
        known = 2 * refined(known, grid[: aims_shape[0]], plane)

    def both(last, price):
        values = refined(known, last[: aims_shape[0]], count - 1)
        error = step**2 * np.square(config.likely(values) - aims, dtype=np.float64).sum()
        return error + price * prior.detail_bits([*natural[:-1], last])[-1]

    for price in (0.2 * step**2, step**2):
        last = thrifty(natural, aims, config, prior, price)
        assert both(last, price) < both(natural[-1], price)


def test_at_any_price_hardly_a_bit_is_left(planes, grids, wanted, prior):
    last = thrifty([*CODES, grids[0]], planes[0].aims[0].numpy(), DETAILS, prior, 1e9)
    assert score([last], wanted, prior, 1)[1] < 0.3 * score(grids[:1], wanted, prior, 1)[1]


def test_free_bits_leave_what_is_nearest(planes, grids, wanted, prior):
    last = thrifty([*CODES, *grids], planes[-1].aims[0].numpy(), DETAILS, prior, 0.0)
    kept = dequantise([torch.from_numpy(p)[None] for p in (*grids[:-1], last)], DETAILS)
    natural = dequantise([torch.from_numpy(p)[None] for p in grids], DETAILS)
    goals = by_block(wanted.grid)
    assert ((kept - goals).abs() <= (natural - goals).abs() + 1e-3).all()


def test_a_model_without_details_has_nothing_to_choose():
    assert PRESETS["tiny"].detail_grids == ()
    assert len(dataclasses.replace(PRESETS["tiny"], details=DETAILS).detail_grids) == 3
