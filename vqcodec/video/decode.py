"""Decoding: from a source to its pictures, in order, each with its time."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Generator, Iterable
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, cast

from vqcodec.errors import SourceError
from vqcodec.files import name_of
from vqcodec.video.damage import Damage, Watch
from vqcodec.video.source import (
    PIPE_HINT,
    Source,
    duration_of,
    is_seekable,
    numbers_of,
    open_container,
    video_stream,
)
from vqcodec.video.timing import Shown, StampChooser, Timeline

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

    from vqcodec.video.audio_source import AudioSource

    Frames: TypeAlias = Generator[Shown[VideoFrame], None, None]

# The longest pause (s) that is believed. Screen recordings and slide shows do pause; broadcast
# streams (FFmpeg flags their formats) leap when their clock is set, and FFmpeg too uses 10 s there.
_MAX_GAP = Fraction(3600)
_MAX_GAP_BROADCAST = Fraction(10)
_TS_DISCONT = 0x0200  # AVFMT_TS_DISCONT
# Seeking costs an attempt or two; decoding this much (s) and dropping it costs as little.
_SEEK_FROM = Fraction(5)
# Where to aim when seeking, in seconds before the start: formats without an index land anywhere
# near, and pictures after a key frame may need some before it.
_SEEK_MARGINS = (Fraction(0), Fraction(10))
# Sound is stored up to this far (s) from the pictures that it goes with; players cope with no more.
_AUDIO_MARGIN = Fraction(1)
_AUDIO_SEARCH = Fraction(10)
_DEFAULT_RATE = Fraction(25)
# How much less (s) than its header promises a video may have without being called damaged.
_MISSING = Fraction(1, 2)


class Decoder:
    """The video stream of one source, its first picture decoded.

    Args:
        source: as :func:`~vqcodec.video.source.open_container` takes it.
        image_rate: the same.
        audio: takes the packets of the source's audio that come by.

    Attributes:
        container, stream: FFmpeg's.
        first: the first picture, at time 0.
        damage: what was lost or corrupt so far.

    Raises:
        SourceError: see :func:`~vqcodec.video.source.open_container` and
            :func:`~vqcodec.video.source.video_stream`; or no picture can be decoded.
    """

    def __init__(
        self, source: Source, image_rate: Fraction, audio: AudioSource | None = None
    ) -> None:
        self._source = source
        self._audio = audio
        self._image_rate = image_rate
        self._seekable = is_seekable(source)
        self._file = None if isinstance(source, (str, Path)) else source
        self._begin = self._file.tell() if self._file and self._seekable else 0
        self._origin: Fraction | None = None  # the stamp of the first picture, s
        self._open()

    def close(self) -> None:
        """Let go of the file. A stream that was passed in stays open."""
        self._frames.close()
        self.container.close()

    def frames_from(self, start: Fraction) -> Iterable[Shown[VideoFrame]]:
        """Pictures to the end, from one on screen at ``start`` s or before it. Call it once.

        Corrupt packets are skipped, corrupt pictures are passed as FFmpeg conceals them; ``damage``
        tells how many frames that cost. A read error ends the video there, and is told too.
        """
        if self._seekable and start >= _SEEK_FROM:
            early = _AUDIO_MARGIN if self._audio and self._audio.stream else 0
            for margin in _SEEK_MARGINS:
                first = self._seek(start - margin - early)
                if first is not None and first.time <= start:
                    return itertools.chain([first], self._frames)
            self._reopen()
        return itertools.chain([self.first], self._frames)

    def read_audio(self, until: Fraction) -> None:
        """Read on, past the pictures that were wanted, for audio up to ``until`` s."""
        import av

        if self._audio is None or self._audio.origin is None:
            return
        with contextlib.suppress(av.FFmpegError):
            while not self._audio.reaches(until):
                packet = next(self._demuxer, None)
                if packet is None:
                    return
                if packet.stream is self._audio.stream:
                    self._audio.push(cast("Packet[AudioStream]", packet))
                elif packet.pts is not None:
                    time = packet.pts * self._tick() - self._audio.origin
                    if time > until + _AUDIO_SEARCH:
                        return

    def _open(self) -> None:
        name = name_of(self._source)
        self.damage = Damage()
        self.container = open_container(self._source, self._image_rate)
        self._frames = self._decode_from_here()
        try:
            self.stream: VideoStream = video_stream(self.container, name)
            if self._audio is not None:
                self._audio.open(self.container, name)
            self.first = next(self._frames)
            if self._audio is not None:
                self._audio.begin(self._origin or Fraction(0))
        except StopIteration:
            self.container.close()
            hint = "" if self._seekable else f" ({PIPE_HINT})"
            raise SourceError(f"{name}: none of its video can be decoded{hint}") from None
        except Exception:
            self.container.close()
            raise

    def _reopen(self) -> None:
        self.close()
        if self._file:
            self._file.seek(self._begin)
        self._open()

    def _seek(self, time: Fraction) -> Shown[VideoFrame] | None:
        """Go to the key frame before ``time`` s; the first picture from there, if that worked."""
        import av

        assert self._origin is not None, "set by the first picture"
        ticks = (max(Fraction(0), time) + self._origin) / self._tick()
        self._frames.close()
        self._frames = self._decode_from_here()
        if self._audio is not None:
            self._audio.clear()
        try:
            self.container.seek(int(ticks), stream=self.stream)
            return next(self._frames, None)
        except av.FFmpegError:  # not every format can
            return None

    def _tick(self) -> Fraction:
        return self.stream.time_base or Fraction(1, 1000)

    def _decode_from_here(self) -> Frames:
        tick = self._tick()
        rate = self.stream.guessed_rate or self.stream.average_rate or _DEFAULT_RATE
        broadcast = self.container.format.flags & _TS_DISCONT
        max_gap = _MAX_GAP_BROADCAST if broadcast else _MAX_GAP
        stamps, timeline = StampChooser(), Timeline(max_gap)
        watch, end, shift = Watch(self.damage), Fraction(0), Fraction(0)
        errors: list[Fraction | None] = []  # stamps (s) of corrupt packets

        def tell_errors(origin: Fraction) -> None:
            for error in errors:
                watch.error(None if error is None else error - origin + shift)
            errors.clear()

        for picture in self._pictures(errors):
            ticks = stamps.choose(picture.pts, picture.dts)
            stamp = None if ticks is None else ticks * tick
            if self._origin is None:
                self._origin = stamp or Fraction(0)
            duration = min(picture.duration * tick, max_gap) if picture.duration > 0 else 1 / rate
            time = timeline.place(None if stamp is None else stamp - self._origin, duration)
            if stamp is not None:
                shift = time - stamp + self._origin
            tell_errors(self._origin)
            watch.picture(time, duration, corrupt=picture.is_corrupt)
            end = time + duration
            yield Shown(picture, time, duration)
        if self._origin is not None:
            tell_errors(self._origin)
            pictures = numbers_of(self._source)
            if pictures is None:
                watch.finish(self._promised_duration(), max(_MISSING, end / 50))
            else:  # FFmpeg ends where a number is missing
                watch.finish(len(pictures) / self._image_rate, Fraction(0))

    def _promised_duration(self) -> Fraction | None:
        """Seconds of video; not of the file if it has other streams, which may be longer."""
        if self.stream.duration is None and len(self.container.streams) > 1:
            return None
        return duration_of(self.container, self.stream)

    def _pictures(self, errors: list[Fraction | None]) -> Iterable[VideoFrame]:
        """Decode to the end; stamps (s) of corrupt packets are appended to ``errors``."""
        import av

        for packet in self._packets():
            try:
                pictures = self.stream.decode(packet)
                corrupt = packet is not None and packet.is_corrupt
            except av.FFmpegError:
                pictures, corrupt = [], True
            if corrupt:
                stamp = None if packet is None else packet.pts
                errors.append(None if stamp is None else stamp * self._tick())
            yield from pictures

    def _packets(self) -> Iterable[Packet[VideoStream] | None]:
        """The packets of the stream, then one to flush the decoder; audio goes its own way."""
        import av

        beside = None if self._audio is None else self._audio.stream
        self._demuxer = self.container.demux(*filter(None, (self.stream, beside)))
        try:
            for packet in self._demuxer:
                if packet.stream is self.stream:
                    yield cast("Packet[VideoStream]", packet)
                elif self._audio is not None:
                    self._audio.push(cast("Packet[AudioStream]", packet))
        except av.FFmpegError as error:
            self.damage.failure = error.strerror
            yield None
