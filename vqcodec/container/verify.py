"""Checks everything in a file that can be checked without its model."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO

from vqcodec.container.header import Header
from vqcodec.container.layout import PICTURE_TAGS, Head, Tag
from vqcodec.container.loss import MAX_REMEMBERED, Losses, Lost
from vqcodec.container.reader import Reader
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
    """

    header: Header | None
    chunks: int
    frames: int
    problems: tuple[FormatError, ...]


def verify(file: BinaryIO) -> Report:
    """Read all of ``file``: CRCs, indices in range, index, frame count, bytes after the end.

    Damaged chunks are named with their time; in a pipe, only those before the first that breaks the
    chain of lengths. Raises no :class:`FormatError`: those are the report.
    """
    problems: list[FormatError] = []
    header, chunks, frames = None, 0, 0
    heads = bytearray()
    index = False
    try:
        reader = Reader(file)
        header = reader.header
        for entry in reader.scan():
            chunk = reader.load(entry)
            try:
                if entry.tag in PICTURE_TAGS:
                    chunk.grids()
                    chunks, frames = chunks + 1, frames + entry.frames
                chunk.check()
                if index and entry.tag != Tag.END:
                    raise FormatError(f"chunk at byte {entry.offset} after the index")
                if entry.tag == Tag.INDEX:
                    index = True
                    if chunk.payload != heads + struct.pack("<I", len(heads) // 4):
                        raise FormatError("the index does not agree with the chunks")
                elif entry.tag == Tag.END and reader.source.read(entry.offset + entry.nbytes, 1):
                    raise FormatError(f"bytes after the end, from {entry.offset + entry.nbytes} on")
            except FormatError as error:
                problems.append(error)
                if len(problems) == MAX_PROBLEMS:
                    break
            heads += struct.pack("<I", Head(entry.tag, entry.frames, entry.length).word)
    except FormatError as error:
        problems.append(error)
        if header is not None and reader.source.size is not None:
            return _search(reader, error)
    return Report(header, chunks, frames, tuple(problems))


def _search(reader: Reader, broken: FormatError) -> Report:
    """The report on a file whose chunks cannot be followed to its end."""
    chunks, frames, losses = 0, 0, Losses()
    for piece in Salvage(reader):
        if isinstance(piece, Lost):
            losses.add(piece)
        elif piece.tag in PICTURE_TAGS:
            try:
                piece.grids()
                chunks, frames = chunks + 1, frames + piece.frames
            except FormatError as error:
                losses.add(Lost.of(piece, error))
    # A damaged length leads anywhere; where it led is of no interest if the damage is known.
    known = [lost for lost in losses.first if lost.nbytes or lost.exact]
    problems = [broken] if all(lost.cut for lost in known) else [lost.error for lost in known]
    return Report(reader.header, chunks, frames, tuple(problems))
