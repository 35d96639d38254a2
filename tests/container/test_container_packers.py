"""Packers: round trip, the bound on the size, hostile payloads."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vqcodec.container import PACKERS, Level
from vqcodec.container.packers import pack_smallest, unpack
from vqcodec.errors import FormatError

LEVELS = (Level(8, 8), Level(4, 4))
SHAPES = ((1, 1, 2), (2, 2, 4))
GRIDS = [np.arange(2).reshape(SHAPES[0]), np.arange(2, 18).reshape(SHAPES[1])]
INTEGERS = np.arange(18, dtype="<u2").tobytes()

# Decoding these is normative, unlike the bytes that a compressor of today chooses.
GOLDEN = {
    "raw": "00001008030100501807020090280b0300d0380f040110",
    "deflate": "05c1870180200000201c596aaeff9f1508a2247b14af4fd574bf615ab6e302",
    "zstd": "0000210100" + INTEGERS.hex(),  # one block, stored
}


def magicless(data: bytes, **options: bool) -> bytes:
    parameters = zstandard.ZstdCompressionParameters.from_level(
        19, format=zstandard.FORMAT_ZSTD1_MAGICLESS, **options
    )
    return zstandard.ZstdCompressor(compression_params=parameters).compress(data)


def deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    return compressor.compress(data) + compressor.flush()


@st.composite
def chunks(draw):
    """(grids, levels) of up to four levels, with any values."""
    grids, levels = [], []
    for _ in range(draw(st.integers(1, 4))):
        entries = draw(st.sampled_from([2, 3, 255, 256, 257, 1000, 1024, 32768]))
        shape = draw(hnp.array_shapes(min_dims=3, max_dims=3, max_side=6))
        elements = st.integers(0, entries - 1)
        grids.append(draw(hnp.arrays(np.int16, shape, elements=elements)))
        levels.append(Level(1, 1, entries))
    return grids, levels


@given(chunks(), st.sampled_from(list(PACKERS)))
def test_round_trip(chunk, name):
    grids, levels = chunk
    shapes = [grid.shape for grid in grids]
    result = unpack(name, PACKERS[name].pack(grids, levels), shapes, levels)
    for grid, expected in zip(result, grids, strict=True):
        assert grid.dtype == np.int16
        np.testing.assert_array_equal(grid, expected)


@given(chunks())
def test_auto_is_never_larger_than_raw(chunk):
    grids, levels = chunk
    bits = sum(grid.size * level.bits for grid, level in zip(grids, levels, strict=True))
    tag, payload = pack_smallest(tuple(PACKERS), grids, levels)
    assert len(payload) <= (bits + 7) // 8
    assert all(len(payload) <= len(packer.pack(grids, levels)) for packer in PACKERS.values())
    assert tag in (1, 2, 3)


@pytest.mark.parametrize("name", list(PACKERS))
def test_golden(name):
    result = unpack(name, bytes.fromhex(GOLDEN[name]), SHAPES, LEVELS)
    for grid, expected in zip(result, GRIDS, strict=True):
        np.testing.assert_array_equal(grid, expected)


def test_raw_bytes_are_golden_to_the_writer_too():
    assert PACKERS["raw"].pack(GRIDS, LEVELS).hex() == GOLDEN["raw"]


def test_repetition_compresses():
    grids = [np.zeros((4, 8, 8), np.int16), np.full((8, 16, 16), 1023, np.int16)]
    _, payload = pack_smallest(tuple(PACKERS), grids, LEVELS)
    assert len(payload) < 30


@pytest.mark.parametrize(
    ("name", "payload"),
    [
        ("raw", b""),
        ("raw", bytes(22)),
        ("raw", bytes(24)),
        ("raw", bytes(22) + b"\1"),  # padding
        ("deflate", b""),
        ("deflate", b"\xff" * 20),
        ("deflate", deflate(INTEGERS)[:-1]),
        ("deflate", deflate(INTEGERS) + b"x"),
        ("deflate", deflate(INTEGERS[:-1])),
        ("deflate", deflate(INTEGERS + b"\0")),
        ("deflate", deflate(INTEGERS[:-2] + b"\0\4")),  # 1024
        ("deflate", deflate(INTEGERS[:-2] + b"\xff\xff")),
        ("zstd", b""),
        ("zstd", b"\0"),
        ("zstd", b"\0\x69" + bytes(8)),  # window
        ("zstd", b"\0\0" + b"\xff" * 20),
        ("zstd", zstandard.ZstdCompressor().compress(INTEGERS)),  # with magic
        ("zstd", magicless(INTEGERS, write_content_size=True)),
        ("zstd", magicless(INTEGERS, write_content_size=False, write_checksum=True)),
        ("zstd", magicless(INTEGERS, write_content_size=False)[:-1]),
        ("zstd", magicless(INTEGERS, write_content_size=False) + b"x"),
        ("zstd", magicless(INTEGERS, write_content_size=False) * 2),
        ("zstd", magicless(INTEGERS[:-1], write_content_size=False)),
        ("zstd", magicless(INTEGERS + b"\0", write_content_size=False)),
        ("zstd", magicless(INTEGERS[:-2] + b"\0\4", write_content_size=False)),
    ],
)
def test_hostile_payload(name, payload):
    with pytest.raises(FormatError):
        unpack(name, payload, SHAPES, LEVELS)


@given(st.binary(max_size=80), st.sampled_from(list(PACKERS)))
def test_noise(payload, name):
    try:
        grids = unpack(name, payload, SHAPES, LEVELS)
    except FormatError:
        return
    assert [grid.shape for grid in grids] == list(SHAPES)
