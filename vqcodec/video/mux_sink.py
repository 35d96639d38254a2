"""Output through FFmpeg's encoders and muxers: MP4, QuickTime, Matroska, WebM, GIF."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from vqcodec.audio import AudioFormat, AudioPacket
from vqcodec.errors import OutputError
from vqcodec.files import name_of
from vqcodec.video.audio_output import AudioOutput
from vqcodec.video.colour import PRIMARIES_BT709, RANGE_LIMITED, TRANSFER_BT709
from vqcodec.video.formats import Codec, Format
from vqcodec.video.libav import Build, guard
from vqcodec.video.sink import FrameSink, Picture

if TYPE_CHECKING:
    from av.filter.context import FilterContext
    from av.filter.graph import Graph
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

_AUDIO_SCALE = 48_000


class MuxSink(FrameSink):
    """One video stream in a container, and one of audio if there is ``audio``.

    Raises:
        OutputError: FFmpeg lacks the encoder, or the target cannot be opened.
    """

    def __init__(
        self,
        target: Path | BinaryIO,
        size: tuple[int, int],
        picture: Picture,
        form: Format,
        codec: Codec,
        crf: float | None,
        audio: AudioFormat | None = None,
    ) -> None:
        import av

        build = _with_palette(picture) if codec.pixel_format == "pal8" else None
        super().__init__(name_of(target), size, picture, build)
        if codec.name not in av.codecs_available:
            raise OutputError(f"this FFmpeg has no {codec.name}")
        os.environ.setdefault("SVT_LOG", "1")  # SVT-AV1 prints to stderr by itself: errors only
        self._target = target
        muxing = {}
        if form.muxer in ("mp4", "mov"):
            # A multiple of the rate, or the edit list would round the duration to milliseconds.
            # Edit lists say when audio begins and ends, too: then it must be a fine one.
            fine = 1 if audio is None else -(-_AUDIO_SCALE // picture.rate.numerator)
            muxing["movie_timescale"] = str(picture.rate.numerator * fine)
        options = dict(codec.options)
        if crf is not None:
            options["crf"] = f"{crf:g}"
        with guard(OutputError, f"{self.name}: cannot open"):
            if isinstance(target, Path):
                target.open("ab").close()  # FFmpeg opens it late, and says less about why not
                self._container = av.open(
                    f"file:{target}", "w", format=form.muxer, options=muxing | form.options
                )
            else:
                self._container = av.open(target, "w", format=form.muxer, options=muxing)
            stream = self._container.add_stream(
                codec.name,
                rate=picture.rate,
                options=options,
                width=picture.width,
                height=picture.height,
                time_base=1 / picture.rate,
            )
            self._stream = cast("VideoStream", stream)
            _describe(self._stream, picture)
            self._audio: AudioOutput | None = None
            if audio is not None and form.audio:
                self._audio = AudioOutput(self._container, audio, form.audio)

    def _put(self, picture: VideoFrame, index: int) -> None:
        picture.pts, picture.duration, picture.time_base = index, 1, 1 / self.picture.rate
        self._container.mux(self._stream.encode(picture))
        if self._audio is not None:
            self._audio.advance((index + 1) / self.picture.rate)

    def _put_audio(self, packets: Iterable[AudioPacket]) -> None:
        if self._audio is not None:
            self._audio.push(packets)

    def _finish(self) -> None:
        try:
            if self._audio is not None:
                self._audio.finish()
            self._container.mux(self._stream.encode(None))
        finally:
            self._container.close()
        if not isinstance(self._target, Path):
            self._target.flush()

    def _release(self) -> None:
        with contextlib.suppress(Exception):
            self._container.close()


def _describe(stream: VideoStream, picture: Picture) -> None:
    """Say what the pixels are."""
    context = stream.codec_context
    context.pix_fmt = picture.pixel_format
    context.sample_aspect_ratio = picture.sample_aspect
    if picture.is_yuv:
        context.colorspace = picture.matrix
        context.color_range = RANGE_LIMITED
        context.color_primaries = PRIMARIES_BT709
        context.color_trc = TRANSFER_BT709


def _with_palette(picture: Picture) -> Build:
    """A palette of 256 colours for each picture, without dithering: few pixels, little memory.

    On 64×64 footage this gives 38.7 dB PSNR; one palette for the whole video 37.3 dB, and it has to
    wait for the end; dithering costs over 1 dB more.
    """

    def build(graph: Graph, node: FilterContext) -> FilterContext:
        scaled = Picture(
            picture.width, picture.height, "rgb24", picture.sample_aspect, picture.rate
        ).from_rgb()(graph, node)
        split = graph.add("split")
        palette = graph.add("palettegen", "stats_mode=single:reserve_transparent=0")
        use = graph.add("paletteuse", "new=1:dither=none")
        scaled.link_to(split)
        split.link_to(use, 0, 0)
        split.link_to(palette, 1, 0)
        palette.link_to(use, 0, 1)
        return use

    return build
