"""What symbols of details cost in each context: tables."""

from __future__ import annotations

from functools import cached_property
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from vqcodec.entropy.details import PASSES
from vqcodec.entropy.integer import PRECISION, STEPS, frequencies

UNIT = 8  # of a cost in a table, per bit

Costs: TypeAlias = npt.NDArray[np.int8]


class Table:
    """The frequencies of a plane's symbols.

    Attributes:
        weights: (contexts, entries) frequencies minus 1, float64; rows sum to 2^24 - entries.

    Args:
        costs: int8 (contexts, entries), bits times :data:`UNIT`.
    """

    def __init__(self, costs: Costs) -> None:
        self.weights = frequencies(costs.astype(np.float32) * -(STEPS // UNIT))

    @cached_property
    def bits(self) -> npt.NDArray[np.float32]:
        """(contexts, entries): what each symbol costs."""
        bits: npt.NDArray[np.float32] = (PRECISION - np.log2(self.weights + 1)).astype(np.float32)
        return bits


def costs_of(counts: npt.NDArray[np.float64]) -> Costs:
    """The table of how often each symbol was seen in each context (contexts, entries)."""
    # A context that was hardly seen follows the average, and nothing is impossible.
    share = counts.sum(0) + 1
    smooth = counts + 2 * share / share.sum() + 1e-3
    bits = -np.log2(smooth / smooth.sum(1, keepdims=True))
    costs: Costs = np.minimum(np.rint(UNIT * bits), 127).astype(np.int8)
    return costs


EXTENT = frequencies(np.zeros((1, PASSES + 1), np.float32))
"""(1, extents): the same for how many passes there are."""
