"""Files of version 1, which were written before: they are read as they were."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from test_container_header import headers, sealed

from vqcodec.container import Header, Reader, verify
from vqcodec.container.cut import cut_file
from vqcodec.errors import ChecksumError, FormatError, TruncatedError, UnsupportedError

# The example that docs/format.md had: two chunks, an index and the end.
FILE = bytes.fromhex(
    "89 56 51 56 0d 0a 1a 0a 01 00 1f 00 10 00 08 00 10 00 09 00 10 00 01 00 "
    "0c 00 00 00 01 23 45 67 89 ab cd ef 02 33 00 04 22 00 04 f6 5c 0b 78 17 "
    "00 e0 08 f0 4a 09 6f 00 00 10 08 03 01 00 50 18 07 02 00 90 28 0b 03 00 "
    "d0 38 0f 04 01 10 17 00 60 08 77 bc 11 a9 04 81 30 50 15 05 81 70 60 19 "
    "06 81 b0 70 1d 07 81 f0 80 21 08 82 30 0c 00 00 f0 36 de 4e 41 17 00 e0 "
    "08 17 00 60 08 02 00 00 00 00 00 00 f8 32 a5 22 92"
)
HEADER = FILE[:47]


def old(header: Header) -> bytes:
    """A header as version 1 had it."""
    body = struct.pack(
        "<6HI8sB",
        *(header.width, header.height),
        *header.aspect.as_integer_ratio(),
        *header.rate.as_integer_ratio(),
        *(header.frames, header.model_id, len(header.levels)),
    )
    for level in header.levels:
        strides = (level.stride_t.bit_length() - 1) << 4 | level.stride.bit_length() - 1
        body += struct.pack("<BH", strides | level.details << 3, level.entries)
    return sealed(struct.pack("<8sBBH", b"\x89VQV\r\n\x1a\n", 1, 0, len(body)) + body)


@given(headers())
def test_all_that_could_be_written_is_read(header):
    assert Header.from_bytes(old(header)) == header


def test_a_whole_file(header):
    reader = Reader(io.BytesIO(FILE))
    assert reader.header.levels == header.levels
    assert (reader.header.frames, reader.table.indexed) == (12, True)
    indices = [grid.ravel() for chunk in reader for grid in chunk.grids()]
    np.testing.assert_array_equal(np.concatenate(indices), np.arange(36))
    assert verify(io.BytesIO(FILE)).problems == ()


def test_cut_makes_it_one_of_the_present_version(small):
    target = io.BytesIO()
    cut_file(io.BytesIO(FILE), target, quality=2)
    assert target.getvalue() == small


def test_another_major_version():
    with pytest.raises(UnsupportedError, match=r"version 2\.0"):
        Header.from_bytes(HEADER[:8] + b"\x02" + HEADER[9:12])


def test_a_newer_minor_version_may_append_fields(header):
    longer = bytearray(HEADER[:-4] + b"new fields")
    longer[9:12] = struct.pack("<BH", 7, len(longer) - 12)
    assert Header.from_bytes(sealed(bytes(longer)) + b"chunks").levels == header.levels


def test_a_short_body_is_invalid():
    for cut in range(1, 31):
        shorter = bytearray(HEADER[: -4 - cut])
        shorter[10:12] = struct.pack("<H", len(shorter) - 12)
        with pytest.raises(FormatError, match="invalid header"):
            Header.from_bytes(sealed(bytes(shorter)))


def test_damage_and_truncation():
    for size in range(len(HEADER)):
        with pytest.raises(TruncatedError, match=f"byte {size}"):
            Header.from_bytes(HEADER[:size])
    with pytest.raises(ChecksumError):
        Header.from_bytes(HEADER[:20] + b"\xff" + HEADER[21:])
    zero = bytearray(HEADER[:-4])
    zero[18:20] = b"\0\0"
    with pytest.raises(FormatError, match="ratio"):
        Header.from_bytes(bytes(zero) + struct.pack("<I", zlib.crc32(zero)))
