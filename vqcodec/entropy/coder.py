"""Grids of indices to bytes and back, by a range coder that follows the prior.

One stream holds all levels, coarsest first. It is the number, written as bytes from the most
significant on, that lies in the interval the symbols leave; bytes after its end count as zeros.
Any beginning of a stream therefore decodes as far as it determines the symbols, and where that is
for a whole level is its prefix length.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias, cast

import constriction
import numpy as np
import numpy.typing as npt

from vqcodec.entropy.config import LevelPrior
from vqcodec.entropy.context import RUN, Canvas, Grid, Rows, Run, Shape
from vqcodec.entropy.details import COLOURS, Integers, Known, Symbols, passes
from vqcodec.entropy.loudness import DetailPrior
from vqcodec.entropy.prior import Prior, known
from vqcodec.entropy.tables import EXTENT
from vqcodec.errors import FormatError

Weights: TypeAlias = npt.NDArray[np.float64]  # (P, digits): frequencies minus 1
Digits: TypeAlias = npt.NDArray[np.int32]  # (P,)
Encoded: TypeAlias = tuple[bytes, tuple[int, ...]]

_WORD = 4  # bytes
_STATE = 8
_MODULUS = 1 << 8 * _STATE

# Rows of weights sum to 2^24 minus their length. The library adds 1 to each and multiplies by
# (2^24 - length) / sum = 1, so that the frequencies are ours, whatever it does in floating point.
_DIGITS = constriction.stream.model.Categorical(perfect=False)


def encode(prior: Prior, grids: Sequence[Grid], previous: Sequence[Grid] | None = None) -> Encoded:
    """Code the grids of a chunk.

    Args:
        prior: predicts the symbols.
        grids: int16, for the first levels of the prior, values below their entries.
        previous: grids of the chunk before, if the prior may look at them.

    Returns:
        The stream, at least one byte, and for each level but the last its prefix length: the
        bytes after which it and all before it can be decoded; 1 or more, never decreasing.

    Raises:
        ValueError: grids that do not fit the prior.
    """
    return encode_many(prior, [grids], [previous])[0]


def decode(
    prior: Prior,
    data: bytes,
    shapes: Sequence[Shape],
    previous: Sequence[Grid] | None = None,
) -> list[Grid]:
    """Inverse of :func:`encode`.

    Args:
        prior: the one it was encoded with.
        data: a stream, or its beginning up to the prefix length of a level.
        shapes: of the grids of all levels in ``data``.
        previous: as for the encoder.

    Raises:
        FormatError: ``data`` does not hold exactly these grids.
        ValueError: shapes or previous grids that do not fit the prior.
    """
    grids = decode_many(prior, [data], [shapes], [previous])[0]
    if isinstance(grids, FormatError):
        raise grids
    return grids


def encode_many(
    prior: Prior,
    chunks: Sequence[Sequence[Grid]],
    previous: Sequence[Sequence[Grid] | None],
) -> list[Encoded]:
    """Like :func:`encode` for chunks that do not wait for each other; faster than one by one."""
    encoded: dict[int, Encoded] = {}
    shapes = [[cast(Shape, grid.shape) for grid in grids] for grids in chunks]
    for batch in _batches(shapes, len(prior.levels)):
        codes = slice(len(prior.levels))
        canvas = known(
            prior.config, [chunks[i][codes] for i in batch], [previous[i] for i in batch]
        )
        writers = [_Writer() for _ in batch]
        for number, level in enumerate(prior.levels[: len(shapes[batch[0]])]):
            for run in canvas.runs(number):
                symbols = canvas.grid(number)[canvas.where(run)].reshape(len(batch), -1)
                high, low = divmod(symbols, level.low)
                network, hidden = prior.networks[number], prior.hidden(canvas, run)
                _put(writers, network.high(hidden), high)
                _put(writers, network.low(hidden, high.ravel()), low)
            for writer in writers:
                writer.end_level()
        for i, writer in zip(batch, writers, strict=True):
            details = chunks[i][len(prior.levels) :]
            if details:
                planes = prior.planes(chunks[i][codes], shapes[i][-1])
                for grid, plane in zip(details, prior.details, strict=False):
                    planes.code(_PlaneWriter(writer, plane, grid))
                    writer.end_level()
        encoded |= {i: writer.finish() for i, writer in zip(batch, writers, strict=True)}
    return [encoded[i] for i in range(len(chunks))]


def decode_many(
    prior: Prior,
    data: Sequence[bytes],
    shapes: Sequence[Sequence[Shape]],
    previous: Sequence[Sequence[Grid] | None],
    ends: Sequence[Sequence[int]] | None = None,
) -> list[list[Grid] | FormatError]:
    """Like :func:`decode` for chunks that do not wait for each other; faster than one by one.

    Args:
        prior, data, shapes, previous: as for :func:`decode`, of each chunk.
        ends: prefix lengths of each chunk, which then must be right.

    Returns:
        For each chunk its grids, or why there are none.

    Raises:
        ValueError: shapes or previous grids that do not fit the prior.
    """
    decoded: dict[int, list[Grid] | FormatError] = {}
    for batch in _batches(shapes, len(prior.levels)):
        wanted = shapes[batch[0]]
        codes = wanted[: len(prior.levels)]
        canvas = Canvas(prior.config, codes, [previous[i] for i in batch])
        readers = [_Reader(data[i]) for i in batch]
        for number, level in enumerate(prior.levels[: len(codes)]):
            for run in canvas.runs(number):
                network, hidden = prior.networks[number], prior.hidden(canvas, run)
                high = _get(readers, network.high(hidden))
                low = _get(readers, network.low(hidden, high.ravel()))
                _store(canvas, run, high * level.low + low, level, readers)
            if ends is not None and number + 1 < len(wanted):
                for i, reader in zip(batch, readers, strict=True):
                    reader.expect_end(ends[i][number])
        for column, (i, reader) in enumerate(zip(batch, readers, strict=True)):
            grids = [canvas.grid(number)[column].astype(np.int16) for number in range(len(codes))]
            more = prior.details[: len(wanted) - len(codes)]
            planes = prior.planes(grids, wanted[-1]) if more else None
            for plane in more:
                assert planes is not None
                frames = wanted[-1][0] // COLOURS
                grids.append(planes.code(_PlaneReader(reader, plane, frames)))
                if ends is not None and len(grids) < len(wanted):
                    reader.expect_end(ends[i][len(grids) - 1])
            decoded[i] = reader.error() or grids
    return [decoded[i] for i in range(len(data))]


def _batches(shapes: Sequence[Sequence[Shape]], coded: int) -> Iterable[list[int]]:
    """Numbers of chunks of equal shapes, so many that a run of them all stays bounded.

    Only the first ``coded`` grids are coded together.
    """
    groups: dict[tuple[Shape, ...], list[int]] = {}
    for number, shape in enumerate(shapes):
        groups.setdefault(tuple(shape), []).append(number)
    for shape, numbers in groups.items():
        size = max(1, RUN // max((y * x + 1) // 2 for _, y, x in shape[:coded]))
        yield from (numbers[start : start + size] for start in range(0, len(numbers), size))


def _put(writers: Sequence[_Writer], weights: Weights, digits: Rows) -> None:
    if weights.shape[1] > 1:  # else there is nothing to say
        for writer, own, parts in zip(writers, digits, _parts(weights, writers), strict=True):
            writer.put(own, parts)


def _get(readers: Sequence[_Reader], weights: Weights) -> Rows:
    if weights.shape[1] == 1:
        return np.zeros((len(readers), len(weights) // len(readers)), np.intp)
    parts = zip(readers, _parts(weights, readers), strict=True)
    return np.array([reader.get(part) for reader, part in parts], np.intp)


def _parts(weights: Weights, coders: Sequence[object]) -> Weights:
    return weights.reshape(len(coders), -1, weights.shape[1])


def _store(
    canvas: Canvas, run: Run, symbols: Rows, level: LevelPrior, readers: Sequence[_Reader]
) -> None:
    if symbols.max() >= level.entries:
        for reader, own in zip(readers, symbols, strict=True):
            if own.max() >= level.entries:
                reader.fail(f"index out of range in level {run.level}")
        symbols = np.minimum(symbols, level.entries - 1)
    canvas.grid(run.level)[canvas.where(run)] = symbols[:, None]  # a single step in time


def _slices(count: int) -> Iterator[slice]:
    """Parts of a pass whose weights are not too large to be gathered at once."""
    return (slice(start, start + RUN) for start in range(0, count, RUN))


class _PlaneWriter(Known):
    """Codes a plane of details to a stream."""

    def __init__(self, writer: _Writer, prior: DetailPrior, grid: Grid) -> None:
        super().__init__(grid)
        self._writer, self._prior = writer, prior

    def split(self, contexts: Integers, places: Integers) -> Symbols:
        symbols = super().split(contexts, places)
        assert self._prior.splits is not None
        self._writer.put(symbols, self._prior.splits.weights[contexts])
        return symbols

    def extent(self, colour: int) -> int:
        extent = super().extent(colour)
        self._writer.put(np.array([extent]), EXTENT)
        return extent

    def run(self, colour: int, contexts: Integers, places: Integers) -> Symbols:
        symbols = super().run(colour, contexts, places)
        for part in _slices(len(symbols)):
            self._writer.put(symbols[part], self._prior.table.weights[contexts[part]])
        return symbols


class _PlaneReader:
    """Inverse of :class:`_PlaneWriter`."""

    def __init__(self, reader: _Reader, prior: DetailPrior, frames: int) -> None:
        self._reader, self._prior, self._frames = reader, prior, frames

    def split(self, contexts: Integers, places: Integers) -> Symbols:
        assert self._prior.splits is not None
        return self._reader.get(self._prior.splits.weights[contexts])

    def extent(self, colour: int) -> int:
        extent = int(self._reader.get(EXTENT)[0])
        if extent <= passes(self._frames):
            return extent
        self._reader.fail("more passes of details than there are")
        return 0

    def run(self, colour: int, contexts: Integers, places: Integers) -> Symbols:
        parts = [
            self._reader.get(self._prior.table.weights.take(contexts[part], axis=0))
            for part in _slices(len(places))
        ]
        return np.concatenate(parts)


class _Writer:
    """The stream of one chunk, as it grows."""

    def __init__(self) -> None:
        self._coder = constriction.stream.queue.RangeEncoder()
        self._ends: list[tuple[int, tuple[int, int]]] = []

    def put(self, digits: Integers, weights: Weights) -> None:
        self._coder.encode(digits.astype(np.int32), _DIGITS, weights)

    def end_level(self) -> None:
        self._ends.append(self._coder.pos())

    def finish(self) -> Encoded:
        words, (lower, width) = self._ends[-1]
        size = _WORD * words + _STATE
        written = self._coder.get_compressed().astype(">u4").tobytes().ljust(size, b"\0")
        # Of the numbers in the final interval any will do, so cut the greatest as far as it goes.
        top = int.from_bytes(written, "big")
        top += (lower + width - 1 - top) % _MODULUS
        stream = top.to_bytes(size, "big")
        ends = [_length(stream, *end) for end in self._ends]
        return stream[: ends[-1]], tuple(ends[:-1])


class _Reader:
    """The stream of one chunk, read and written again: only so its end can be checked."""

    def __init__(self, data: bytes) -> None:
        padded = data + bytes(-len(data) % _WORD)
        words = np.frombuffer(padded, ">u4").astype(np.uint32)
        self._coder = constriction.stream.queue.RangeDecoder(words)
        self._again = constriction.stream.queue.RangeEncoder()
        self._data = data
        self._error: FormatError | None = None

    def get(self, weights: Weights) -> Digits:
        """The next digits; zeros once the stream is known to be invalid."""
        if self._error is None:
            try:
                digits: Digits = self._coder.decode(_DIGITS, weights)
            except AssertionError:  # how the library says that no symbol has these bytes
                self.fail("the range coder's stream is invalid")
            else:
                self._again.encode(digits, _DIGITS, weights)
                return digits
        return np.zeros(len(weights), np.int32)

    def expect_end(self, end: int) -> None:
        """A level ends here, and claims to do so after that many bytes."""
        if self._error is None and _length(self._data, *self._again.pos()) != end:
            self.fail(f"a level does not end after {end} bytes of range coding")

    def fail(self, reason: str) -> None:
        self._error = self._error or FormatError(reason)

    def error(self) -> FormatError | None:
        """What is wrong with the stream, if anything; it should end here."""
        if self._error is None:
            needed = _length(self._data, *self._again.pos())
            if len(self._data) != needed:
                self.fail(f"{len(self._data)} bytes of range coding where {needed} are due")
        return self._error


def _length(stream: bytes, words: int, state: tuple[int, int]) -> int:
    """The least bytes of a stream, one or more, that are in an interval once zeros follow.

    Args:
        stream: a number in the interval; zeros follow.
        words, state: the interval as the coder has it: how many words are behind its last two,
            and the last two of its lower end. The words behind are the stream's, but for a carry.
    """
    size = _WORD * words + _STATE
    value = int.from_bytes(stream[:size].ljust(size, b"\0"), "big")
    bottom = value - (value - state[0]) % _MODULUS
    if bottom == 0:
        return 1
    # Bytes may turn to zero below the highest bit in which the value differs from what is below.
    return size - ((value ^ bottom - 1).bit_length() - 1) // 8
