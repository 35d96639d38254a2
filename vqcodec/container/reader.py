"""Reads a ``.vqv`` file: in order, from a file or a pipe, or by seeking to a span of frames.

Damage stays where it is: a chunk whose CRC fails is handed out like the others and raises only
when it is looked into, so that a caller may stop there, conceal it or leave it out.
"""

from __future__ import annotations

import struct
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, BinaryIO, TypeAlias

import numpy as np
import numpy.typing as npt

from vqcodec.container.chunk import Chunk, Entry, Outcome
from vqcodec.container.header import LONGEST_PREFIX, Header
from vqcodec.container.layout import (
    ANCILLARY_TAGS,
    AUDIO_TAGS,
    CHUNK_OVERHEAD,
    END_CHUNK,
    MAX_MEMORY,
    MAX_PAYLOAD,
    PICTURE_TAGS,
    Head,
    Tag,
    chunk_crc,
)
from vqcodec.container.source import Source
from vqcodec.errors import ChecksumError, FormatError, TruncatedError

if TYPE_CHECKING:
    from vqcodec.entropy.prior import Prior

Words: TypeAlias = npt.NDArray[np.uint32]  # (chunks,), heads as stored
FindPrior: TypeAlias = "Callable[[Header], Prior | None]"


@dataclass(frozen=True)
class Table:
    """The picture chunks of a file.

    Attributes:
        entries: in order; in a truncated file the whole ones.
        indexed: they come from the file's index, not from a scan.
        problem: why the scan ended before the end chunk, or None.
        nbytes: size of the file up to its end; of a truncated one, of what is whole.
        audio_bytes: size of the audio chunks among them.
    """

    entries: tuple[Entry, ...]
    indexed: bool
    problem: FormatError | None
    nbytes: int
    audio_bytes: int = 0

    @property
    def frames(self) -> int:
        """Frames in all chunks together."""
        return self.entries[-1].stop if self.entries else 0


class Reader:
    """Reads one file. Iterating yields its picture chunks in order, as :meth:`chunks` does.

    Args:
        file: open for reading in binary mode, at the place where the ``.vqv`` file begins. A pipe
            (anything not seekable) can be gone through once.
        find_prior: gives the prior of a header's model, or None. It is called once at most, when
            there is a range payload to unpack.

    Attributes:
        header: the file's.
        begin: offset of the first chunk.

    Raises:
        FormatError, ChecksumError, TruncatedError, UnsupportedError: see
            :meth:`Header.from_bytes`.
    """

    def __init__(self, file: BinaryIO, find_prior: FindPrior = lambda _header: None) -> None:
        self.source = Source(file)
        self._find_prior = find_prior
        size = Header.measure(self.source.read(0, LONGEST_PREFIX))
        self.header = Header.from_bytes(self.source.read(0, size))
        self.begin = size

    @cached_property
    def prior(self) -> Prior | None:
        """Unpacks range payloads; may be set to one that is at hand."""
        return self._find_prior(self.header)

    def __iter__(self) -> Iterator[Chunk]:
        return self.chunks()

    def chunks(
        self,
        start: int = 0,
        stop: int | None = None,
        ancillary: Callable[[Entry], bool] | None = None,
    ) -> Iterator[Chunk]:
        """Yield the picture chunks that hold frames from ``start`` up to, not with, ``stop``.

        With an index only those are read, and before them what the first needs to be unpacked.
        Without one everything before ``stop`` is, and every damaged chunk in it is yielded: what
        its head says, even that it holds pictures or how many, is then in doubt, and so is the
        time of what follows.

        Given ``ancillary``, which chooses among ancillary chunks by their heads, those are yielded
        too, each in its place in the file, and it is gone through to its end for them.

        Raises:
            TruncatedError: the file ends before its end chunk and before ``stop``, after the
                whole chunks have been yielded.
            ChecksumError: the chain of chunks is broken, the rest of the file is out of reach.
            FormatError: at the end, the frames of the chunks do not add up to the header's count.
        """
        indexed = self._index is not None
        last = sys.maxsize if stop is None else stop
        before: Chunk | None = None
        passed: deque[Entry] = deque(maxlen=MAX_MEMORY)  # pictures, of which a later one may need
        for entry in self._entries():
            wanted = max(start, entry.start) < min(last, entry.stop)
            if ancillary is not None and entry.tag in ANCILLARY_TAGS:
                wanted = ancillary(entry)
            if entry.tag in PICTURE_TAGS and not entry.has_memory:
                passed.clear()
            if wanted or not indexed:
                while passed and entry.has_memory:
                    before = self.load(passed.popleft(), before)
                chunk = self.load(entry, before)
                if entry.tag in PICTURE_TAGS or not chunk.intact:
                    before = chunk
                # A damaged index costs speed, no pictures, so it is passed over.
                if wanted or not (chunk.intact or entry.tag == Tag.INDEX):
                    yield chunk
            elif entry.tag in PICTURE_TAGS:
                passed.append(entry)
            if entry.stop >= last and ancillary is None:
                return

    @cached_property
    def table(self) -> Table:
        """All picture chunks, from the index or else from a scan of the heads."""
        entries, problem, nbytes, audio_bytes = [], None, self.begin, 0
        try:
            for entry in self._entries():
                nbytes = entry.offset + entry.nbytes
                if entry.tag in PICTURE_TAGS:
                    entries.append(entry)
                elif entry.tag in AUDIO_TAGS:
                    audio_bytes += entry.nbytes
        except FormatError as error:
            problem = error
        if self._index is not None:  # which, with the end, is behind them
            assert self.source.size is not None
            nbytes = self.source.size
        return Table(tuple(entries), self._index is not None, problem, nbytes, audio_bytes)

    def scan(self) -> Iterator[Entry]:
        """Yield all chunks there are, of any tag, and the end, by their heads (no CRC checked).

        Raises:
            TruncatedError, ChecksumError, FormatError: as :meth:`chunks`.
        """
        return _numbered(self._scanned())

    def load(self, entry: Entry, before: Chunk | None = None) -> Chunk:
        """Read the bytes of a chunk; ``before`` is the one that it may need to be unpacked."""
        data = self.source.read(entry.offset, entry.nbytes)
        payload = data[CHUNK_OVERHEAD:]
        intact = False
        if len(data) == entry.nbytes:
            word, crc = struct.unpack_from("<II", data)
            head = Head(entry.tag, entry.frames, entry.length)
            intact = Head.from_word(word) == head and crc == chunk_crc(data[:4], payload)
        if not entry.has_memory or (before is not None and before.distance >= MAX_MEMORY):
            before = None
        return Chunk(
            **vars(entry),
            header=self.header,
            payload=payload,
            intact=intact,
            distance=0 if before is None else before.distance + 1,
            find_prior=lambda: self.prior,
            outcome=Outcome(before),
        )

    def is_all(self, offset: int, head: Head) -> bool:
        """Whether a chunk is all there is, so that no end needs to follow."""
        size = CHUNK_OVERHEAD + head.length
        return (
            offset == self.begin
            and 0 < head.frames == self.header.frames
            and self.source.holds(offset, size)
            and not self.source.holds(offset + size, 1)
        )

    def _entries(self) -> Iterator[Entry]:
        """Yield the chunks of any tag from the index or else from a scan."""
        if self._index is None:
            return self.scan()
        return _numbered(self._indexed(self._index))

    def _scanned(self) -> Iterator[tuple[int, Head]]:
        """Yield (offset, head) by following the lengths from the first chunk to the end."""
        offset, frames = self.begin, 0
        while True:
            data = self.source.read(offset, CHUNK_OVERHEAD)
            whole = len(data) == CHUNK_OVERHEAD
            head = Head.from_word(*struct.unpack_from("<I", data)) if whole else None
            if head is None or not self.source.holds(offset, CHUNK_OVERHEAD + head.length):
                raise TruncatedError(
                    f"the file is cut off in the chunk at byte {offset}; "
                    f"{frames} frames before it are whole"
                )
            if data != END_CHUNK and head.length == 0:
                # Also keeps a run of zeros from passing for millions of chunks.
                raise ChecksumError(
                    f"no chunk at byte {offset}: the file is damaged before or here"
                )
            yield offset, head
            frames += head.frames
            if data == END_CHUNK or self.is_all(offset, head):
                break
            offset += CHUNK_OVERHEAD + head.length
        if self.header.frames not in (0, frames):
            raise FormatError(f"{frames} frames in the chunks, {self.header.frames} in the header")

    def _indexed(self, words: Words) -> Iterator[tuple[int, Head]]:
        """Yield (offset, head) for the heads of the index."""
        offset = self.begin
        for word in words:
            head = Head.from_word(int(word))
            yield offset, head
            offset += CHUNK_OVERHEAD + head.length

    @cached_property
    def _index(self) -> Words | None:
        """Heads (n,) of all chunks before the index; None unless all of it can be trusted."""
        footer = 4 + len(END_CHUNK)  # the count, which ends the index, and the end chunk
        size = self.source.size
        if size is None or size < self.begin + footer:
            return None
        data = self.source.read(size - footer, footer)
        length = 4 + 4 * int.from_bytes(data[:4], "little")
        offset = size - len(END_CHUNK) - CHUNK_OVERHEAD - length
        if data[4:] != END_CHUNK or length > MAX_PAYLOAD or offset < self.begin:
            return None
        chunk = self.load(Entry(0, 0, 0, Tag.INDEX, offset, length))
        words = np.frombuffer(chunk.payload[:-4], "<u4")
        nbytes = (words & MAX_PAYLOAD).sum(dtype=np.int64) + CHUNK_OVERHEAD * len(words)
        if not chunk.intact or self.begin + nbytes != offset:
            return None
        if not (words & MAX_PAYLOAD).all():  # there are no chunks without payload
            return None
        frames = sum(Head.from_word(int(word)).frames for word in words)
        return words if self.header.frames in (0, frames) else None


def _numbered(heads: Iterable[tuple[int, Head]]) -> Iterator[Entry]:
    """Add to each (offset, head) its place among the picture chunks and in time."""
    number = start = 0
    for offset, head in heads:
        entry = Entry(number, start, head.frames, head.tag, offset, head.length)
        yield entry
        number += head.tag in PICTURE_TAGS
        start = entry.stop
