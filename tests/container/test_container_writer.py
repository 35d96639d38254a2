"""The writer: sizes, what it refuses, pipes, exceptions; and what importing it costs."""

from __future__ import annotations

import io
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vqcodec.container import PACKERS, Header, Level, Reader, Writer, verify
from vqcodec.container.layout import END_CHUNK
from vqcodec.container.salvage import Salvage
from vqcodec.errors import TruncatedError

CLIP = Header(64, 64, Fraction(1), Fraction(16), 0, bytes(8), (Level(8, 8), Level(4, 4)))


def contents_of(header, kind, frames, seed):
    """Grids between the easiest and the hardest to compress."""
    rng = np.random.default_rng(seed)
    for shape, level in zip(header.grid_shapes(frames), header.levels, strict=True):
        noise = rng.integers(0, level.entries, shape)
        yield {
            "noise": noise,
            "zeros": np.zeros(shape, int),
            "still": np.broadcast_to(noise[:1], shape),
            "largest": np.full(shape, level.entries - 1),
            "sparse": np.where(rng.random(shape) < 0.05, noise, 0),
            "permutation": rng.permutation(noise.size).reshape(shape) % level.entries,
        }[kind]


KINDS = ("noise", "zeros", "still", "largest", "sparse", "permutation")


@settings(deadline=None)
@given(
    kinds=st.lists(st.sampled_from(KINDS), max_size=4),
    size=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    frames=st.integers(1, 32),
    levels=st.lists(
        st.builds(
            Level,
            stride_t=st.sampled_from([1, 2, 4, 8, 32]),
            stride=st.sampled_from([4, 8]),
            entries=st.sampled_from([2, 100, 256, 1024, 32768]),
        ),
        min_size=1,
        max_size=3,
    ),
    packer=st.sampled_from(["auto", *PACKERS]),
    seed=st.integers(0, 2**32),
)
def test_round_trip_and_bound(kinds, size, frames, levels, packer, seed):
    width, height = (8 * side for side in size)
    header = replace(CLIP, width=width, height=height, levels=tuple(levels))
    file, written = io.BytesIO(), []
    with Writer(file, header, packer=packer) as writer:
        for number, kind in enumerate(kinds):
            grids = list(contents_of(header, kind, frames, seed + number))
            nbytes = writer.write(frames, grids)
            bits = sum(grid.size * level.bits for grid, level in zip(grids, levels, strict=True))
            assert nbytes <= (bits + 7) // 8 + 8
            written.append(grids)
    file.seek(0)
    reader = Reader(file)
    assert reader.header == replace(header, frames=frames * len(kinds)) == writer.header
    chunks = list(reader)
    assert len(chunks) == len(written)
    for chunk, grids in zip(chunks, written, strict=True):
        assert chunk.frames == frames
        for result, expected in zip(chunk.grids(), grids, strict=True):
            np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_one_chunk_file_has_at_most_64_bytes_around_its_payload(kind):
    file = io.BytesIO()
    with Writer(file, CLIP) as writer:
        nbytes = writer.write(32, list(contents_of(CLIP, kind, 32, 0)))
    assert nbytes <= 2304 * 10 // 8 + 8
    assert len(file.getvalue()) - (nbytes - 8) <= 64


def test_auto_uses_every_packer():
    packers = set()
    for kind in KINDS:
        for frames in (8, 32):
            file = io.BytesIO()
            with Writer(file, CLIP) as writer:
                writer.write(frames, list(contents_of(CLIP, kind, frames, 1)))
            file.seek(0)
            packers |= {chunk.packer for chunk in Reader(file)}
    assert packers == set(PACKERS)


@pytest.mark.parametrize(
    ("frames", "spoil"),
    [
        (0, lambda grids: grids),
        (65, lambda grids: grids),
        (9, lambda grids: grids),
        (8, lambda grids: grids[:1]),
        (8, lambda grids: grids[::-1]),
        (8, lambda grids: [grid - 1 for grid in grids]),
        (8, lambda grids: [grid + 1020 for grid in grids]),
        (8, lambda grids: [grid.astype(float) for grid in grids]),
    ],
)
def test_refuses_other_grids(header, contents, frames, spoil):
    file = io.BytesIO()
    writer = Writer(file, header)
    before = file.getvalue()
    with pytest.raises(ValueError, match=r"frames|grid|index"):
        writer.write(frames, spoil(contents[0][1]))
    assert file.getvalue() == before


def test_refuses_other_tags_and_packers(header):
    writer = Writer(io.BytesIO(), header)
    for tag, payload in [(1, b"x"), (15, b"x"), (30, b"x"), (16, b""), (16, bytes(1 << 21))]:
        with pytest.raises(ValueError, match=r"tag|payload"):
            writer.write_chunk(tag, payload)
    with pytest.raises(ValueError, match="packer"):
        Writer(io.BytesIO(), header, packer="lzma")


class Unseekable(io.BytesIO):
    def seekable(self):
        return False

    def seek(self, *_):
        raise io.UnsupportedOperation

    tell = seek


def test_pipe_keeps_the_frame_count_open(header, contents, small):
    file = Unseekable()
    with Writer(file, header, packer="raw") as writer:
        for frames, grids in contents:
            writer.write(frames, grids)
    data = file.getvalue()
    assert data[33:] == small[33:]
    reader = Reader(io.BytesIO(data))
    assert (reader.header.frames, reader.table.frames) == (0, 12)


def test_pipe_must_keep_a_promise(header):
    writer = Writer(Unseekable(), replace(header, frames=8))
    with pytest.raises(ValueError, match="promised"):
        writer.close()


def test_exception_leaves_the_file_without_end(header, contents):
    file = io.BytesIO()

    def interrupted():
        with Writer(file, header) as writer:
            writer.write(*contents[0])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not file.getvalue().endswith(END_CHUNK)


def test_file_may_begin_anywhere(header, contents, small):
    file = io.BytesIO()
    file.write(b"before")
    with Writer(file, header, packer="raw") as writer:
        for frames, grids in contents:
            writer.write(frames, grids)
    assert file.getvalue() == b"before" + small
    file.seek(6)
    assert Reader(file).table.indexed


def test_empty_file(header):
    file = io.BytesIO()
    Writer(file, header).close()
    file.seek(0)
    assert list(Reader(file)) == []
    assert len(file.getvalue()) == 41


def test_importing_needs_neither_torch_nor_zstandard():
    code = "import sys, vqcodec.container; print({'torch', 'zstandard'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "set()", result.stderr


def test_details_that_do_not_fit_a_payload_are_left_out():
    """Raw, a plane takes more than that; the planes before it, and all codes, stay."""
    levels = (Level(8, 8), Level(1, 1, 31, details=True), Level(1, 1, 3, details=True))
    header = Header(512, 512, Fraction(1), Fraction(16), 8, bytes(8), levels)
    random = np.random.default_rng(0)
    grids = [
        random.integers(0, level.entries, shape).astype(np.int16)
        for level, shape in zip(levels, header.grid_shapes(8), strict=True)
    ]
    grids[1][:, 256:] = 0
    file = io.BytesIO()
    with Writer(file, header, packer="zstd") as writer:
        writer.write(8, grids)
    file.seek(0)
    [chunk] = Reader(file)
    top, first, second = chunk.grids()
    assert np.array_equal(top, grids[0])
    assert np.array_equal(first, grids[1])
    assert not second.any()


def one_chunk(header, contents, ancillary=()):
    """A file of a single picture chunk, behind ancillary ones."""
    file = io.BytesIO()
    with Writer(file, header, packer="raw") as writer:
        for tag, payload in ancillary:
            writer.write_chunk(tag, payload)
        writer.write(*contents[0])
    return file.getvalue()


def test_one_chunk_needs_no_end(header, contents, pipe):
    data = one_chunk(header, contents)
    assert len(data) == 33 + 8 + 23
    for file in (io.BytesIO(data), pipe(data)):
        reader = Reader(file)
        assert reader.header.frames == 8
        ((chunk),) = reader
        np.testing.assert_array_equal(chunk.grids()[1], contents[0][1][1])
    for file in (io.BytesIO(data), pipe(data)):
        assert verify(file).problems == ()
    assert Reader(io.BytesIO(data)).table.problem is None


def test_with_anything_else_it_has_one(header, contents):
    assert one_chunk(header, contents, [(18, b"?")]).endswith(END_CHUNK)


def test_in_a_pipe_it_has_one_unless_frames_are_promised(header, contents):
    class Unseekable(io.BytesIO):
        def seekable(self):
            return False

    for frames, ends in ((0, True), (8, False)):
        file = Unseekable()
        with Writer(file, replace(header, frames=frames), packer="raw") as writer:
            writer.write(*contents[0])
        assert file.getvalue().endswith(END_CHUNK) == ends


def test_one_chunk_cut_off_at_every_byte(header, contents, pipe):
    data = one_chunk(header, contents)
    for size in range(33, len(data)):
        for file in (io.BytesIO(data[:size]), pipe(data[:size])):
            with pytest.raises(TruncatedError):
                list(Reader(file))
        (problem,) = verify(io.BytesIO(data[:size])).problems
        assert isinstance(problem, TruncatedError)


def test_one_chunk_damaged_at_every_byte(header, contents):
    data = one_chunk(header, contents)
    for place in range(33, len(data)):
        bad = bytearray(data)
        bad[place] ^= 0x10
        report = verify(io.BytesIO(bad))
        assert (len(report.problems), report.frames) == (1, 0) or place < 37
        assert report.problems
        if place >= 37:  # the head still says how far the damage goes
            (lost,) = Salvage(Reader(io.BytesIO(bad)))
            assert (lost.start, lost.frames, lost.cut) == (0, 8, False)


def test_bytes_behind_one_chunk_are_no_chunks(header, contents):
    data = one_chunk(header, contents) + b"?"
    assert verify(io.BytesIO(data)).problems
