"""The reader: pipes, seeking, ancillary chunks, truncation, damage, hostile files."""

from __future__ import annotations

import contextlib
import io
import struct
import tracemalloc
import zlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vqcodec.container import Reader, Writer, verify
from vqcodec.container.layout import END_CHUNK, Head, frame_chunk
from vqcodec.errors import (
    ChecksumError,
    FormatError,
    TruncatedError,
    UnsupportedError,
    VqcodecError,
)

FIRST, SECOND, INDEX, END = 33, 64, 95, 115  # offsets of the chunks in the small file


def indices(chunks):
    """All indices of all chunks, in order."""
    parts = [grid.ravel() for chunk in chunks for grid in chunk.grids()]
    return np.concatenate(parts).tolist() if parts else []


def reader_of(data):
    return Reader(io.BytesIO(data))


def long_file(header, chunks):
    """A file of chunks of 8 frames, whose indices are its number; each with an ancillary chunk."""
    file = io.BytesIO()
    with Writer(file, header, packer="raw") as writer:
        for number in range(chunks):
            writer.write(8, [np.full(shape, number) for shape in header.grid_shapes(8)])
            writer.write_chunk(18, b"note")
    return file.getvalue()


class Counting(io.BytesIO):
    """Counts the bytes that are read."""

    total = 0

    def read(self, size=-1):
        data = super().read(size)
        self.total += len(data)
        return data


# In order, and from pipes


@pytest.mark.parametrize("piece", [1, 7, 1 << 20])
def test_pipe(small, pipe, piece):
    reader = Reader(pipe(small + b"trailing", piece))
    assert indices(reader) == list(range(36))
    with pytest.raises(ValueError, match="only once"):
        list(reader)


def test_pipe_gives_table_and_span(header, pipe):
    data = long_file(header, 5)
    assert Reader(pipe(data)).table.entries == reader_of(data).table.entries
    chunks = Reader(pipe(data)).chunks(16, 24)
    assert [chunk.number for chunk in chunks] == [2]


def test_chunk_says_where_it_is(small):
    first, second = reader_of(small)
    assert (first.number, first.start, first.stop, first.offset) == (0, 0, 8, FIRST)
    assert (second.number, second.start, second.stop, second.offset) == (1, 8, 12, SECOND)
    assert (second.packer, second.nbytes, len(second.payload)) == ("raw", 31, 23)
    assert second.where() == "chunk at byte 64 (0.50 to 0.75 s)"


# The index, and seeking


def test_seeking_reads_only_what_is_needed(header):
    data = long_file(header, 500)
    file = Counting(data)
    chunks = list(Reader(file).chunks(3000, 3010))
    assert [chunk.start for chunk in chunks] == [3000, 3008]
    assert indices(chunks)[0] == 375
    # Header (the prefix twice), index, end, its count and constant once more, two chunks.
    assert file.total == 12 + 33 + (8 + 4 * 1000 + 4) + 12 + 2 * 31


@pytest.mark.parametrize(
    ("start", "stop", "numbers"),
    [(0, None, [0, 1, 2, 3]), (0, 8, [0]), (7, 9, [0, 1]), (8, 8, []), (31, 99, [3]), (32, 40, [])],
)
@pytest.mark.parametrize("with_index", [True, False])
def test_spans(header, start, stop, numbers, with_index):
    data = long_file(header, 4)
    if not with_index:
        data += b"bytes after the end hide the index"
    reader = reader_of(data)
    assert reader.table.indexed is with_index
    assert reader.table.nbytes == len(long_file(header, 4))
    found = [chunk.number for chunk in reader.chunks(start, stop)]
    assert found == [n for n in numbers if start != stop]


def without_index(small):
    return small[:INDEX] + small[END:]


@pytest.mark.parametrize(
    "spoil",
    [
        without_index,
        lambda small: small[:END] + END_CHUNK,
        lambda small: small[: END - 1] + b"\xff" + END_CHUNK,  # count
        lambda small: small[: INDEX + 9] + b"\xff" + small[INDEX + 10 :],  # a head
        lambda small: small[:INDEX] + frame_chunk(Head(30, 0, 4), bytes(4)) + END_CHUNK,
        lambda small: small + small[FIRST:],
        lambda small: small + small,
    ],
)
def test_without_a_sound_index_the_file_is_scanned(small, spoil):
    data = spoil(small)
    reader = reader_of(data)
    if data != small:
        assert not reader.table.indexed
    assert reader.table.frames == 12
    assert indices(reader) == list(range(36))
    assert indices(reader.chunks(8, 12)) == list(range(18, 36))


def test_index_stands_in_for_a_damaged_head(small):
    data = bytearray(small)
    data[FIRST : FIRST + 4] = b"\xff\xff\xff\xff"
    first, second = reader_of(bytes(data))
    with pytest.raises(ChecksumError, match=r"chunk at byte 33 \(0.00 to 0.50 s\)"):
        first.grids()
    assert indices([second]) == list(range(18, 36))


# Tags


def with_chunk(small, tag, payload=b"payload", frames=0):
    """Insert a chunk behind the first, and leave out the index."""
    chunk = frame_chunk(Head(tag, frames, len(payload)), payload)
    return small[:SECOND] + chunk + small[SECOND:INDEX] + END_CHUNK


@pytest.mark.parametrize("tag", [18, 23, 29])
def test_unknown_ancillary_chunks_are_skipped(small, pipe, tag):
    data = with_chunk(small, tag)
    assert indices(reader_of(data)) == indices(Reader(pipe(data))) == list(range(36))
    assert verify(io.BytesIO(data)).problems == ()


@pytest.mark.parametrize("tag", [0, 6, 15])
def test_unknown_picture_chunks_are_not(small, header, tag):
    data = replace(header, frames=0).to_bytes() + with_chunk(small, tag, frames=32)[FIRST:]
    first, unknown, last = reader_of(data)
    assert (unknown.start, unknown.stop, last.start) == (8, 40, 40)
    assert unknown.packer is None
    with pytest.raises(UnsupportedError, match=rf"chunk at byte 64 .* \(tag {tag}\)"):
        unknown.grids()
    assert indices([first, last]) == list(range(36))


def test_reserved_bits_are_ignored(small):
    word = struct.pack("<I", 16 << 27 | 5 << 21 | 4)
    chunk = word + struct.pack("<I", zlib.crc32(word + b"note")) + b"note"
    assert indices(reader_of(small[:FIRST] + chunk + small[FIRST:])) == list(range(36))


# Truncation


def test_truncation_at_every_byte(small, pipe):
    for size in range(len(small)):
        for file in (io.BytesIO(small[:size]), pipe(small[:size])):
            chunks = []
            with pytest.raises(TruncatedError) as caught:  # noqa: PT012 (what comes before counts)
                for chunk in Reader(file):
                    chunks.append(chunk)
            whole = (size >= SECOND) + (size >= INDEX)
            assert indices(chunks) == list(range(18 * whole))
            if size >= FIRST:
                assert f"; {(0, 8, 12)[whole]} frames before it are whole" in str(caught.value)


def test_truncated_file_has_a_table_and_spans(small):
    reader = reader_of(small[: SECOND + 30])
    assert reader.table.frames == 8
    assert isinstance(reader.table.problem, TruncatedError)
    assert indices(reader.chunks(0, 8)) == list(range(18))
    with pytest.raises(TruncatedError):
        list(reader.chunks(0, 9))


# Damage


def test_every_bit_flip_is_an_error_or_harmless(small, pipe):
    """Through the index and, from a pipe, without."""
    for position in range(8 * len(small)):
        data = bytearray(small)
        data[position // 8] ^= 1 << position % 8
        for file in (io.BytesIO(data), pipe(bytes(data), 1 << 20)):
            with contextlib.suppress(FormatError):
                assert indices(Reader(file)) == list(range(36))
        assert verify(io.BytesIO(data)).problems


def test_damage_stays_in_its_chunk(header, pipe):
    data = bytearray(long_file(header, 4))
    data[FIRST + 43 + 20] ^= 1  # each chunk with its note is 43 bytes long
    for file in (io.BytesIO(data), pipe(bytes(data))):
        chunks = list(Reader(file))
        assert [chunk.intact for chunk in chunks] == [True, False, True, True]
        with pytest.raises(ChecksumError, match=r"chunk at byte 76 \(0.50 to 1.00 s\)"):
            chunks[1].check()
        assert indices([chunks[3]])[0] == 3
    report = verify(io.BytesIO(data))
    assert (report.chunks, report.frames, len(report.problems)) == (3, 24, 1)


def test_a_picture_cannot_vanish_behind_a_damaged_tag(small, pipe):
    data = bytearray(small)
    data[FIRST + 3] ^= 0x80  # tag 1 becomes 17, which readers skip
    for file in (pipe(bytes(data)), io.BytesIO(without_index(bytes(data)))):
        chunk = next(iter(Reader(file)))
        with pytest.raises(ChecksumError):
            chunk.grids()
    # Seeking past it without an index, too: what follows may be out of place.
    chunk = next(reader_of(without_index(bytes(data))).chunks(8, 9))
    assert not chunk.intact


def test_frames_must_add_up(small, header):
    data = replace(header, frames=13).to_bytes() + small[FIRST:]
    reader = reader_of(data)
    assert not reader.table.indexed
    assert isinstance(reader.table.problem, FormatError)
    with pytest.raises(FormatError, match="12 frames in the chunks, 13 in the header"):
        list(reader)


def test_zeros_are_not_chunks(small):
    with pytest.raises(ChecksumError, match="no chunk at byte 64"):
        list(reader_of(small[:SECOND] + bytes(1 << 20)))


# Hostile files


def deflate_bomb(size):
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    return compressor.compress(bytes(size)) + compressor.flush()


def zstd_bomb(blocks):
    """128 KiB from each four bytes: blocks of one repeated byte, in a window of 8 MiB."""
    block = 1 << 17 << 3 | 1 << 1
    return b"\0\x68" + (block.to_bytes(3, "little") + b"\0") * blocks + b"\1\0\0"


@pytest.mark.parametrize(("tag", "payload"), [(2, deflate_bomb(1 << 28)), (3, zstd_bomb(1 << 17))])
def test_decompression_bomb(header, tag, payload):
    chunk = frame_chunk(Head(tag, 8, len(payload)), payload)
    reader = reader_of(header.to_bytes() + chunk + END_CHUNK)
    (bomb,) = reader
    tracemalloc.start()
    with pytest.raises(FormatError, match="chunk at byte"):
        bomb.grids()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_chunk_too_large_for_raw_is_refused(header):
    large = replace(header, width=4096, height=2048)
    payload = deflate_bomb(1 << 22)
    data = large.to_bytes() + frame_chunk(Head(2, 64, len(payload)), payload) + END_CHUNK
    (chunk,) = reader_of(data)
    with pytest.raises(FormatError, match="more frames"):
        chunk.grids()


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_mutations_raise_only_our_errors(small, data):
    mutant = bytearray(small)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(mutant)))
        mutant[at : at + data.draw(st.integers(0, 8))] = data.draw(st.binary(max_size=8))
    if data.draw(st.booleans()) and len(mutant) > FIRST:
        seal = slice(FIRST - 4, FIRST)
        mutant[seal] = struct.pack("<I", zlib.crc32(mutant[: FIRST - 4]))
    verify(io.BytesIO(mutant))
    try:
        reader = reader_of(bytes(mutant))
        assert reader.table.frames >= 0
        for chunk in reader:
            try:
                chunk.grids()
            except VqcodecError:
                continue
    except VqcodecError:
        pass
