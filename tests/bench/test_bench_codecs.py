"""Every codec: what comes back, what it costs, and that the counts are those of real streams."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from bench_builders import moving_clip

from vqcodec import metrics
from vqcodec.bench import bitstream
from vqcodec.bench.codecs import CodecMissingError, available_names, build
from vqcodec.bench.peers import PEERS, FFmpegCodec, PeerConfig

RATE = Fraction(16)


@pytest.fixture(scope="module")
def clip() -> np.ndarray:
    return moving_clip()


def _peer(name: str) -> Any:
    try:
        return build(name)
    except CodecMissingError as missing:
        pytest.skip(str(missing))


@pytest.mark.parametrize("name", PEERS)
def test_peers_round_trip_with_falling_rate(name: str, clip: np.ndarray) -> None:
    codec = _peer(name)
    rates, quality = [], []
    for setting in (codec.ladder[0], codec.ladder[3], codec.ladder[-1]):
        encoded = codec.encode(clip, RATE, setting)
        decoded = codec.decode(encoded.payload)
        assert decoded.shape == clip.shape
        assert decoded.dtype == np.uint8
        assert encoded.file_bytes == len(encoded.payload) > encoded.stream_bytes > 0
        rates.append(encoded.stream_bytes)
        quality.append(metrics.psnr(clip, decoded))
    assert rates == sorted(rates, reverse=True)
    assert quality == sorted(quality, reverse=True)
    assert quality[0] > 28


@pytest.mark.parametrize("name", ["x265", "svtav1"])  # x264 may vary by a percent
def test_the_same_bits_every_time(name: str, clip: np.ndarray) -> None:
    codec = _peer(name)
    first, second = (codec.encode(clip, RATE, codec.ladder[3]) for _ in range(2))
    assert first.stream_bytes == second.stream_bytes
    assert np.array_equal(codec.decode(first.payload), codec.decode(second.payload))


def test_one_group_of_pictures_and_true_colours() -> None:
    codec = _peer("x264")
    long = codec.encode(moving_clip(300), RATE, "crf 46")
    with av.open(io.BytesIO(long.payload)) as container:
        keys = [p.is_keyframe for p in container.demux(video=0) if p.size]
    assert keys.count(True) == 1
    assert len(keys) == 300
    colours = np.zeros((8, 64, 64, 3), np.uint8)
    colours[..., :32, 0], colours[..., 32:, 2] = 200, 180
    back = build("x264-444").decode(build("x264-444").encode(colours, RATE, "crf 22").payload)
    assert np.abs(back.astype(int) - colours)[:, :, 4:28].max() <= 4


@pytest.mark.parametrize(
    ("name", "syntax", "raw"),
    [("x264", bitstream.H264, "h264"), ("x265", bitstream.HEVC, "hevc")],
)
def test_counted_stream_decodes_alone(
    name: str,
    syntax: bitstream.NalSyntax,
    raw: str,
    clip: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    streams = []
    strip = bitstream.strip_banner

    def keep(stream: bytes, syntax: bitstream.NalSyntax) -> bytes:
        streams.append((stream, strip(stream, syntax)))
        return streams[-1][1]

    monkeypatch.setattr(bitstream, "strip_banner", keep)
    codec = _peer(name)
    encoded = codec.encode(clip, RATE, "crf 34")
    whole, counted = streams[0]
    assert encoded.stream_bytes == len(counted)
    assert b"x264 - core" not in counted
    assert (name == "x264") == (len(whole) - len(counted) > 500)  # x265 is told not to write one
    with av.open(io.BytesIO(counted), format=raw) as container:
        assert sum(1 for _ in container.decode(video=0)) == len(clip)
    assert not any(syntax.is_sei(u) and b"x26" in u for _, u in bitstream.nal_units(counted))


def test_av1_counts_temporal_delimiters(clip: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    codec = _peer("svtav1")
    seen: list[bytes] = []
    count = FFmpegCodec._stream_bytes

    def keep(self: FFmpegCodec, headers: bytes, packets: list[bytes]) -> int:
        seen.extend(packets)
        return count(self, headers, packets)

    monkeypatch.setattr(FFmpegCodec, "_stream_bytes", keep)
    encoded = codec.encode(clip, RATE, "crf 48")
    assert encoded.stream_bytes == sum(map(len, seen))
    assert len(seen) == len(clip)
    assert all(packet[:2] == b"\x12\x00" for packet in seen)  # one for each frame, as in .obu
    assert seen[0][2] >> 3 == 1  # then the sequence header


def test_missing_codecs_are_named() -> None:
    absent = PeerConfig("nope", "nope", "libnope", {}, (1,))
    with pytest.raises(CodecMissingError, match="libnope"):
        FFmpegCodec(absent)
    with pytest.raises(CodecMissingError, match="no model"):
        build("vqcodec:no-such-model")
    with pytest.raises(ValueError, match="x264-444"):
        build("h263")
    assert set(PEERS) <= set(available_names())


def test_our_codec_counts_the_papers_rate(tmp_path: Path) -> None:
    from vqcodec.model import checkpoint as checkpoints
    from vqcodec.model.config import PRESETS
    from vqcodec.model.network import MSVQVAE

    path = tmp_path / "tiny.safetensors"
    checkpoints.save(checkpoints.export(MSVQVAE(PRESETS["tiny"]), {}), path)
    codec = build(f"vqcodec:{path}")
    assert codec.title == "vqcodec tiny, effort 0"
    clip = moving_clip(32)
    encoded = codec.encode(clip, RATE, "quality 2")
    assert encoded.fixed_bits == 23040  # 0.1758 bpp
    assert encoded.deflate_bytes is not None
    assert encoded.file_bytes == len(encoded.payload)
    assert 8 <= encoded.file_bytes - encoded.stream_bytes <= 72
    assert codec.decode(encoded.payload).shape == clip.shape
    long = codec.encode(moving_clip(75), RATE, "quality 2")  # 32 + 32 + 11 padded to 16
    assert long.fixed_bits == 23040 * 80 // 32
    assert codec.decode(long.payload).shape == (75, 64, 64, 3)
    rates = [codec.encode(clip, RATE, setting).fixed_bits or 0 for setting in codec.ladder]
    assert rates == sorted(rates, reverse=True)
    searching = build(f"vqcodec@2:{path}")
    assert set(searching.ladder) <= set(codec.ladder)
    assert searching.ladder[0] == codec.ladder[0]
    searched = searching.encode(clip, RATE, "quality 2 trade 4")
    assert searched.fixed_bits == 23040
    with pytest.raises(ValueError, match="efforts"):
        build(f"vqcodec@10:{path}")
    smallest = codec.encode(clip, RATE, codec.ladder[-1])
    assert codec.decode(smallest.payload).shape == clip.shape
