"""The order in which symbols are coded, and what each may look at.

Levels are coded coarse to fine, a level step by step in time, a step in two or four passes. Two are
like the squares of a checkerboard: first where y + x is even, then where it is odd. Four cut each
of these in halves, even rows and odd ones. All go in raster order. A pass is cut into runs of up to
:data:`RUN` symbols; the symbols of a run are predicted at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from vqcodec.entropy.config import PriorConfig

Grid: TypeAlias = npt.NDArray[np.int16]  # (T', H', W'), values 0 to entries - 1
Shape: TypeAlias = tuple[int, int, int]
Rows: TypeAlias = npt.NDArray[np.intp]

Where: TypeAlias = tuple[slice, slice, Rows, Rows]  # index of an array (B, T', H', W')

RUN = 4096  # bounds the memory of a prediction, whatever the size of the picture


class Run(NamedTuple):
    """Symbols of a level that are predicted at once: of some time steps, and of one pass.

    Attributes:
        level: which level.
        times: its steps in time; a single one where the order matters.
        pass_: which one of its step.
        start, stop: which positions of the pass, in raster order.
    """

    level: int
    times: range
    pass_: int
    start: int
    stop: int


class Canvas:
    """The codes of B chunks of the same shapes, as far as they are known.

    Every grid has a margin of absent symbols around it, wide enough for all neighbours, and
    behind its beginning the last steps of the chunk before. So a neighbour is a constant offset
    in a flat array, and whatever is outside or unknown needs no special case.

    Args:
        config: the prior's.
        shapes: of the grids, for the first levels of ``config``.
        previous: for each chunk the grids of the chunk before, or None.

    Raises:
        ValueError: shapes that do not fit each other, or previous grids of another picture size.
    """

    def __init__(
        self,
        config: PriorConfig,
        shapes: Sequence[Shape],
        previous: Sequence[Sequence[Grid] | None],
    ) -> None:
        _check_shapes(config, shapes)
        self._shapes = tuple(shapes)
        planes, padded, end = [], [], 0
        for number, (t, y, x) in enumerate(shapes):
            before, after, margin = _reach(config, number)
            size = before + t + after, y + 2 * margin, x + 2 * margin
            per_t, per_y = size[1] * size[2], size[2]
            origin = end + before * per_t + margin * per_y + margin
            planes.append(_Plane(origin, per_t, per_y))
            padded.append((end, size))
            end += prod(size)
        self._codes = np.empty((len(previous), end), np.intp)
        self._grids = []
        for number, ((t, y, x), (begin, size)) in enumerate(zip(shapes, padded, strict=True)):
            before, _, margin = _reach(config, number)
            whole = self._codes[:, begin : begin + prod(size)]
            whole.fill(config.levels[number].entries)
            inner = whole.reshape(-1, *size)[:, :, margin : margin + y, margin : margin + x]
            for chunk, grids in zip(inner, previous, strict=True):
                if grids is not None and before:
                    steps = grids[number][-before:]
                    if steps.shape[1:] != (y, x):
                        raise ValueError("the chunk before is of another picture size")
                    chunk[before - len(steps) : before] = steps
            self._grids.append(inner[:, before : before + t])
        self._levels = [
            _Gather(config, number, shape, planes) for number, shape in enumerate(shapes)
        ]

    def grid(self, level: int) -> Rows:
        """View of a level's codes, (B, T', H', W'); entries where they are not known yet."""
        return self._grids[level]

    def runs(self, level: int, steps: int = 1) -> Iterator[Run]:
        """The runs of a level: in coding order, or of up to ``steps`` steps in any order.

        The latter is for codes that are known already.
        """
        length = self._shapes[level][0]
        for t in range(0, length, steps):
            for pass_, positions in enumerate(self._levels[level].passes):
                count = len(positions.y)
                for start in range(0, count, RUN):
                    stop = min(start + RUN, count)
                    yield Run(level, range(t, min(t + steps, length)), pass_, start, stop)

    def where(self, run: Run) -> Where:
        """Index of a run's symbols in any array (B, T', H', W'); gives (B, times, positions)."""
        here, cells = slice(run.start, run.stop), self._levels[run.level].passes[run.pass_]
        times = slice(run.times.start, run.times.stop)
        return slice(None), times, cells.y[here], cells.x[here]

    def context(self, run: Run) -> tuple[Rows, Rows]:
        """What a run's symbols, N in all in the order (B, times, positions), look at.

        Returns:
            rows (N, n) and places (N,), as :meth:`Network.hidden` wants them.
        """
        return self._levels[run.level].context(self._codes, run)


class _Plane(NamedTuple):
    """Where a level's grid is in the canvas: its first symbol, and steps in time and height."""

    origin: int
    per_t: int
    per_y: int


class _Pass(NamedTuple):
    """What one pass of a level's step codes, P positions in raster order.

    Attributes:
        y, x: (P,).
        phase: (P,) place in the coarsest level's cell, in space: (y mod a) · a + x mod a.
        neighbours: (P, n) where their neighbours are in the canvas, at time 0.
    """

    y: Rows
    x: Rows
    phase: Rows
    neighbours: Rows


class _Gather:
    """Where in the canvas the neighbours of a level's symbols are."""

    def __init__(
        self, config: PriorConfig, number: int, shape: Shape, planes: Sequence[_Plane]
    ) -> None:
        level = config.levels[number]
        y, x = (axis.ravel() for axis in np.indices(shape[1:]))
        self._across_t, self._across = config.phases(number)
        phase = y % self._across * self._across + x % self._across
        columns, steps, per_step, tables = [], [], [], []
        begin = {
            source: sum(config.levels[s].entries + 1 for s in level.sources[:index])
            for index, source in enumerate(level.sources)
        }
        for source, dt, dy, dx in level.neighbours:
            plane, step = planes[source], config.levels[source].stride // level.stride
            columns.append(
                plane.origin + dt * plane.per_t + (y // step + dy) * plane.per_y + (x // step + dx)
            )
            steps.append(config.levels[source].stride_t // level.stride_t)
            per_step.append(plane.per_t)
            tables.append(begin[source])
        # (n,) each: their level's steps in time, how far apart in the canvas; first row in rows.
        self._steps, self._per_step, self._tables = map(np.array, (steps, per_step, tables))
        neighbours = np.stack(columns, 1)
        turn = level.order[y % 2, x % 2]
        self.passes = [
            _Pass(y[chosen], x[chosen], phase[chosen], neighbours[chosen])
            for chosen in (turn == pass_ for pass_ in range(level.passes))
        ]
        # Those of the same step that a pass does not know yet, though an encoder does.
        self._unknown = [
            [
                column
                for column, (source, dt, dy, dx) in enumerate(level.neighbours)
                if source == number and dt == 0 and not level.sees(pass_, dy, dx)
            ]
            for pass_ in range(level.passes)
        ]
        self._absent = level.entries

    def context(self, codes: Rows, run: Run) -> tuple[Rows, Rows]:
        here, cells = slice(run.start, run.stop), self.passes[run.pass_]
        times = np.array(run.times)[:, None]
        later = times // self._steps * self._per_step
        rows = codes.take(cells.neighbours[here] + later[:, None], axis=1)
        rows[..., self._unknown[run.pass_]] = self._absent
        rows += self._tables
        phase = times % self._across_t * self._across**2 + cells.phase[here]
        places = np.tile((phase * len(self.passes) + run.pass_).ravel(), len(codes))
        return rows.reshape(len(places), -1), places


def _reach(config: PriorConfig, source: int) -> tuple[int, int, int]:
    """Steps before and after, and cells around it, that neighbours in a level can lie."""
    found = [n for level in config.levels for n in level.neighbours if n.level == source]
    return (
        max([0, *(-n.dt for n in found)]),
        max([0, *(n.dt for n in found)]),
        max([0, *(max(abs(n.dy), abs(n.dx)) for n in found)]),
    )


def _check_shapes(config: PriorConfig, shapes: Sequence[Shape]) -> None:
    if not 1 <= len(shapes) <= len(config.levels):
        raise ValueError(f"{len(shapes)} grids for a prior of {len(config.levels)} levels")
    sizes = {
        (t * level.stride_t, y * level.stride, x * level.stride)
        for (t, y, x), level in zip(shapes, config.levels, strict=False)
    }
    if len(sizes) != 1 or min(sizes.pop()) < 1:
        raise ValueError(f"grids of shapes {list(shapes)} do not cover the same picture")
