"""The header: round trip, limits, versions."""

from __future__ import annotations

import struct
import zlib
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from vqcodec.container import Header, Level, nearest_ratio, number
from vqcodec.container.layout import MAX_PAYLOAD
from vqcodec.errors import ChecksumError, FormatError, TruncatedError, UnsupportedError

ratios = st.fractions(Fraction(1, 65535), 65535, max_denominator=65535).map(nearest_ratio)


levels = st.builds(
    Level,
    stride_t=st.integers(0, 6).map(lambda n: 1 << n),
    stride=st.integers(2, 7).map(lambda n: 1 << n),
    entries=st.integers(2, 32768),
)


@st.composite
def headers(draw: st.DrawFn) -> Header:
    """Any that a chunk of one step has room for."""
    width, height = (128 * draw(st.integers(1, 4)) for _ in range(2))
    chosen = tuple(draw(st.lists(levels, min_size=1, max_size=16)))
    frames = max(level.stride_t for level in chosen)
    bits = sum(
        level.bits * (frames // level.stride_t) * (width * height // level.stride**2)
        for level in chosen
    )
    assume(bits <= 8 * MAX_PAYLOAD)
    return Header(
        width=width,
        height=height,
        aspect=draw(ratios),
        rate=draw(ratios),
        frames=draw(st.integers(0, 2**32 - 1)),
        model_id=draw(st.binary(min_size=8, max_size=8)),
        levels=chosen,
    )


def sealed(data: bytes) -> bytes:
    """Append the CRC."""
    return data + struct.pack("<I", zlib.crc32(data))


@given(headers())
def test_round_trip(header):
    data = header.to_bytes()
    assert Header.measure(data[:12]) == len(data)
    assert Header.from_bytes(data) == header
    assert header.raw_bytes(header.max_frames) < 2**21


def test_two_levels_take_33_bytes(header):
    assert len(header.to_bytes()) == 33


def test_geometry(header):
    assert header.pad_frames(1) == header.pad_frames(8) == 8
    assert header.grid_shapes(9) == ((2, 1, 2), (4, 2, 4))
    assert header.raw_bytes(8) == 23  # 18 indices of 10 bits
    large = replace(header, width=4096, height=2048)
    assert 0 < large.max_frames < 64
    assert large.raw_bytes(large.max_frames) < 2**21 <= large.raw_bytes(large.max_frames + 8)


@pytest.mark.parametrize(
    "change",
    [
        {"width": 0},
        {"width": 12},
        {"height": 4104},
        {"aspect": Fraction(0)},
        {"aspect": Fraction(-1)},
        {"rate": Fraction(65536)},
        {"rate": Fraction(1, 65536)},
        {"frames": -1},
        {"frames": 2**32},
        {"model_id": b"seven.."},
        {"levels": ()},
        {"levels": (Level(8, 8),) * 17},
        {"levels": (Level(8, 16),)},  # height 8 is no multiple
        {"width": 4096, "height": 4096, "levels": (Level(1, 1),)},  # 2 MiB cannot hold a chunk
    ],
)
def test_limits(header, change):
    with pytest.raises(FormatError):
        replace(header, **change)


@pytest.mark.parametrize(
    "level", [(0, 4, 16), (3, 4, 16), (128, 4, 16), (4, 256, 16), (4, 4, 1), (4, 4, 32769)]
)
def test_level_limits(level):
    with pytest.raises(FormatError):
        Level(*level)


@pytest.mark.parametrize(
    ("entries", "bits"), [(2, 1), (3, 2), (256, 8), (257, 9), (1024, 10), (1025, 11), (32768, 15)]
)
def test_bits(entries, bits):
    assert Level(8, 8, entries).bits == bits


def resized(body: bytes) -> bytes:
    """A header of this body."""
    return sealed(b"\x89VQV\x02" + bytes([len(body)]) + body)


def test_newer_version_is_unsupported_whatever_follows(header):
    data = bytearray(header.to_bytes())
    data[4] = 3
    with pytest.raises(UnsupportedError, match="version 3, this program reads 1 to 2"):
        Header.from_bytes(bytes(data[:12]))


def test_fields_may_be_appended(header):
    body = header.to_bytes()[6:-4]
    assert Header.from_bytes(resized(body + b"new fields") + b"chunks") == header


def test_short_body_is_invalid(header):
    body = header.to_bytes()[6:-4]
    for size in range(len(body)):
        with pytest.raises(FormatError, match="invalid header"):
            Header.from_bytes(resized(body[:size]))


@pytest.mark.parametrize("place", [2, 3, 4, 5])
def test_zero_in_a_ratio_is_invalid(header, place):
    body = bytearray(header.to_bytes()[6:-4])
    body[place] = 0
    with pytest.raises(FormatError, match="ratio"):
        Header.from_bytes(resized(bytes(body)))


def test_a_ratio_out_of_range_is_invalid_even_if_it_reduces(header):
    fields = header.to_bytes()[6:-4]
    ratio = header.rate.as_integer_ratio()
    sound, larger = (b"".join(number.to_bytes(n * by) for n in ratio) for by in (1, 1 << 16))
    assert fields.count(sound) == 1
    with pytest.raises(FormatError, match="in a ratio"):
        Header.from_bytes(resized(fields.replace(sound, larger)))


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        (b"\x80\x80\x80\x02", "does not end"),
        (b"\xff\xff\x7f\x01", "side of 16777208"),
        (b"\x00\x01", "side of 0"),
    ],
)
def test_sides_out_of_range(header, numbers, message):
    body = header.to_bytes()[6:-4]
    with pytest.raises(FormatError, match=message):
        Header.from_bytes(resized(numbers + body[2:]))


@pytest.mark.parametrize("entries", [b"\x00", b"\x10", b"\x91\x80\x02", b"\xff\xff\x7f"])
def test_codebooks_out_of_range(header, entries):
    body = header.to_bytes()[6:-4]
    with pytest.raises(FormatError, match="codebook"):
        Header.from_bytes(resized(body[:-1] + entries))


def test_damage_and_truncation(header):
    data = header.to_bytes()
    for size in range(len(data)):
        with pytest.raises(TruncatedError, match=f"byte {size}"):
            Header.from_bytes(data[:size])
    with pytest.raises(ChecksumError):
        Header.from_bytes(data[:20] + b"\xff" + data[21:])


def test_other_files():
    with pytest.raises(FormatError, match=r"not a \.vqv file"):
        Header.from_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40))
    with pytest.raises(FormatError, match="text mode"):
        Header.from_bytes(b"\x89VQV\n\x1a\n" + bytes(40))
    with pytest.raises(UnsupportedError, match="version 0"):
        Header.from_bytes(b"\x89VQV" + bytes(40))


def test_nearest_ratio():
    assert nearest_ratio(Fraction(30000, 1001)) == Fraction(30000, 1001)
    assert float(nearest_ratio(Fraction(359640, 11999))) == pytest.approx(359640 / 11999, rel=1e-7)
    assert nearest_ratio(Fraction(1, 3)) == Fraction(1, 3)


def test_planes_of_details():
    """A coefficient for each pixel and colour; raw, they may take more than a payload holds."""
    levels = (Level(8, 8), Level(1, 1, 31, details=True), Level(1, 1, 3, details=True))
    header = Header(64, 32, Fraction(2), Fraction(16), 0, bytes(8), levels)
    assert Header.from_bytes(header.to_bytes()) == header
    assert header.grid_shapes(16)[1:] == ((49, 32, 64), (48, 32, 64))  # a page with the first
    large = replace(header, width=512, height=512)
    assert large.max_frames == 32
    assert large.raw_bytes(32) > MAX_PAYLOAD
    with pytest.raises(FormatError, match="too large"):
        replace(header, width=2048, height=1024)


def test_impossible_details_are_refused():
    for strides in ((2, 1), (1, 2)):
        with pytest.raises(FormatError, match="strides of details"):
            Level(*strides, 3, details=True)
    alone = (Level(1, 1, 31, details=True),)
    with pytest.raises(FormatError, match="details of nothing"):
        Header(64, 32, Fraction(2), Fraction(16), 0, bytes(8), alone)
    codes, first, further = Level(8, 8), *(Level(1, 1, n, details=True) for n in (31, 3))
    for levels, told in (
        ((codes, first, Level(4, 4)), "a level behind details"),
        ((codes, first, Level(4, 4), further), "a level behind details"),
        ((codes, further), "entries of details"),
        ((codes, first, first), "entries of details"),
        ((codes, first, *[further] * 4), "5 planes of details"),
    ):
        with pytest.raises(FormatError, match=told):
            Header(64, 32, Fraction(2), Fraction(16), 0, bytes(8), levels)
    Header(64, 32, Fraction(2), Fraction(16), 0, bytes(8), (codes, first, *[further] * 3))
