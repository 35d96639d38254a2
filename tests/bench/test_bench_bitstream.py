"""NAL parsing on hand-made bytes; test_bench_codecs has the encoders' own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqcodec.bench import bitstream
from vqcodec.bench.bitstream import H264, HEVC, nal_units, strip_banner

SLICE = b"\x00\x00\x01\x65picture"


def _sei(kind: int, body: bytes) -> bytes:
    message = bytes([kind, len(body)]) + body
    return b"\x00\x00\x01\x06" + bitstream._escape(message) + b"\x80"


def test_units_join_to_the_stream() -> None:
    stream = b"\x00\x00\x00\x01\x67ab" + SLICE + b"\x00\x00\x00\x01\x41c"
    units = list(nal_units(stream))
    assert [unit for _, unit in units] == [b"\x67ab", b"\x65picture", b"\x41c"]
    assert b"".join(a + b for a, b in units) == stream
    assert list(nal_units(b"")) == []
    for bad in (b"abc", b"x\x00\x00\x01\x65"):
        with pytest.raises(ValueError, match="Annex B"):
            list(nal_units(bad))


def test_only_user_data_unregistered_goes() -> None:
    banner, other = _sei(5, b"x264 - core"), _sei(6, b"\x01\x02")
    assert strip_banner(banner + other + SLICE, H264) == other + SLICE
    both = b"\x00\x00\x01\x06" + bytes([5, 2, 9, 9, 6, 1, 7]) + b"\x80"
    assert strip_banner(both, H264) == b"\x00\x00\x01\x06" + bytes([6, 1, 7]) + b"\x80"
    hevc = b"\x00\x00\x01\x4e\x01" + bytes([5, 2, 9, 9]) + b"\x80"
    assert strip_banner(hevc + SLICE, HEVC) == SLICE
    assert strip_banner(hevc + SLICE, H264) == hevc + SLICE  # another syntax, another type


def test_sizes_above_255_and_emulation_bytes_are_read() -> None:
    body = b"\x00\x00\x03\x00\x00\x01" * 60  # 360 bytes, so two bytes of size
    message = bytes([5, 255, 105]) + body
    unit = b"\x00\x00\x01\x06" + bitstream._escape(message) + b"\x80"
    assert strip_banner(unit + SLICE, H264) == SLICE
    with pytest.raises(ValueError, match="past its end"):
        strip_banner(b"\x00\x00\x01\x06\x05\x30abc\x80", H264)
    with pytest.raises(ValueError, match="inside a number"):
        strip_banner(b"\x00\x00\x01\x06\x05\xff\xff", H264)


@given(st.binary(max_size=200).filter(lambda data: not data.endswith(b"\x00")))
def test_escaping_round_trips(data: bytes) -> None:
    escaped = bitstream._escape(data)
    assert b"\x00\x00\x01" not in escaped
    assert bitstream._unescape(escaped) == data
