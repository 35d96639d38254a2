"""Random access by byte offset, over a seekable file or (forwards only) over a pipe."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import BinaryIO

from vqcodec.errors import SourceError

_PIECE = 1 << 16


class Source:
    """Bytes at an offset, counted from where ``file`` stands now.

    A pipe can be read at rising offsets only; the bytes from the latest offset on are kept, so
    that a part may be read again as part of a longer piece.

    Attributes:
        size: in bytes; None for a pipe.

    Raises:
        SourceError: the system cannot read the file, now or later.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._begin = 0
        self._offset = 0  # of the first byte held
        self._held = b""
        self.size: int | None = None
        with _guard():
            if file.seekable():
                self._begin = file.tell()
                self.size = file.seek(0, os.SEEK_END) - self._begin

    def read(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes; fewer only where the file ends.

        Raises:
            ValueError: a pipe has already been read beyond ``offset``.
        """
        if self.size is not None:
            self._file.seek(self._begin + offset)
            return self._pull(length)
        if offset < self._offset:
            raise ValueError("a pipe can be read only once, from start to end")
        skip = offset - self._offset
        while skip > len(self._held):
            skip -= len(self._held)
            self._held = self._pull(min(skip, _PIECE))
            if not self._held:
                break
        self._held = self._held[skip:]
        self._offset = offset
        self._held += self._pull(length - len(self._held))
        return self._held[:length]

    def holds(self, offset: int, length: int) -> bool:
        """Tell whether the file has ``length`` bytes at ``offset``; a pipe is read to find out."""
        if self.size is not None:
            return offset + length <= self.size
        return len(self.read(offset, length)) == length

    def _pull(self, length: int) -> bytes:
        """Read on, over the short reads of an unbuffered pipe, to ``length`` bytes or the end."""
        pieces = []
        with _guard():
            while length > 0 and (piece := self._file.read(length)):
                pieces.append(piece)
                length -= len(piece)
        return b"".join(pieces)


@contextlib.contextmanager
def _guard() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SourceError(error.strerror or str(error)) from error
