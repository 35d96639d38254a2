"""Planes of details without a picture that says where to aim."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from vqcodec.model.config import DetailConfig
from vqcodec.model.details import Coefficients, Plane, Quantised, quantise, quantised


def planes_of(wanted: Coefficients, config: DetailConfig, count: int) -> list[Plane]:
    """The first ``count`` planes."""
    known, found = None, []
    for _ in range(count):
        found.append(quantise(wanted, known, config))
        known = quantised(found[-1].symbols, known, config)
    return found


def symbols_of(wanted: Coefficients, config: DetailConfig, count: int) -> list[Tensor]:
    """Their grids."""
    return [plane.symbols for plane in planes_of(wanted, config, count)]


def known_of(symbols: Sequence[Tensor], config: DetailConfig) -> Quantised:
    """What grids of the first planes say."""
    known = None
    for grid in symbols:
        known = quantised(grid, known, config)
    assert known is not None
    return known


def dequantise(symbols: Sequence[Tensor], config: DetailConfig) -> Tensor:
    """By block, what symbols of the first planes make most likely."""
    return known_of(symbols, config).likely
