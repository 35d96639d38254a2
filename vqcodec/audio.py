"""An audio track on its way between a source, a ``.vqv`` file and an output."""

from __future__ import annotations

from dataclasses import dataclass

# What is passed on as it is, by its name in Matroska, which RFC 9559 makes a public register.
NAMES = {
    "A_OPUS": "opus",
    "A_AAC": "aac",
    "A_MPEG/L3": "mp3",
    "A_FLAC": "flac",
    "A_VORBIS": "vorbis",
    "A_AC3": "ac3",
    "A_EAC3": "eac3",
}


@dataclass(frozen=True)
class AudioFormat:
    """What all packets of a track have in common.

    Attributes:
        codec: its Matroska codec ID, such as ``A_OPUS``.
        rate: samples a second, and ticks of the times of packets.
        channels: number of them.
        setup: what a decoder needs to begin, as Matroska's CodecPrivate.
    """

    codec: str
    rate: int
    channels: int
    setup: bytes = b""

    @property
    def name(self) -> str:
        """For people: ``opus``, ``aac``, ...; the Matroska ID if it is none of those."""
        return NAMES.get(self.codec, self.codec)


@dataclass(frozen=True)
class AudioPacket:
    """One packet.

    Attributes:
        time: of the first sample its decoder gives, priming included, in ticks; the first frame of
            the video is at 0, so that what primes the decoder may come before it.
        duration: in ticks, > 0.
        data: what the decoder takes, not empty.
    """

    time: int
    duration: int
    data: bytes

    @property
    def end(self) -> int:
        """When it is over, in ticks."""
        return self.time + self.duration
