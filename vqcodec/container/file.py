"""Opens ``.vqv`` files, by their path or as streams, and puts their names into errors."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from vqcodec.container.reader import FindPrior, Reader
from vqcodec.errors import (
    FormatError,
    MemoryLimitError,
    ModelMismatchError,
    QualityError,
    SourceError,
)
from vqcodec.files import name_of


class VqvFile(Reader):
    """A :class:`Reader` that closes its file. Made by :func:`open`."""

    def __init__(self, file: BinaryIO, find_prior: FindPrior) -> None:
        self._file = file
        try:
            super().__init__(file, find_prior)
        except BaseException:
            file.close()
            raise

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def __enter__(self) -> VqvFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def open(path: Path | str, find_prior: FindPrior = lambda _header: None) -> VqvFile:
    """Open a ``.vqv`` file; iterating yields its chunks, and ``chunk.grids()`` their indices.

    Each grid is int16 (T', H', W'), coarsest level first, as ``file.header.grid_shapes(frames)``
    tells: for 32 frames of 64×64 (4, 8, 8), (4, 16, 16), ...

    Args:
        path: of the file.
        find_prior: see :class:`Reader`.

    Raises:
        SourceError: the file cannot be opened.
        FormatError: it is not a ``.vqv`` file that can be read here (see :class:`Reader`).
    """
    with _naming(path):
        return VqvFile(open_binary(path), find_prior)


@contextlib.contextmanager
def reading(source: Path | str | BinaryIO, *, seekable: bool = False) -> Iterator[Reader]:
    """Read a path, or a stream that may be a pipe; ``seekable``: a pipe is first copied.

    Errors that concern the source, in all of the ``with`` block, begin with its name.
    """
    with _naming(source), contextlib.ExitStack() as stack:
        if isinstance(source, (str, Path)):
            source = stack.enter_context(open_binary(source))
        if seekable and not source.seekable():
            copy = stack.enter_context(tempfile.TemporaryFile())
            shutil.copyfileobj(source, copy)
            copy.seek(0)
            source = copy
        yield Reader(source)


def open_binary(path: Path | str) -> BinaryIO:
    """Open any file for reading.

    Raises:
        SourceError: it cannot be opened; the message does not name it.
    """
    try:
        return Path(path).open("rb")
    except OSError as error:
        raise SourceError(error.strerror or str(error)) from error


_OF_THE_SOURCE = (FormatError, MemoryLimitError, ModelMismatchError, QualityError, SourceError)


@contextlib.contextmanager
def _naming(source: Path | str | BinaryIO) -> Iterator[None]:
    try:
        yield
    except _OF_THE_SOURCE as error:
        raise type(error)(f"{name_of(source)}: {error}") from error
