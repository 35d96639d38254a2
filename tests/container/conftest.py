"""A small file of two chunks, the same as the example of docs/format.md, for all tests here."""

from __future__ import annotations

import io
from fractions import Fraction

import numpy as np
import pytest

from vqcodec.container import Header, Level, Writer


def counting_grids(header, frames, first=0):
    """Grids for a chunk whose indices count up from ``first``, level after level."""
    grids = []
    for shape in header.grid_shapes(frames):
        grids.append(np.arange(first, first + np.prod(shape)).reshape(shape))
        first += grids[-1].size
    return grids


@pytest.fixture(scope="session")
def header():
    return Header(
        width=16,
        height=8,
        aspect=Fraction(16, 9),
        rate=Fraction(16),
        frames=0,
        model_id=bytes.fromhex("0123456789abcdef"),
        levels=(Level(8, 8), Level(4, 4)),
    )


@pytest.fixture(scope="session")
def contents(header):
    """(frames, grids) of each chunk."""
    return [(8, counting_grids(header, 8)), (4, counting_grids(header, 4, 18))]


@pytest.fixture(scope="session")
def small(header, contents):
    """The bytes of the small file."""
    file = io.BytesIO()
    with Writer(file, header, packer="raw") as writer:
        for frames, grids in contents:
            writer.write(frames, grids)
    return file.getvalue()


class Pipe(io.RawIOBase):
    """Bytes that cannot be sought in, handed out in short reads."""

    def __init__(self, data: bytes, piece: int = 7) -> None:
        self._file = io.BytesIO(data)
        self._piece = piece

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return self._file.read(min(size, self._piece) if size >= 0 else self._piece)


@pytest.fixture
def pipe():
    return Pipe
