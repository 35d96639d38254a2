"""Reading any video as small RGB frames at a constant rate."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from math import inf
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO

from vqcodec.errors import SourceError
from vqcodec.files import name_of
from vqcodec.video.damage import Damage
from vqcodec.video.geometry import FITS, Fit
from vqcodec.video.hdr import is_hdr
from vqcodec.video.libav import guard
from vqcodec.video.source import SourceInfo, duration_of, size_of
from vqcodec.video.timing import check_part, frame_count, resample

if TYPE_CHECKING:
    import numpy as np
    from av.video.frame import VideoFrame
    from numpy.typing import NDArray

    from vqcodec.audio import AudioFormat, AudioPacket
    from vqcodec.video.audio_source import AudioMode, AudioSource
    from vqcodec.video.convert import Converter
    from vqcodec.video.decode import Decoder

DEFAULT_RATE = Fraction(16)


class VideoReader:
    """An iterator, once, of ``uint8`` RGB frames (H, W, 3), 0 to 255; made by :func:`open_video`.

    Memory does not grow with the video. Iterating raises :class:`~vqcodec.errors.SourceError` if
    the start is past the end of the video, or if a picture has no conversion to RGB.

    Attributes:
        source: what the video is.
        display_aspect: width over height as the frames are to be displayed: that of the source if
            stretched; that of the frame itself, whose pixels are square, if cropped or padded.
        expected_frames: how many frames will come, by the promise of the header; None if unknown.
    """

    source: SourceInfo
    display_aspect: Fraction
    expected_frames: int | None

    def __init__(
        self,
        decoder: Decoder,
        info: SourceInfo,
        convert: Converter,
        audio: AudioSource | None,
        *,
        name: str,
        display_aspect: Fraction,
        rate: Fraction,
        start: Fraction,
        duration: Fraction | None,
    ) -> None:
        self.source = info
        self.display_aspect = display_aspect
        self.expected_frames = _expected_frames(info.duration, rate, start, duration)
        self._decoder = decoder
        self._audio = audio
        self._convert = convert
        self._name = name
        self._start = start
        self._frames = self._produce(rate, duration)

    @property
    def damage(self) -> Damage:
        """What of the video was lost or corrupt so far."""
        return self._decoder.damage

    @property
    def audio_track(self) -> AudioFormat | None:
        """What :meth:`audio_before` yields; None without audio, or if it was not asked for."""
        return None if self._audio is None else self._audio.track

    @property
    def audio_problem(self) -> str | None:
        """What of the audio could not be had so far."""
        return None if self._audio is None else self._audio.problem

    def audio_before(self, end: Fraction, *, last: bool = False) -> Iterator[AudioPacket]:
        """Yield, once, the packets of audio that begin before ``end``, as far as they came by.

        Args:
            end: seconds of the frames.
            last: no more frames are wanted: read on to that time, and let decoders and encoders
                give out what they hold.
        """
        if self._audio is not None and self._audio.track is not None:
            with guard(SourceError, f"{self._name}: cannot decode its audio"):
                if last:
                    self._decoder.read_audio(end)
                yield from self._audio.pull(end, last=last)

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        return self

    def __next__(self) -> NDArray[np.uint8]:
        with guard(SourceError, f"{self._name}: cannot decode"):
            frame = next(self._frames, None)
        if frame is None:
            raise StopIteration
        return frame

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file. A stream that was passed in stays open."""
        self._decoder.close()

    def _produce(self, rate: Fraction, duration: Fraction | None) -> Iterator[NDArray[np.uint8]]:
        from vqcodec.video.deinterlace import deinterlace

        whole = deinterlace(self._decoder.frames_from(self._start))
        last: VideoFrame | None = None
        pixels: NDArray[np.uint8] | None = None
        for picture in resample(whole, rate, start=self._start, duration=duration):
            if pixels is None or picture is not last:
                pixels, last = self._convert(picture), picture
            yield pixels.copy()  # a held picture comes again, and each frame is the caller's own
        if pixels is None:
            raise SourceError(f"{self._name}: ends before the start, {float(self._start):g} s")


def open_video(
    source: Path | str | BinaryIO,
    *,
    width: int = 64,
    height: int = 64,
    rate: Fraction = DEFAULT_RATE,
    fit: Fit = "stretch",
    start: Fraction | float = 0,
    duration: Fraction | float | None = None,
    audio: AudioMode = "none",
) -> VideoReader:
    """Open any video that FFmpeg reads, as ``width`` × ``height`` frames at ``rate`` per second.

    Time follows the stamps of the source, counted from its first frame; frame k is what is on
    screen in the middle of its turn (:func:`~vqcodec.video.timing.resample`), so a video that has
    ``rate`` already passes frame by frame. Pictures are laid upright by their display matrix,
    interlaced ones are deinterlaced, transparent ones put on black, HDR ones mapped to BT.709, and
    all scaled by antialiased bicubic (:class:`~vqcodec.video.convert.Converter`).

    Args:
        source: a path, an address, a pattern of numbered pictures (``frames/%04d.png``, one
            picture a frame) or a binary stream, which may be a pipe; a stream is not closed.
        width, height: of the frames, pixels.
        rate: frames per second, > 0.
        fit: where aspects differ, "stretch" the whole picture, "crop" its centre or "pad" it with
            black.
        start: seconds to skip.
        duration: seconds to keep; all, if None.
        audio: "opus" to code the source's audio as Opus, "copy" to keep its packets, "none" to
            leave it out; see :meth:`VideoReader.audio_before`.

    Raises:
        SourceError: the source is missing, empty, not a video, has no video stream or no frame
            that can be decoded, or audio that cannot be copied.
        ValueError: an argument is out of its range.
    """
    from vqcodec.video.audio_source import AUDIO_MODES, AudioSource
    from vqcodec.video.convert import Converter

    if min(width, height) < 1 or not 0 < rate < inf:
        raise ValueError("width, height and rate must be positive")
    check_part(start, duration)
    if fit not in FITS:
        raise ValueError(f"fit must be one of {', '.join(FITS)}")
    if audio not in AUDIO_MODES:
        raise ValueError(f"audio must be one of {', '.join(AUDIO_MODES)}")
    rate = Fraction(rate)
    sound = None if audio == "none" else AudioSource(audio, _seconds(start))
    decoder, info = _open(source, rate, sound)
    return VideoReader(
        decoder,
        info,
        Converter((width, height), info.sample_aspect, fit),
        sound,
        name=name_of(source),
        display_aspect=info.display_aspect if fit == "stretch" else Fraction(width, height),
        rate=rate,
        start=_seconds(start),
        duration=None if duration is None else _seconds(duration),
    )


def read_frames(
    source: Path | str | BinaryIO,
    *,
    width: int = 64,
    height: int = 64,
    rate: Fraction = DEFAULT_RATE,
    fit: Fit = "stretch",
    start: Fraction | float = 0,
    duration: Fraction | float | None = None,
) -> NDArray[np.uint8]:
    """All frames at once, ``uint8`` RGB (T, H, W, 3), T >= 1. As :func:`open_video` otherwise."""
    import numpy as np

    with open_video(
        source, width=width, height=height, rate=rate, fit=fit, start=start, duration=duration
    ) as reader:
        return np.stack(list(reader))


def probe(source: Path | str | BinaryIO) -> SourceInfo:
    """What a video is. Decodes its first frame.

    Raises:
        SourceError: as :func:`open_video`.
    """
    decoder, info = _open(source, DEFAULT_RATE)
    decoder.close()
    return info


def _open(
    source: Path | str | BinaryIO, image_rate: Fraction, audio: AudioSource | None = None
) -> tuple[Decoder, SourceInfo]:
    from vqcodec.video.decode import Decoder

    with guard(SourceError, f"{name_of(source)}: cannot open"):
        decoder = Decoder(source, image_rate, audio)
        try:
            return decoder, _describe(decoder, source)
        except Exception:
            decoder.close()
            raise


def _describe(decoder: Decoder, source: Path | str | BinaryIO) -> SourceInfo:
    from vqcodec.video.convert import orientation_of

    stream, picture = decoder.stream, decoder.first.item
    aspect = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio or Fraction(1)
    orientation = orientation_of(picture)
    shape = Fraction(picture.width, picture.height) * aspect
    return SourceInfo(
        container=decoder.container.format.name,
        codec=stream.codec_context.codec.canonical_name,
        width=picture.width,
        height=picture.height,
        sample_aspect=aspect,
        rotation=orientation.rotation,
        mirrored=orientation.mirrored,
        display_aspect=1 / shape if orientation.transposed else shape,
        rate=stream.average_rate or stream.guessed_rate,
        duration=duration_of(decoder.container, stream),
        bytes=size_of(source),
        interlaced=picture.interlaced_frame,
        pixel_format=picture.format.name,
        hdr=is_hdr(picture),
    )


def _expected_frames(
    total: Fraction | None, rate: Fraction, start: Fraction, duration: Fraction | None
) -> int | None:
    if total is None:
        return None
    left = max(Fraction(0), total - start)
    return frame_count(left if duration is None else min(left, duration), rate)


def _seconds(value: Fraction | float) -> Fraction:
    """Exact seconds of what was likely typed as a decimal: 0.1 is 1/10."""
    return value if isinstance(value, Fraction) else Fraction(str(value))
