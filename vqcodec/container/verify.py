"""Checks everything in a file that can be checked without the network of its model.

Indices of range chunks are checked where the model's prior is found; the rest needs no model.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from vqcodec.container.audio import AudioTrack
from vqcodec.container.chunk import Chunk, unpacked_ahead
from vqcodec.container.header import Header
from vqcodec.container.layout import PICTURE_TAGS, Head, Tag, indexed_words
from vqcodec.container.loss import MAX_REMEMBERED, Losses, Lost
from vqcodec.container.reader import FindPrior, Reader
from vqcodec.container.salvage import Salvage
from vqcodec.errors import FormatError

MAX_PROBLEMS = MAX_REMEMBERED


@dataclass(frozen=True)
class Report:
    """What :func:`verify` found.

    Attributes:
        header: None if it cannot be read.
        chunks, frames: intact picture chunks, and their frames.
        problems: in file order, at most ``MAX_PROBLEMS``; none means that the file is sound.
        unread: intact picture chunks whose indices need a prior that was not found.
    """

    header: Header | None
    chunks: int
    frames: int
    problems: tuple[FormatError, ...]
    unread: int = 0


def verify(file: BinaryIO, find_prior: FindPrior = lambda _header: None) -> Report:
    """Read all of ``file``: CRCs, indices in range, index, frame count, bytes after the end.

    Damaged chunks are named with their time; in a pipe, only those before the first that breaks the
    chain of lengths. Raises no :class:`FormatError`: those are the report.
    """
    problems: list[FormatError] = []
    header, chunks, frames, unread = None, 0, 0, 0
    words = array("I")
    index = False
    try:
        reader = Reader(file, find_prior)
        header = reader.header
        audio = AudioTrack()
        for chunk in unpacked_ahead(_all_chunks(reader)):
            end = chunk.offset + chunk.nbytes
            try:
                if chunk.tag in PICTURE_TAGS:
                    unread += not chunk.validate()
                    chunks, frames = chunks + 1, frames + chunk.frames
                chunk.check()
                audio.take(chunk)
                if index and chunk.tag != Tag.END:
                    raise FormatError(f"chunk at byte {chunk.offset} after the index")
                if chunk.tag == Tag.INDEX:
                    index = True
                    if indexed_words(chunk.payload) != words:
                        raise FormatError("the index does not agree with the chunks")
                elif chunk.tag == Tag.END and reader.source.read(end, 1):
                    raise FormatError(f"bytes after the end, from {end} on")
            except FormatError as error:
                problems.append(error)
                if len(problems) == MAX_PROBLEMS:
                    break
            words.append(Head(chunk.tag, chunk.frames, chunk.length).word)
    except FormatError as error:
        problems.append(error)
        if header is not None and reader.source.size is not None:
            return _search(reader, error)
    return Report(header, chunks, frames, tuple(problems), unread)


def _all_chunks(reader: Reader) -> Iterator[Chunk]:
    """Chunks of any tag, each with the one that it may need."""
    before: Chunk | None = None
    for entry in reader.scan():
        chunk = reader.load(entry, before)
        if entry.tag in PICTURE_TAGS or not chunk.intact:
            before = chunk
        yield chunk


def _search(reader: Reader, broken: FormatError) -> Report:
    """The report on a file whose chunks cannot be followed to its end."""
    chunks, frames, unread, losses, audio = 0, 0, 0, Losses(), AudioTrack()
    for piece in unpacked_ahead(Salvage(reader)):
        if isinstance(piece, Lost):
            losses.add(piece)
            continue
        try:
            audio.take(piece)
            if piece.tag in PICTURE_TAGS:
                unread += not piece.validate()
                chunks, frames = chunks + 1, frames + piece.frames
        except FormatError as error:
            losses.add(Lost.of(piece, error))
    # A damaged length leads anywhere; where it led is of no interest if the damage is known.
    known = [lost for lost in losses.first if lost.nbytes or lost.exact]
    problems = [broken] if all(lost.cut for lost in known) else [lost.error for lost in known]
    return Report(reader.header, chunks, frames, tuple(problems), unread)
