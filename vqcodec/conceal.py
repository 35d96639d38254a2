"""What is to be shown of a file: the grids of its chunks, and what stands in for lost ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from vqcodec.audio import AudioFormat, AudioPacket
from vqcodec.container import Chunk, Losses, Lost, Reader, Salvage
from vqcodec.container.audio_span import AudioSpan
from vqcodec.container.chunk import unpacked_ahead
from vqcodec.container.layout import ANCILLARY_TAGS
from vqcodec.errors import ChecksumError, FormatError, TruncatedError

T = TypeVar("T")

STAND_IN_PIXELS = 32 * 64 * 64  # of lost time handed out at once
MAX_LOST = 100  # times what is left


@dataclass(frozen=True)
class Piece:
    """Frames on their way to the sink: a chunk's, or some that are lost and have no grids.

    Attributes:
        start, frames: numbered by the file; at the end there may be audio without frames.
        grids: of a chunk, one for each level.
        audio: packets that came before these frames in the file.
    """

    start: int
    frames: int
    grids: Sequence[NDArray[np.int16]] = ()
    audio: Sequence[AudioPacket] = ()


class Pieces:
    """What a file holds from one frame up to another, and how far that went well.

    Args:
        reader: of the file.
        first, stop: frames; to the end if ``stop`` is None.
        conceal: whether to go on after damage.
        audio: the format of the file's audio, if its packets are wanted too.
        allow: called with the number of frames of each chunk before it is unpacked, and of what
            stands in for lost ones; what it raises ends it.

    Attributes:
        good: chunks handed out.
        losses: frames handed out as lost, and the end that a truncated file lacks.
        problem: None if all went well.
    """

    def __init__(
        self,
        reader: Reader,
        first: int,
        stop: int | None,
        conceal: bool,
        audio: AudioFormat | None = None,
        allow: Callable[[int], None] = lambda _frames: None,
    ) -> None:
        self._allow = allow
        self._reader, self._first, self._stop = reader, first, stop
        self._conceal = conceal
        self._audio = None if audio is None else AudioSpan(reader, audio, first, stop)
        self._at = first  # frame after the latest piece
        self._shown = False  # all frames that are wanted
        self.good, self.losses = 0, Losses()
        self.problem: FormatError | None = None

    def __iter__(self) -> Iterator[Piece]:
        for piece in self._concealed() if self._conceal else self._strict():
            self.good += bool(piece.grids)
            yield piece if self._audio is None else replace(piece, audio=self._audio.passed())
        if self._audio is not None and (rest := self._audio.passed()):
            yield Piece(self._at, 0, audio=rest)

    def _strict(self) -> Iterator[Piece]:
        """Damage ends it with an exception, truncation with a ``problem``."""
        beside = None if self._audio is None else self._audio.wants
        wanted = self._reader.chunks(self._first, self._stop, beside)
        chunks = unpacked_ahead(self._allowed(wanted))
        while not self._complete():
            try:
                chunk = next(chunks, None)
                if chunk is None or (self._shown and chunk.frames):
                    return
                if self._audio is not None and chunk.tag in ANCILLARY_TAGS:
                    self._audio.take(chunk)
                    continue
                piece = Piece(chunk.start, chunk.frames, chunk.grids())
            except FormatError as error:
                if self._shown:  # only audio was still sought
                    return
                if not isinstance(error, TruncatedError):
                    raise
                self.problem = error
                return
            yield self._note(piece)

    def _concealed(self) -> Iterator[Piece]:
        """Nothing ends it, but next to nothing may be left: lies about what is lost cost hours."""
        salvage = Salvage(self._reader)
        if salvage.lost > MAX_LOST * salvage.kept:
            raise ChecksumError(f"{salvage.lost} frames are lost, {salvage.kept} left: too few")
        self.problem = salvage.doubt
        for item in unpacked_ahead(self._allowed(salvage), self._overlaps):
            if self._stop is not None and item.start >= self._stop:
                self._shown = True
                if self._complete() or not isinstance(item, Chunk):
                    break
            lost = item if isinstance(item, Lost) else None
            if isinstance(item, Chunk):
                try:
                    if self._audio is not None and (gap := self._audio.take(item)) is not None:
                        self._lose(gap)
                    if self._overlaps(item):
                        yield self._note(Piece(item.start, item.frames, item.grids()))
                except FormatError as error:
                    lost = Lost.of(item, error)
            if lost is not None and lost.cut and (piece := self._whole_levels(salvage.cut)):
                yield self._note(piece)
                levels = f"{len(piece.grids)} of {len(self._reader.header.levels)} levels"
                reason = f"{lost.reason}, of which {levels} are shown"
                frames = max(0, lost.frames - piece.frames)
                lost = replace(lost, start=self._at, frames=frames, reason=reason)
            if lost is not None and (lost.stop > self._first or lost.cut or not lost.frames):
                self._lose(lost)
                if self._audio is not None:
                    self._audio.hurt()
                if not lost.cut:
                    yield from map(self._note, self._stand_in(lost))
        if self._audio is not None and (gap := self._audio.finish(self._at)) is not None:
            self._lose(gap)

    def _allowed(self, items: Iterable[T]) -> Iterator[T]:
        """``items``, of which chunks that are to be shown are known to be allowed."""
        for item in items:
            if isinstance(item, Chunk) and self._overlaps(item):
                self._check(item)
            yield item

    def _check(self, chunk: Chunk) -> None:
        """Ask whether a chunk, and those that it needs, may be unpacked."""
        link: Chunk | None = chunk
        while link is not None:
            self._allow(link.frames)
            link = link.outcome.before

    def _overlaps(self, chunk: Chunk) -> bool:
        return max(self._first, chunk.start) < min(chunk.stop, self._stop or chunk.stop)

    def _whole_levels(self, chunk: Chunk | None) -> Piece | None:
        """What there is of the chunk in which the file ends."""
        if chunk is None or not self._overlaps(chunk):
            return None
        self._check(chunk)
        try:
            grids = chunk.whole_levels()
        except FormatError:
            return None
        return Piece(chunk.start, chunk.frames, grids) if grids else None

    def _note(self, piece: Piece) -> Piece:
        self._at = piece.start + piece.frames
        self._shown = self._stop is not None and self._at >= self._stop
        return piece

    def _complete(self) -> bool:
        return self._shown and (self._audio is None or self._audio.over)

    def _lose(self, lost: Lost) -> None:
        self.losses.add(lost)
        if not isinstance(self.problem, ChecksumError):
            self.problem = lost.error

    def _stand_in(self, lost: Lost) -> Iterator[Piece]:
        stop = lost.stop if self._stop is None else min(lost.stop, self._stop)
        header = self._reader.header
        step = max(1, STAND_IN_PIXELS // (header.width * header.height))
        for start in range(max(lost.start, self._first), stop, step):
            self._allow(min(step, stop - start))
            yield Piece(start, min(step, stop - start))
