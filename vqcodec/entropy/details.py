"""Planes of details: the coefficients of a transform, quantised ever finer, coded in contexts.

A plane is a grid (3 F, H, W) of symbols, as ``docs/format.md`` lays it out. The first holds rounded
coefficients, each further one what halving the step adds. Nearly all symbols are 0, and what is not
lies close together: in frequency, in blocks side by side, and in all colours at once. So each
coefficient spreads its magnitude over those around it, and how much has come together at a place
says how likely something is there. A table has the costs for each such context. All are integers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

Symbols: TypeAlias = npt.NDArray[np.int32]
Grid: TypeAlias = npt.NDArray[np.int16]
Integers: TypeAlias = npt.NDArray[np.integer[Any]]

COLOURS = 3
BLOCK = 8  # pixels a side
LIMIT = 15  # greatest magnitude in the first plane
ENTRIES = (2 * LIMIT + 1, 3)  # symbols of the first plane, and of each further one

_MARGIN = 2  # of absent coefficients behind each axis of frequency; 1 block behind the others
_AROUND, _BESIDE = 64, 128  # least sums that are no longer told apart
_AROUND_EDGES = (1, 2, 3, 4, 6, 9, 13, 19, 29)
_BESIDE_EDGES = (1, 3, 6, 10, 16, 26, 46)
_BAND_EDGES = (1, 2, 3, 5, 7, 9, 12, 16, 21)
_SUMS = (len(_AROUND_EDGES) + 1) * (len(_BESIDE_EDGES) + 1)
_BANDS = len(_BAND_EDGES) + 1
_ZERO = 4 * _BANDS * _SUMS  # contexts of coefficients that were 0 so far
_KNOWN_EDGES = (3, 9, 19)
CONTEXTS = _ZERO + 3 * (len(_KNOWN_EDGES) + 1)

# How magnitudes spread: (frequency in time, in height, in width) and weight.
_NEAR = tuple(
    (*step, 2) for axis in np.eye(3, dtype=int).tolist() for step in (axis, [-a for a in axis])
)
_FURTHER = tuple((2 * t, 2 * y, 2 * x, 1) for t, y, x, _ in _NEAR) + tuple(
    (t, y, x, 1)
    for t in (-1, 0, 1)
    for y in (-1, 0, 1)
    for x in (-1, 0, 1)
    if abs(t) + abs(y) + abs(x) == 2
)
_BESIDE_STEPS = ((0, 0, 0, 3), *((t, y, x, 1) for t, y, x, _ in _NEAR))
_SIDES = ((-1, 0), (1, 0), (0, -1), (0, 1))


def _lut() -> npt.NDArray[np.int16]:
    """Context within a band, by 128 · sum around + sum beside."""
    around = np.digitize(np.arange(_AROUND), _AROUND_EDGES)
    beside = np.digitize(np.arange(_BESIDE), _BESIDE_EDGES)
    return (around[:, None] * (len(_BESIDE_EDGES) + 1) + beside).astype(np.int16).ravel()


_LUT = _lut()
_KNOWN_LUT = np.digitize(np.arange(_AROUND), _KNOWN_EDGES).astype(np.int16)


@dataclass(frozen=True)
class Geometry:
    """Where the coefficients of a chunk are, in the order of coding. N are those of one colour.

    Attributes:
        cells: cells of the canvas of sums, margins included, for all colours.
        colour: of these, for one colour.
        place: (N,) place in a colour's part of the grid.
        cell: (N,) cell of the first colour's part of the canvas.
        context: (N,) first context of the band.
        ends: where each pass ends.
        around, beside: (offset in the canvas, weight) of what a magnitude spreads to.
    """

    cells: int
    colour: int
    place: npt.NDArray[np.int32]
    cell: npt.NDArray[np.int32]
    context: npt.NDArray[np.int16]
    ends: tuple[int, ...]
    around: tuple[Integers, Integers]
    beside: tuple[Integers, Integers]


def passes(frames: int) -> int:
    """How many passes a colour has."""
    return frames + 2 * (BLOCK - 1)


PASSES = passes(64)  # at most, as a chunk has up to 64 frames


class Coder(Protocol):
    """What is done with the symbols of a plane: they are written, read, or counted."""

    def extent(self, colour: int) -> int:
        """How many passes of a colour are coded, 0 to :data:`PASSES`; all others hold zeros."""

    def run(self, colour: int, contexts: Integers, places: Integers) -> Symbols:
        """The symbols of a pass, in the order of coding.

        Args:
            colour: 0 to 2.
            contexts: (n,) of each symbol, ascending.
            places: (n,) of each symbol in the colour's part of the grid.
        """


@lru_cache(maxsize=4)
def geometry(frames: int, rows: int, columns: int) -> Geometry:
    """Of ``frames`` × ``rows`` × ``columns`` blocks' coefficients."""
    t, i, j, y, x = (
        axis.ravel() for axis in np.indices((frames, BLOCK, BLOCK, rows, columns), np.int32)
    )
    size = (frames + _MARGIN, BLOCK + _MARGIN, BLOCK + _MARGIN, rows + 1, columns + 1)
    strides = [int(np.prod(size[axis + 1 :])) for axis in range(5)]
    cell = t * strides[0] + i * strides[1] + j * strides[2] + y * strides[3] + x
    place = ((t * BLOCK + i) * rows + y) * (BLOCK * columns) + j * columns + x
    number = t + i + j
    order = np.argsort(number, kind="stable")
    band = np.digitize((64 * t // frames + 2) // 4 + i + j, _BAND_EDGES)

    def offsets(steps: Sequence[tuple[int, ...]]) -> tuple[Integers, Integers]:
        found = [
            (sum(step * stride for step, stride in zip(steps_, strides, strict=False)), weight)
            for *steps_, weight in steps
        ]
        return np.array([at for at, _ in found]), np.array([weight for _, weight in found])

    around = offsets([(t, y, x, 0, 0, weight) for t, y, x, weight in _NEAR + _FURTHER])
    beside = offsets(
        [(t, y, x, *side, weight) for t, y, x, weight in _BESIDE_STEPS for side in _SIDES]
    )
    colour = int(np.prod(size))
    lead = -min(0, int(around[0].min()), int(beside[0].min()))
    return Geometry(
        cells=lead + COLOURS * colour + lead,
        colour=colour,
        place=place[order].astype(np.int32),
        cell=(lead + cell[order]).astype(np.int32),
        context=(band[order] * _SUMS).astype(np.int16),
        ends=tuple(np.bincount(number).cumsum().tolist()),
        around=around,
        beside=beside,
    )


class Known:
    """A :class:`Coder` of symbols that are known already: those of a grid (3 F, H, W)."""

    def __init__(self, grid: Grid) -> None:
        frames, height, width = grid.shape
        self._geometry = geometry(frames // COLOURS, height // BLOCK, width // BLOCK)
        self._symbols = grid.reshape(COLOURS, -1)

    def extent(self, colour: int) -> int:
        """No more passes than it takes."""
        there = np.flatnonzero(self._symbols[colour, self._geometry.place])
        if not there.size:
            return 0
        return int(np.searchsorted(self._geometry.ends, there[-1], side="right")) + 1

    def run(self, colour: int, contexts: Integers, places: Integers) -> Symbols:
        """See :class:`Coder`."""
        symbols: Symbols = self._symbols[colour, places].astype(np.int32)
        return symbols


class Planes:
    """The coefficients of one chunk, as far as they are known.

    Args:
        shape: (3 F, H, W) of each plane's grid; H and W multiples of 8, F at most 64.
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        frames, height, width = shape
        self._shape = shape
        self._geometry = geometry(frames // COLOURS, height // BLOCK, width // BLOCK)
        # Of each colour in coding order: coefficients in steps of the present plane.
        self._values = np.zeros((COLOURS, len(self._geometry.place)), np.int16)
        # Sums of magnitudes, weighed: in the same block, and in those at its sides.
        self._around = np.zeros(self._geometry.cells, np.int16)
        self._beside = np.zeros(self._geometry.cells, np.int16)
        self._plane = 0

    def code(self, coder: Coder) -> Grid:
        """Code the next plane; returns its grid."""
        geometry = self._geometry
        grid = np.zeros((COLOURS, len(geometry.place)), np.int16)
        if self._plane:  # in steps of half the size
            for doubled in (self._values, self._around, self._beside):
                doubled *= 2
        for colour in range(COLOURS):
            begin = 0
            for end in geometry.ends[: coder.extent(colour)]:
                here = slice(begin, end)
                contexts = self._contexts(colour, here)
                order = np.argsort(contexts, kind="stable")
                places, symbols = geometry.place[here], np.empty(end - begin, np.int32)
                symbols[order] = coder.run(colour, contexts[order], places[order])
                grid[colour][places] = symbols
                self._take_in(colour, here, symbols)
                begin = end
        self._plane += 1
        return grid.reshape(self._shape)

    def _contexts(self, colour: int, here: slice) -> npt.NDArray[np.int16]:
        cells = self._geometry.cell[here] + colour * self._geometry.colour
        around = np.minimum(self._around[cells], _AROUND - 1)
        beside = np.minimum(self._beside[cells], _BESIDE - 1)
        contexts: npt.NDArray[np.int16] = _LUT[around * np.int16(_BESIDE) + beside]
        contexts += self._geometry.context[here]
        if colour:
            others = np.abs(self._values[0, here])
            if colour == 2:
                others += 2 * np.abs(self._values[1, here])
            contexts += (1 + np.minimum(others, 2)) * np.int16(_BANDS * _SUMS)
        if self._plane:
            sizes = np.abs(self._values[colour, here]) // 2
            known = np.flatnonzero(sizes)
            sums = _KNOWN_LUT[around[known]]
            classes = np.minimum(sizes[known], 3) - 1
            contexts[known] = _ZERO + classes * np.int16(len(_KNOWN_EDGES) + 1) + sums
        return contexts

    def _take_in(self, colour: int, here: slice, symbols: Symbols) -> None:
        """The symbols of a pass: what they make of the values, and what these spread to."""
        new = np.flatnonzero(symbols)
        values = self._values[colour, here]
        before = values[new]
        values[new] = refined(before, symbols[new], self._plane)
        more = np.abs(values[new]) - np.abs(before)
        cells = self._geometry.cell[here][new] + colour * self._geometry.colour
        for sums, (offsets, weights) in (
            (self._around, self._geometry.around),
            (self._beside, self._geometry.beside),
        ):
            spread = (more[:, None] * weights).astype(np.int16)
            np.add.at(sums, (cells[:, None] + offsets).ravel(), spread.ravel())


def refined(values: Integers, symbols: Integers, plane: int) -> Integers:
    """Coefficients in steps of a plane.

    Args:
        values: what is known from the planes before, in the same steps: even numbers.
        symbols: of the plane.
        plane: its number, from 0; there values are 0.
    """
    if plane == 0:
        size = (symbols + 1) // 2
        return np.where(symbols % 2 == 1, size, -size)
    sign = np.where(values == 0, (symbols == 1) * 1 - (symbols == 2), np.sign(values))
    return np.where(values == 0, sign, values + sign * (symbols == 1))


def symbols_of(values: Integers, known: Integers, plane: int) -> Integers:
    """Inverse of :func:`refined`: the symbols that make ``values`` of what is ``known``."""
    if plane == 0:
        return 2 * np.abs(values) - (values > 0)
    return np.where(known == 0, values % 3, np.abs(values) - np.abs(known))
