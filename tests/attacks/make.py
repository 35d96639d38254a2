"""Make nasty files: ``PYTHONPATH=. python tests/attacks/make.py FOLDER`` writes them all.

Each has its line in ``FILES`` or ``CHECKPOINTS``; what the program must say of it is beside it.
"""

from __future__ import annotations

import json
import struct
import sys
import zlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import zstandard

from vqcodec.container import Header, Level
from vqcodec.container.layout import (
    END_CHUNK,
    MAX_PAYLOAD,
    Head,
    Tag,
    chunk_crc,
    frame_chunk,
)
from vqcodec.errors import (
    ChecksumError,
    FormatError,
    TruncatedError,
    UnsupportedError,
    VqcodecError,
)

Kind = type[VqcodecError] | None
LEVELS = (Level(8, 8), Level(4, 4))
BODY = struct.Struct("<6HI8sB")
FRAMES = 32


def header(model: bytes, frames: int = 0, width: int = 64, height: int = 64) -> bytes:
    return Header(width, height, Fraction(1), Fraction(16), frames, model, LEVELS).to_bytes()


def forged(model: bytes, place: int, value: int, levels: bytes = b"\x33\0\4\x22\0\4") -> bytes:
    """A header of version 1 with one field of the body replaced, and a CRC that matches."""
    fields = [64, 64, 1, 1, 16, 1, 0, model, 2]
    fields[place] = value
    body = BODY.pack(*fields) + levels
    data = b"\x89VQV\r\n\x1a\n\x01\x00" + struct.pack("<H", len(body)) + body
    return data + struct.pack("<I", zlib.crc32(data))


def old(model: bytes) -> bytes:
    """A sound header of version 1."""
    return forged(model, 6, 0)


def picture(payload: bytes, tag: int = Tag.RAW, frames: int = FRAMES) -> bytes:
    return frame_chunk(Head(tag, frames, len(payload)), payload)


def index(*chunks: bytes, count: int | None = None) -> bytes:
    words = b"".join(chunk[:4] for chunk in chunks)
    count = len(chunks) if count is None else count
    payload = words + struct.pack("<I", count)
    return frame_chunk(Head(Tag.INDEX, 0, len(payload)), payload)


def deflated(data: bytes) -> bytes:
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    return compressor.compress(data) + compressor.flush()


def zstd(data: bytes, window: int = 0x40) -> bytes:
    parameters = zstandard.ZstdCompressionParameters.from_level(
        3, format=zstandard.FORMAT_ZSTD1_MAGICLESS, write_content_size=False
    )
    payload = bytearray(zstandard.ZstdCompressor(compression_params=parameters).compress(data))
    payload[1] = window
    return bytes(payload)


BOMB = bytes(1 << 30 >> 2)  # 256 MiB
GOOD = picture(bytes(2880))  # 32 frames of 64×64, all indices 0


def wide(model: bytes, width: int, height: int, levels: int = 2) -> bytes:
    """A chunk that is as large as the format allows, of zeros."""
    made = Header(width, height, Fraction(1), Fraction(16), 0, model, LEVELS[:levels])
    chunk = picture(bytes(made.raw_bytes(made.max_frames)), frames=made.max_frames)
    return made.to_bytes() + chunk + END_CHUNK


def heads_between(units: int) -> bytes:
    """Damaged heads that claim all that follows them, each before a small sound chunk."""
    small = picture(b"?", 29, 0)
    claims = range((units - 1) * (4 + len(small)), -1, -4 - len(small))
    return b"".join(Head(29, 0, min(n, MAX_PAYLOAD)).word.to_bytes(4, "little") + small
                    for n in claims)  # fmt: skip


def reserved(payload: bytes) -> bytes:
    """An ancillary chunk with something in bits 21 to 26 of its head."""
    word = struct.pack("<I", Head(29, 0, len(payload)).word | 5 << 21)
    return word + struct.pack("<I", chunk_crc(word, payload)) + payload


OPUS = b"\x06A_OPUS" + struct.pack("<IB", 48000, 1)


def sounding(model: bytes, *chunks: bytes, form: bytes = OPUS) -> bytes:
    """A file with these payloads of audio before its pictures."""
    audio = b"".join(picture(payload, Tag.AUDIO, 0) for payload in chunks)
    return header(model) + picture(form, Tag.AUDIO_FORMAT, 0) + audio + GOOD + END_CHUNK


# name: (what it is, what verify reports of it first, the bytes for a model)
FILES: dict[str, tuple[str, Kind, Callable[[bytes], bytes]]] = {
    "sound": ("a sound file, for comparison", None, lambda m: header(m, 32) + GOOD + END_CHUNK),
    "no-frames": ("sound, with no frames at all", None, lambda m: header(m) + END_CHUNK),
    "deflate-bomb": ("256 MiB in 255 KiB of deflate", FormatError,
        lambda m: header(m) + picture(deflated(BOMB), Tag.DEFLATE) + END_CHUNK),
    "zstd-bomb": ("256 MiB in 24 KiB of zstd", FormatError,
        lambda m: header(m) + picture(zstd(BOMB), Tag.ZSTD) + END_CHUNK),
    "zstd-window": ("a zstd frame that asks for a window of 3.75 TiB", FormatError,
        lambda m: header(m) + picture(zstd(bytes(5120), 0xFF), Tag.ZSTD) + END_CHUNK),
    "zstd-size": ("a zstd frame that promises 2^64 - 1 bytes", FormatError,
        lambda m: header(m) + picture(b"\xc0\x40" + b"\xff" * 8, Tag.ZSTD) + END_CHUNK),
    "too-many-frames-in-chunk": ("64 frames where 2^21 bytes of raw hold 8", FormatError,
        lambda m: header(m, 0, 4096, 2048) + picture(deflated(BOMB[:9 << 20]), Tag.DEFLATE, 64)
        + END_CHUNK),
    "index-out-of-range": ("indices of 65535 in a codebook of 1024", FormatError,
        lambda m: header(m) + picture(deflated(b"\xff" * 4608), Tag.DEFLATE) + END_CHUNK),
    "huge-picture": ("65528 pixels wide", FormatError, lambda m: forged(m, 0, 65528) + END_CHUNK),
    "odd-picture": ("63 pixels wide", FormatError, lambda m: forged(m, 0, 63) + END_CHUNK),
    "no-picture": ("0 pixels high", FormatError, lambda m: forged(m, 1, 0) + END_CHUNK),
    "aspect-by-zero": ("an aspect ratio of 1/0", FormatError, lambda m: forged(m, 3, 0)),
    "rate-zero": ("0 frames per second", FormatError, lambda m: forged(m, 4, 0)),
    "rate-by-zero": ("a rate of 16/0", FormatError, lambda m: forged(m, 5, 0)),
    "no-levels": ("no levels", FormatError, lambda m: forged(m, 8, 0)),
    "levels-missing": ("255 levels, of which two are there", FormatError,
        lambda m: forged(m, 8, 255)),
    "stride": ("a temporal stride of 2^15", FormatError,
        lambda m: forged(m, 8, 2, b"\xf3\0\4\x22\0\4")),
    "codebook-empty": ("a codebook of no entries", FormatError,
        lambda m: forged(m, 8, 2, b"\x33\0\0\x22\0\4")),
    "frame-count": ("2^32 - 1 frames in the header, 32 in the file", FormatError,
        lambda m: header(m, 2**32 - 1) + GOOD + END_CHUNK),
    "frame-count-gap": ("2^32 - 1 frames, and a damaged chunk", ChecksumError,
        lambda m: header(m, 2**32 - 1) + GOOD + bytes(99) + GOOD + END_CHUNK),
    "long-header": ("a header of 65535 bytes that ends early", TruncatedError,
        lambda m: old(m)[:10] + b"\xff\xff" + old(m)[12:] + GOOD + END_CHUNK),
    "long-header-whole": ("a sound header of 65535 bytes", None, lambda m: _padded(m) + END_CHUNK),
    "text-mode": ("line ends altered on the way", FormatError,
        lambda m: (old(m) + GOOD + END_CHUNK).replace(b"\r\n", b"\n")),
    "version": ("version 3", UnsupportedError, lambda m: header(m)[:4] + b"\3" + bytes(99)),
    "major": ("major version 2 of old", UnsupportedError, lambda m: old(m)[:8] + b"\2" + bytes(99)),
    "short-header": ("a header of 255 bytes that ends early", TruncatedError,
        lambda m: header(m)[:5] + b"\xff" + header(m)[6:] + END_CHUNK),
    "endless-number": ("a width that does not end", FormatError,
        lambda m: _sealed(header(m)[:6] + b"\x80" * 40) + GOOD + END_CHUNK),
    "alone": ("one chunk and no end", None, lambda m: header(m, 32) + GOOD),
    "alone-and-more": ("one chunk, no end, and bytes behind", TruncatedError,
        lambda m: header(m, 32) + GOOD + b"?"),
    "alone-cut": ("one chunk, cut off, and no end", TruncatedError,
        lambda m: header(m, 32) + GOOD[:-1]),
    "packer": ("pictures in a packer of the future", UnsupportedError,
        lambda m: header(m) + picture(bytes(9), 15) + END_CHUNK),
    "ancillary": ("ancillary chunks of no known tag", None,
        lambda m: header(m) + picture(b"?", 29, 0) * 9 + GOOD + END_CHUNK),
    "two-ends": ("two ends", FormatError, lambda m: header(m) + GOOD + END_CHUNK * 2),
    "zeros": ("a megabyte of zeros", ChecksumError, lambda m: header(m) + bytes(1 << 20)),
    "empty-chunk": ("a chunk without payload", ChecksumError,
        lambda m: header(m) + picture(b"") + GOOD + END_CHUNK),
    "empty-chunk-indexed": ("the same, ancillary, with an index", ChecksumError,
        lambda m: header(m) + (empty := picture(b"", 29, 0)) + GOOD * 2 + index(empty, GOOD, GOOD)
        + END_CHUNK),
    "reserved-bits": ("bits of later writers in an ancillary head, and in the index", None,
        lambda m: header(m) + (odd := reserved(b"?")) + GOOD * 2 + index(odd, GOOD, GOOD)
        + END_CHUNK),
    "past-the-end": ("a chunk that claims 2 MiB of a file of 3 KiB", TruncatedError,
        lambda m: header(m) + GOOD + struct.pack("<I", MAX_PAYLOAD | Tag.RAW << 27) + GOOD[:-9]),
    "index-lies": ("an index of other chunks", FormatError,
        lambda m: header(m) + GOOD * 2 + index(GOOD[:3] + b"\x18", GOOD) + END_CHUNK),
    "index-count": ("an index that claims 2^32 - 1 chunks", FormatError,
        lambda m: header(m) + GOOD * 2 + index(GOOD, GOOD, count=2**32 - 1) + END_CHUNK),
    "index-of-index": ("an index that holds itself", FormatError,
        lambda m: header(m) + GOOD + index(GOOD, index(GOOD, GOOD)) + END_CHUNK),
    "index-of-nothing": ("an index of 500,000 chunks of 64 frames, none there", FormatError,
        lambda m: header(m) + index(*[picture(b"?", 1, 64)] * 500_000) + END_CHUNK),
    "tiny-chunks": ("100,000 damaged chunks of nine bytes", ChecksumError,
        lambda m: header(m) + (picture(b"?")[:-1] + b"!") * 100_000 + END_CHUNK),
    "heads-everywhere": ("2 MiB in which each fourth byte begins a likely head", ChecksumError,
        lambda m: header(m) + b"\x00\x08\x80\x08" * (1 << 19) + END_CHUNK),
    "heads-of-large": ("2 MiB of heads that claim a megabyte each", ChecksumError,
        lambda m: header(m, 0, 4096, 2048) + b"\x00\x00\xf0\x08" * (1 << 19) + END_CHUNK),
    "heads-between": ("heads that claim the rest of the file, between chunks", ChecksumError,
        lambda m: header(m) + heads_between(60_000) + END_CHUNK),
    "nested": ("a whole file inside of a damaged chunk", ChecksumError,
        lambda m: header(m) + picture(header(m) + GOOD + END_CHUNK, 20, 0)[:-1] + b"?" + END_CHUNK),
    "noise": ("no .vqv file", FormatError, lambda m: bytes(range(256)) * 9),
    "empty": ("nothing", TruncatedError, lambda m: b""),
    "audio-size": ("an audio packet that claims 128 MiB", FormatError,
        lambda m: sounding(m, bytes(6) + b"\xff\xff\xff\x7f\x01a")),
    "audio-number": ("an audio chunk whose first number does not end", FormatError,
        lambda m: sounding(m, b"\xff" * 99)),
    "audio-flood": ("a million audio packets of a byte in one chunk", FormatError,
        lambda m: sounding(m, bytes(6) + b"\x03\x01a" + b"\x02a" * 1_000_000)),
    "audio-again": ("the same audio twice", FormatError,
        lambda m: sounding(m, *[bytes(6) + b"\x03\x01a"] * 2)),
    "audio-format": ("a format of a codec of no name", FormatError,
        lambda m: sounding(m, form=b"\0" * 9)),
    "audio-late": ("a format behind pictures", FormatError,
        lambda m: header(m) + GOOD + sounding(m)[len(header(m)):]),
    "audio-far": ("sound in 93 years, and 93 years ago", None,
        lambda m: sounding(m, bytes(5) + b"\x80\x03\x01a", b"\xff" * 5 + b"\x7f\x03\x01a")),
    "audio-noise": ("Opus of noise, with a setup of noise", None,
        lambda m: sounding(m, bytes(6) + b"\x41\xc0\x07" + b"\xfc\x7f\xff\x03" * 8,
                           form=OPUS + b"OpusHead" + b"\xff" * 40)),
    "audio-unknown": ("a codec of the future, 255 channels", None,
        lambda m: sounding(m, bytes(6) + b"\x03\x01a", form=b"\x08A_FUTURE\0\xb8\x0b\0\xff")),
    "audio-aac-noise": ("AAC of noise, at 768 kHz in 255 channels", None,
        lambda m: sounding(m, bytes(6) + b"\x41\xc0\x07" + b"\xfc\x7f\xff\x03" * 8,
                           form=b"\x05A_AAC\0\xb8\x0b\0\xff" + b"\xff" * 9)),
    "range-number": ("a range payload whose first number does not end", FormatError,
        lambda m: header(m) + picture(b"\xff" * 99, Tag.RANGE) + END_CHUNK),
    "range-end": ("a level that ends behind its stream", FormatError,
        lambda m: header(m) + picture(b"\xff\xff\x7f" + bytes(99), Tag.RANGE) + END_CHUNK),
    "range-noise": ("range payloads of noise, of all lengths", None,
        lambda m: header(m) + b"".join(picture(b"\1" + bytes(range(256))[-n:], Tag.RANGE)
                                       for n in range(1, 60, 7)) + END_CHUNK),
    "range-long": ("a megabyte of noise where a kilobyte is due", None,
        lambda m: header(m) + picture(b"\1" + bytes(range(256)) * 4000, Tag.RANGE) + END_CHUNK),
    "range-orphan": ("a chunk that needs one before the first", ChecksumError,
        lambda m: header(m) + picture(b"\1abc", Tag.RANGE_MEMORY) + GOOD + END_CHUNK),
    "range-chain": ("2,000 chunks that each need the one before", ChecksumError,
        lambda m: header(m) + GOOD + picture(b"\1abc", Tag.RANGE_MEMORY, 1) * 2_000 + END_CHUNK),
    "range-chain-indexed": ("the same with an index", ChecksumError,
        lambda m: header(m) + GOOD + (chunk := picture(b"\1abc", Tag.RANGE_MEMORY, 1)) * 2_000
        + index(GOOD, *[chunk] * 2_000) + END_CHUNK),
    "largest-chunk": ("64 frames of 4096x256 in a chunk", None, lambda m: wide(m, 4096, 256)),
    "largest-pictures": ("pictures of 4096x4096, of the coarsest level alone", None,
        lambda m: wide(m, 4096, 4096, 1)),
}  # fmt: skip


def _sealed(data: bytes) -> bytes:
    """The length of the body put right, and the CRC behind it."""
    data = data[:5] + bytes([len(data) - 6]) + data[6:]
    return data + struct.pack("<I", zlib.crc32(data))


def _padded(model: bytes) -> bytes:
    """A header whose body has fields of later versions, up to the largest length."""
    plain = old(model)
    data = plain[:10] + b"\xff\xff" + plain[12:-4].ljust(12 + 65535 - 12, b"\0")
    data = data.ljust(12 + 65535, b"\0")
    return data + struct.pack("<I", zlib.crc32(data))


def tensors(fields: object, data: bytes = b"") -> bytes:
    """A safetensors file with this header."""
    text = json.dumps(fields).encode()
    return struct.pack("<Q", len(text)) + text + data


# All must be refused with a CheckpointError.
CHECKPOINTS: dict[str, tuple[str, bytes]] = {
    "empty": ("nothing", b""),
    "pickle": ("a pickle that runs a program", b"cos\nsystem\n(S'touch owned'\ntR."),
    "zip": ("what torch.save would write", b"PK\3\4" + bytes(100)),
    "header-length": ("a header of 2^64 - 1 bytes", b"\xff" * 8 + b"{}"),
    "header-past-end": ("a header longer than the file", struct.pack("<Q", 1 << 19) + b"{}"),
    "no-json": ("a header that is no JSON", struct.pack("<Q", 4) + b"\xff\xfe{}"),
    "deep-json": ("brackets nested 100,000 deep", struct.pack("<Q", 100_000) + b"[" * 100_000),
    "list": ("a header that is a list", tensors([])),
    "huge-shape": ("a tensor of 2^60 numbers",
        tensors({"w": {"dtype": "F32", "shape": [1 << 30] * 2, "data_offsets": [0, 4]}}, b"1234")),
    "negative-shape": ("a tensor of -1 numbers",
        tensors({"w": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}, b"1234")),
    "overlap": ("two tensors of the same bytes",
        tensors(
            {n: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} for n in "ab"}, b"1234"
        )),
    "past-end": ("a tensor beyond the end of the file",
        tensors({"w": {"dtype": "F32", "shape": [9], "data_offsets": [0, 36]}}, b"1234")),
    "metadata": ("metadata that is no text", tensors({"__metadata__": {"config": {"a": 1}}})),
    "config": ("a configuration of a billion channels",
        tensors({"__metadata__": {"format": "vqcodec", "config": '{"channels": 1000000000}'}})),
}  # fmt: skip


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, (line, _, make) in FILES.items():
        (folder / f"{name}.vqv").write_bytes(make(b"stubstub"))
        print(f"{name}.vqv: {line}")
    for name, (line, data) in CHECKPOINTS.items():
        (folder / f"{name}.safetensors").write_bytes(data)
        print(f"{name}.safetensors: {line}")


if __name__ == "__main__":
    main()
