"""Priors that nobody trained."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from vqcodec.entropy.config import LevelPrior, Neighbour, PriorConfig
from vqcodec.entropy.integer import BIAS_LIMIT, STEPS, WEIGHT_LIMIT, Array, scramble
from vqcodec.entropy.prior import Prior

_COARSER = [(0, 0, 0), (0, -1, 0), (0, 0, 1), (1, 0, 0)]


def random_config(
    levels: Sequence[tuple[int, int, int]], hidden: int = 96, embedding: int = 32, passes: int = 2
) -> PriorConfig:
    """A plausible architecture for levels of (stride_t, stride, entries).

    A level looks at the four codes beside it, at the four at its corners too if there are four
    passes, at five of the step before and one of two steps before, the cell of the next coarser
    level, two beside it and the one after it, and the cells of the two coarsest levels.
    """
    priors = []
    for number, (stride_t, stride, entries) in enumerate(levels):
        own = [
            *((0, dy, dx) for dy, dx in ((-1, 0), (1, 0), (0, -1), (0, 1))),
            *((-1, dy, dx) for dy, dx in ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1))),
            (-2, 0, 0),
        ]
        if passes == 4:
            own += [(0, dy, dx) for dy in (-1, 1) for dx in (-1, 1)]
        neighbours = [Neighbour(number, *offset) for offset in own]
        neighbours += [Neighbour(number - 1, *offset) for offset in _COARSER if number]
        neighbours += [Neighbour(source, 0, 0, 0) for source in range(min(2, number - 1))]
        priors.append(
            LevelPrior(
                stride_t,
                stride,
                entries,
                hidden,
                embedding,
                tuple(neighbours),
                shifts=(10, 8, 8),
                shift=8,
                passes=passes,
            )
        )
    return PriorConfig(tuple(priors))


def random_tensors(config: PriorConfig, seed: int, saturating: bool = False) -> dict[str, Array]:
    """Tensors for ``config``, uniform in their range, or all at its ends."""
    tensors = {}
    for number, (name, (dtype, shape)) in enumerate(config.shapes().items()):
        limit = WEIGHT_LIMIT if dtype == "int8" else BIAS_LIMIT if saturating else 1 << 12
        draws = scramble(prod(shape), seed << 10 | number)
        if saturating:
            values = np.where(draws >> np.uint64(63), limit, -limit)
        else:
            values = (draws % np.uint64(2 * limit + 1)).astype(np.int64) - limit
        tensors[name] = values.astype(dtype).reshape(shape)
    return tensors


def random_prior(
    levels: Sequence[tuple[int, int, int]],
    seed: int = 0,
    saturating: bool = False,
    hidden: int = 96,
    embedding: int = 32,
) -> Prior:
    """A random prior for levels of (stride_t, stride, entries), coarsest first."""
    config = random_config(levels, hidden, embedding)
    return Prior.from_tensors(config, random_tensors(config, seed, saturating))


def fitted_prior(levels: Sequence[tuple[int, int, int]], grids: Sequence[Array]) -> Prior:
    """A prior that knows how often each index is in ``grids``; see :func:`fitted_tensors`."""
    return Prior.from_tensors(*fitted_tensors(levels, grids))


def fitted_tensors(
    levels: Sequence[tuple[int, int, int]], grids: Sequence[Array], seed: int = 0
) -> tuple[PriorConfig, dict[str, Array]]:
    """A prior that knows how often each index is in ``grids``, one grid for each level.

    What is around a symbol counts very little, but it counts: no other context gives the same.
    """
    config = random_config(levels)
    tensors = random_tensors(config, seed)
    for number, (level, grid) in enumerate(zip(config.levels, grids, strict=True)):
        counts = np.bincount(grid.ravel(), minlength=level.high * level.low) + 0.1
        counts = counts.reshape(level.high, level.low)
        for name, weights in (("high", counts.sum(1)), ("low", counts)):
            bias = np.round(np.log2(weights) * STEPS).astype(np.int32) << level.shift
            tensors[f"{number}.b_{name}"] = bias.astype(np.int32)
            tensors[f"{number}.w_{name}"] = np.sign(tensors[f"{number}.w_{name}"])
    return config, tensors
