"""Whole files: any video to ``.vqv``, and ``.vqv`` to any video, in bounded memory."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from itertools import groupby, islice
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, TypeVar, cast

import numpy as np

from vqcodec.audio import NAMES, AudioFormat
from vqcodec.chunkcoder import ChunkCoder
from vqcodec.conceal import Pieces
from vqcodec.container import Header, Losses, Reader, Writer, nearest_ratio
from vqcodec.container.audio import find_format, pack_format, pack_packets
from vqcodec.container.file import reading
from vqcodec.container.layout import MAX_FRAMES, Tag
from vqcodec.errors import (
    CheckpointError,
    ChecksumError,
    FormatError,
    ModelMismatchError,
    SettingError,
    SourceError,
)
from vqcodec.files import replacing, writing
from vqcodec.limits import DEFAULT_EFFORT, check_search
from vqcodec.memory import DEFAULT_MEMORY, Allowance, output_bytes
from vqcodec.ratecontrol import LEAST_EFFORT, Outcome, Survey, Target
from vqcodec.video import FORMATS, Damage, format_of, open_sink, open_video
from vqcodec.video.formats import choose
from vqcodec.video.reader import DEFAULT_RATE
from vqcodec.video.source import rereadable
from vqcodec.video.timing import check_part

if TYPE_CHECKING:
    from vqcodec.codec import Codec, Frames
    from vqcodec.video import VideoReader
    from vqcodec.video.audio_source import AudioMode

T = TypeVar("T")
Progress = Callable[[int, int | None], None]
Source = Path | str | BinaryIO

CHUNK_FRAMES = 32  # the paper's clip: 2 s at 16 fps
BATCH_PIXELS = 8 * CHUNK_FRAMES * 64 * 64  # chunks run through the network together up to this
SEARCH_PIXELS = BATCH_PIXELS // 4  # the same where codes are searched for: some 100 MB a chunk


@dataclass(frozen=True)
class Encoded:
    """What :func:`encode_file` did.

    Attributes:
        header: of the file, with its frame count.
        chunks: number of them.
        nbytes: size of the file, audio included.
        audio: the format of its audio; None if it has none.
        audio_bytes: size of its audio chunks; 0 without audio.
        audio_problem: what of the source's audio could not be kept, or None.
        source_bytes: size of the source; None if it was piped.
        damage: what of the source was lost or corrupt.
        effort: of the search for codes.
        control: how rate control went; None without.
        decode_memory: about the MiB that decoding the file takes in all.
    """

    header: Header
    chunks: int
    nbytes: int
    source_bytes: int | None
    damage: Damage
    effort: int = 0
    control: Outcome | None = None
    audio: AudioFormat | None = None
    audio_bytes: int = 0
    audio_problem: str | None = None
    decode_memory: int = 0

    @property
    def bpp(self) -> float:
        """Bits of the file, without its audio, per coded pixel."""
        pixels = self.header.frames * self.header.width * self.header.height
        return 8 * (self.nbytes - self.audio_bytes) / pixels

    @property
    def kbps(self) -> float:
        """Kilobits (1000) of the file, without its audio, per second of video."""
        return self._kbps(self.nbytes - self.audio_bytes)

    @property
    def audio_kbps(self) -> float:
        """Kilobits (1000) of audio chunks per second of video."""
        return self._kbps(self.audio_bytes)

    def _kbps(self, nbytes: int) -> float:
        return float(8 * nbytes * self.header.rate / self.header.frames / 1000)


@dataclass(frozen=True)
class Decoded:
    """What :func:`decode_file` did.

    Attributes:
        header: of the file.
        frames: number of frames written.
        problem: why not all is as it was encoded: the file ended early, and all frames before that
            were written, or frames were concealed.
        losses: what was concealed, or is missing at the end.
        audio: the format of the audio in the output; None if it has none.
        audio_problem: why there is none although the file has audio, if that was not asked for.
    """

    header: Header
    frames: int
    problem: FormatError | None
    losses: Losses
    audio: AudioFormat | None = None
    audio_problem: str | None = None


def encode_file(
    source: Source,
    target: Path | str | BinaryIO,
    *,
    codec: Codec | None = None,
    codecs: type[Codec] | None = None,
    model: Path | str | None = None,
    device: str = "cpu",
    width: int = 64,
    height: int = 64,
    rate: Fraction = DEFAULT_RATE,
    fit: Literal["stretch", "crop", "pad"] = "stretch",
    start: Fraction | float = 0,
    duration: Fraction | float | None = None,
    quality: int | None = None,
    effort: int = DEFAULT_EFFORT,
    trade: float = 1.0,
    bitrate: float | None = None,
    target_size: int | None = None,
    packer: str = "auto",
    independent: bool = False,
    audio: AudioMode = "opus",
    force: bool = False,
    progress: Progress = lambda _done, _total: None,
) -> Encoded:
    """Encode a video to ``.vqv``.

    Args:
        source: anything :func:`vqcodec.video.open_video` reads.
        target: a path, which appears when all is written, or a binary stream.
        codec: the model, ready; None to load it.
        codecs: the class to load it with, if ``codec`` is None; None for :class:`Codec`.
        model, device: as :meth:`Codec.load` takes them, if ``codec`` is None.
        width, height: of the coded pictures, multiples of 8.
        rate: coded frames per second.
        fit: ``stretch``, ``crop`` or ``pad`` to ``width`` × ``height``.
        start, duration: part of the source, in seconds; None for all of it.
        quality: how many levels of the model are in the file; None for its default, or with
            ``bitrate`` or ``target_size`` for what fits best.
        effort: 0 for the nearest codes, up to 9 to search for better and cheaper ones.
        trade: when searching, one per cent of the bits is worth this many per cent of the
            distortion (:mod:`vqcodec.search`).
        bitrate: kilobits (1000) a second that the whole file shall have, audio included. The source
            is read twice (a pipe is first copied to a temporary file), ``trade`` is chosen, and
            ``effort`` is at least 2.
        target_size: the same in bytes of the whole file.
        packer: ``auto``, ``raw``, ``deflate``, ``zstd`` or ``range``.
        independent: let no chunk need the one before it.
        audio: ``opus``, ``copy`` or ``none``; see :func:`vqcodec.video.open_video`.
        force: overwrite ``target``.
        progress: called with frames done and, if known, in all.

    Raises:
        SourceError: the source cannot be read as a video.
        OutputError: the target exists or cannot be written.
        CheckpointError: the model cannot be loaded, or lacks what ``packer`` needs.
        QualityError: the model has no such quality level.
        SettingError: the pictures are larger, or the rate finer, than the format can store.
        ValueError: another argument is out of range, or ``bitrate`` and ``target_size`` are both
            given.
    """
    check_search(effort, trade)
    if not 0 < rate < inf:
        raise ValueError(f"rate must be above 0, not {rate}")
    if (bitrate, target_size) == (None, None):
        goal = None
    else:
        goal = Target(target_size, bitrate)
        effort = max(effort, LEAST_EFFORT)
    rate = nearest_ratio(Fraction(rate))
    opened = partial(
        open_video,
        width=width,
        height=height,
        rate=rate,
        fit=fit,
        start=start,
        duration=duration,
        audio=audio,
    )
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(writing(target, force=force))
        if goal is not None:
            rewound = stack.enter_context(rereadable(source))
            source = rewound()
        reader = stack.enter_context(opened(source))
        if codec is None:
            codec = (codecs or _codecs()).load(model, device=device)
        if packer == "range" and codec.prior is None:
            raise CheckpointError("the model has no prior, which the range packer needs")
        if packer == "raw":
            trade = 0  # bits are as many for any codes
        most = quality
        if quality is None and goal is None:
            most = codec.default_quality
        levels = codec.levels_at(most)
        try:
            aspect = nearest_ratio(reader.display_aspect)
            header = Header(width, height, aspect, rate, 0, codec.model_id, levels)
        except FormatError as error:
            reason = str(error).removeprefix("invalid header: ")
            raise SettingError(f"pictures of {width}x{height}: {reason}") from error
        allowance = Allowance(header, output_bytes(width, height))
        least = header.pad_frames(1)
        length = min(CHUNK_FRAMES, header.max_frames, max(least, allowance.frames))
        limit = max(1, (SEARCH_PIXELS if effort else BATCH_PIXELS) // (length * width * height))

        def batches(chunks: Iterable[Frames]) -> Iterator[list[Frames]]:
            return batched(chunks, limit, len)

        progress(0, reader.expected_frames)
        steering = None
        if goal is not None:
            survey = Survey(
                codec,
                header,
                packer=packer,
                independent=independent,
                effort=effort,
                fixed=quality is not None,
                batches=batches,
            )
            frames, overhead = _survey(reader, survey, header, batches(_chunks_of(reader, length)))
            reader.close()
            steering = survey.plan(goal.bytes_of(header, frames), overhead)
            header = replace(header, levels=header.levels[: steering.quality])
            reader = stack.enter_context(opened(rewound()))
        chunks = audio_bytes = 0
        freedom = 1.0
        with Writer(
            file, header, packer=packer, prior=codec.prior, independent=independent
        ) as writer:
            coder = ChunkCoder(codec, writer.packing, effort=effort)
            audio_bytes += _write_audio_format(writer, reader)
            for batch in batches(_chunks_of(reader, length)):
                if steering is not None:
                    trade, freedom = steering.aim
                _, packed = coder.code(batch, trade=trade, freedom=freedom)
                for chunk in packed:
                    audio_bytes += _write_audio(writer, reader, chunk.frames)
                    writer.write_packed(*chunk)
                    chunks += 1
                if steering is not None:
                    steering.spend([len(chunk.payload) for chunk in packed])
                progress(writer.frames, reader.expected_frames)
            audio_bytes += _write_audio(writer, reader, 0)
        return Encoded(
            header=replace(header, frames=writer.frames),
            chunks=chunks,
            nbytes=writer.nbytes,
            source_bytes=reader.source.bytes,
            damage=reader.damage,
            effort=effort,
            control=None if steering is None else steering.outcome(writer.nbytes),
            audio=reader.audio_track,
            audio_bytes=audio_bytes,
            audio_problem=reader.audio_problem,
            decode_memory=allowance.needed(length),
        )


def decode_file(
    source: Path | str | BinaryIO,
    target: Path | str | BinaryIO,
    *,
    codec: Codec | None = None,
    codecs: type[Codec] | None = None,
    model: Path | str | None = None,
    device: str = "cpu",
    start: Fraction | float = 0,
    duration: Fraction | float | None = None,
    format: str | None = None,
    video_codec: str | None = None,
    crf: float | None = None,
    size: tuple[int, int] | Literal["display"] | None = None,
    conceal: bool = False,
    audio: bool = True,
    memory: int = DEFAULT_MEMORY,
    force: bool = False,
    progress: Progress = lambda _done, _total: None,
) -> Decoded:
    """Decode ``.vqv`` to a video.

    Args:
        source: a path or a binary stream, which may be a pipe.
        target: a path, whose suffix chooses the format and which appears when all is written, or
            a binary stream.
        codec: the model, ready; None to load it.
        codecs: the class to load it with, if ``codec`` is None; None for :class:`Codec`.
        model, device: as :meth:`Codec.load` takes them, if ``codec`` is None; without ``model``
            the shipped one that the file names.
        start, duration: part of the video, in seconds; only the chunks that hold it are decoded.
        format, video_codec, crf, size: see :func:`vqcodec.video.open_sink`.
        conceal: go on after damage, and let the last frame before it stand in for those that are
            lost (black if there is none), so that the rest keeps its time. The end that a
            truncated file lacks is not made up. A pipe is first copied to a temporary file.
        audio: keep the file's audio, if the output can hold any.
        memory: MiB that the process may take in all, by estimate (:mod:`vqcodec.memory`). What a
            ``size`` in numbers takes is not counted, as no file decides that.
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
        SettingError: no such format or codec, or they do not go together.
        MemoryLimitError: a chunk of it would take more than ``memory``.
        ValueError: ``start``, ``duration`` or ``size`` is out of range.
    """
    check_part(start, duration)
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
        track, audio_problem = _track_of(reader, name, conceal) if audio else (None, None)
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
                audio=track,
            )
        )
        shown = (sink.picture.width, sink.picture.height)
        if isinstance(size, tuple):
            shown = (header.width, header.height)
        encoder = choose(name, video_codec, crf)[1].name
        allowance = Allowance(header, output_bytes(*shown, encoder), memory)
        if codec is None:
            codec = _codec_for(header, codecs or _codecs(), model, device)
        if codec.model_id != header.model_id:
            raise ModelMismatchError(
                f"needs model {header.model_id.hex()}, not {codec.model_id.hex()}"
            )
        if codec.levels[: len(header.levels)] != header.levels:
            raise FormatError("the header's levels are not those of its model")
        reader.prior = codec.prior
        pieces = Pieces(reader, first, stop, conceal, track, allowance.check)
        begin = 0 if track is None else round(first * track.rate / header.rate)
        done, last = 0, np.zeros((1, header.height, header.width, 3), np.uint8)
        seams = codec.seams(len(header.levels))
        follows = False

        def write(frames: Frames, number: int) -> int:
            """Write those wanted of frames that begin with that ``number``; how many."""
            part = frames[max(0, first - number) : None if stop is None else max(0, stop - number)]
            sink.write(part)
            return len(part)

        progress(done, total)
        usual = BATCH_PIXELS // (CHUNK_FRAMES * header.width * header.height)
        limit = max(1, min(usual, allowance.frames // MAX_FRAMES))
        for batch in batched(pieces, limit, lambda piece: (piece.frames, len(piece.grids))):
            good = bool(batch[0].grids)
            if good:
                clips = codec.decode_batch([p.grids for p in batch], [p.frames for p in batch])
                last = clips[-1][-1:]
            else:
                clips = [last.repeat(piece.frames, axis=0) for piece in batch]
            for piece, frames in zip(batch, clips, strict=True):
                sink.write_audio(replace(p, time=p.time - begin) for p in piece.audio)
                if piece.frames:
                    number = piece.start - seams.held
                    done += write(seams.push(frames, joins=good and follows), number)
                    end, follows = piece.start + piece.frames, good
            progress(done, total)
        if seams.held:
            number = end - seams.held
            done += write(seams.finish(), number)
            progress(done, total)
        if not pieces.good:
            if pieces.losses.count > 1:
                raise ChecksumError(f"nothing can be decoded: {pieces.losses}")
            raise pieces.problem or SourceError(f"ends before the start, {float(start):g} s")
    return Decoded(header, done, pieces.problem, pieces.losses, track, audio_problem)


def _survey(
    reader: VideoReader, survey: Survey, header: Header, batches: Iterable[list[Frames]]
) -> tuple[int, int]:
    """The first pass; the number of frames, and bytes of all but the header and the pictures."""
    pictures = 0
    with Writer(cast("BinaryIO", _Nowhere()), header) as writer:
        _write_audio_format(writer, reader)
        for batch in batches:
            survey.add(batch)
            for frames in batch:
                _write_audio(writer, reader, len(frames))
                writer.write_packed(Tag.RAW, len(frames), b"?")
                pictures += 1
        _write_audio(writer, reader, 0)
    return writer.frames, writer.nbytes - len(header.to_bytes()) - pictures


class _Nowhere(io.RawIOBase):
    """Takes everything and keeps nothing."""

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return 0

    def write(self, data: Any) -> int:
        return len(data)


def _write_audio_format(writer: Writer, reader: VideoReader) -> int:
    """Write what the audio is, if there is any; the bytes of the chunk."""
    if reader.audio_track is None:
        return 0
    return writer.write_chunk(Tag.AUDIO_FORMAT, pack_format(reader.audio_track))


def _write_audio(writer: Writer, reader: VideoReader, frames: int) -> int:
    """Write the audio up to the end of the next ``frames``, 0 at the end; the bytes of its chunks.

    Audio that a pipe delivers late goes with later frames; what is left after the last is trimmed.
    """
    if reader.audio_track is None:
        return 0
    end = (writer.frames + frames) / writer.header.rate
    packets = reader.audio_before(end, last=not frames)
    payloads = pack_packets(packets, reader.audio_track.rate)
    return sum(writer.write_chunk(Tag.AUDIO, payload) for payload in payloads)


def _track_of(reader: Reader, output: str, conceal: bool) -> tuple[AudioFormat | None, str | None]:
    """The audio to decode to a format of this name, or why there is none though the file has it."""
    try:
        track = find_format(reader)
    except FormatError as error:
        if not conceal:
            raise
        return None, f"its audio is left out: {error}"
    if track is not None and track.codec not in NAMES:
        return None, f"its audio is left out: {track.codec} is not known here"
    if track is not None and output in FORMATS and not FORMATS[output].audio:
        return None, f"its audio is left out: {output} cannot hold any"
    return track, None


def _codecs() -> type[Codec]:
    from vqcodec.codec import Codec  # imports torch

    return Codec


def _codec_for(header: Header, codecs: type[Codec], model: Path | str | None, device: str) -> Codec:
    if model is None:
        return codecs.load_for(header.model_id, device=device)
    return codecs.load(model, device=device)


def _chunks_of(frames: Iterable[Frames], length: int) -> Iterator[Frames]:
    """(H, W, 3) one by one → (T, H, W, 3), T = ``length`` but for the last."""
    rest = iter(frames)
    while chunk := list(islice(rest, length)):
        yield np.stack(chunk)


def batched(items: Iterable[T], limit: int, kind: Callable[[T], object]) -> Iterator[list[T]]:
    """Gather neighbours of one kind, up to ``limit`` of them."""
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
