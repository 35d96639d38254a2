"""The range packer in files: memory between chunks, beginnings of payloads, hostile payloads."""

from __future__ import annotations

import io
import weakref
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic import fitted_prior, random_prior

from vqcodec.container import PACKERS, Header, Level, Lost, Reader, Salvage, Writer, verify
from vqcodec.container.chunk import unpack_chunks, unpacked_ahead
from vqcodec.container.layout import END_CHUNK, MAX_MEMORY, Head, Tag, frame_chunk
from vqcodec.container.packers import unpack_prefix
from vqcodec.container.range_payload import check, join, keep, split
from vqcodec.container.repair import repair_file
from vqcodec.entropy.coder import encode
from vqcodec.errors import (
    ChecksumError,
    FormatError,
    ModelMismatchError,
    UnsupportedError,
)

LEVELS = ((8, 8, 64), (4, 4, 100), (4, 4, 16))
HEADER = Header(
    32, 16, Fraction(2), Fraction(16), 0, b"abcdefgh", tuple(Level(*level) for level in LEVELS)
)
LENGTHS = (8, 8, 5, 8, 16, 8, 8, 3, 8, 8, 8)

# What random_prior(LEVELS) makes of two chunks of 8 frames of 16×8 that count up from 0 and from 7
# in steps of 5. Both directions are normative: the prior's digest does not cover the coder.
GOLDEN_HEADER = replace(HEADER, width=16, height=8)
GOLDEN = {
    Tag.RANGE: (
        0,
        "041400093060c8edb9c968391803bfc8afeb2f781a68d915dab71dd5f8a0d1d24116b6366e8153944cf381ca",
    ),
    Tag.RANGE_MEMORY: (
        7,
        "0316283e9d2f6e89502e356f0504f3e6b990f14645147fa61dcce09e040e3bf699e14636f4429edd9db655c7",
    ),
}


def grids_of(header, frames, seed):
    generator = np.random.default_rng(seed)
    return [
        np.minimum(generator.geometric(0.3, shape) - 1, level.entries - 1).astype(np.int16)
        for shape, level in zip(header.grid_shapes(frames), header.levels, strict=True)
    ]


CONTENTS = [(frames, grids_of(HEADER, frames, number)) for number, frames in enumerate(LENGTHS)]


@pytest.fixture(scope="module")
def prior():
    return fitted_prior(LEVELS, grids_of(HEADER, 64, 99))


@pytest.fixture(scope="module")
def ranged(prior):
    """A file of eleven range chunks, the ninth of which begins a second run."""
    return written(CONTENTS, prior)


def written(contents, prior, **options):
    file = io.BytesIO()
    with Writer(file, HEADER, prior=prior, **options) as writer:
        for frames, grids in contents:
            writer.write(frames, grids)
    return file.getvalue()


def reader(data, prior):
    return Reader(io.BytesIO(data), lambda _header: prior)


def same(chunk, contents):
    frames, grids = contents
    assert chunk.frames == frames
    for result, expected in zip(chunk.grids(), grids, strict=True):
        assert result.dtype == np.int16
        np.testing.assert_array_equal(result, expected)


def tags(data):
    return [entry.tag for entry in Reader(io.BytesIO(data)).table.entries]


def test_round_trip(ranged, prior, pipe):
    assert tags(ranged) == [4, 5, 5, 5, 5, 5, 5, 5, 4, 5, 5]
    for source in (io.BytesIO(ranged), pipe(ranged)):
        for chunk, contents in zip(Reader(source, lambda _: prior), CONTENTS, strict=True):
            same(chunk, contents)
    assert len(ranged) < len(written(CONTENTS, None))


def test_packed_together_or_one_by_one_is_the_same(ranged, prior):
    file = io.BytesIO()
    with Writer(file, HEADER, prior=prior) as writer:
        for part in (CONTENTS[:3], [], CONTENTS[3:]):
            for packed in writer.packing.pack(part):
                writer.write_packed(*packed)
    assert file.getvalue() == ranged
    chunks = list(reader(ranged, prior))
    unpack_chunks(chunks)
    assert list(unpacked_ahead(chunks)) == chunks
    for chunk, contents in zip(chunks, CONTENTS, strict=True):
        same(chunk, contents)


def test_chunks_may_be_unpacked_in_any_order(ranged, prior):
    chunks = list(reader(ranged, prior))
    for number in (6, 2, 10, 0):
        same(chunks[number], CONTENTS[number])


def test_what_is_unpacked_lets_go_of_what_is_before_it(ranged, prior):
    seen = []
    for chunk in reader(ranged, prior):
        chunk.grids()
        seen.append(weakref.ref(chunk))
    assert max(part().distance for part in seen if part() is not None) > 1
    assert sum(part() is not None for part in seen) == 1  # the last


@pytest.mark.parametrize("number", range(len(LENGTHS)))
def test_seeking_reads_what_it_needs(ranged, prior, number, pipe):
    start = sum(LENGTHS[:number])
    opened = reader(ranged, prior)
    read = []
    source_read = opened.source.read
    opened.source.read = lambda offset, length: read.append(offset) or source_read(offset, length)
    (chunk,) = opened.chunks(start, start + 1)
    same(chunk, CONTENTS[number])
    offsets = {entry.offset for entry in opened.table.entries}
    assert len(offsets.intersection(read)) == number % 8 + 1
    assert chunk.distance == number % 8
    piped = Reader(pipe(ranged), lambda _: prior).chunks(start, start + 1)
    same(next(piped), CONTENTS[number])


def test_independent(prior, ranged):
    data = written(CONTENTS, prior, independent=True)
    assert set(tags(data)) == {4}
    for chunk, contents in zip(reader(data, prior), CONTENTS, strict=True):
        assert chunk.outcome.before is None
        same(chunk, contents)


def test_memory_of_a_chunk_in_another_packer(prior):
    generator = np.random.default_rng(5)
    noise = [
        generator.integers(0, level.entries, shape)
        for shape, level in zip(HEADER.grid_shapes(8), HEADER.levels, strict=True)
    ]
    contents = [CONTENTS[0], (8, noise), *CONTENTS[3:5]]
    data = written(contents, prior)
    assert tags(data) == [4, 1, 5, 5]
    for chunk, expected in zip(reader(data, prior), contents, strict=True):
        same(chunk, expected)
    assert [chunk.distance for chunk in reader(data, prior)] == [0, 0, 1, 2]


def test_the_writer_tells_its_memory(prior):
    writer = Writer(io.BytesIO(), HEADER, prior=prior)
    assert writer.packing.memory is None
    for number in range(16):
        frames, grids = CONTENTS[number % len(CONTENTS)]
        writer.write(frames, grids)
        if number % 8 == 7:
            assert writer.packing.memory is None
        else:
            np.testing.assert_array_equal(writer.packing.memory[0], grids[0])


def test_packers_by_name(prior):
    for name, expected in (("range", {4, 5}), ("raw", {1}), ("deflate", {1, 2}), ("auto", {4, 5})):
        assert set(tags(written(CONTENTS, prior, packer=name))) <= expected
    with pytest.raises(ValueError, match="needs a prior"):
        Writer(io.BytesIO(), HEADER, packer="range")
    with pytest.raises(ValueError, match="other levels"):
        Writer(io.BytesIO(), HEADER, prior=random_prior([(8, 8, 64), (4, 4, 64)]))


def test_range_is_never_larger_than_raw():
    data = written(CONTENTS, random_prior(LEVELS), packer="range")
    assert set(tags(data)) == {1}


def test_without_the_prior(ranged):
    first, *_ = opened = reader(ranged, None)
    with pytest.raises(ModelMismatchError, match=r"chunk at .* the prior of model 6162"):
        first.grids()
    assert not first.validate()
    assert [entry.packer for entry in opened.table.entries] == ["range"] * 11
    report = verify(io.BytesIO(ranged))
    assert (report.chunks, report.unread, report.problems) == (11, 11, ())


def test_the_prior_of_another_model(ranged):
    report = verify(
        io.BytesIO(ranged), lambda _header: random_prior([(8, 8, 64), (4, 4, 64), (4, 4, 64)])
    )
    assert all("not those of the prior" in str(problem) for problem in report.problems[:1])


def test_verify_looks_at_indices_if_it_can(ranged, prior):
    assert verify(io.BytesIO(ranged), lambda _: prior).unread == 0
    first = next(iter(Reader(io.BytesIO(ranged))))
    spoiled = first.payload[:9] + bytes([first.payload[9] ^ 1]) + first.payload[10:]
    data = HEADER.to_bytes() + frame_chunk(Head(4, 8, len(spoiled)), spoiled) + END_CHUNK
    assert verify(io.BytesIO(data)).problems == ()
    other = verify(io.BytesIO(data), lambda _: prior)
    if not other.problems:  # some streams are valid, if of other indices
        grids = next(iter(reader(data, prior))).grids()
        assert any((one != two).any() for one, two in zip(grids, CONTENTS[0][1], strict=True))


@pytest.mark.parametrize("place", [0, 3])
def test_damage_takes_those_that_need_it_along(ranged, prior, place):
    entries = Reader(io.BytesIO(ranged)).table.entries
    data = bytearray(ranged)
    data[entries[place].offset + 9] ^= 1
    lost = range(place, 8)
    for find in (prior, None):
        report = verify(io.BytesIO(data), lambda _, find=find: find)
        assert (report.chunks, len(report.problems)) == (11 - len(lost), len(lost))
        assert all(isinstance(problem, ChecksumError) for problem in report.problems)
        if len(lost) > 1:
            assert "needs the chunk before it, which is lost" in str(report.problems[1])
            assert f"chunk at byte {entries[place + 1].offset} " in str(report.problems[1])
    for number, chunk in enumerate(reader(bytes(data), prior)):
        if number in lost:
            with pytest.raises(ChecksumError):
                chunk.grids()
        else:
            same(chunk, CONTENTS[number])
    target = io.BytesIO()
    result = repair_file(io.BytesIO(data), target)
    kept = [contents for number, contents in enumerate(CONTENTS) if number not in lost]
    assert (result.chunks, result.losses.frames) == (len(kept), sum(LENGTHS[place:8]))
    assert [piece.start for piece in result.losses.first] == [sum(LENGTHS[:n]) for n in lost]
    assert verify(io.BytesIO(target.getvalue()), lambda _: prior).problems == ()
    for chunk, contents in zip(reader(target.getvalue(), prior), kept, strict=True):
        same(chunk, contents)


def test_a_missing_chunk_is_noticed_by_the_index(ranged, prior):
    entries = Reader(io.BytesIO(ranged)).table.entries
    data = ranged[: entries[2].offset] + ranged[entries[3].offset :]
    pieces = list(Salvage(reader(data, prior)))
    (lost,) = [piece for piece in pieces if isinstance(piece, Lost)]
    assert (lost.start, lost.frames) == (16, 5)
    good = [piece for piece in pieces if not isinstance(piece, Lost)]
    for piece in good[2:7]:
        with pytest.raises(ChecksumError, match="which is lost"):
            piece.grids()
    same(good[7], CONTENTS[8])


def test_damage_beside_pictures_does_no_harm(prior):
    file = io.BytesIO()
    with Writer(file, HEADER, prior=prior) as writer:
        for frames, grids in CONTENTS[:4]:
            writer.write(frames, grids)
            place = file.tell()
            writer.write_chunk(20, b"beside")
    data = bytearray(file.getvalue())
    data[place - 30] ^= 0  # of a picture chunk: unchanged
    beside = file.getvalue().index(b"beside")
    data[beside] ^= 1
    pieces = list(Salvage(reader(bytes(data), prior)))
    chunks = [piece for piece in pieces if not isinstance(piece, Lost) and piece.frames]
    for chunk, contents in zip(chunks, CONTENTS[:4], strict=True):
        same(chunk, contents)


def chain(ranged, count):
    """A chunk that stands alone, and many that do not, all but the first of nonsense."""
    first, second, *_ = Reader(io.BytesIO(ranged))
    parts = [frame_chunk(Head(4, 8, first.length), first.payload)]
    parts += [frame_chunk(Head(5, 8, second.length), second.payload)] * count
    return HEADER.to_bytes() + b"".join(parts) + END_CHUNK


def test_memory_is_bounded(ranged, prior):
    chunks = list(reader(chain(ranged, MAX_MEMORY), prior))
    assert chunks[-1].distance == MAX_MEMORY
    chunks = list(reader(chain(ranged, 3 * MAX_MEMORY), prior))
    assert max(chunk.distance for chunk in chunks) == MAX_MEMORY
    for chunk in (chunks[MAX_MEMORY + 1], chunks[-1]):
        with pytest.raises(FormatError):
            chunk.grids()


def test_the_first_chunk_must_stand_alone(ranged, prior):
    _, second, *_ = Reader(io.BytesIO(ranged))
    chunk = frame_chunk(Head(5, 8, second.length), second.payload)
    for data in (HEADER.to_bytes() + chunk + END_CHUNK, HEADER.to_bytes() + chunk * 2 + END_CHUNK):
        for first in reader(data, prior):
            with pytest.raises(ChecksumError, match="which is lost"):
                first.grids()


def test_memory_of_an_unknown_packer(ranged, prior):
    _, second, *_ = Reader(io.BytesIO(ranged))
    unknown = frame_chunk(Head(9, 8, 3), b"???")
    chunk = frame_chunk(Head(5, 8, second.length), second.payload)
    data = HEADER.to_bytes() + unknown + chunk + END_CHUNK
    for found in reader(data, prior):
        with pytest.raises(UnsupportedError, match="chunk at byte 35"):
            found.grids()
    target = io.BytesIO()
    assert repair_file(io.BytesIO(data), target).chunks == 2


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "does not end"),
        (b"\x05", "does not end"),
        (b"\x85\x85\x85\x05\x01xxxxxxx", "does not end"),
        (b"\x85\x00\x01xxxxxxx", "longer than need be"),
        (b"\x00\x01xxxxxxxx", "outside"),
        (b"\x01\x01", "outside"),
        (b"\x05\x05xxxxxxxxx", "outside"),
        (b"\xff\xff\x7f\xff\xff\x7fxxxxxxx", "outside"),
        (b"\x01\x01x", "outside"),
        (b"\x01\x01" + bytes(9), "range coding"),
        (b"\x01\x01" + b"\xff" * 99, "range"),
        (b"\x01\x01" + bytes(200_000), "range coding"),
    ],
)
def test_hostile_payloads(prior, payload, reason):
    data = HEADER.to_bytes() + frame_chunk(Head(4, 8, len(payload)), payload) + END_CHUNK
    if not payload:
        with pytest.raises(FormatError, match=reason):
            check(payload, 3)
        return
    (chunk,) = reader(data, prior)
    with pytest.raises(FormatError, match=rf"chunk at byte 35 .*{reason}"):
        chunk.grids()


@pytest.mark.parametrize("change", [(1, 0), (-1, 0), (0, 1), (0, -1)])
def test_levels_must_end_where_they_say(prior, ranged, change):
    first = next(iter(Reader(io.BytesIO(ranged))))
    ends, stream = split(first.payload, 3)
    payload = join(stream, [end + more for end, more in zip(ends, change, strict=True)])
    data = HEADER.to_bytes() + frame_chunk(Head(4, 8, len(payload)), payload) + END_CHUNK
    (chunk,) = reader(data, prior)
    with pytest.raises(FormatError, match="a level does not end after"):
        chunk.grids()


def test_more_frames_than_the_format_allows(prior):
    header = replace(HEADER, width=4096, height=2048)
    data = header.to_bytes() + frame_chunk(Head(4, 64, 5), b"\x01\x01abc") + END_CHUNK
    (chunk,) = reader(data, prior)
    with pytest.raises(FormatError, match="more frames than the format allows"):
        chunk.grids()


@given(st.binary(max_size=60), st.sampled_from([Tag.RANGE, Tag.RANGE_MEMORY]))
def test_noise(prior, payload, tag):
    start = frame_chunk(Head(1, 8, 64), bytes(64))
    payload = payload or b"?"
    data = HEADER.to_bytes() + start + frame_chunk(Head(tag, 8, len(payload)), payload) + END_CHUNK
    *_, chunk = reader(data, prior)
    try:
        grids = chunk.grids()
    except FormatError:
        return
    assert [grid.shape for grid in grids] == list(HEADER.grid_shapes(8))


@given(st.lists(st.integers(0, 70_000), min_size=1, max_size=7), st.integers(0, 99))
def test_framing(lengths, more):
    ends = np.cumsum([lengths[0] + 1, *lengths[1:]]).tolist()
    stream = bytes(min(ends[-1] + more, 1 << 20))
    payload = join(stream, ends)
    assert split(payload, len(ends) + 1) == (tuple(ends), stream)
    if ends[-1] <= len(stream):
        for kept in range(1, len(ends) + 2):
            shorter = keep(payload, len(ends) + 1, kept)
            expected = stream if kept > len(ends) else stream[: ends[kept - 1]]
            assert split(shorter, kept) == (tuple(ends[: kept - 1]), expected)


@pytest.mark.parametrize("name", [*PACKERS, "range", "range with memory"])
def test_a_beginning_of_a_payload_holds_the_levels_that_are_whole(prior, ranged, name):
    frames, grids = CONTENTS[1]
    shapes, levels = HEADER.grid_shapes(frames), HEADER.levels
    first, second, *_ = Reader(io.BytesIO(ranged))
    more = (prior, None)
    if name == "range":
        frames, grids = CONTENTS[0]
        tag, payload = first.tag, first.payload
    elif name == "range with memory":
        tag, payload, more = second.tag, second.payload, (prior, CONTENTS[0][1])
    else:
        tag, payload = Tag[name.upper()], PACKERS[name].pack(grids, levels)
    counts = []
    for length in range(len(payload) + 1):
        try:
            found = unpack_prefix(tag, payload[:length], shapes, levels, *more)
        except FormatError:
            found = ()
        counts.append(len(found))
        for result, expected in zip(found, grids, strict=False):
            np.testing.assert_array_equal(result, expected)
    assert counts == sorted(counts)
    assert counts[-1] == (2 if name.startswith("range") else 3)
    if name == "raw":
        assert counts.index(1) == 6
        assert counts.index(2) == -(-(8 * 6 + 64 * 7) // 8)


def test_a_beginning_needs_what_the_whole_needs(prior, ranged):
    _, second, *_ = Reader(io.BytesIO(ranged))
    shapes, levels = HEADER.grid_shapes(8), HEADER.levels
    for more in ((None, None), (prior, None), (None, CONTENTS[0][1])):
        with pytest.raises(FormatError, match="not at hand"):
            unpack_prefix(second.tag, second.payload, shapes, levels, *more)
    with pytest.raises(FormatError, match="unknown packer"):
        unpack_prefix(9, second.payload, shapes, levels)


def golden_grids(first):
    return [
        (np.arange(np.prod(shape)).reshape(shape) * 5 + first).astype(np.int16) % level.entries
        for shape, level in zip(GOLDEN_HEADER.grid_shapes(8), GOLDEN_HEADER.levels, strict=True)
    ]


def test_golden():
    prior = random_prior(LEVELS)
    previous, chunks = None, b""
    for tag, (first, expected) in GOLDEN.items():
        grids, payload = golden_grids(first), bytes.fromhex(expected)
        assert join(*encode(prior, grids, previous)).hex() == expected
        chunks += frame_chunk(Head(tag, 8, len(payload)), payload)
        *_, last = reader(GOLDEN_HEADER.to_bytes() + chunks + END_CHUNK, prior)
        same(last, (8, grids))
        previous = grids
