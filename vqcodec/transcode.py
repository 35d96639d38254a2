"""Whole files: any video to ``.vqv``, and ``.vqv`` to any video, in bounded memory."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal, TypeVar

import numpy as np

from vqcodec.conceal import Pieces
from vqcodec.container import Header, Losses, Writer, nearest_ratio
from vqcodec.container.file import reading
from vqcodec.errors import FormatError, ModelMismatchError, SourceError
from vqcodec.files import replacing, writing
from vqcodec.video import Damage, format_of, open_sink, open_video

if TYPE_CHECKING:
    from vqcodec.codec import Codec, Frames

T = TypeVar("T")
Progress = Callable[[int, int | None], None]
Source = Path | str | BinaryIO

CHUNK_FRAMES = 32  # the paper's clip: 2 s at 16 fps
BATCH_PIXELS = 8 * CHUNK_FRAMES * 64 * 64  # chunks run through the network together up to this
DEFAULT_RATE = Fraction(16)


@dataclass(frozen=True)
class Encoded:
    """What :func:`encode_file` did.

    Attributes:
        header: of the file, with its frame count.
        chunks: number of them.
        nbytes: size of the file.
        source_bytes: size of the source; None if it was piped.
        damage: corrupt packets and frames of the source.
    """

    header: Header
    chunks: int
    nbytes: int
    source_bytes: int | None
    damage: Damage

    @property
    def bpp(self) -> float:
        """Bits of the whole file per coded pixel."""
        return 8 * self.nbytes / (self.header.frames * self.header.width * self.header.height)

    @property
    def kbps(self) -> float:
        """Kilobits (1000) of the whole file per second of video."""
        return float(8 * self.nbytes * self.header.rate / self.header.frames / 1000)


@dataclass(frozen=True)
class Decoded:
    """What :func:`decode_file` did.

    Attributes:
        header: of the file.
        frames: number of frames written.
        problem: why not all is as it was encoded: the file ended early, and all frames before that
            were written, or frames were concealed.
        losses: what was concealed, or is missing at the end.
    """

    header: Header
    frames: int
    problem: FormatError | None
    losses: Losses


def encode_file(
    source: Source,
    target: Path | str | BinaryIO,
    *,
    codec: Codec | None = None,
    model: Path | str | None = None,
    device: str = "cpu",
    width: int = 64,
    height: int = 64,
    rate: Fraction = DEFAULT_RATE,
    fit: Literal["stretch", "crop", "pad"] = "stretch",
    start: Fraction | float = 0,
    duration: Fraction | float | None = None,
    packer: str = "auto",
    force: bool = False,
    progress: Progress = lambda _done, _total: None,
) -> Encoded:
    """Encode a video to ``.vqv``.

    Args:
        source: anything :func:`vqcodec.video.open_video` reads.
        target: a path, which appears when all is written, or a binary stream.
        codec: the model, ready; None to load it.
        model, device: as :meth:`Codec.load` takes them, if ``codec`` is None.
        width, height: of the coded pictures, multiples of 8.
        rate: coded frames per second.
        fit: ``stretch``, ``crop`` or ``pad`` to ``width`` × ``height``.
        start, duration: part of the source, in seconds; None for all of it.
        packer: ``auto``, ``raw``, ``deflate`` or ``zstd``.
        force: overwrite ``target``.
        progress: called with frames done and, if known, in all.

    Raises:
        SourceError: the source cannot be read as a video.
        OutputError: the target exists or cannot be written.
        CheckpointError: the model cannot be loaded.
        FormatError: the pictures are larger, or the rate finer, than the format can store.
    """
    rate = nearest_ratio(Fraction(rate))
    with (
        writing(target, force=force) as file,
        open_video(
            source,
            width=width,
            height=height,
            rate=rate,
            fit=fit,
            start=start,
            duration=duration,
        ) as reader,
    ):
        if codec is None:
            from vqcodec.codec import Codec

            codec = Codec.load(model, device=device)
        header = Header(
            width=width,
            height=height,
            aspect=nearest_ratio(reader.display_aspect),
            rate=rate,
            frames=0,
            model_id=codec.model_id,
            levels=codec.levels,
        )
        length = min(CHUNK_FRAMES, header.max_frames)
        chunks = 0
        progress(0, reader.expected_frames)
        with Writer(file, header, packer=packer) as writer:
            for batch in _batches(_chunks_of(reader, length), length, width, height, len):
                for frames, grids in zip(batch, codec.encode_batch(batch), strict=True):
                    writer.write(len(frames), grids)
                    chunks += 1
                progress(writer.frames, reader.expected_frames)
        return Encoded(
            header=replace(header, frames=writer.frames),
            chunks=chunks,
            nbytes=writer.nbytes,
            source_bytes=reader.source.bytes,
            damage=reader.damage,
        )


def decode_file(
    source: Path | str | BinaryIO,
    target: Path | str | BinaryIO,
    *,
    codec: Codec | None = None,
    model: Path | str | None = None,
    device: str = "cpu",
    start: Fraction | float = 0,
    duration: Fraction | float | None = None,
    format: str | None = None,
    video_codec: str | None = None,
    crf: float | None = None,
    size: tuple[int, int] | Literal["display"] | None = None,
    conceal: bool = False,
    force: bool = False,
    progress: Progress = lambda _done, _total: None,
) -> Decoded:
    """Decode ``.vqv`` to a video.

    Args:
        source: a path or a binary stream, which may be a pipe.
        target: a path, whose suffix chooses the format and which appears when all is written, or
            a binary stream.
        codec: the model, ready; None to load it.
        model, device: as :meth:`Codec.load` takes them, if ``codec`` is None; without ``model``
            the shipped one that the file names.
        start, duration: part of the video, in seconds; only the chunks that hold it are decoded.
        format, video_codec, crf, size: see :func:`vqcodec.video.open_sink`.
        conceal: go on after damage, and let the last frame before it stand in for those that are
            lost (black if there is none), so that the rest keeps its time. The end that a
            truncated file lacks is not made up. A pipe is first copied to a temporary file.
        force: overwrite ``target``.
        progress: called with frames done and, if known, in all.

    Returns:
        What was done. If the file is truncated, all its whole chunks have been written and
        ``problem`` says where it ends; it is for the caller to pass that on.

    Raises:
        FormatError: the source is no ``.vqv`` file or is damaged (:class:`ChecksumError`); with
            ``conceal``, if no chunk asked for can be decoded.
        TruncatedError: it is truncated before the first whole chunk that is asked for.
        ModelMismatchError: it was encoded with another model.
        SourceError: it cannot be opened, or ends before ``start``.
        OutputError: the target exists or cannot be written.
    """
    if start < 0 or (duration is not None and duration <= 0):
        raise ValueError("duration must be positive, start not negative")
    with reading(source, seekable=conceal) as reader, contextlib.ExitStack() as stack:
        header = reader.header
        first = _frame_at(start, header.rate)
        stop = None if duration is None else first + max(1, _frame_at(duration, header.rate))
        total = _total(header.frames, first, stop)
        if isinstance(target, (str, Path)):
            name = format or format_of(target)
            out: Path | BinaryIO = stack.enter_context(
                replacing(Path(target), force=force, folder=name == "png")
            )
        else:
            name, out = format or "y4m", target
        sink = stack.enter_context(
            open_sink(
                out,
                width=header.width,
                height=header.height,
                rate=header.rate,
                aspect=header.aspect,
                format=name,
                codec=video_codec,
                crf=crf,
                size=size,
            )
        )
        if codec is None:
            codec = _codec_for(header, model, device)
        if codec.model_id != header.model_id:
            raise ModelMismatchError(
                f"needs model {header.model_id.hex()}, not {codec.model_id.hex()}"
            )
        if codec.levels != header.levels:
            raise FormatError("the header's levels are not those of its model")
        pieces = Pieces(reader, first, stop, conceal)
        done, last = 0, np.zeros((1, header.height, header.width, 3), np.uint8)
        progress(done, total)
        for batch in _batches(
            pieces, CHUNK_FRAMES, header.width, header.height, lambda p: (p.frames, not p.grids)
        ):
            if batch[0].grids:
                clips = codec.decode_batch([p.grids for p in batch], [p.frames for p in batch])
                last = clips[-1][-1:]
            else:
                clips = [last.repeat(piece.frames, axis=0) for piece in batch]
            for piece, frames in zip(batch, clips, strict=True):
                end = None if stop is None else stop - piece.start
                part = frames[max(0, first - piece.start) : end]
                sink.write(part)
                done += len(part)
            progress(done, total)
        if not pieces.good:
            raise pieces.problem or SourceError(f"ends before the start, {float(start):g} s")
    return Decoded(header, done, pieces.problem, pieces.losses)


def _codec_for(header: Header, model: Path | str | None, device: str) -> Codec:
    from vqcodec.codec import Codec

    if model is None:
        return Codec.load_for(header.model_id, device=device)
    return Codec.load(model, device=device)


def _chunks_of(frames: Iterable[Frames], length: int) -> Iterator[Frames]:
    """(H, W, 3) one by one → (T, H, W, 3), T = ``length`` but for the last."""
    rest = iter(frames)
    while chunk := list(islice(rest, length)):
        yield np.stack(chunk)


def _batches(
    items: Iterable[T], length: int, width: int, height: int, kind: Callable[[T], object]
) -> Iterator[list[T]]:
    """Gather neighbours of one kind, as many as the network may take together."""
    limit = max(1, BATCH_PIXELS // (length * width * height))
    for _, same in groupby(items, kind):
        while batch := list(islice(same, limit)):
            yield batch


def _frame_at(seconds: Fraction | float, rate: Fraction) -> int:
    return round(Fraction(seconds) * rate)


def _total(frames: int, first: int, stop: int | None) -> int | None:
    """Frames to be decoded, if the header knows the count."""
    if not frames:
        return None
    return max(0, min(frames, stop if stop is not None else frames) - first)
