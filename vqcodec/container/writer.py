"""Writes a ``.vqv`` file chunk by chunk, to a file or a pipe, in bounded memory."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO

from vqcodec.container.header import Header
from vqcodec.container.layout import (
    ANCILLARY_TAGS,
    END_CHUNK,
    HEAD_BYTES,
    MAX_PAYLOAD,
    PICTURE_TAGS,
    Head,
    Tag,
    frame_chunk,
)
from vqcodec.container.packing import Indices, Packing

if TYPE_CHECKING:
    from vqcodec.entropy.prior import Prior


class Writer:
    """Writes one file; as a context manager it finishes the file unless an exception passes.

    Only the heads of the chunks are kept, four bytes each. The underlying file is not closed.

    Args:
        file: open for writing in binary mode (not for appending), at the place where the file
            shall begin.
        header: its frame count may be 0 for not yet known; :meth:`close` then fills it in if the
            file is seekable.
        packer, prior, independent: how picture chunks are packed, see :class:`Packing`.

    Attributes:
        frames, nbytes: written so far.
        packing: packs the next picture chunks, which are then to be written in that order with
            nothing but ancillary chunks between them.

    Raises:
        ValueError: no such packer, or it lacks a prior.
    """

    def __init__(
        self,
        file: BinaryIO,
        header: Header,
        *,
        packer: str = "auto",
        prior: Prior | None = None,
        independent: bool = False,
    ) -> None:
        self.packing = Packing(header, packer, prior, independent)
        self.header = header
        self.frames = self.nbytes = 0
        self._file = file
        self._begin = file.tell() if file.seekable() else None
        self._pictures = 0
        self._heads = bytearray()
        self._put(header.to_bytes())

    def write(self, frames: int, grids: Sequence[Indices]) -> int:
        """Append a picture chunk and return the number of bytes it takes.

        Args:
            frames: 1 to ``header.max_frames``.
            grids: one for each level, of the shapes ``header.grid_shapes(frames)``, any integer
                dtype, values 0 to entries - 1.

        Raises:
            ValueError: anything else.
        """
        return self.write_packed(*self.packing.pack([(frames, grids)])[0])

    def write_packed(self, tag: int, frames: int, payload: bytes) -> int:
        """Append a picture chunk as another file holds it; what is in it is not looked at.

        Raises:
            ValueError: ``tag`` is not in 1–15, ``frames`` not in 1 to ``header.max_frames``, or
                the payload is empty or 2 MiB and more.
        """
        if tag not in PICTURE_TAGS[1:]:
            raise ValueError(f"tag {tag} is not one of pictures")
        if not 1 <= frames <= self.header.max_frames or not 1 <= len(payload) <= MAX_PAYLOAD:
            raise ValueError(f"picture chunk of {frames} frames in {len(payload)} bytes")
        self.frames += frames
        self._pictures += 1
        return self._append(Head(tag, frames, len(payload)), payload)

    def write_chunk(self, tag: int, payload: bytes) -> int:
        """Append an ancillary chunk and return the number of bytes it takes.

        Raises:
            ValueError: ``tag`` is not in 16–29, or the payload is empty or 2 MiB and more.
        """
        if tag not in ANCILLARY_TAGS:
            raise ValueError(f"tag {tag} is not ancillary")
        if not 1 <= len(payload) <= MAX_PAYLOAD:
            raise ValueError(f"ancillary payload of {len(payload)} bytes")
        return self._append(Head(tag, 0, len(payload)), payload)

    def close(self) -> None:
        """Finish the file: index and end where they are of use, and the header's frame count.

        Raises:
            ValueError: the header promised another frame count, and is out of reach in a pipe.
        """
        index = bytes(self._heads) + struct.pack("<I", len(self._heads) // HEAD_BYTES)
        if self._pictures >= 2 and len(index) <= MAX_PAYLOAD:
            self._put(frame_chunk(Head(Tag.INDEX, 0, len(index)), index))
        counted = self._begin is not None or self.header.frames == self.frames
        if not (counted and self._pictures == 1 and len(self._heads) == HEAD_BYTES):
            self._put(END_CHUNK)
        if self._begin is not None:
            end = self._file.tell()
            self.header = replace(self.header, frames=self.frames)
            self._file.seek(self._begin)
            self._file.write(self.header.to_bytes())
            self._file.seek(end)
        elif self.header.frames not in (0, self.frames):
            raise ValueError(f"{self.frames} frames written, {self.header.frames} promised")

    def _append(self, head: Head, payload: bytes) -> int:
        self._heads += struct.pack("<I", head.word)
        chunk = frame_chunk(head, payload)
        self._put(chunk)
        return len(chunk)

    def _put(self, data: bytes) -> None:
        self._file.write(data)
        self.nbytes += len(data)

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
