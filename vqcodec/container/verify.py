"""Checks everything in a file that can be checked without its model."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO

from vqcodec.container.header import Header
from vqcodec.container.layout import PICTURE_TAGS, Head, Tag
from vqcodec.container.reader import Reader
from vqcodec.errors import FormatError

MAX_PROBLEMS = 100  # a file of noise would otherwise fill the memory with them


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

    Raises no :class:`FormatError`: those are the report.
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
    return Report(header, chunks, frames, tuple(problems))
