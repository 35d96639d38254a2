"""A ``.vqv`` file by its path, for those who want the indices and not the pictures."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from vqcodec.container.reader import Reader
from vqcodec.errors import SourceError


class VqvFile(Reader):
    """A :class:`Reader` that closes its file. Made by :func:`open`."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        try:
            super().__init__(file)
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


def open(path: Path | str) -> VqvFile:
    """Open a ``.vqv`` file; iterating yields its chunks, and ``chunk.grids()`` their indices.

    Each grid is int16 (T', H', W'), coarsest level first, as ``file.header.grid_shapes(frames)``
    tells: for 32 frames of 64×64 (4, 8, 8) and (8, 16, 16). No model is needed or loaded.

    Raises:
        SourceError: the file cannot be opened.
        FormatError: it is not a ``.vqv`` file that can be read here (see :class:`Reader`).
    """
    try:
        file = Path(path).open("rb")  # noqa: SIM115 (closed by VqvFile)
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror}") from error
    return VqvFile(file)
