"""Details chosen by what they cost: the last plane's coefficients with the least D + λR.

What the plain quantiser keeps may be worth less than its bits, above all where it stands alone. The
transform is orthonormal, so each coefficient can be judged by itself, in the context that choices
before it have left. What that does to the contexts of others is seen in the end only: where it
costs more than it saves, the plane stays as it was. Only the last plane is judged: what those
before it hold is twice as large at least, and later planes refine it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from vqcodec.entropy.details import COLOURS, Grid, Integers, Known, Symbols, refined
from vqcodec.entropy.prior import Prior
from vqcodec.model.config import DetailConfig

Floats = npt.NDArray[np.float32]


def thrifty(
    grids: Sequence[Grid],
    aims: Floats,
    config: DetailConfig,
    prior: Prior,
    price: float,
) -> Grid:
    """The last of a chunk's planes, so that squared error and bits come to the least together.

    Args:
        grids: codes, and the planes behind them as quantised.
        aims: (3 F, H, W), what the last plane is to say, on the scale of its values.
        config: of the details.
        prior: what symbols cost.
        price: squared error, of 8-bit values and summed over the colours, that a bit is worth.
    """
    codes, before = grids[: len(prior.levels)], grids[len(prior.levels) : -1]
    known = np.zeros(aims.shape, np.int16)
    for plane, grid in enumerate(before):
        known = 2 * refined(known, grid[: len(known)], plane).astype(np.int16)
    last = len(before)
    step = config.step_at(last)
    costs = prior.details[last].table.bits * np.float32(price / step**2)
    natural, chosen = (
        kind(grids[-1], aims, known, config, last, costs) for kind in (_Score, _Chooser)
    )
    found = []
    for coder in (natural, chosen):
        planes = prior.planes(codes, aims.shape)
        for grid in before:
            planes.code(Known(grid))
        found.append(planes.code(coder))
    return found[chosen.total < natural.total]


class _Score(Known):
    """Known symbols, and what they come to.

    Attributes:
        total: squared error in steps, but for what is 0 anyway, and bits at their price.

    Args:
        grid: the symbols.
        aims: what they are to say.
        known: what the planes before say of them, on the same scale.
        config: of the details.
        plane: its number.
        costs: (contexts, entries) of the symbols, as squared error in steps.
    """

    def __init__(
        self,
        grid: Grid,
        aims: Floats,
        known: Integers,
        config: DetailConfig,
        plane: int,
        costs: Floats,
    ) -> None:
        super().__init__(grid)
        self.total = 0.0
        self._costs = costs
        self._aims, self._before = (a.reshape(COLOURS, -1) for a in (aims, known))
        self._config, self._plane = config, plane

    def run(self, colour: int, contexts: Integers, places: Integers) -> Symbols:
        symbols = super().run(colour, contexts, places)
        judged = np.flatnonzero(symbols)
        natural, where, here = symbols[judged], places[judged], contexts[judged]
        choices = self._choices(natural)
        values = refined(self._before[colour, where], choices, self._plane)
        off = self._config.likely(values) - self._aims[colour, where]
        scores = off**2 + self._costs[here, choices]
        best = scores.argmin(0)[None]
        symbols[judged] = np.take_along_axis(choices, best, 0)[0]
        zeros = np.delete(contexts, judged)
        self.total += float(np.take_along_axis(scores, best, 0).sum(dtype=np.float64))
        self.total += float(self._costs[zeros, 0].sum(dtype=np.float64))
        return symbols

    def _choices(self, natural: Symbols) -> Symbols:
        """(n, k): what each of k symbols other than 0 may be."""
        return natural[None]


class _Chooser(_Score):
    """Each symbol, or one of less magnitude."""

    def _choices(self, natural: Symbols) -> Symbols:
        # Of more than 2, the same sign and less by one.
        return np.stack([natural, np.maximum(natural - 2, 0), np.zeros_like(natural)])
