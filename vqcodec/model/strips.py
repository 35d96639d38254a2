"""Large pictures in strips, so that what a network keeps of them stays small."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

PIXELS = 1 << 19  # of all frames of a strip together


class Strip(NamedTuple):
    """Rows of a picture, the rows to look at for them, and where they are among these."""

    rows: slice
    seen: slice
    inside: slice


def strips(height: int, row: int, unit: int, reach: int) -> Iterator[Strip]:
    """Strips of pictures, all of whose frames are cut alike.

    Args:
        height: rows.
        row: pixels of a row, in all frames.
        unit: a strip has a multiple of so many rows.
        reach: how many rows around it a strip looks at.
    """
    strip = max(1, PIXELS // (row * unit)) * unit
    for top in range(0, height, strip):
        bottom = min(height, top + strip)
        begin, end = max(0, top - reach), min(height, bottom + reach)
        yield Strip(slice(top, bottom), slice(begin, end), slice(top - begin, bottom - begin))
