"""vqcodec.thrift: the last plane of details with the least D + λR"""

import dataclasses

import numpy as np
import pytest
import torch
from video_builders import scene

from vqcodec.entropy.details import CONTEXTS, ENTRIES, Known, Planes
from vqcodec.entropy.tables import Table
from vqcodec.model.config import PRESETS, DetailConfig
from vqcodec.model.details import analyse, dequantise, quantise
from vqcodec.thrift import thrifty
from vqcodec.train.details import _count, costs_of

DETAILS = DetailConfig(planes=3, step=48)


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
def aims():
    frames = scene(16, 32, 48).astype(np.float32)
    frames += np.random.default_rng(0).normal(0, 12, frames.shape)
    return analyse(torch.from_numpy(frames - frames.mean()).permute(3, 0, 1, 2)[None].float())


@pytest.fixture(scope="module")
def grids(aims):
    return [plane.numpy()[0] for plane in quantise(aims, DETAILS, 3)]


@pytest.fixture(scope="module")
def tables(grids):
    counts = [np.zeros((CONTEXTS, ENTRIES[0])), np.zeros((CONTEXTS, 3)), np.zeros((CONTEXTS, 3))]
    _count(grids, counts)
    return [Table(costs_of(found)) for found in counts]


def score(planes, aims, tables, price):
    found = dequantise([torch.from_numpy(plane)[None] for plane in planes], DETAILS)
    error = float((found - aims).square().sum())
    state = Planes(planes[0].shape)
    bits = 0.0
    for plane, table in zip(planes, tables, strict=False):
        coder = Bits(plane, table)
        state.code(coder)
        bits += coder.total
    return error, bits, error + price * bits


@pytest.mark.parametrize("count", [1, 2, 3])
def test_d_and_r_together_fall(grids, aims, tables, count):
    planes = grids[:count]
    coefficients = aims[0].numpy()
    bits = []
    for price in (100.0, 1000.0, 10000.0):
        last = thrifty(planes, coefficients, DETAILS, tables, price)
        natural = score(planes, aims, tables, price)
        chosen = score([*planes[:-1], last], aims, tables, price)
        assert chosen[2] <= natural[2]
        bits.append(chosen[1])
        assert last.dtype == np.int16
    assert bits[0] > bits[1] > bits[2]


def test_at_any_price_hardly_a_bit_is_left(grids, aims, tables):
    last = thrifty(grids[:1], aims[0].numpy(), DETAILS, tables, 1e9)
    assert score([last], aims, tables, 1)[1] < 0.3 * score(grids[:1], aims, tables, 1)[1]


def test_free_bits_leave_what_is_nearest(grids, aims, tables):
    last = thrifty(grids, aims[0].numpy(), DETAILS, tables, 0.0)
    kept = dequantise([torch.from_numpy(p)[None] for p in (*grids[:-1], last)], DETAILS)
    natural = dequantise([torch.from_numpy(p)[None] for p in grids], DETAILS)
    assert ((kept - aims).abs() <= (natural - aims).abs() + 1e-3).all()


def test_a_model_without_details_has_nothing_to_choose():
    assert PRESETS["tiny"].detail_grids == ()
    assert len(dataclasses.replace(PRESETS["tiny"], details=DETAILS).detail_grids) == 3
