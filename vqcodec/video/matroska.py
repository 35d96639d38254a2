"""The header of a Matroska file around one audio track.

FFmpeg takes what it must know of a stream (a decoder's setup, its delay) from files only, so it is
given one, without any packets.
"""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING

from vqcodec.audio import AudioFormat
from vqcodec.errors import OutputError

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer

_UNKNOWN_SIZE = b"\x01" + b"\xff" * 7


def open_track(track: AudioFormat) -> tuple[InputContainer, AudioStream]:
    """A stream like ``track``, whose codec context decodes it, and the container to keep open.

    Raises:
        OutputError: FFmpeg cannot decode such audio.
        av.FFmpegError: nor make sense of its setup.
    """
    import av

    container = av.open(io.BytesIO(_header(track)), "r", format="matroska")
    if not container.streams.audio or container.streams.audio[0].codec_context is None:
        container.close()
        raise OutputError(f"this FFmpeg cannot decode {track.name} audio")
    return container, container.streams.audio[0]


def opus_delay(track: AudioFormat) -> int:
    """Samples at 48 kHz that an Opus decoder gives out before the sound begins; 0 for others."""
    if track.codec != "A_OPUS" or len(track.setup) < 12:
        return 0
    return int.from_bytes(track.setup[10:12], "little")


def _header(track: AudioFormat) -> bytes:
    entry = _element("D7", b"\x01") + _element("73C5", b"\x01")  # number, UID
    entry += _element("83", b"\x02") + _element("86", track.codec.encode())  # audio, codec
    if track.setup:
        entry += _element("63A2", track.setup)
    delay = opus_delay(track) * 1_000_000_000 // 48000
    if delay:
        entry += _element("56AA", delay.to_bytes(8, "big"))
    sound = _element("B5", struct.pack(">d", track.rate))
    entry += _element("E1", sound + _element("9F", bytes([track.channels])))
    milliseconds = _element("1549A966", _element("2AD7B1", (1_000_000).to_bytes(4, "big")))
    tracks = _element("1654AE6B", _element("AE", entry))
    cluster = _element("1F43B675", _element("E7", b"\x00"))
    segment = bytes.fromhex("18538067") + _UNKNOWN_SIZE
    return (
        _element("1A45DFA3", _element("4282", b"matroska"))
        + segment
        + (milliseconds + tracks + cluster)
    )


def _element(identity: str, data: bytes) -> bytes:
    return bytes.fromhex(identity) + (1 << 56 | len(data)).to_bytes(8, "big") + data
