"""Decoding: from a source to its pictures, in order, each with its time."""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterable
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from vqcodec.errors import SourceError
from vqcodec.files import name_of
from vqcodec.video.source import (
    PIPE_HINT,
    Damage,
    Source,
    duration_of,
    is_seekable,
    open_container,
    video_stream,
)
from vqcodec.video.timing import Shown, StampChooser, Timeline

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

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
_DEFAULT_RATE = Fraction(25)
# How much less (s) than its header promises a video may have without being called damaged.
_MISSING = Fraction(1, 2)


class Decoder:
    """The video stream of one source, its first picture decoded.

    Attributes:
        container, stream: FFmpeg's.
        first: the first picture, at time 0.
        damage: what was corrupt so far.

    Raises:
        SourceError: see :func:`~vqcodec.video.source.open_container` and
            :func:`~vqcodec.video.source.video_stream`; or no picture can be decoded.
    """

    def __init__(self, source: Source, image_rate: Fraction) -> None:
        self._source = source
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

        Corrupt packets are skipped, corrupt pictures are passed as FFmpeg conceals them; both are
        counted in ``damage``. A read error ends the video there, and is counted too.
        """
        if self._seekable and start >= _SEEK_FROM:
            for margin in _SEEK_MARGINS:
                first = self._seek(start - margin)
                if first is not None and first.time <= start:
                    return itertools.chain([first], self._frames)
            self._reopen()
        return itertools.chain([self.first], self._frames)

    def _open(self) -> None:
        name = name_of(self._source)
        self.damage = Damage()
        self.container = open_container(self._source, self._image_rate)
        self._frames = self._decode_from_here()
        try:
            self.stream: VideoStream = video_stream(self.container, name)
            self.first = next(self._frames)
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
        end = Fraction(0)
        for picture in self._pictures():
            ticks = stamps.choose(picture.pts, picture.dts)
            stamp = None if ticks is None else ticks * tick
            if self._origin is None:
                self._origin = stamp or Fraction(0)
            duration = min(picture.duration * tick, max_gap) if picture.duration > 0 else 1 / rate
            time = timeline.place(None if stamp is None else stamp - self._origin, duration)
            if picture.is_corrupt:
                self.damage.add("frame", time)
            end = time + duration
            yield Shown(picture, time, duration)
        missing = (self._promised_duration() or end) - end
        if missing > max(_MISSING, end / 50):
            self.damage.add(f"end of the file ({float(missing):.1f} s missing)", end)

    def _promised_duration(self) -> Fraction | None:
        """Seconds of video; not of the file if it has other streams, which may be longer."""
        if self.stream.duration is None and len(self.container.streams) > 1:
            return None
        return duration_of(self.container, self.stream)

    def _pictures(self) -> Iterable[VideoFrame]:
        import av

        for packet in self._packets():
            try:
                pictures = self.stream.decode(packet)
            except av.FFmpegError:
                self.damage.add("packet", self._time_of(packet))
                continue
            yield from pictures

    def _packets(self) -> Iterable[Packet[VideoStream] | None]:
        """The packets of the stream, then one to flush the decoder."""
        import av

        try:
            yield from self.container.demux(self.stream)
        except av.FFmpegError as error:
            self.damage.add(f"file ({error.strerror})", None)
            yield None

    def _time_of(self, packet: Packet[VideoStream] | None) -> Fraction | None:
        if packet is None or packet.pts is None or self._origin is None:
            return None
        return packet.pts * self._tick() - self._origin
