"""Planes of details: the coefficients of a transform, quantised ever finer, coded in contexts.

A plane is a grid (3 F, H, W) of symbols, as ``docs/format.md`` lays it out. The first holds rounded
coefficients, each further one what halving the step adds. Behind those of the first is a page
(H, W) that says into how many parts in time each block is split. Nearly all symbols are 0, and what
is not lies close together: in frequency, in blocks side by side, and in all colours at once. So
each coefficient spreads its magnitude over those around it, and what has come together at a place,
in its block, and at that frequency in all blocks is what a :class:`Predictor` goes by to choose a
context. All are integers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
SPLITS = 4  # ways to split a block: way n makes 2^n parts of its frames

_MARGIN = 2  # of absent coefficients behind each axis of frequency; 1 block behind the others
_FIELD = 16  # bits of each of the four sums that a cell of the canvas holds
_SUMS = 4
BAND, WITHIN = range(2)  # inputs of a predictor that are of all blocks, and of all of a block
OVERALL = 2  # how many they are
INPUTS = OVERALL + 2 * _SUMS + 2  # in all

_BAND_SCALE = 16  # of the mean over all blocks
_LARGEST = 4095  # sum or magnitude that is told apart from all above it
_TIME_EDGES = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 22)  # of 32 frequencies in time
TIMES = len(_TIME_EDGES) + 1
SPACES = BLOCK * BLOCK

# Of a predictor, and of the contexts it tells apart: of coefficients with something around them and
# as many again of those with nothing, then of those that are not 0 so far.
HIDDEN = 16
CLASSES = 64
KNOWN = 12
CONTEXTS = 2 * CLASSES + KNOWN

# How magnitudes spread: (frequency in time, in height, in width).
_TIME = ((1, 0, 0), (-1, 0, 0))
_SPACE = ((0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1))
_NEAR = _TIME + _SPACE
_DIAGONAL = tuple(
    (t, y, x)
    for t in (-1, 0, 1)
    for y in (-1, 0, 1)
    for x in (-1, 0, 1)
    if abs(t) + abs(y) + abs(x) == 2
)
_SIDES = ((-1, 0), (1, 0), (0, -1), (0, 1))


def _twice(steps: tuple[tuple[int, ...], ...]) -> tuple[tuple[int, ...], ...]:
    return tuple((2 * t, 2 * y, 2 * x) for t, y, x in steps)


# For each of the four sums: (step in frequency, step to another block, weight).
_SPREAD: tuple[tuple[int, tuple[int, ...], tuple[int, int], int], ...] = (
    *((0, step, (0, 0), 2) for step in _TIME),
    *((0, step, (0, 0), 1) for step in _twice(_TIME)),
    *((1, step, (0, 0), 2) for step in _SPACE),
    *((1, step, (0, 0), 1) for step in _twice(_SPACE) + _DIAGONAL),
    *((2, (0, 0, 0), side, 1) for side in _SIDES),
    *((3, step, side, 1) for step in _NEAR for side in _SIDES),
)


def _logarithms() -> npt.NDArray[np.uint8]:
    """By a sum or magnitude: 8 an octave, straight in between, 0 to 96."""
    size = np.minimum(np.arange(1 << _FIELD), _LARGEST) + 1
    octave = np.frexp(size)[1] - 1
    steps: npt.NDArray[np.uint8] = (8 * octave + ((8 * size) >> octave) - 8).astype(np.uint8)
    return steps


_LOGARITHMS = _logarithms()
LOUDNESSES = int(_LOGARITHMS[-1]) + 1  # different ones


def _logarithm(sizes: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    return _LOGARITHMS.take(np.minimum(sizes, _LARGEST))


@dataclass(frozen=True)
class Geometry:
    """Where the coefficients of a chunk are, in the order of coding. N are those of one colour.

    A *spot* is a place in frequency, the same in all blocks: the P blocks of a spot follow each
    other, row by row.

    Attributes:
        cells: cells of the canvas of sums, margins included, for all colours.
        colour: of these, for one colour.
        place: (N,) place in a colour's part of the grid.
        cell: (N,) cell of the first colour's part of the canvas.
        blocks: P.
        spot: (N / P,) row of a table (times, spaces), as :data:`TIMES` and :data:`SPACES` count.
        ends: where each pass ends.
        spread: (offset in the canvas, what a magnitude of 1 adds there).
    """

    cells: int
    colour: int
    place: npt.NDArray[np.intp]
    cell: npt.NDArray[np.intp]
    blocks: int
    spot: npt.NDArray[np.int32]
    ends: tuple[int, ...]
    spread: tuple[Integers, Integers]


def passes(frames: int) -> int:
    """How many passes a colour has."""
    return frames + 2 * (BLOCK - 1)


PASSES = passes(64)  # at most, as a chunk has up to 64 frames


@dataclass(frozen=True)
class Seen:
    """What is known of the n coefficients of a pass before they are coded.

    Attributes:
        colour: 0 to 2.
        spots: (n / P,) as of :class:`Geometry`; P coefficients, one of each block, at each.
        blocks: P.
        bands: uint8 (n / P,) the logarithm of how much there is around a spot in all blocks.
        within: uint8 (P,) the logarithm of how much there is in a block, of this colour and those
            before.
        active: (a,) which of the n have anything around them.
        spot, block: (a,) which of the spots, and of the blocks, they are in.
        inputs: uint8 (a, 6), (a, 11) or (a, 12) by colour, for them: their ``bands`` and
            ``within``; logarithms of the four sums; but for the first colour also of the four that
            it has, and of the magnitudes that the colours before have there.
        known: (k,) which of the n are not 0 so far.
        sizes: (k,) their magnitudes in steps of the plane before.
        around: (k,) the sum of magnitudes around them in their own block.
    """

    colour: int
    spots: npt.NDArray[np.int32]
    blocks: int
    bands: npt.NDArray[np.uint8]
    within: npt.NDArray[np.uint8]
    active: npt.NDArray[np.intp]
    spot: npt.NDArray[np.intp]
    block: npt.NDArray[np.intp]
    inputs: npt.NDArray[np.uint8]
    known: npt.NDArray[np.intp]
    sizes: Integers
    around: Integers


class Predictor(Protocol):
    """Tells apart the contexts of a plane's coefficients."""

    def contexts(self, seen: Seen) -> npt.NDArray[np.int16]:
        """(n,): of each coefficient of a pass, in the order of coding."""


class Coder(Protocol):
    """What is done with the symbols of a plane: they are written, read, or counted."""

    def split(self, contexts: Integers, places: Integers) -> Symbols:
        """How some blocks are split.

        Args:
            contexts: (n,) below the square of :data:`SPLITS`.
            places: (n,) numbers of the blocks, row by row.
        """

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
    blocks = rows * columns
    spot = (np.digitize(32 * t // frames, _TIME_EDGES) * BLOCK + i) * BLOCK + j
    offsets = np.array([np.dot((*step, *side), strides) for _, step, side, _ in _SPREAD])
    amounts = np.array([weight << _FIELD * sum_ for sum_, _, _, weight in _SPREAD])
    colour = int(np.prod(size))
    lead = -int(offsets.min())
    return Geometry(
        cells=lead + COLOURS * colour + lead,
        colour=colour,
        place=place[order].astype(np.intp),
        cell=(lead + cell[order]).astype(np.intp),
        blocks=blocks,
        spot=spot[order[::blocks]].astype(np.int32),
        ends=tuple(np.bincount(number).cumsum().tolist()),
        spread=(offsets, amounts),
    )


class Known:
    """A :class:`Coder` of symbols that are known already: those of a plane's grid."""

    def __init__(self, grid: Grid) -> None:
        steps, height, width = grid.shape
        frames = steps // COLOURS
        self._geometry = geometry(frames, height // BLOCK, width // BLOCK)
        self._symbols = grid[: COLOURS * frames].reshape(COLOURS, -1)
        self._page = grid[COLOURS * frames :]

    def split(self, contexts: Integers, places: Integers) -> Symbols:
        """See :class:`Coder`; only where the grid has that page."""
        return splits_of(self._page).ravel()[places].astype(np.int32)

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
        shape: of a plane's grid; H and W multiples of 8, F at most 64.
        predict: the predictors of its planes, given how blocks are split, (P,) row by row.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        predict: Callable[[Grid], Sequence[Predictor]],
    ) -> None:
        steps, height, width = shape
        frames = steps // COLOURS
        self._shape = COLOURS * frames, height, width
        self._predict = predict
        self._predictors: Sequence[Predictor] = ()
        self._geometry = geometry(frames, height // BLOCK, width // BLOCK)
        # Of each colour in coding order: coefficients in steps of the present plane.
        self._values = np.zeros((COLOURS, len(self._geometry.place)), np.int16)
        # What magnitudes add up to at each place: four sums, 16 bits each. None comes near 2^15.
        self._sums = np.zeros(self._geometry.cells, np.int64)
        colours = range(0, COLOURS * self._geometry.colour, self._geometry.colour)
        self._sums_of = [self._sums[start:] for start in colours]  # views
        # What magnitudes add up to in each block.
        self._loud = np.zeros((COLOURS, self._geometry.blocks), np.int64)
        self._plane = 0

    def code(self, coder: Coder) -> Grid:
        """Code the next plane; returns its grid."""
        geometry, pages = self._geometry, []
        grid = np.zeros((COLOURS, len(geometry.place)), np.int16)
        if self._plane:  # in steps of half the size
            self._values *= 2
            self._sums *= 2
            self._loud *= 2
        else:
            splits = self._split(coder)
            self._predictors = self._predict(splits.ravel())
            pages = [page_of(splits)]
        predictor = self._predictors[self._plane]
        for colour in range(COLOURS):
            begin = 0
            for end in geometry.ends[: coder.extent(colour)]:
                here = slice(begin, end)
                contexts = predictor.contexts(self._look(colour, here))
                order = np.argsort(contexts, kind="stable")
                places, symbols = geometry.place[here], np.empty(end - begin, np.int32)
                symbols[order] = coder.run(colour, contexts.take(order), places.take(order))
                grid[colour][places] = symbols
                self._take_in(colour, here, symbols)
                begin = end
        self._plane += 1
        return np.concatenate([grid.reshape(self._shape), *pages])

    def _split(self, coder: Coder) -> Grid:
        """How blocks are split, (H / 8, W / 8): diagonal by diagonal."""
        rows, columns = (side // BLOCK for side in self._shape[1:])
        splits = np.zeros((rows + 1, columns + 1), np.int16)  # none outside counts as whole
        for number in range(rows + columns - 1):
            y = np.arange(max(0, number - columns + 1), min(rows, number + 1))
            x = number - y
            contexts = SPLITS * splits[y, x + 1] + splits[y + 1, x]  # above, and to the left
            splits[y + 1, x + 1] = coder.split(contexts, y * columns + x)
        return splits[1:, 1:]

    def _look(self, colour: int, here: slice) -> Seen:
        geometry = self._geometry
        cells = geometry.cell[here]
        own = self._sums_of[colour].take(cells)
        sums, any_ = [own], own != 0
        others = np.abs(self._values[:colour, here])
        if colour:
            sums.append(self._sums_of[0].take(cells))
            any_ |= sums[1] != 0
            any_ |= others.any(0)
        (active,) = any_.nonzero()
        bands, within = self._bands(own), _logarithm(self._loud[: colour + 1].sum(0))
        inputs = np.empty((len(active), OVERALL + len(sums) * _SUMS + colour), np.uint8)
        spot, block = divmod(active, geometry.blocks)
        inputs[:, BAND], inputs[:, WITHIN] = bands.take(spot), within.take(block)
        for number, fields in enumerate(sums):
            first = OVERALL + number * _SUMS
            inputs[:, first : first + _SUMS] = _LOGARITHMS.take(_parts(fields.take(active)))
        if colour:
            inputs[:, OVERALL + 2 * _SUMS :] = _LOGARITHMS.take(others.take(active, 1)).T
        values = self._values[colour, here]
        known = values.nonzero()[0] if self._plane else np.empty(0, np.intp)
        around = _parts(own.take(known))
        return Seen(
            colour=colour,
            spots=geometry.spot[here.start // geometry.blocks : here.stop // geometry.blocks],
            blocks=geometry.blocks,
            bands=bands,
            within=within,
            active=active,
            spot=spot,
            block=block,
            inputs=inputs,
            known=known,
            sizes=np.abs(values[known]) // 2,
            around=around[:, 0].astype(np.int32) + around[:, 1],
        )

    def _bands(self, own: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """Of each spot of a pass, given its cells of the canvas."""
        blocks = self._geometry.blocks
        around = _parts(own)[:, :2].reshape(-1, 2 * blocks).sum(1, dtype=np.int64)
        return _logarithm(_BAND_SCALE * around // blocks)

    def _take_in(self, colour: int, here: slice, symbols: Symbols) -> None:
        """The symbols of a pass: what they make of the values, and what these spread to."""
        (new,) = symbols.nonzero()
        values = self._values[colour, here]
        before = values.take(new)
        values[new] = after = refined(before, symbols.take(new), self._plane)
        more = np.abs(after) - np.abs(before)
        np.add.at(self._loud[colour], new % self._geometry.blocks, more)
        cells = self._geometry.cell[here].take(new)
        offsets, amounts = self._geometry.spread
        spread = np.multiply.outer(more, amounts)
        np.add.at(self._sums_of[colour], np.add.outer(cells, offsets).ravel(), spread.ravel())


def page_of(splits: Grid) -> Grid:
    """How blocks are split, (H / 8, W / 8) → the page (1, H, W) that says so."""
    page = np.zeros((1, *(BLOCK * side for side in splits.shape)), np.int16)
    splits_of(page)[:] = splits
    return page


def splits_of(page: Grid) -> Grid:
    """Inverse of :func:`page_of`, a view: where coefficients have their first frequency."""
    _, height, width = page.shape
    return page[0, : height // BLOCK, : width // BLOCK]


def is_page(page: Grid) -> bool:
    """Whether a page (1, H, W) says how blocks are split, and nothing else."""
    splits = splits_of(page)
    sane: bool = splits.min() >= 0 and splits.max() < SPLITS
    return sane and np.array_equal(page, page_of(splits))


def _parts(sums: npt.NDArray[np.int64]) -> npt.NDArray[np.uint16]:
    """(n,) cells of the canvas → (n, 4) sums."""
    return sums.astype("<i8", copy=False).view("<u2").reshape(-1, _SUMS)


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
