"""The sound of an output: packets as they are where the format takes them, else coded anew."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable
from fractions import Fraction
from typing import TYPE_CHECKING, cast

from vqcodec.audio import AudioFormat, AudioPacket
from vqcodec.errors import OutputError
from vqcodec.video.audio_frames import Framer
from vqcodec.video.matroska import open_track, opus_delay

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import OutputContainer

MAX_HELD = 1 << 26  # bytes of audio ahead of its pictures
_ENCODERS = {"aac": "aac", "opus": "libopus"}
_RATE = 48_000
_BIT_RATE = 64_000  # for each channel: nothing of what was coded at 16 kbit/s is lost once more


class AudioOutput:
    """The audio stream of one output. Packets wait until the pictures that they go with are there.

    So nothing sounds before the first picture or after the last one.

    Args:
        container: to add the stream to.
        track: of the packets.
        codecs: that the format takes; anything else becomes the first of them.

    Raises:
        OutputError: FFmpeg cannot decode or encode such audio.
    """

    def __init__(
        self, container: OutputContainer, track: AudioFormat, codecs: tuple[str, ...]
    ) -> None:
        kind = _Remuxer if track.name in codecs else _Transcoder
        self._way: _Way = kind(container, track, codecs[0])
        self._rate = track.rate
        self._waiting: deque[AudioPacket] = deque()
        self._held = 0

    def push(self, packets: Iterable[AudioPacket]) -> None:
        """Take packets in order of time.

        Raises:
            OutputError: they run far ahead of the pictures.
        """
        for packet in packets:
            self._waiting.append(packet)
            self._held += len(packet.data)
        if self._held > MAX_HELD:
            raise OutputError("the audio runs too far ahead of the pictures")

    def advance(self, until: Fraction) -> None:
        """There are pictures for all time before ``until`` (s)."""
        while self._waiting and self._waiting[0].time < until * self._rate:
            packet = self._waiting.popleft()
            self._held -= len(packet.data)
            self._way.put(packet)

    def finish(self) -> None:
        """No more pictures come; what still waits is left out."""
        self._way.finish()


class _Way(ABC):
    """What becomes of packets."""

    def __init__(self, container: OutputContainer, track: AudioFormat, codec: str) -> None:
        self._container, self._track = container, track
        self._template_file, self._template = open_track(track)
        self._tick = Fraction(1, track.rate)

    @abstractmethod
    def put(self, packet: AudioPacket) -> None:
        """Take one, in order of time."""

    def finish(self) -> None:
        """Store what is left."""
        return


class _Remuxer(_Way):
    def __init__(self, container: OutputContainer, track: AudioFormat, codec: str) -> None:
        super().__init__(container, track, codec)
        self._stream = container.add_stream_from_template(self._template)
        self._begin = -opus_delay(track)  # what comes before it would move the pictures
        self._rounding = track.rate // 500  # Matroska's stamps are in milliseconds
        self._last: int | None = None

    def put(self, packet: AudioPacket) -> None:
        from av.packet import Packet

        time = packet.time
        if self._begin - self._rounding < time < self._begin:
            time = self._begin
        if time < self._begin or (self._last is not None and time <= self._last):
            return
        self._last = time
        out = Packet(packet.data)
        out.pts = out.dts = time
        out.duration, out.time_base = packet.duration, self._tick
        out.stream, out.is_keyframe = self._stream, True
        self._container.mux(out)


class _Transcoder(_Way):
    def __init__(self, container: OutputContainer, track: AudioFormat, codec: str) -> None:
        import av

        super().__init__(container, track, codec)
        encoder = _ENCODERS[codec]
        if encoder not in av.codecs_available:
            raise OutputError(f"this FFmpeg has no {encoder}")
        self._decoder = self._template.codec_context
        channels = min(2, track.channels)
        self._stream = cast("AudioStream", container.add_stream(encoder, rate=_RATE))
        context = self._stream.codec_context
        context.layout = "mono" if channels == 1 else "stereo"
        context.bit_rate, context.time_base = _BIT_RATE * channels, Fraction(1, _RATE)
        context.open()
        self._framer = Framer(_RATE, channels, context.frame_size)

    def put(self, packet: AudioPacket) -> None:
        import av

        data = av.Packet(packet.data)
        data.pts = data.dts = packet.time
        data.duration, data.time_base = packet.duration, self._tick
        try:
            sounds = self._decoder.decode(data)
        except av.FFmpegError:
            return  # a gap, which becomes silence
        # The end of a packet is where its samples end, also when the first of them were dropped.
        left = sum(Fraction(sound.samples, sound.sample_rate) for sound in sounds)
        for sound in sounds:
            time = packet.end * self._tick - left
            left -= Fraction(sound.samples, sound.sample_rate)
            for frame in self._framer.push(sound, time):
                self._container.mux(self._stream.encode(frame))

    def finish(self) -> None:
        for frame in self._framer.flush():
            self._container.mux(self._stream.encode(frame))
        self._container.mux(self._stream.encode(None))
