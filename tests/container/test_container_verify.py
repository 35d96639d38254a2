"""The report on a file."""

from __future__ import annotations

import io

import numpy as np
import pytest

from vqcodec.container import Writer, verify
from vqcodec.container.layout import END_CHUNK, Head, frame_chunk
from vqcodec.container.verify import MAX_PROBLEMS
from vqcodec.errors import ChecksumError, FormatError, TruncatedError


def test_sound_file(small, pipe):
    for file in (io.BytesIO(small), pipe(small)):
        report = verify(file)
        assert report.header is not None
        assert (report.chunks, report.frames, report.problems) == (2, 12, ())


@pytest.mark.parametrize(
    ("spoil", "kind", "message"),
    [
        (lambda b: b"", TruncatedError, "byte 0"),
        (lambda b: b"GIF89a", FormatError, "not a .vqv"),
        (lambda b: b[:-1], TruncatedError, "12 frames"),
        (lambda b: b[:60] + b"?" + b[61:], ChecksumError, "chunk at byte"),
        (lambda b: b + b"?", FormatError, "bytes after the end, from 123 on"),
        (lambda b: b[:95] + frame_chunk(Head(30, 0, 8), b[103:107] * 2) + END_CHUNK,
         FormatError, "index does not agree"),
        (lambda b: b[:115] + frame_chunk(Head(18, 0, 1), b"?") + END_CHUNK,
         FormatError, "after the index"),
        (lambda b: b[:64] + END_CHUNK, FormatError, "8 frames in the chunks, 12 in the header"),
    ],
)  # fmt: skip
def test_problem(small, pipe, spoil, kind, message):
    for file in (io.BytesIO(spoil(small)), pipe(spoil(small))):
        (problem,) = verify(file).problems
        assert type(problem) is kind
        assert message in str(problem)


def test_report_is_bounded(header):
    noise = np.random.default_rng(0).integers(0, 256, 1 << 20, np.uint8).reshape(-1, 256)
    noise[:, :4] = (248, 0, 0, 8)  # heads of chunks that are 256 bytes long in all
    report = verify(io.BytesIO(header.to_bytes() + noise.tobytes()))
    assert len(report.problems) == MAX_PROBLEMS


def test_sound_file_of_many_chunks(header):
    file = io.BytesIO()
    grids = [np.zeros(shape, np.uint8) for shape in header.grid_shapes(1)]
    with Writer(file, header) as writer:
        for _ in range(300):
            writer.write(1, grids)
    file.seek(0)
    assert verify(file).frames == 300
