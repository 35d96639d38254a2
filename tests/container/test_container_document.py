"""The example in docs/format.md is what the writer writes and the reader reads."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np

from vqcodec.container import Reader, verify

DOCUMENT = Path(__file__).parents[2] / "docs" / "format.md"


def example() -> bytes:
    lines = re.findall(r"^[0-9a-f]{8}  ((?:[0-9a-f]{2} ?)+)$", DOCUMENT.read_text("utf-8"), re.M)
    return bytes.fromhex("".join(lines))


def test_writer_writes_the_example(small):
    assert small == example()


def test_reader_reads_the_example(header):
    reader = Reader(io.BytesIO(example()))
    assert reader.header.frames == 12
    assert reader.header.levels == header.levels
    indices = [grid.ravel() for chunk in reader for grid in chunk.grids()]
    np.testing.assert_array_equal(np.concatenate(indices), np.arange(36))
    assert verify(io.BytesIO(example())).problems == ()
