"""The prior: how likely each index is, given those around it that are known already."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import log2, prod
from typing import TypeAlias, cast

import numpy as np
import numpy.typing as npt

from vqcodec.entropy.config import LevelPrior, PriorConfig
from vqcodec.entropy.context import RUN, Canvas, Grid, Rows, Run, Shape, Where
from vqcodec.entropy.details import (
    BLOCK,
    COLOURS,
    PASSES,
    SPLITS,
    Integers,
    Known,
    Planes,
    Symbols,
)
from vqcodec.entropy.integer import (
    BIAS_LIMIT,
    PRECISION,
    WEIGHT_LIMIT,
    Array,
    Fast,
    Network,
    scramble,
)
from vqcodec.entropy.loudness import DetailPrior, Loudness, block_codes
from vqcodec.entropy.tables import Table
from vqcodec.errors import CheckpointError

Bits: TypeAlias = npt.NDArray[np.float32]
MakeNetwork: TypeAlias = Callable[[LevelPrior, Mapping[str, Array]], Network]


class Prior:
    """A checked prior, ready to predict.

    Attributes:
        config: its architecture.
        networks: one for each level.
        details: what predicts each plane of details.
    """

    def __init__(
        self,
        config: PriorConfig,
        networks: Sequence[Network],
        details: Sequence[DetailPrior] = (),
    ) -> None:
        self.config = config
        self.networks = tuple(networks)
        self.details = tuple(details)

    @classmethod
    def from_tensors(
        cls,
        config: PriorConfig,
        tensors: Mapping[str, Array],
        network: MakeNetwork = Fast,
    ) -> Prior:
        """A prior from its stored tensors (:meth:`PriorConfig.shapes`).

        Args:
            config: the architecture.
            tensors: int8 values in -127..127, int32 values in -2^21..2^21.
            network: how to compute; :class:`~vqcodec.entropy.integer.Reference` gives the same.

        Raises:
            CheckpointError: tensors are missing, unknown, of another dtype or shape, or out of
                range.
        """
        due = config.shapes()
        for name in sorted(due.keys() ^ tensors.keys()):
            raise CheckpointError(f"tensors do not fit the prior: {name}")
        for name, (dtype, shape) in due.items():
            tensor = tensors[name]
            if tensor.dtype != np.dtype(dtype) or tensor.shape != shape:
                raise CheckpointError(
                    f"{name} of the prior is {tensor.dtype} {tensor.shape}, not {dtype} {shape}"
                )
            limit = WEIGHT_LIMIT if dtype == "int8" else BIAS_LIMIT
            if tensor.min() < -limit or tensor.max() > limit:
                raise CheckpointError(f"{name} of the prior is not within ±{limit}")
        return cls(
            config,
            [
                network(level, _named(tensors, f"{number}."))
                for number, level in enumerate(config.levels)
            ],
            [DetailPrior(_named(tensors, f"details.{plane}.")) for plane in range(config.planes)],
        )

    @property
    def levels(self) -> tuple[LevelPrior, ...]:
        """The levels whose codes it can predict, coarsest first."""
        return self.config.levels

    @property
    def grids(self) -> tuple[tuple[int, int, int, bool], ...]:
        """Strides, entries, and whether it is a plane of details, of all grids it can predict."""
        return (
            *((level.stride_t, level.stride, level.entries, False) for level in self.levels),
            *((1, 1, plane.table.weights.shape[1], True) for plane in self.details),
        )

    def hidden(self, canvas: Canvas, run: Run) -> Array:
        """State (N, H) of a run's symbols, from which the network predicts their digits."""
        return self.networks[run.level].hidden(*canvas.context(run))

    def cost(self, grids: Sequence[Grid], previous: Sequence[Grid] | None = None) -> list[Bits]:
        """Bits that each symbol costs, given what is known when it is coded.

        Args:
            grids: of one chunk, for the first levels.
            previous: grids of the chunk before, if the prior may look at them.

        Returns:
            For each grid its costs, float32, of the same shape.
        """
        costs = [np.zeros((1, *grid.shape), np.float32) for grid in grids]
        canvas = known(self.config, [grids], [previous])
        for number, (level, bits) in enumerate(zip(self.levels, costs, strict=False)):
            steps = max(1, 2 * RUN // prod(grids[number].shape[1:]))
            for run in canvas.runs(number, steps):
                where = canvas.where(run)
                symbols = canvas.grid(number)[where]
                frequencies = (
                    digits[np.arange(symbols.size), chosen.ravel()] + 1
                    for digits, chosen in self._digits(canvas, run, *divmod(symbols, level.low))
                )
                spent = sum(PRECISION - np.log2(frequency) for frequency in frequencies)
                bits[where] = np.reshape(spent, symbols.shape)
        return [bits[0] for bits in costs]

    def planes(self, codes: Sequence[Grid], shape: Shape) -> Planes:
        """The coefficients of a chunk's details, none of them known yet.

        Args:
            codes: its grids of codes, all of them.
            shape: of each plane's grid.
        """
        blocks = block_codes(codes, shape)

        def predict(splits: Grid) -> list[Loudness]:
            return [plane.of([*blocks, splits[:, None]]) for plane in self.details]

        return Planes(shape, predict)

    def detail_bits(self, grids: Sequence[Grid]) -> list[float]:
        """Bits that each plane of details costs that a chunk's grids have."""
        codes, planes = grids[: len(self.levels)], grids[len(self.levels) :]
        if not planes:
            return []
        coder, found = self.planes(codes, cast(Shape, planes[0].shape)), []
        for grid, plane in zip(planes, self.details, strict=False):
            cost = _Cost(grid, plane)
            coder.code(cost)
            found.append(cost.bits)
        return found

    def tables(
        self,
        level: int,
        chunks: Sequence[Sequence[Grid]],
        previous: Sequence[Sequence[Grid] | None],
    ) -> Iterator[tuple[Where, Bits]]:
        """About what every entry would cost at every place, the codes around it being as they are.

        For an encoder that looks for cheaper codes; :meth:`cost` is what a code really costs.

        Args:
            level: which one.
            chunks: of the same shapes; for each its grids of the first levels, up to ``level``.
            previous: for each chunk the grids of the chunk before, or None.

        Yields:
            Part by part, each place once: its index in an array (B, T', H', W'), and the bits
            (B, times, positions, entries), float32.
        """
        canvas = known(self.config, chunks, previous)
        network = self.networks[level]
        steps = max(1, 2 * RUN // (len(chunks) * prod(canvas.grid(level).shape[2:])))
        for run in canvas.runs(level, steps):
            bits = network.bits(self.hidden(canvas, run))
            yield (
                canvas.where(run),
                bits.reshape(len(chunks), len(run.times), -1, bits.shape[1]),
            )

    def digest(self) -> bytes:
        """32 bytes: SHA-256 of the frequencies of fixed symbols in fixed contexts.

        Equal on every machine that can decode what another encoded with this prior.
        """
        grids, previous = _fixed_grids(self.config, 0), _fixed_grids(self.config, 1)
        canvas, digest = known(self.config, [grids], [previous]), hashlib.sha256()
        for number, level in enumerate(self.levels):
            for run in canvas.runs(number):
                symbols = canvas.grid(number)[canvas.where(run)]
                for digits, _ in self._digits(canvas, run, *divmod(symbols, level.low)):
                    digest.update((digits + 1).astype("<u4").tobytes())
        if self.details:
            side = max(1, 3 * BLOCK // self.levels[0].stride)  # in coarsest cells
            shape = _FIXED_FRAMES, *2 * (side * self.levels[0].stride,)
            planes = self.planes(_fixed_grids(self.config, 2, side), shape)
            for number, plane in enumerate(self.details):
                if plane.splits is not None:  # few of its rows come up in so few blocks
                    digest.update((plane.splits.weights + 1).astype("<u4").tobytes())
                planes.code(_Digest(digest, number, plane, shape))
        return digest.digest()

    def _digits(
        self, canvas: Canvas, run: Run, high: Rows, low: Rows
    ) -> Iterator[tuple[Array, Rows]]:
        """Frequencies minus 1 and values of the high digits, then of the low ones."""
        network, hidden = self.networks[run.level], self.hidden(canvas, run)
        yield network.high(hidden), high
        yield network.low(hidden, high.ravel()), low


_FIXED_FRAMES = 24


class _Cost(Known):
    """Adds up what the symbols of a plane cost."""

    def __init__(self, grid: Grid, prior: DetailPrior) -> None:
        super().__init__(grid)
        self._prior, self.bits = prior, COLOURS * log2(PASSES + 1)  # of the extents

    def split(self, contexts: Integers, places: Integers) -> Symbols:
        symbols = super().split(contexts, places)
        assert self._prior.splits is not None
        self.bits += float(self._prior.splits.bits[contexts, symbols].sum())
        return symbols

    def run(self, colour: int, contexts: Integers, places: Integers) -> Symbols:
        symbols = super().run(colour, contexts, places)
        self.bits += float(self._prior.table.bits[contexts, symbols].sum())
        return symbols


class _Digest(Known):
    """Pseudo-random symbols, and a digest of what is said of them."""

    def __init__(self, digest: hashlib._Hash, plane: int, prior: DetailPrior, shape: Shape) -> None:
        values = scramble(prod(shape), plane)
        entries = np.uint64(prior.table.weights.shape[1])
        # Mostly zeros, as pictures have them.
        symbols = np.where(values % np.uint64(16) == 0, (values >> np.uint64(8)) % entries, 0)
        super().__init__(symbols.astype(np.int16).reshape(shape))
        self._page = (values[: prod(shape[1:])] % np.uint64(SPLITS)).astype(np.int16)
        self._page = self._page.reshape(1, *shape[1:])
        self._digest, self._prior = digest, prior

    def split(self, contexts: Integers, places: Integers) -> Symbols:
        assert self._prior.splits is not None
        return self._digested(self._prior.splits, contexts, super().split(contexts, places))

    def run(self, colour: int, contexts: Integers, places: Integers) -> Symbols:
        return self._digested(self._prior.table, contexts, super().run(colour, contexts, places))

    def _digested(self, table: Table, contexts: Integers, symbols: Symbols) -> Symbols:
        for context in np.unique(contexts):
            self._digest.update((table.weights[context] + 1).astype("<u4").tobytes())
            self._digest.update(symbols[contexts == context].astype("<u4").tobytes())
        return symbols


def known(
    config: PriorConfig,
    chunks: Sequence[Sequence[Grid]],
    previous: Sequence[Sequence[Grid] | None],
) -> Canvas:
    """A canvas of chunks of the same shapes whose codes are all known.

    Raises:
        ValueError: grids that do not fit each other, or codes that are not below the entries.
    """
    canvas = Canvas(config, [cast(Shape, grid.shape) for grid in chunks[0]], previous)
    for number, (level, *grids) in enumerate(zip(config.levels, *chunks, strict=False)):
        canvas.grid(number)[:] = grids
        if canvas.grid(number).min() < 0 or canvas.grid(number).max() >= level.entries:
            raise ValueError(f"index out of range in level {number}")
    return canvas


def _named(tensors: Mapping[str, Array], prefix: str) -> dict[str, Array]:
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }


def _fixed_grids(config: PriorConfig, seed: int, side: int = 3) -> list[Grid]:
    """Pseudo-random grids of 2 × ``side`` × ``side`` coarsest cells."""
    grids = []
    for number, level in enumerate(config.levels):
        across_t, across = config.phases(number)
        shape = 2 * across_t, side * across, side * across
        values = scramble(prod(shape), seed * len(config.levels) + number)
        grids.append((values % np.uint64(level.entries)).astype(np.int16).reshape(shape))
    return grids
