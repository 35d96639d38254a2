"""Bounds that layers share: what format, models and priors have room for, and the search's own."""

from __future__ import annotations

from math import inf

MAX_LEVELS = 16  # grids of indices, and so quality levels
MAX_ENTRIES = 1 << 15  # of a codebook, so that an index fits int16
MAX_PLANES = 4  # of details

MAX_EFFORT = 9  # of the search for codes
DEFAULT_EFFORT = 0


def check_search(effort: int, trade: float, freedom: float = 1.0) -> None:
    """Raise ValueError where codes cannot be searched for so (:mod:`vqcodec.search`)."""
    if effort not in range(MAX_EFFORT + 1):
        raise ValueError(f"effort must be an integer in 0..{MAX_EFFORT}, not {effort}")
    if not 0 <= trade < inf:
        raise ValueError(f"trade must be a number from 0 on, not {trade}")
    if not 0 <= freedom <= 1:
        raise ValueError(f"freedom must lie in 0..1, not {freedom}")
