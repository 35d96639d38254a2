"""Reads a ``.vqv`` file: in order, from a file or a pipe, or by seeking to a span of frames.

Damage stays where it is: a chunk whose CRC fails is handed out like the others and raises only
when it is looked into, so that a caller may stop there, conceal it or leave it out.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import BinaryIO, TypeAlias

import numpy as np
import numpy.typing as npt

from vqcodec.container.header import Header
from vqcodec.container.layout import (
    CHUNK_OVERHEAD,
    END_CHUNK,
    MAX_PAYLOAD,
    PICTURE_TAGS,
    Head,
    Tag,
    chunk_crc,
)
from vqcodec.container.packers import Grid, packer_name, unpack
from vqcodec.container.source import Source
from vqcodec.errors import ChecksumError, FormatError, TruncatedError, UnsupportedError

Words: TypeAlias = npt.NDArray[np.uint32]  # (chunks,), heads as stored


@dataclass(frozen=True)
class Entry:
    """Where a chunk is, in the file and in time.

    Attributes:
        number: of the chunk among the picture chunks, from 0.
        start: number of its first frame in the file.
        frames: 1–64; 0 for a chunk without pictures.
        tag: 0–31.
        offset: of its first byte in the file.
        length: of its payload in bytes.
    """

    number: int
    start: int
    frames: int
    tag: int
    offset: int
    length: int

    @property
    def stop(self) -> int:
        """Number of the frame after its last."""
        return self.start + self.frames

    @property
    def nbytes(self) -> int:
        """Size in the file, with head and CRC."""
        return CHUNK_OVERHEAD + self.length

    @property
    def packer(self) -> str | None:
        """Name of the packer, None if unknown here."""
        return packer_name(self.tag)


@dataclass(frozen=True)
class Chunk(Entry):
    """One chunk with its bytes.

    Attributes:
        header: of the file.
        payload: ``length`` bytes, damaged or not.
        intact: the CRC matches, and the index agrees.
    """

    header: Header = field(repr=False)
    payload: bytes = field(repr=False)
    intact: bool

    def check(self) -> None:
        """Do nothing if the bytes are as they were written.

        Raises:
            ChecksumError: they are not; the message says where in the file and in time.
        """
        if not self.intact:
            raise ChecksumError(f"{self.where()} is damaged: its CRC does not match")

    def grids(self) -> tuple[Grid, ...]:
        """Unpack the indices: a grid (T', H', W') int16 for each level, values below its entries.

        Raises:
            ChecksumError: the chunk is damaged.
            UnsupportedError: it uses a packer that is unknown here.
            FormatError: the payload is not what its packer would have made.
        """
        self.check()
        if self.packer is None:
            raise UnsupportedError(f"{self.where()} needs a packer unknown here (tag {self.tag})")
        if self.frames > self.header.max_frames:
            raise FormatError(f"{self.where()} has more frames than the format allows")
        try:
            shapes = self.header.grid_shapes(self.frames)
            return unpack(self.packer, self.payload, shapes, self.header.levels)
        except FormatError as error:
            raise FormatError(f"{self.where()}: {error}") from error

    def where(self) -> str:
        """Name the chunk, its place in the file and its time, for messages."""
        first, last = (float(frame / self.header.rate) for frame in (self.start, self.stop))
        return f"chunk {self.number} at byte {self.offset} ({first:.2f} to {last:.2f} s)"


@dataclass(frozen=True)
class Table:
    """The picture chunks of a file.

    Attributes:
        entries: in order; in a truncated file the whole ones.
        indexed: they come from the file's index, not from a scan.
        problem: why the scan ended before the end chunk, or None.
        nbytes: size of the file; of a pipe, up to where the scan ended.
    """

    entries: tuple[Entry, ...]
    indexed: bool
    problem: FormatError | None
    nbytes: int

    @property
    def frames(self) -> int:
        """Frames in all chunks together."""
        return self.entries[-1].stop if self.entries else 0


class Reader:
    """Reads one file. Iterating yields its picture chunks in order, as :meth:`chunks` does.

    Args:
        file: open for reading in binary mode, at the place where the ``.vqv`` file begins. A pipe
            (anything not seekable) can be gone through once.

    Attributes:
        header: the file's.
        begin: offset of the first chunk.

    Raises:
        FormatError, ChecksumError, TruncatedError, UnsupportedError: see
            :meth:`Header.from_bytes`.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.source = Source(file)
        size = Header.measure(self.source.read(0, 12))
        self.header = Header.from_bytes(self.source.read(0, size))
        self.begin = size

    def __iter__(self) -> Iterator[Chunk]:
        return self.chunks()

    def chunks(self, start: int = 0, stop: int | None = None) -> Iterator[Chunk]:
        """Yield the picture chunks that hold frames from ``start`` up to, not with, ``stop``.

        With an index only those are read. Without one everything before ``stop`` is, and every
        damaged chunk in it is yielded: what its head says, even that it holds pictures or how
        many, is then in doubt, and so is the time of what follows.

        Raises:
            TruncatedError: the file ends before its end chunk and before ``stop``, after the
                whole chunks have been yielded.
            ChecksumError: the chain of chunks is broken, the rest of the file is out of reach.
            FormatError: at the end, the frames of the chunks do not add up to the header's count.
        """
        indexed = self._index is not None
        last = sys.maxsize if stop is None else stop
        for entry in self._entries():
            overlaps = max(start, entry.start) < min(last, entry.stop)
            if overlaps or not indexed:
                chunk = self.load(entry)
                # A damaged index costs speed, no pictures, so it is passed over.
                if overlaps or not (chunk.intact or entry.tag == Tag.INDEX):
                    yield chunk
            if entry.stop >= last:
                return

    @cached_property
    def table(self) -> Table:
        """All picture chunks, from the index or else from a scan of the heads."""
        entries, problem, nbytes = [], None, self.begin
        try:
            for entry in self._entries():
                nbytes = entry.offset + entry.nbytes
                if entry.tag in PICTURE_TAGS:
                    entries.append(entry)
        except FormatError as error:
            problem = error
        if self.source.size is not None:
            nbytes = self.source.size
        return Table(tuple(entries), self._index is not None, problem, nbytes)

    def scan(self) -> Iterator[Entry]:
        """Yield all chunks there are, of any tag, end included, by their heads (no CRC checked).

        Raises:
            TruncatedError, ChecksumError, FormatError: as :meth:`chunks`.
        """
        return _numbered(self._scanned())

    def load(self, entry: Entry) -> Chunk:
        """Read the bytes of a chunk."""
        data = self.source.read(entry.offset, entry.nbytes)
        payload = data[CHUNK_OVERHEAD:]
        intact = False
        if len(data) == entry.nbytes:
            word, crc = struct.unpack_from("<II", data)
            head = Head(entry.tag, entry.frames, entry.length)
            intact = Head.from_word(word) == head and crc == chunk_crc(data[:4], payload)
        return Chunk(**vars(entry), header=self.header, payload=payload, intact=intact)

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
            if data == END_CHUNK:
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
