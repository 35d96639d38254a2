"""What a plane of details is predicted by, as it learns: see :mod:`vqcodec.entropy.loudness`.

The samples are coefficients of footage with what is known around them. Every weight is rounded as
it will be stored, and so is the number that the network makes of a coefficient: while it learns,
that is the logit that the coefficient is not 0. Tables are counted in the end.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from vqcodec.entropy.details import (
    BAND,
    CLASSES,
    COLOURS,
    CONTEXTS,
    ENTRIES,
    HIDDEN,
    INPUTS,
    LOUDNESSES,
    OVERALL,
    SPACES,
    SPLITS,
    TIMES,
    WITHIN,
    Grid,
    Integers,
    Known,
    Planes,
    Seen,
    Symbols,
)
from vqcodec.entropy.integer import ACTIVE, WEIGHT_LIMIT
from vqcodec.entropy.loudness import (
    CODE_SCALE,
    OUTPUT_SHIFT,
    SHIFT,
    DetailPrior,
    known_contexts,
    scaled,
)
from vqcodec.entropy.tables import Costs, costs_of

KEPT = (1.0, 0.3, 0.1, 0.03)  # of the coefficients with something around them, by plane
KEPT_STILL = 0.006  # of the zeros with nothing around them
_RANK = 1  # channels of a code beside its share in what is still
_SIZES = 6  # magnitudes told apart in training

# Stored integers are so many times the numbers here. What comes out of places and codes has one
# scale with what comes out of the network.
_OUTPUT, _WEIGHT, _LAST = 1 << 10, 64, 32
_CLASS = _OUTPUT >> OUTPUT_SHIFT  # classes a unit
_NATS = 0.8  # a unit, of the logit that a coefficient is not 0
_LEAST, _LEAST_STILL = -9.5, -13.0  # this logit in the first class


@dataclass(frozen=True)
class Samples:
    """Coefficients of one plane, and what was known of them. R rows, sorted by block.

    Attributes:
        ends: (N,) where each block's rows end.
        inputs: uint8 (R, INPUTS); if nothing is around, all but the first two are 0.
        places: int16 (R,) row of the tables of places, all colours'.
        symbols: int8 (R,).
        weights: float32 (R,) how many coefficients each stands for.
        known: float64 (CONTEXTS, entries) counts of coefficients that are not 0 so far.
    """

    ends: NDArray[np.int64]
    inputs: NDArray[np.uint8]
    places: NDArray[np.int16]
    symbols: NDArray[np.int8]
    weights: NDArray[np.float32]
    known: NDArray[np.float64]

    def of(self, blocks: NDArray[np.int64]) -> tuple[Tensor, list[Tensor]]:
        """Samples of ``blocks``: whose each is, and their columns."""
        ends = self.ends[blocks]
        counts = ends - np.where(blocks > 0, self.ends[blocks - 1], 0)
        owners = np.repeat(np.arange(len(blocks)), counts)
        rows = np.arange(len(owners)) + (ends - counts.cumsum())[owners]
        columns = self.inputs, self.places, self.symbols, self.weights
        return torch.from_numpy(owners), [torch.from_numpy(column[rows]) for column in columns]


class Collector:
    """Gathers samples of all planes, chunk by chunk.

    Attributes:
        splits: float64 (SPLITS², SPLITS) counts of how blocks are split, by those beside them.

    Args:
        planes: how many.
        seed: of what is kept.
    """

    def __init__(self, planes: int, seed: int) -> None:
        self.blocks = 0
        self.splits = np.zeros((SPLITS**2, SPLITS))
        self._rng = np.random.default_rng(seed)
        self._rows: list[list[tuple[NDArray[Any], ...]]] = [[] for _ in range(planes)]
        self._known = [np.zeros((CONTEXTS, ENTRIES[min(plane, 1)])) for plane in range(planes)]

    def add(self, planes: Sequence[Grid]) -> None:
        """Take samples of a chunk's planes of details."""
        recorders = [
            _Recorder(
                grid, self._rng, KEPT[min(plane, len(KEPT) - 1)], self._known[plane], self.splits
            )
            for plane, grid in enumerate(planes)
        ]
        state = Planes(planes[0].shape, lambda _splits: recorders)
        for recorder, rows in zip(recorders, self._rows, strict=True):
            state.code(recorder)
            rows += [(block + self.blocks, *more) for block, *more in recorder.rows]
        self.blocks += planes[0].shape[1] * planes[0].shape[2] // SPACES

    def samples(self) -> list[Samples]:
        """What was gathered, a plane each."""
        found = []
        for rows, known in zip(self._rows, self._known, strict=True):
            blocks, inputs, places, symbols, weights = (
                np.concatenate(column) for column in zip(*rows, strict=True)
            )
            at = np.argsort(blocks, kind="stable")
            ends = np.bincount(blocks, minlength=self.blocks).cumsum()
            found.append(Samples(ends, inputs[at], places[at], symbols[at], weights[at], known))
        return found


class _Recorder(Known):
    """A predictor that only looks, and the coder of known symbols that goes with it."""

    def __init__(
        self,
        grid: Grid,
        rng: np.random.Generator,
        kept: float,
        known: NDArray[np.float64],
        splits: NDArray[np.float64],
    ) -> None:
        super().__init__(grid)
        self._splits = splits
        self.rows: list[tuple[NDArray[Any], ...]] = []
        self._rng, self._kept, self._known = rng, kept, known
        self._seen: Seen | None = None

    def split(self, contexts: Integers, places: Integers) -> Symbols:
        symbols = super().split(contexts, places)
        np.add.at(self._splits, (contexts, symbols), 1)
        return symbols

    def contexts(self, seen: Seen) -> NDArray[np.int16]:
        """All the same, so that symbols come in their order."""
        self._seen = seen
        return np.zeros(len(seen.spots) * seen.blocks, np.int16)

    def run(self, colour: int, contexts: Integers, places: Integers) -> Symbols:
        symbols, seen = super().run(colour, contexts, places), self._seen
        assert seen is not None
        np.add.at(self._known, (known_contexts(seen), symbols[seen.known]), 1)
        # A zero with nothing around it stands for many.
        shares = np.where(symbols != 0, self._kept, KEPT_STILL)
        shares[seen.active] = self._kept
        inputs = np.zeros((len(symbols), INPUTS), np.uint8)
        inputs[:, BAND] = np.repeat(seen.bands, seen.blocks)
        inputs[:, WITHIN] = np.tile(seen.within, len(seen.spots))
        inputs[seen.active, : seen.inputs.shape[1]] = seen.inputs
        drawn = self._rng.random(len(symbols)) < shares
        drawn[seen.known] = False
        rows = np.flatnonzero(drawn)
        spot, block = divmod(rows, seen.blocks)
        self.rows.append(
            (
                block,
                inputs[rows],
                (seen.spots[spot] + colour * TIMES * SPACES).astype(np.int16),
                symbols[rows].astype(np.int8),
                (1 / shares[rows]).astype(np.float32),
            )
        )
        return symbols


class PlaneNetwork(nn.Module):
    """The tensors of one plane in floating point.

    Args:
        plane: its number.
        entries: of the codes' levels.
    """

    def __init__(self, plane: int, entries: Sequence[int]) -> None:
        super().__init__()
        self.plane = plane
        self.still = nn.Parameter(torch.full((COLOURS, TIMES, SPACES), 6.0))
        self.overall = nn.Parameter(torch.zeros(COLOURS, OVERALL, LOUDNESSES))
        self.time = nn.Parameter(torch.zeros(COLOURS, TIMES, HIDDEN))
        self.space = nn.Parameter(torch.zeros(COLOURS, SPACES, HIDDEN))
        self.w1 = nn.Parameter(torch.randn(INPUTS, HIDDEN) * 0.3)
        self.w2 = nn.Parameter(torch.randn(HIDDEN) * 0.5)
        self.b2 = nn.Parameter(torch.full((1,), 8.0))
        # Of few channels: with as many as are stored, codes learn the footage by heart.
        self.codes = nn.ParameterList(torch.zeros(count, _RANK + 1) for count in entries)
        self.spread = nn.Parameter(torch.randn(_RANK, HIDDEN))
        # What tells magnitudes by the class, with something around and with nothing; not stored.
        self.readers = nn.ModuleList(
            nn.Sequential(nn.Linear(1, 16), nn.GELU(), nn.Linear(16, _SIZES)) for _ in range(2)
        )

    def _of_codes(self, level: int) -> Tensor:
        """(entries, HIDDEN + 1): the table of a level's codes, rounded."""
        few = self.codes[level]
        whole = torch.cat([few[:, :_RANK] @ self.spread, few[:, _RANK:]], 1)
        most = WEIGHT_LIMIT / CODE_SCALE
        return _rounded(whole.clamp(-most, most), CODE_SCALE)

    def bits(self, codes: Sequence[Tensor], owners: Tensor, rows: Sequence[Tensor]) -> Tensor:
        """Mean bits of a block, signs aside.

        Args:
            codes: for each level (B, n): the codes of blocks.
            owners: (R,) the block of each sample.
            rows: inputs, places, symbols and weights of the samples, as of :class:`Samples`.
        """
        inputs, _, symbols, weights = rows
        sizes = symbols.long() if self.plane else (symbols.long() + 1) // 2
        active = inputs[:, OVERALL:].amax(1) > 0
        total = torch.zeros(())
        loud, still = self.values(codes, owners, rows)
        for chosen, value, least, reader in (
            (active, loud, _LEAST, self.readers[0]),
            (~active, still, _LEAST_STILL, self.readers[1]),
        ):
            value, size, weight = value[chosen], sizes[chosen], weights[chosen]
            class_ = (_floored(value * _CLASS) + 0.5) / _CLASS
            class_ = class_ + (class_.clamp(0, CLASSES / _CLASS) - class_).detach()
            there = (size > 0).float()
            logit = class_ * _NATS + least
            found = functional.binary_cross_entropy_with_logits(logit, there, reduction="none")
            total = total + (found * weight).sum()
            if self.plane == 0:
                told = reader(class_[size > 0, None] / 4 - 2)
                which = (size[size > 0] - 1).clamp(max=_SIZES - 1)
                found = functional.cross_entropy(told, which, reduction="none")
                total = total + (found * weight[size > 0]).sum()
        bits: Tensor = total / (len(codes[0]) * math.log(2))
        return bits

    def values(
        self, codes: Sequence[Tensor], owners: Tensor, rows: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """(R,) each: what decides the class of samples with something around them, and of those
        with nothing. Arguments as of :meth:`bits`.
        """
        inputs, places = rows[0].float(), rows[1].int()
        blocks = torch.zeros(len(codes[0]), HIDDEN + 1)
        for level, own in enumerate(codes):
            blocks = blocks + functional.embedding(own, self._of_codes(level)).mean(1)
        still = _rounded(self.still, _OUTPUT).flatten()[places] + blocks[owners, HIDDEN]
        overall, colours = _rounded(self.overall, _OUTPUT), places // (TIMES * SPACES)
        for number in (BAND, WITHIN):
            still = still + overall[colours, number, rows[0][:, number].int()]
        first = inputs @ _rounded(self.w1, _WEIGHT) * (_WEIGHT / _OUTPUT)
        table = _rounded(self.time, _OUTPUT)[:, :, None] + _rounded(self.space, _OUTPUT)[:, None]
        first = first + table.flatten(0, 2)[places] + blocks[owners, :HIDDEN]
        unit = _OUTPUT >> SHIFT
        hidden = _floored(first * unit + 0.5).clamp(0, ACTIVE) / unit
        return hidden @ _rounded(self.w2, _LAST) + _rounded(self.b2, _OUTPUT), still

    @torch.no_grad()
    def tensors(self) -> dict[str, NDArray[Any]]:
        """All that is stored, but for the costs."""

        def stored(value: Tensor, scale: int, dtype: Any = np.int32) -> NDArray[Any]:
            return (_rounded(value, scale) * scale).round().numpy().astype(dtype)

        return {
            "still": stored(self.still, _OUTPUT).reshape(COLOURS, -1),
            "overall": stored(self.overall, _OUTPUT),
            "time": stored(self.time, _OUTPUT),
            "space": stored(self.space, _OUTPUT),
            "w1": stored(self.w1, _WEIGHT, np.int8),
            "w2": stored(self.w2, _LAST, np.int8),
            "b2": stored(self.b2, _OUTPUT),
            **{
                f"codes.{level}": stored(self._of_codes(level), CODE_SCALE, np.int8)
                for level in range(len(self.codes))
            },
        }

    @torch.no_grad()
    def project(self) -> None:
        """Keep what is stored in 8 bits within them."""
        for weights, scale in ((self.w1, _WEIGHT), (self.w2, _LAST)):
            weights.clamp_(-WEIGHT_LIMIT / scale, WEIGHT_LIMIT / scale)


def count(tensors: dict[str, NDArray[Any]], samples: Samples, means: NDArray[np.int32]) -> Costs:
    """The table of a plane's costs, counted in samples.

    Args:
        tensors: of the plane, the costs aside.
        means: (N, HIDDEN + 1) what the codes of each block add.
    """
    entries = samples.known.shape[1]
    prior = DetailPrior({**tensors, "costs": np.zeros((CONTEXTS, entries), np.int8)})
    counts = samples.known.copy()
    owners = np.repeat(np.arange(len(samples.ends)), np.diff(samples.ends, prepend=0))
    for start in range(0, len(owners), 1 << 18):
        part = slice(start, start + (1 << 18))
        inputs, places, own = samples.inputs[part], samples.places[part], means[owners[part]]
        active = inputs[:, OVERALL:].any(1)
        contexts = np.empty(len(inputs), np.int16)
        colours, spots = divmod(places[~active], TIMES * SPACES)
        bands, within = inputs[~active, BAND], inputs[~active, WITHIN]
        contexts[~active] = prior.still(
            prior.still_by_spot(colours, spots, bands),
            prior.still_by_block(colours, own[~active, HIDDEN], within),
        )
        contexts[active] = prior.active(
            inputs[active], places[active], scaled(own[active, :HIDDEN])
        )
        np.add.at(counts, (contexts, samples.symbols[part]), samples.weights[part])
    return costs_of(counts)


def _rounded(value: Tensor, scale: int) -> Tensor:
    """To multiples of 1 / ``scale``; gradients pass."""
    return value + ((value * scale).round() / scale - value).detach()


def _floored(value: Tensor) -> Tensor:
    return value + (value.floor() - value).detach()
