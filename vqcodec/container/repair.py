"""Makes a sound file of what is left of a damaged one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from vqcodec.container.chunk import Chunk
from vqcodec.container.file import reading
from vqcodec.container.layout import AUDIO_TAGS, PICTURE_TAGS
from vqcodec.container.loss import Losses, Lost
from vqcodec.container.retime import Retimer
from vqcodec.container.salvage import Salvage
from vqcodec.container.writer import Writer
from vqcodec.errors import ChecksumError, FormatError, UnsupportedError
from vqcodec.files import writing


@dataclass(frozen=True)
class Repaired:
    """What :func:`repair_file` did.

    Attributes:
        chunks, frames: picture chunks kept, and their frames.
        nbytes: size of the new file.
        losses: what was left out, by the time of the damaged file.
    """

    chunks: int
    frames: int
    nbytes: int
    losses: Losses


def repair_file(
    source: Path | str | BinaryIO, target: Path | str | BinaryIO, *, force: bool = False
) -> Repaired:
    """Copy every undamaged chunk, byte for byte, to a new file with index, frame count and end.

    Frames that are lost are left out, so that what follows them comes earlier than it did; audio is
    cut and moved with them. Chunks that need one that is lost are lost with it. A chunk in a packer
    that is unknown here is kept. Of a header with appended fields only those that are known here
    are.

    Args:
        source: a path or a binary stream; a pipe is first copied to a temporary file.
        target: a path, which appears when all is written, or a binary stream.
        force: overwrite ``target``.

    Raises:
        FormatError: the header cannot be read, or no picture chunk is intact.
        SourceError: the source cannot be opened.
        OutputError: the target exists or cannot be written.
    """
    losses, chunks = Losses(), 0
    with reading(source, seekable=True) as reader, writing(target, force=force) as file:
        with Writer(file, replace(reader.header, frames=0)) as writer:
            audio = Retimer(writer, reader.header.rate)
            for piece in Salvage(reader):
                lost = piece if isinstance(piece, Lost) else _copy(piece, writer, audio)
                if lost is not None:
                    losses.add(lost)
                    audio.lost(lost.start, lost.stop)
                elif piece.frames:
                    chunks += 1
            audio.finish()
        if losses.count and not chunks:
            raise ChecksumError(f"nothing can be saved: {losses}")
        return Repaired(chunks, writer.frames, writer.nbytes, losses)


def _copy(chunk: Chunk, writer: Writer, audio: Retimer) -> Lost | None:
    """Write the chunk, or tell what is wrong with it although its CRC matches."""
    try:
        audio.take(chunk)
    except FormatError as error:
        return Lost.of(chunk, error)
    if chunk.tag not in PICTURE_TAGS:
        if chunk.tag not in AUDIO_TAGS:
            writer.write_chunk(chunk.tag, chunk.payload)
        return None
    try:
        chunk.validate()
    except UnsupportedError:
        pass
    except FormatError as error:
        return Lost.of(chunk, error)
    audio.kept(chunk.stop)
    writer.write_packed(chunk.tag, chunk.frames, chunk.payload)
    return None
