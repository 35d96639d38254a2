"""Small priors and grids; a prior is built once for each architecture and seed."""

from __future__ import annotations

from functools import cache

import numpy as np
from synthetic import random_config, random_tensors

from vqcodec.entropy.integer import Fast, Reference
from vqcodec.entropy.prior import Prior

PAPER = ((8, 8, 64), (4, 4, 64))
UNEVEN = ((4, 4, 21), (2, 4, 2), (2, 2, 3), (1, 1, 1000))  # strides, and entries no power of two


@cache
def small_prior(levels=PAPER, seed=0, saturating=False, network=Fast):
    config = random_config(levels, hidden=16, embedding=8)
    return Prior.from_tensors(config, random_tensors(config, seed, saturating), network)


def reference_prior(levels=PAPER, seed=0, saturating=False):
    return small_prior(levels, seed, saturating, Reference)


def random_grids(levels, size, seed, smooth=0.0):
    """Grids of ``size`` coarsest cells, (t, y, x); ``smooth`` of the indices are 0."""
    random = np.random.default_rng(seed)
    grids = []
    for stride_t, stride, entries in levels:
        shape = (
            size[0] * levels[0][0] // stride_t,
            size[1] * levels[0][1] // stride,
            size[2] * levels[0][1] // stride,
        )
        grid = random.integers(0, entries, shape) * (random.random(shape) >= smooth)
        grids.append(grid.astype(np.int16))
    return grids


def shapes_of(grids):
    return [grid.shape for grid in grids]


def same(left, right):
    return len(left) == len(right) and all(map(np.array_equal, left, right))
