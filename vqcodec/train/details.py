"""What details cost: their symbols counted, context by context, in footage that a network codes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vqcodec.entropy.details import CONTEXTS, Integers, Known, Planes, Symbols
from vqcodec.entropy.tables import Costs, costs_of
from vqcodec.model.network import MSVQVAE


@torch.inference_mode()
def detail_tables(
    network: MSVQVAE,
    clips: Callable[[int], Tensor],
    *,
    chunks: int,
    device: str = "cpu",
    report: Callable[[int], bool] = lambda _done: False,
) -> list[Costs]:
    """A table for each of the network's planes of details.

    Args:
        network: in evaluation mode.
        clips: gives the consecutive chunks uint8 (N, 3, T, H, W) of a sequence, by its number.
        chunks: how many chunks to count in; the last sequence may be more.
        report: called with the number of chunks done, now and then; True stops the work.

    Returns:
        The tables; none if ``report`` stopped the work.
    """
    planes = network.config.detail_grids
    counts = [np.zeros((CONTEXTS, grid.entries)) for grid in planes]
    done = number = 0
    while done < chunks:
        batch = clips(number).to(device).float().div_(255)
        grids = network.encode(batch)[len(network.config.code_grids) :]
        for chunk in zip(*(grid.cpu().numpy() for grid in grids), strict=True):
            _count(chunk, counts)
        done, number = done + len(batch), number + 1
        if report(done):
            return []
    return [costs_of(found) for found in counts]


def _count(grids: Sequence[NDArray[np.int16]], counts: Sequence[NDArray[np.float64]]) -> None:
    planes = Planes(grids[0].shape)
    for grid, found in zip(grids, counts, strict=True):
        planes.code(_Counter(grid, found))


class _Counter(Known):
    """Counts the symbols of a plane."""

    def __init__(self, grid: NDArray[np.int16], counts: NDArray[np.float64]) -> None:
        super().__init__(grid)
        self._counts = counts

    def run(self, colour: int, contexts: Integers, places: Integers) -> Symbols:
        symbols = super().run(colour, contexts, places)
        np.add.at(self._counts, (contexts, symbols), 1)
        return symbols
