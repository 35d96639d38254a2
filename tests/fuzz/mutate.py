"""Small sound files, and mutations that know the format: what they make is worth a second look."""

from __future__ import annotations

import io
import random
import struct
import zlib
from fractions import Fraction

import numpy as np
from synthetic import fitted_prior

from vqcodec.audio import AudioFormat, AudioPacket
from vqcodec.container import Header, Level, Reader, Writer
from vqcodec.container.audio import pack_format, pack_packets
from vqcodec.container.layout import END_CHUNK, Head, Tag, frame_chunk

STRIDES = ((8, 8, 1024), (4, 4, 1024))
LEVELS = tuple(Level(*level) for level in STRIDES)
TRACK = AudioFormat("A_OPUS", 48000, 1, b"OpusHead\1\1\0\0\x80\xbb\0\0\0\0\0")
PRIOR = fitted_prior(STRIDES, [np.arange(9) % 3] * 2)


def sound_files() -> list[bytes]:
    """A file for each packer, with ancillary chunks, of one chunk, of none, of many."""
    plans = [("raw", 5, 8), ("deflate", 4, 16), ("zstd", 4, 13), ("auto", 12, 8), ("raw", 1, 1)]
    plans += [("range", 6, 8), ("range", 11, 5), ("raw", 5, 8, True), ("range", 6, 8, True)]
    return [_sound(*plan) for plan in plans] + [_sound("auto", 0, 1)]


def _sound(packer: str, chunks: int, frames: int, audio: bool = False) -> bytes:
    header = Header(16, 8, Fraction(16, 9), Fraction(16), 0, b"stubstub", LEVELS)
    generator = np.random.default_rng(chunks)
    file = io.BytesIO()
    with Writer(file, header, packer=packer, prior=PRIOR if packer == "range" else None) as writer:
        if audio:
            writer.write_chunk(Tag.AUDIO_FORMAT, pack_format(TRACK))
        for number in range(chunks):
            if audio:
                for payload in pack_packets(_packets(number, generator), TRACK.rate):
                    writer.write_chunk(Tag.AUDIO, payload)
            top = 1024 if number % (4 if packer == "range" else 2) == 1 else 3
            writer.write(
                frames, [generator.integers(0, top, s) for s in header.grid_shapes(frames)]
            )
            if number % 4 == 1:
                writer.write_chunk(18 + number % 12, bytes(range(number)))
    return file.getvalue()


def _packets(number: int, generator: np.random.Generator) -> list[AudioPacket]:
    """Those of one half second; some are missing."""
    ticks = TRACK.rate // 50
    kept = [place for place in range(25) if (place + number) % 11]
    return [
        AudioPacket((25 * number + place) * ticks, ticks, generator.bytes(place % 7 + 1))
        for place in kept
    ]


class Mutator:
    """Makes variants of sound files, the same ones for the same seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._files = sound_files()

    def next(self) -> bytes:
        """One to four mutations of one of the files."""
        data = self._random.choice(self._files)
        for _ in range(self._random.choice((1, 1, 1, 2, 3, 4))):
            chosen = self._random.choice(_OF_BYTES if self._random.random() < 0.4 else _OF_PARTS)
            data = chosen(self._random, data)
        return data


def _flip(draw: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 8))):
        if changed:
            changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def _drop(draw: random.Random, data: bytes) -> bytes:
    begin = draw.randint(0, len(data))
    return data[:begin] + data[begin + draw.choice((1, 3, 8, 40, 200)) :]


def _cut(draw: random.Random, data: bytes) -> bytes:
    return data[: draw.randint(0, len(data))]


def _insert(draw: random.Random, data: bytes) -> bytes:
    begin, length = draw.randint(0, len(data)), draw.choice((1, 4, 8, 30))
    return data[:begin] + draw.choice((draw.randbytes(length), bytes(length))) + data[begin:]


def _double(draw: random.Random, data: bytes) -> bytes:
    begin = draw.randint(0, len(data))
    end = begin + draw.choice((1, 8, 50, 400))
    return data[:end] + data[begin:end] + data[end:]


def _parts(data: bytes) -> tuple[bytes, list[tuple[Head, bytes]]]:
    """Header, and (head, payload) of each chunk as far as they can be followed."""
    size = struct.unpack_from("<H", data, 10)[0] + 16 if len(data) > 12 else len(data)
    chunks, offset = [], size
    while offset + 8 <= len(data):
        head = Head.from_word(*struct.unpack_from("<I", data, offset))
        chunks.append((head, data[offset + 8 : offset + 8 + head.length]))
        offset += 8 + head.length
    return data[:size], chunks


def _joined(header: bytes, chunks: list[tuple[Head, bytes]]) -> bytes:
    """With lengths as they are claimed, and CRCs that match."""
    return header + b"".join(frame_chunk(head, payload) for head, payload in chunks)


def _reorder(draw: random.Random, data: bytes) -> bytes:
    header, chunks = _parts(data)
    if chunks:
        one, other = draw.randrange(len(chunks)), draw.randrange(len(chunks))
        what = draw.randrange(3)
        if what == 0:
            chunks[one], chunks[other] = chunks[other], chunks[one]
        elif what == 1:
            chunks.insert(one, chunks[other])
        else:
            del chunks[one]
    return _joined(header, chunks)


def _lie_in_head(draw: random.Random, data: bytes) -> bytes:
    header, chunks = _parts(data)
    if chunks:
        place = draw.randrange(len(chunks))
        head, payload = chunks[place]
        word = head.word ^ 1 << draw.randrange(32)
        word = draw.choice((word, draw.getrandbits(32), 0, 0xFFFFFFFF))
        chunks[place] = (Head.from_word(word), payload)
    return _joined(header, chunks)


def _lie_in_payload(draw: random.Random, data: bytes) -> bytes:
    header, chunks = _parts(data)
    if chunks:
        place = draw.randrange(len(chunks))
        head, payload = chunks[place]
        payload = draw.choice((_flip, _drop, _insert, _double))(draw, payload)
        chunks[place] = (head._replace(length=len(payload)), payload)
    return _joined(header, chunks)


def _lie_in_header(draw: random.Random, data: bytes) -> bytes:
    header, _ = _parts(data)
    changed = bytearray(header)
    if len(changed) > 16:
        place = draw.randrange(12, len(changed) - 4)
        changed[place] = draw.choice((0, 1, 255, changed[place] ^ 1 << draw.randrange(8)))
        changed[-4:] = struct.pack("<I", zlib.crc32(changed[:-4]))
    return bytes(changed) + data[len(header) :]


def _join(draw: random.Random, data: bytes) -> bytes:
    return draw.choice((data + data, data + END_CHUNK, data[:-8] + data, data + draw.randbytes(9)))


_OF_BYTES = (_flip, _drop, _cut, _insert, _double)
_OF_PARTS = (_reorder, _lie_in_head, _lie_in_payload, _lie_in_header, _join)


def grids_of(data: bytes) -> list[bytes]:
    """The indices of each chunk of a sound file, as bytes."""
    chunks = Reader(io.BytesIO(data), lambda _header: PRIOR).chunks()
    return [b"".join(grid.tobytes() for grid in chunk.grids()) for chunk in chunks]
