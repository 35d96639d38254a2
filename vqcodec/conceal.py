"""What is to be shown of a file: the grids of its chunks, and what stands in for lost ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vqcodec.container import Chunk, Losses, Lost, Reader, Salvage
from vqcodec.errors import ChecksumError, FormatError, TruncatedError

STAND_IN_PIXELS = 32 * 64 * 64  # of lost time handed out at once
MAX_LOST = 100  # times what is left


@dataclass(frozen=True)
class Piece:
    """Frames on their way to the sink: a chunk's, or some that are lost and have no grids."""

    start: int
    frames: int
    grids: Sequence[NDArray[np.int16]] = ()


class Pieces:
    """What a file holds from one frame up to another, and how far that went well.

    Attributes:
        good: chunks handed out.
        losses: frames handed out as lost, and the end that a truncated file lacks.
        problem: None if all went well.
    """

    def __init__(self, reader: Reader, first: int, stop: int | None, conceal: bool) -> None:
        self._reader, self._first, self._stop = reader, first, stop
        self._conceal = conceal
        self.good, self.losses = 0, Losses()
        self.problem: FormatError | None = None

    def __iter__(self) -> Iterator[Piece]:
        for piece in self._concealed() if self._conceal else self._strict():
            self.good += bool(piece.grids)
            yield piece

    def _strict(self) -> Iterator[Piece]:
        """Damage ends it with an exception, truncation with a ``problem``."""
        chunks = self._reader.chunks(self._first, self._stop)
        while True:
            try:
                chunk = next(chunks, None)
            except TruncatedError as error:
                self.problem = error
                return
            if chunk is None:
                return
            yield Piece(chunk.start, chunk.frames, chunk.grids())

    def _concealed(self) -> Iterator[Piece]:
        """Nothing ends it, but next to nothing may be left: lies about what is lost cost hours."""
        salvage = Salvage(self._reader)
        if salvage.lost > MAX_LOST * salvage.kept:
            raise ChecksumError(f"{salvage.lost} frames are lost, {salvage.kept} left: too few")
        self.problem = salvage.doubt
        for item in salvage:
            if self._stop is not None and item.start >= self._stop:
                return
            lost = item if isinstance(item, Lost) else None
            if isinstance(item, Chunk) and max(self._first, item.start) < item.stop:
                try:
                    yield Piece(item.start, item.frames, item.grids())
                except FormatError as error:
                    lost = Lost.of(item, error)
            if lost is not None and (lost.stop > self._first or lost.cut or not lost.frames):
                self.losses.add(lost)
                if not isinstance(self.problem, ChecksumError):
                    self.problem = lost.error
                if not lost.cut:
                    yield from self._stand_in(lost)

    def _stand_in(self, lost: Lost) -> Iterator[Piece]:
        stop = lost.stop if self._stop is None else min(lost.stop, self._stop)
        header = self._reader.header
        step = max(1, STAND_IN_PIXELS // (header.width * header.height))
        for start in range(max(lost.start, self._first), stop, step):
            yield Piece(start, min(step, stop - start))
