"""The fixed points of the format: magic, versions, tags, limits, and the framing of a chunk.

All integers are little-endian. A chunk is ``u32 head | u32 CRC-32 | payload``; the head holds
the payload's length in bits 0–20, frames - 1 in bits 21–26 and the tag in bits 27–31.
"""

from __future__ import annotations

import struct
import zlib
from array import array
from enum import IntEnum
from typing import NamedTuple

MAGIC = b"\x89VQV"  # a byte that is no text, and the name
VERSION = 2

MAX_FRAMES = 64  # of one chunk
MAX_PAYLOAD = (1 << 21) - 1
CHUNK_OVERHEAD = 8
HEAD_BYTES = 4
MAX_MEMORY = 32  # picture chunks in a row that each need the one before


class Tag(IntEnum):
    """What a chunk holds. 0–15 are pictures, 16–29 ancillary."""

    RAW = 1
    DEFLATE = 2
    ZSTD = 3
    RANGE = 4
    RANGE_MEMORY = 5  # needs the picture chunk before it
    AUDIO_FORMAT = 16
    AUDIO = 17
    INDEX = 30
    END = 31


PICTURE_TAGS = range(16)
ANCILLARY_TAGS = range(16, 30)
AUDIO_TAGS = (Tag.AUDIO_FORMAT, Tag.AUDIO)


class Head(NamedTuple):
    """The first word of a chunk.

    Attributes:
        tag: 0–31.
        frames: 1–64 for a picture chunk, else 0.
        length: of the payload in bytes, 0–``MAX_PAYLOAD``.
    """

    tag: int
    frames: int
    length: int

    @property
    def word(self) -> int:
        """The head as the format stores it, a u32."""
        return self.tag << 27 | max(self.frames - 1, 0) << 21 | self.length

    @classmethod
    def from_word(cls, word: int) -> Head:
        """Every u32 is some head; whether it is a sensible one shows in the chunk's CRC."""
        tag = word >> 27
        frames = (word >> 21 & 0x3F) + 1 if tag in PICTURE_TAGS else 0
        return cls(tag, frames, word & MAX_PAYLOAD)


def indexed_words(payload: bytes) -> array[int] | None:
    """The heads in the payload of an index, as :attr:`Head.word` has them; None if it is none."""
    count, rest = divmod(len(payload), HEAD_BYTES)
    if rest or int.from_bytes(payload[-HEAD_BYTES:], "little") != count - 1:
        return None
    words = struct.unpack(f"<{count - 1}I", payload[:-HEAD_BYTES])
    return array("I", (Head.from_word(word).word for word in words))


def frame_chunk(head: Head, payload: bytes) -> bytes:
    """Return the whole chunk, ``CHUNK_OVERHEAD`` bytes longer than ``payload``."""
    word = struct.pack("<I", head.word)
    return word + struct.pack("<I", chunk_crc(word, payload)) + payload


def chunk_crc(word: bytes, payload: bytes) -> int:
    """CRC-32, as in zlib and PNG, over the four bytes of the head and the payload."""
    return zlib.crc32(payload, zlib.crc32(word))


# Without payload it is the same eight bytes in each file, and so serves as the magic of the footer.
END_CHUNK = frame_chunk(Head(Tag.END, 0, 0), b"")
