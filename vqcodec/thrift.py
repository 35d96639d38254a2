"""Details chosen by what they cost: the last plane's coefficients with the least D + λR.

What the plain quantiser keeps may be worth less than its bits, above all where it stands alone. The
transform is orthonormal, so each coefficient can be judged by itself, in the context that choices
before it have left; what it does to the contexts of others is not looked at. Only the last plane
is: what those before it hold is twice as large at least, and later planes refine it.
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
    planes, known = prior.planes(codes, aims.shape), np.zeros(aims.shape, np.int16)
    for plane, grid in enumerate(before):
        planes.code(Known(grid))
        known = 2 * refined(known, grid[: len(known)], plane).astype(np.int16)
    last = len(before)
    step = config.step_at(last)
    costs = prior.details[last].table.bits * np.float32(price / step**2)
    return planes.code(_Chooser(grids[-1], aims, known, config, last, costs))


class _Chooser(Known):
    """Each symbol, or one of less magnitude.

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
        self._costs = costs
        self._aims, self._before = (a.reshape(COLOURS, -1) for a in (aims, known))
        self._config, self._plane = config, plane

    def run(self, colour: int, contexts: Integers, places: Integers) -> Symbols:
        symbols = super().run(colour, contexts, places)
        chosen = np.flatnonzero(symbols)
        if not chosen.size:
            return symbols
        natural, where = symbols[chosen], places[chosen]
        # Of more than 2, the same sign and less by one.
        choices = np.stack([natural, np.maximum(natural - 2, 0), np.zeros_like(natural)])
        values = refined(self._before[colour, where], choices, self._plane)
        off = self._config.likely(values) - self._aims[colour, where]
        best = (off**2 + self._costs[contexts[chosen], choices]).argmin(0)
        symbols[chosen] = choices[best, np.arange(len(natural))]
        return symbols
