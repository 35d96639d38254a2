"""x264, x265 and SVT-AV1 through PyAV's FFmpeg, at slow presets and tuned for PSNR.

Colour: RGB → Y'CbCr BT.601, limited range, and back, by libswscale with bicubic chroma in both
directions and its accurate paths (its defaults cost 0.1 to 0.6 dB at high rates). Bytes: the
file is an MP4; the stream is what a raw ``.264``, ``.265`` or ``.obu`` file would hold (start
codes and AV1's temporal delimiters of two bytes included) less the encoder's banner.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation

from vqcodec.bench import bitstream
from vqcodec.bench.codecs import CodecMissingError, Encoded, Frames

# No periodic intra frames: a clip, or a whole video, is one group of pictures. One thread, as
# more of them change the bits (x264's frame threads see less of their reference). x265: blocks of
# 32 instead of 64 save 1.6 % at this size, and with 64 this build's size varies from run to run.
_LONG_GOP = {
    "libx264": {"x264-params": "keyint=infinite"},
    "libx265": {"x265-params": "keyint=-1:ctu=32:info=0:pools=none:frame-threads=1:log-level=none"},
    "libsvtav1": {"svtav1-params": "keyint=-1:lp=1:tune=1"},
}
_SYNTAX = {"libx264": bitstream.H264, "libx265": bitstream.HEVC}

# PyAV before 18 knows none of the finer flags: there chroma is a little worse for the peers.
_SWS = sum(
    int(getattr(Interpolation, flag, 0))
    for flag in ("BICUBIC", "FULL_CHR_H_INT", "FULL_CHR_H_INP", "ACCURATE_RND", "BITEXACT")
)


@dataclass(frozen=True)
class PeerConfig:
    """One peer: an encoder of FFmpeg, its options and its ladder of CRF values.

    Attributes:
        name: as given to ``--codec``.
        title: one line for tables.
        encoder: FFmpeg's name of the encoder.
        options: encoder options beside CRF and the long group of pictures.
        crf: the ladder, best quality first.
        pixels: FFmpeg's pixel format; its chroma resolution is part of the comparison.
    """

    name: str
    title: str
    encoder: str
    options: Mapping[str, str]
    crf: tuple[int, ...]
    pixels: str = "yuv420p"


_X26X_CRF = (22, 26, 30, 34, 38, 42, 46)
_AV1_CRF = (20, 27, 34, 41, 48, 55, 59, 61, 63)  # its last steps are the steepest


def _x264(name: str, title: str, preset: str, pixels: str = "yuv420p") -> PeerConfig:
    options = {"preset": preset, "tune": "psnr"}
    return PeerConfig(name, title, "libx264", MappingProxyType(options), _X26X_CRF, pixels)


def _x265(name: str, title: str, pixels: str = "yuv420p") -> PeerConfig:
    options = {"preset": "slow", "tune": "psnr"}
    return PeerConfig(name, title, "libx265", MappingProxyType(options), _X26X_CRF, pixels)


PEERS: Mapping[str, PeerConfig] = MappingProxyType(
    {
        peer.name: peer
        for peer in (
            _x264("x264-medium", "x264 medium, 4:2:0", "medium"),
            _x264("x264", "x264 veryslow, 4:2:0", "veryslow"),
            _x264("x264-444", "x264 veryslow, 4:4:4", "veryslow", "yuv444p"),
            _x265("x265", "x265 slow, 4:2:0"),
            _x265("x265-444", "x265 slow, 4:4:4", "yuv444p"),
            PeerConfig(
                "svtav1",
                "SVT-AV1 preset 3, 4:2:0",  # this encoder has no 4:4:4
                "libsvtav1",
                MappingProxyType({"preset": "3"}),
                _AV1_CRF,
            ),
        )
    }
)


class FFmpegCodec:
    """A peer as a :class:`~vqcodec.bench.codecs.Codec`.

    Raises:
        CodecMissingError: this FFmpeg has no such encoder.
    """

    def __init__(self, config: PeerConfig) -> None:
        try:
            av.codec.Codec(config.encoder, "w")
        except (av.FFmpegError, ValueError) as error:  # UnknownCodecError is a ValueError
            raise CodecMissingError(f"this FFmpeg has no encoder {config.encoder}") from error
        self.name = config.name
        self.title = config.title
        self.ladder = tuple(f"crf {crf}" for crf in config.crf)
        self._config = config
        self._options = {**_LONG_GOP[config.encoder], **config.options}
        libavcodec = ".".join(map(str, av.library_versions["libavcodec"]))
        options = " ".join(f"{k}={v}" for k, v in sorted(self._options.items()))
        self.identity = f"{config.encoder} libavcodec {libavcodec} {config.pixels} bt601 {options}"

    def encode(self, frames: Frames, rate: Fraction, setting: str) -> Encoded:
        """See :meth:`vqcodec.bench.codecs.Codec.encode`; ``setting`` is ``crf N``."""
        os.environ.setdefault("SVT_LOG", "1")  # errors only; SVT-AV1 prints a page otherwise
        options = {**self._options, "crf": setting.removeprefix("crf ")}
        file = io.BytesIO()
        packets: list[bytes] = []
        with av.open(file, "w", format="mp4") as container:
            stream = container.add_stream(self._config.encoder, rate=rate, options=options)
            assert isinstance(stream, av.VideoStream)
            stream.height, stream.width = frames.shape[1:3]
            stream.pix_fmt = self._config.pixels
            context = stream.codec_context
            context.thread_count = 1
            context.colorspace = Colorspace.ITU601
            context.color_range = ColorRange.MPEG
            for picture in (*self._to_yuv(frames, rate), None):
                for packet in stream.encode(picture):
                    packets.append(bytes(packet))  # before the muxer rewrites start codes
                    container.mux(packet)
            headers = context.extradata or b""
        data = file.getvalue()
        return Encoded(self._stream_bytes(headers, packets), len(data), data)

    def _stream_bytes(self, headers: bytes, packets: list[bytes]) -> int:
        syntax = _SYNTAX.get(self._config.encoder)
        if syntax is None:  # AV1: the first packet repeats the sequence header
            return sum(map(len, packets))
        return len(bitstream.strip_banner(headers + b"".join(packets), syntax))

    def _to_yuv(self, frames: Frames, rate: Fraction) -> Iterator[av.VideoFrame]:
        for number, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            picture = picture.reformat(
                format=self._config.pixels,
                interpolation=_SWS,
                dst_colorspace=Colorspace.ITU601,
                src_color_range=ColorRange.JPEG,
                dst_color_range=ColorRange.MPEG,
            )
            picture.pts, picture.time_base = number, 1 / rate
            yield picture

    def decode(self, payload: bytes) -> Frames:
        """See :meth:`vqcodec.bench.codecs.Codec.decode`; decoded by the same FFmpeg."""
        with av.open(io.BytesIO(payload)) as container:
            container.streams.video[0].codec_context.thread_count = 1
            return np.stack([_to_rgb(picture) for picture in container.decode(video=0)])


def _to_rgb(picture: av.VideoFrame) -> Any:
    return picture.reformat(
        format="rgb24",
        interpolation=_SWS,
        src_colorspace=Colorspace.ITU601,
        src_color_range=ColorRange.MPEG,
        dst_color_range=ColorRange.JPEG,
    ).to_ndarray()
