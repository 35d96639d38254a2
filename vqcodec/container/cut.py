"""Drops the finer levels of a file, without its model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from vqcodec.container import range_payload
from vqcodec.container.chunk import Chunk
from vqcodec.container.file import reading
from vqcodec.container.header import Header
from vqcodec.container.layout import PICTURE_TAGS
from vqcodec.container.packers import RANGE_TAGS
from vqcodec.container.writer import Writer
from vqcodec.errors import FormatError, QualityError
from vqcodec.files import writing


@dataclass(frozen=True)
class Cut:
    """What :func:`cut_file` did.

    Attributes:
        header: of the new file, with its frame count.
        chunks: number of its picture chunks.
        nbytes: its size.
        source_levels: how many there were.
    """

    header: Header
    chunks: int
    nbytes: int
    source_levels: int


def cut_file(
    source: Path | str | BinaryIO,
    target: Path | str | BinaryIO,
    *,
    quality: int,
    force: bool = False,
) -> Cut:
    """Copy a file with only the first ``quality`` of its levels.

    What the range packer made is cut off where these levels end, other payloads are packed anew.
    Ancillary chunks, audio among them, are copied. Of a header with appended fields only those
    that are known here are.

    Args:
        source: a path or a binary stream, which may be a pipe.
        target: a path, which appears when all is written, or a binary stream.
        quality: number of levels to keep.
        force: overwrite ``target``.

    Raises:
        QualityError: the file has fewer levels.
        FormatError: the source is no ``.vqv`` file, or is damaged or truncated.
        SourceError: it cannot be opened.
        OutputError: the target exists or cannot be written.
    """
    with reading(source) as reader:
        header = reader.header
        levels = len(header.levels)
        if not 1 <= quality <= levels:
            raise QualityError(f"has quality levels 1 to {levels}, not {quality}")
        kept = replace(header, levels=header.levels[:quality])
        if kept.pad_frames(1) != header.pad_frames(1):
            raise FormatError("its levels are not in order, coarsest first")
        with writing(target, force=force) as file:
            chunks = 0
            with Writer(file, kept) as writer:
                for chunk in reader.chunks(ancillary=lambda _entry: True):
                    chunk.check()
                    if chunk.tag in PICTURE_TAGS:
                        _write(writer, chunk, quality)
                        chunks += 1
                    else:
                        writer.write_chunk(chunk.tag, chunk.payload)
            return Cut(replace(kept, frames=writer.frames), chunks, writer.nbytes, levels)


def _write(writer: Writer, chunk: Chunk, quality: int) -> None:
    levels = len(chunk.header.levels)
    if chunk.tag not in RANGE_TAGS:
        grids = chunk.grids()
        if quality < levels:
            writer.write(chunk.frames, grids[:quality])
        else:
            writer.write_packed(chunk.tag, chunk.frames, chunk.payload)
        return
    chunk.validate()
    try:
        payload = range_payload.keep(chunk.payload, levels, quality)
    except FormatError as error:
        raise FormatError(f"{chunk.where()}: {error}") from error
    writer.write_packed(chunk.tag, chunk.frames, payload)
