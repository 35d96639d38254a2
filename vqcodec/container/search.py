"""Finds chunks anywhere in a damaged file, in time linear in its size whatever is in it.

A chunk has no mark of its own, so a search must try every byte for a head whose CRC matches. That
would be quadratic were each payload summed up anew. CRC-32 is linear: with the CRCs of all bytes up
to a payload's beginning and up to its end, that of the payload follows in a few table look-ups, for
all heads of a window together.
"""

from __future__ import annotations

import zlib

import numpy as np
import numpy.typing as npt

from vqcodec.container.header import Header
from vqcodec.container.layout import (
    CHUNK_OVERHEAD,
    END_CHUNK,
    MAX_FRAMES,
    MAX_PAYLOAD,
    PICTURE_TAGS,
    Tag,
)
from vqcodec.container.source import Source

Numbers = npt.NDArray[np.uint32]
Offsets = npt.NDArray[np.int64]

WINDOW = 1 << 20  # bytes searched at once
_END_WORD = int.from_bytes(END_CHUNK[:4], "little")


class Search:
    """Searches one file, forwards.

    A picture chunk is found if it is no longer than :meth:`Header.most_bytes`, as writers see to.

    Args:
        source: seekable.
        header: of the file, which bounds what a chunk may look like.
    """

    def __init__(self, source: Source, header: Header) -> None:
        self._source = source
        limits = [header.most_bytes(n) if n <= header.max_frames else 0 for n in _FRAMES]
        self._limits = np.array(limits, np.uint32)  # (64,) longest payload by frames - 1
        self._base = -1  # of the window searched last
        self._found: Offsets = np.empty(0, np.int64)

    def next(self, offset: int) -> int | None:
        """Offset of the first whole, intact chunk at or after ``offset``, of any tag."""
        size = self._source.size or 0
        while offset + CHUNK_OVERHEAD <= size:
            base = offset // WINDOW * WINDOW
            if base != self._base:
                self._base, self._found = base, base + self._chunks(base)
            place = int(np.searchsorted(self._found, offset))
            if place < len(self._found):
                return int(self._found[place])
            offset = base + WINDOW
        return None

    def _chunks(self, base: int) -> Offsets:
        """Where, from ``base``, intact chunks begin, (n,) in order."""
        data = self._source.read(base, WINDOW + CHUNK_OVERHEAD + MAX_PAYLOAD)
        octets = np.frombuffer(data, np.uint8)
        places = np.arange(min(WINDOW, len(data) - CHUNK_OVERHEAD + 1))
        words = _words(octets, places)
        tags, frames, lengths = words >> 27, words >> 21 & 0x3F, words & MAX_PAYLOAD
        pictures = (tags > 0) & (tags < PICTURE_TAGS.stop) & (lengths <= self._limits[frames])
        others = (tags >= PICTURE_TAGS.stop) & (tags < Tag.END) & (frames == 0)
        likely = (pictures | others) & (lengths > 0) | (words == _END_WORD)
        likely &= places + CHUNK_OVERHEAD + lengths <= len(data)
        places = places[likely]
        sums = _chunk_crcs(data, words[likely], places + CHUNK_OVERHEAD, lengths[likely])
        found: Offsets = places[sums == _words(octets, places + 4)]
        return found


_FRAMES = range(1, MAX_FRAMES + 1)


def _words(octets: npt.NDArray[np.uint8], places: Offsets) -> Numbers:
    """The little-endian u32 at each place."""
    words = np.zeros(len(places), np.uint32)
    for number in range(4):
        words |= octets[places + number].astype(np.uint32) << np.uint32(8 * number)
    return words


def _chunk_crcs(data: bytes, words: Numbers, starts: Offsets, lengths: Numbers) -> Numbers:
    """What :func:`chunk_crc` gives for each head and the payload of its length at its start."""
    edges, which = np.unique(np.concatenate([starts, starts + lengths]), return_inverse=True)
    until = _crcs_until(data, edges)[which]
    before, after = until[: len(starts)], until[len(starts) :]
    # crc(A B) = shift(crc(A), length of B) ^ crc(B), both for what precedes and for the head.
    sums = before ^ _crcs_of(words)
    for power, table in enumerate(_SHIFTS):
        chosen = (lengths >> np.uint32(power) & 1) == 1
        sums[chosen] = _shift(sums[chosen], table)
    return sums ^ after


def _crcs_until(data: bytes, edges: Offsets) -> Numbers:
    """CRC of ``data`` up to each of the edges, which rise."""
    view, crc, before, crcs = memoryview(data), 0, 0, np.empty(len(edges), np.uint32)
    for number, edge in enumerate(edges.tolist()):
        crc = zlib.crc32(view[before:edge], crc)
        crcs[number], before = crc, edge
    return crcs


def _crcs_of(words: Numbers) -> Numbers:
    """CRC of the four bytes of each word."""
    crcs = ~words
    for _ in range(4):
        crcs = _skip(crcs)
    return ~crcs


def _skip(crcs: Numbers) -> Numbers:
    """The register after one more byte of zero."""
    skipped: Numbers = _TABLE[crcs & 0xFF] ^ crcs >> np.uint32(8)
    return skipped


def _shift(crcs: Numbers, table: Numbers) -> Numbers:
    """The register after as many bytes of zero as ``table`` (4, 256) is for."""
    shifted = np.zeros_like(crcs)
    for number in range(4):
        shifted ^= table[number][crcs >> np.uint32(8 * number) & 0xFF]
    return shifted


def _table() -> Numbers:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = table >> np.uint32(1) ^ (table & 1) * np.uint32(0xEDB88320)
    return table


def _shifts() -> list[Numbers]:
    """Tables (4, 256) for 1, 2, 4, ... bytes, enough for any payload."""
    octets = np.arange(256, dtype=np.uint32)
    tables = [_skip(np.stack([octets << np.uint32(8 * number) for number in range(4)]))]
    for _ in range(MAX_PAYLOAD.bit_length() - 1):
        tables.append(_shift(tables[-1], tables[-1]))
    return tables


_TABLE = _table()
_SHIFTS = _shifts()
