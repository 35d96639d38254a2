"""Writing frames out, as any of the formats in :mod:`~vqcodec.video.formats`."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import BinaryIO, Literal

from vqcodec.audio import AudioFormat
from vqcodec.errors import SettingError
from vqcodec.files import name_of
from vqcodec.video.formats import Codec, Format, choose, format_of
from vqcodec.video.geometry import even, sample_aspect
from vqcodec.video.sink import FrameSink, Picture

__all__ = ["FrameSink", "open_sink"]

MAX_DISPLAY_WIDTH = 8192  # pixels; a header may claim an aspect of 65535:1


def open_sink(
    target: Path | str | BinaryIO,
    *,
    width: int,
    height: int,
    rate: Fraction,
    aspect: Fraction,
    format: str | None = None,
    codec: str | None = None,
    crf: float | None = None,
    size: tuple[int, int] | Literal["display"] | None = None,
    audio: AudioFormat | None = None,
) -> FrameSink:
    """Open an output for ``width`` × ``height`` frames, shown at ``rate`` per second.

    The shape of the pixels is stored so that players show the picture with ``aspect``. Where it
    cannot be (VP9, AV1 and FFV1 in Matroska and WebM), ``size`` is "display" unless given.

    Args:
        target: a path (see :func:`~vqcodec.video.formats.format_of`) or a binary stream, which may
            be a pipe and is not closed. A file is overwritten: see
            :func:`vqcodec.files.replacing`; PNG adds to its folder.
        width, height: of the frames, pixels.
        rate: frames per second.
        aspect: width over height, as displayed.
        format: a name in ``FORMATS``; by the path if None, "y4m" for a stream.
        codec: a name in ``CODECS``; the first that the format can hold if None.
        crf: quality of the codec, lower is better; its own default if None.
        size: (width, height) to scale to, bicubic; "display" keeps the height, and takes the width
            that makes pixels square. Rounded to even numbers where the codec needs that (4:2:0).
        audio: what :meth:`FrameSink.write_audio` will be given; dropped by formats without audio.

    Raises:
        SettingError: unknown or unfit format, codec or quality.
        OutputError: the target cannot be opened.
        ValueError: a side of ``size`` is not positive.
    """
    if isinstance(size, tuple) and min(size) < 1:
        raise ValueError(f"sides must be positive, not {size}")
    name = name_of(Path(target) if isinstance(target, str) else target)
    if format is None:
        format = format_of(target) if isinstance(target, (str, Path)) else "y4m"
    if isinstance(target, str):
        target = Path(target)
    form, chosen, quality = choose(format, codec, crf)
    if size is None and not (form.stores_aspect or chosen.stores_aspect):
        size = "display"
    picture = _picture(chosen, width, height, rate, aspect, size)
    return _open(target, name, (width, height), picture, form, chosen, quality, audio)


def _picture(
    codec: Codec,
    width: int,
    height: int,
    rate: Fraction,
    aspect: Fraction,
    size: tuple[int, int] | Literal["display"] | None,
) -> Picture:
    if size == "display":
        out_width, out_height = even(min(height * aspect, Fraction(MAX_DISPLAY_WIDTH))), height
    else:
        out_width, out_height = size or (width, height)
    if codec.pixel_format == "yuv420p":
        out_width, out_height = even(out_width), even(out_height)
    square = size == "display"  # to within the rounding of the width
    pixel = Fraction(1) if square else sample_aspect(aspect, out_width, out_height)
    return Picture(out_width, out_height, codec.pixel_format, pixel, Fraction(rate))


def _open(
    target: Path | BinaryIO,
    name: str,
    size: tuple[int, int],
    picture: Picture,
    form: Format,
    codec: Codec,
    crf: float | None,
    audio: AudioFormat | None,
) -> FrameSink:
    if form.name == "png":
        from vqcodec.video.png_sink import PngSink

        if not isinstance(target, Path):
            raise SettingError(f"{name}: png needs a folder")
        return PngSink(target, size, picture)
    if form.name == "y4m":
        from vqcodec.video.y4m_sink import Y4mSink

        return Y4mSink(target, size, picture)
    from vqcodec.video.mux_sink import MuxSink

    if not (form.pipeable or isinstance(target, Path) or target.seekable()):
        raise SettingError(f"{name}: {form.name} cannot be piped (mkv, webm, gif and y4m can)")
    return MuxSink(target, size, picture, form, codec, crf, audio)
