"""The sound of a source: its packets, copied or coded anew as Opus, in time with the pictures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Literal, get_args

from vqcodec.audio import NAMES, AudioFormat, AudioPacket
from vqcodec.errors import SourceError
from vqcodec.video.audio_frames import Framer
from vqcodec.video.timing import Timeline

if TYPE_CHECKING:
    from av.audio.codeccontext import AudioCodecContext
    from av.audio.frame import AudioFrame
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.packet import Packet

AudioMode = Literal["opus", "copy", "none"]
AUDIO_MODES = get_args(AudioMode)

# Fullband speech and simple music stay pleasant at this rate, in mono only. It is the average that
# a variable rate aims at: silence costs next to nothing.
OPUS_BIT_RATE = 16_000
OPUS_RATE = 48_000
OPUS_FRAME = 960  # samples: 20 ms

PREROLL = Fraction(1, 10)  # s before the start that are kept, for decoders to get going
MAX_HELD = 1 << 26  # bytes of packets that run ahead of the pictures
_MAX_GAP = Fraction(10)


class AudioSource:
    """Takes the audio packets of a source as they come by, and hands them out by their time.

    Args:
        mode: "opus" to code anew, "copy" to keep the source's packets.
        start: seconds of the video to skip.

    Attributes:
        track: what comes out; None if there is no audio.
        stream: FFmpeg's, to be read together with the video.
        origin: stamp (s) in the source of time 0; None until the first picture is known.
    """

    def __init__(self, mode: Literal["opus", "copy"], start: Fraction) -> None:
        self._mode, self._start = mode, start
        self.track: AudioFormat | None = None
        self.stream: AudioStream | None = None
        self.origin: Fraction | None = None
        self._corrupt = 0
        self._dropped = 0
        self._unknown: str | None = None

    @property
    def problem(self) -> str | None:
        """What could not be kept."""
        if self._unknown is not None:
            return f"its audio is left out: {self._unknown}"
        parts = [f"{self._corrupt} packets of its audio are corrupt"] * (self._corrupt > 0)
        parts += [
            f"{self._dropped} packets of its audio are left out: they come too long before the "
            "pictures"
        ] * (self._dropped > 0)
        return "; ".join(parts) or None

    def open(self, container: InputContainer, name: str) -> None:
        """Choose the audio stream of ``container``, called ``name``; forgets all of another one.

        Raises:
            SourceError: it cannot be copied.
        """
        from av.audio.stream import AudioStream

        self.track = self.stream = None
        self.origin = None
        self._early: list[Packet[AudioStream]] = []
        self._ready: deque[AudioPacket] = deque()
        self._held = self._corrupt = self._dropped = 0
        self._ended = False
        stream = container.streams.best("audio")
        if not isinstance(stream, AudioStream):
            return
        if self._mode == "copy":
            try:
                self._maker: _Maker = _Copier(stream)
            except SourceError as error:
                raise SourceError(f"{name}: {error}") from error
        elif stream.codec_context is None:
            self._unknown = "FFmpeg has no decoder for it"
            return
        else:
            self._maker = _OpusMaker(stream)
        self.track, self.stream = self._maker.track, stream

    def begin(self, origin: Fraction) -> None:
        """The first picture is stamped ``origin`` (s)."""
        self.origin = origin + self._start
        early, self._early = self._early, []
        self._held = 0
        for packet in early:
            self.push(packet)

    def clear(self) -> None:
        """The source is read on from elsewhere."""
        if self.stream is not None:
            self._early.clear()
            self._ready.clear()
            self._held = 0
            self._maker.reset()

    def push(self, packet: Packet[AudioStream]) -> None:
        """The next packet of :attr:`stream`."""
        import av

        if self._held + packet.size > MAX_HELD:
            self._dropped += 1
        elif self.origin is None:
            self._early.append(packet)
            self._held += packet.size
        else:
            try:
                self._add(self._maker.make(packet, self.origin))
            except (av.FFmpegError, ValueError):
                self._corrupt += 1

    def pull(self, until: Fraction, *, last: bool = False) -> Iterator[AudioPacket]:
        """Yield the packets that begin before ``until`` s from the start, as far as there are.

        Args:
            last: nothing more is pushed; call it once.
        """
        if self.track is None:
            return
        if last:
            self._add(self._maker.flush())
        while self._ready and self._ready[0].time < until * self.track.rate:
            packet = self._ready.popleft()
            self._held -= len(packet.data)
            yield packet

    def reaches(self, until: Fraction) -> bool:
        """Whether all before ``until`` s from the start has come by."""
        if self.track is None:
            return True
        return bool(self._ready) and self._ready[-1].time >= until * self.track.rate

    def _add(self, packets: Iterable[AudioPacket]) -> None:
        assert self.track is not None, "only called with one"
        for packet in packets:
            if packet.end > -PREROLL * self.track.rate:
                self._ready.append(packet)
                self._held += len(packet.data)


class _Maker(ABC):
    """Makes packets for the file of the packets of a source."""

    track: AudioFormat

    def __init__(self, stream: AudioStream) -> None:
        self._stream = stream
        self._timeline = Timeline(_MAX_GAP)

    @abstractmethod
    def make(self, packet: Packet[AudioStream], origin: Fraction) -> Iterable[AudioPacket]:
        """What becomes of ``packet``, time 0 being at the stamp ``origin`` (s)."""

    def flush(self) -> Iterable[AudioPacket]:
        """What is left at the end."""
        return ()

    def reset(self) -> None:
        """Packets from elsewhere in the source will follow."""
        self._timeline = Timeline(_MAX_GAP)

    def _place(self, pts: int | None, origin: Fraction, duration: Fraction) -> Fraction:
        tick = self._stream.time_base or Fraction(1, 1000)
        return self._timeline.place(None if pts is None else pts * tick - origin, duration)


class _Copier(_Maker):
    def __init__(self, stream: AudioStream) -> None:
        super().__init__(stream)
        context = stream.codec_context
        name = "unknown to FFmpeg" if context is None else context.codec.canonical_name
        identity = next((key for key, value in NAMES.items() if value == name), None)
        setup = (context.extradata if context is not None else None) or b""
        if identity is None or (name in ("aac", "vorbis", "flac") and not setup):
            raise SourceError(
                f"its audio ({name}) cannot be copied, as {', '.join(NAMES.values())} in most "
                "containers can: use opus"
            )
        if name == "flac" and not setup.startswith(b"fLaC"):
            setup = b"fLaC\x80\x00\x00" + bytes([len(setup)]) + setup
        self.track = AudioFormat(identity, context.sample_rate, context.channels, setup)

    def make(self, packet: Packet[AudioStream], origin: Fraction) -> Iterable[AudioPacket]:
        if not packet.size:
            return
        tick = self._stream.time_base or Fraction(1, 1000)
        duration = (packet.duration or 0) * tick or Fraction(1024, self.track.rate)
        time = self._place(packet.pts, origin, duration)
        ticks = round(time * self.track.rate), round(duration * self.track.rate)
        yield AudioPacket(ticks[0], max(1, ticks[1]), bytes(packet))


class _OpusMaker(_Maker):
    def __init__(self, stream: AudioStream) -> None:
        super().__init__(stream)
        self.reset()
        setup = self._encoder.extradata or b""
        self.track = AudioFormat("A_OPUS", OPUS_RATE, 1, setup)

    def reset(self) -> None:
        super().reset()
        self._framer = Framer(OPUS_RATE, 1, OPUS_FRAME)
        self._encoder = _opus_encoder()

    def make(self, packet: Packet[AudioStream], origin: Fraction) -> Iterable[AudioPacket]:
        for sound in self._stream.decode(packet if packet.size else None):
            duration = Fraction(max(1, sound.samples), sound.sample_rate or OPUS_RATE)
            time = self._place(sound.pts, origin, duration)
            for frame in self._framer.push(sound, time):
                yield from self._encode(frame)

    def flush(self) -> Iterable[AudioPacket]:
        for frame in self._framer.flush():
            yield from self._encode(frame)
        yield from self._encode(None)

    def _encode(self, frame: AudioFrame | None) -> Iterator[AudioPacket]:
        for packet in self._encoder.encode(frame):
            if packet.pts is not None:
                yield AudioPacket(packet.pts, packet.duration or OPUS_FRAME, bytes(packet))


def _opus_encoder() -> AudioCodecContext:
    import av

    if "libopus" not in av.codecs_available:
        raise SourceError("this FFmpeg has no libopus: use --audio copy or none")
    encoder = av.CodecContext.create("libopus", "w")
    encoder.sample_rate, encoder.layout, encoder.format = OPUS_RATE, "mono", "flt"
    encoder.time_base = Fraction(1, OPUS_RATE)
    encoder.bit_rate = OPUS_BIT_RATE
    encoder.options = {"frame_duration": "20", "application": "audio", "vbr": "on"}
    encoder.open()
    return encoder
