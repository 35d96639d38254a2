"""How loud a coefficient of details may be: a small integer network that chooses its context.

What has come together around a coefficient, in its block and in its band, where it is in frequency,
and the codes of its block make one number, and a table has the costs of symbols for each value of
it. Coefficients with nothing around them, which most are, take a shorter way: a number of their
place and band, and one of their block. Every number is an integer, and float32 holds them exactly,
as in :mod:`vqcodec.entropy.integer`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from vqcodec.entropy.details import (
    BAND,
    BLOCK,
    CLASSES,
    HIDDEN,
    KNOWN,
    SPACES,
    TIMES,
    WITHIN,
    Grid,
    Seen,
)
from vqcodec.entropy.integer import ACTIVE, Array
from vqcodec.entropy.tables import Table

Contexts: TypeAlias = npt.NDArray[np.int16]

SHIFT, OUTPUT_SHIFT = 5, 8
CODE_SCALE = 32  # of a block's mean over its codes

_KNOWN = 2 * CLASSES  # first context of coefficients that are not 0 so far
_KNOWN_EDGES = (3, 9, 19)
_KNOWN_SUMS = np.digitize(range(_KNOWN_EDGES[-1] + 1), _KNOWN_EDGES)  # and for any above
_SIZES = KNOWN // (len(_KNOWN_EDGES) + 1)


class DetailPrior:
    """What is known of one plane of details before it is coded.

    Attributes:
        table: what symbols cost in each context.
        splits: what it costs how a block is split, by how those left of and above it are; None but
            for the first plane.

    Args:
        tensors: see :meth:`~vqcodec.entropy.config.PriorConfig.shapes`.
    """

    def __init__(self, tensors: Mapping[str, Array]) -> None:
        self.table = Table(tensors["costs"])
        self.splits = Table(tensors["splits"]) if "splits" in tensors else None
        self._still, self._overall = tensors["still"], tensors["overall"]
        places = tensors["time"][:, :, None] + tensors["space"][:, None]
        places = places.reshape(-1, HIDDEN)
        self._places = scaled(places + (1 << SHIFT - 1))  # half a step, so that it rounds
        self._w1 = scaled(tensors["w1"])
        self._w2 = tensors["w2"].astype(np.float32) * np.float32(2.0**-OUTPUT_SHIFT)
        self._b2 = np.float32(tensors["b2"][0] * 2.0**-OUTPUT_SHIFT)
        count = sum(name.startswith("codes.") for name in tensors)
        self._codes = [tensors[f"codes.{level}"] for level in range(count)]

    def of(self, blocks: Sequence[Grid]) -> Loudness:
        """The predictor of a chunk's plane.

        Args:
            blocks: the codes of its blocks (:func:`block_codes`) and, as if that were one more,
                how they are split, (P, 1).
        """
        return Loudness(self, block_means(blocks, self._codes))

    def still_by_spot(
        self, colours: Array | int, spots: Array, bands: Array
    ) -> npt.NDArray[np.int32]:
        """What places add where nothing is around them.

        Args:
            colours: rows of the table ``still``.
            spots: columns of it.
            bands: how much there is around these in all blocks.
        """
        found: npt.NDArray[np.int32] = (
            self._still[colours, spots] + self._overall[colours, BAND, bands]
        )
        return found

    def still_by_block(
        self, colours: Array | int, codes: Array, within: Array
    ) -> npt.NDArray[np.int32]:
        """What blocks add there.

        Args:
            colours: of the coefficients.
            codes: what the codes of the blocks add.
            within: how much there is in them.
        """
        found: npt.NDArray[np.int32] = codes + self._overall[colours, WITHIN, within]
        return found

    def still(self, spots: Array, blocks: Array) -> Contexts:
        """Contexts of coefficients with nothing around them.

        Args:
            spots: what their places add, see :meth:`still_by_spot`.
            blocks: what their blocks add, see :meth:`still_by_block`; of a shape that fits.
        """
        value = spots + blocks
        value >>= OUTPUT_SHIFT
        contexts: Contexts = np.clip(value, 0, CLASSES - 1, out=value).astype(np.int16)
        contexts += CLASSES
        return contexts

    def active(self, inputs: Array, places: Array, blocks: Array) -> Contexts:
        """(a,): contexts of coefficients with something around them.

        Args:
            inputs: uint8 (a, n), n at most INPUTS; the others are 0.
            places: (a,) rows of the tables of places, all colours'.
            blocks: float32 (a, HIDDEN) what the codes of their blocks add, times 2^-SHIFT.
        """
        hidden = inputs.astype(np.float32) @ self._w1[: inputs.shape[1]]
        hidden += self._places.take(places, axis=0)
        hidden += blocks
        np.clip(hidden, 0, ACTIVE, out=hidden)
        np.floor(hidden, out=hidden)
        value = hidden @ self._w2
        value += self._b2  # above 0 to cut off the fraction is to round down
        contexts: Contexts = np.clip(value, 0, CLASSES - 1, out=value).astype(np.int16)
        return contexts


class Loudness:
    """A :class:`~vqcodec.entropy.details.Predictor` of one plane of one chunk."""

    def __init__(self, prior: DetailPrior, blocks: npt.NDArray[np.int32]) -> None:
        self._prior = prior
        self._still_codes, self._codes = blocks[:, HIDDEN], scaled(blocks[:, :HIDDEN])

    def contexts(self, seen: Seen) -> Contexts:
        """See :class:`~vqcodec.entropy.details.Predictor`."""
        prior, colour = self._prior, seen.colour
        spots = prior.still_by_spot(colour, seen.spots, seen.bands)
        blocks = prior.still_by_block(colour, self._still_codes, seen.within)
        contexts = prior.still(spots[:, None], blocks).ravel()
        if len(seen.active):
            places = seen.spots + colour * (TIMES * SPACES)
            contexts[seen.active] = prior.active(
                seen.inputs, places[seen.spot], self._codes.take(seen.block, axis=0)
            )
        if len(seen.known):
            contexts[seen.known] = known_contexts(seen)
        return contexts


def scaled(values: Array) -> npt.NDArray[np.float32]:
    """Times 2^-SHIFT, which is exact."""
    found: npt.NDArray[np.float32] = values.astype(np.float32) * np.float32(2.0**-SHIFT)
    return found


def known_contexts(seen: Seen) -> Contexts:
    """(k,): contexts of those that are not 0 so far."""
    sums = _KNOWN_SUMS.take(seen.around, mode="clip")
    sizes = np.minimum(seen.sizes, _SIZES) - 1
    return (_KNOWN + sizes * (len(_KNOWN_EDGES) + 1) + sums).astype(np.int16)


def block_codes(codes: Sequence[Grid], shape: tuple[int, int, int]) -> list[Grid]:
    """For each level (P, n): the codes of each block, row by row.

    Args:
        codes: (T', H', W') per level, of one chunk; strides are powers of two.
        shape: of a plane's grid.
    """
    rows, columns = shape[1] // BLOCK, shape[2] // BLOCK
    found = []
    for grid in codes:
        steps, height, _ = grid.shape
        cells, apart = max(1, height // rows), max(1, rows // height)
        parts = grid.repeat(apart, 1).repeat(apart, 2)
        parts = parts.reshape(steps, rows, cells, columns, cells).transpose(1, 3, 0, 2, 4)
        found.append(parts.reshape(rows * columns, -1))
    return found


def block_means(blocks: Sequence[Grid], tables: Sequence[Array]) -> npt.NDArray[np.int32]:
    """(P, channels): the sum over the levels of 32 times the mean, rounded down, of what a block's
    codes have in the levels' tables (entries, channels).
    """
    means = [
        CODE_SCALE * table[block].sum(1, dtype=np.int32) // block.shape[1]
        for block, table in zip(blocks, tables, strict=True)
    ]
    total: npt.NDArray[np.int32] = np.sum(means, axis=0, dtype=np.int32)
    return total
