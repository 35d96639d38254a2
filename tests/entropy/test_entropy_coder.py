import contextlib
import hashlib

import numpy as np
import pytest
from entropy_builders import (
    PAPER,
    UNEVEN,
    random_grids,
    reference_prior,
    same,
    shapes_of,
    small_prior,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from vqcodec.entropy.coder import decode, decode_many, encode, encode_many
from vqcodec.errors import FormatError

strides = st.sampled_from([1, 2, 4])
hierarchies = st.lists(
    st.tuples(strides, strides, st.sampled_from([2, 3, 5, 16, 21, 256])), min_size=1, max_size=4
).map(
    lambda levels: tuple(
        zip(
            sorted((level[0] for level in levels), reverse=True),
            sorted((level[1] for level in levels), reverse=True),
            (level[2] for level in levels),
            strict=True,
        )
    )
)
sizes = st.tuples(*[st.integers(1, 3)] * 3)
seeds = st.integers(0, 3)


@settings(deadline=None, max_examples=80)
@given(hierarchies, sizes, seeds, st.booleans(), st.integers(0, 3), st.sampled_from([0, 0.5, 1]))
def test_round_trip_and_every_prefix(levels, size, seed, saturating, memory, smooth):
    prior = small_prior(levels, seed, saturating)
    grids = random_grids(levels, size, seed, smooth)
    previous = random_grids(levels, (memory, *size[1:]), seed + 1) if memory else None
    shapes = shapes_of(grids)
    stream, lengths = encode(prior, grids, previous)
    assert same(decode(prior, stream, shapes, previous), grids)
    ends = [*lengths, len(stream)]
    assert ends[0] >= 1
    assert ends == sorted(ends)
    for count, end in enumerate(ends, 1):
        # A cut file: the stream ends there and the levels do too.
        assert same(decode(prior, stream[:end], shapes[:count], previous), grids[:count])
        if end > 1:  # one byte less is not enough
            with contextlib.suppress(FormatError):
                shorter = decode(prior, stream[: end - 1], shapes[:count], previous)
                assert not same(shorter, grids[:count])


@pytest.mark.parametrize("saturating", [False, True])
@pytest.mark.parametrize("levels", [PAPER, UNEVEN])
def test_the_definition_decodes_what_the_fast_path_encodes(levels, saturating):
    fast, slow = small_prior(levels, 7, saturating), reference_prior(levels, 7, saturating)
    grids, previous = (random_grids(levels, (2, 3, 1), seed) for seed in (0, 1))
    stream, lengths = encode(fast, grids, previous)
    assert (stream, lengths) == encode(slow, grids, previous)
    assert same(decode(slow, stream, shapes_of(grids), previous), grids)


def test_golden_bytes():
    """Any change here is a change of the format."""
    grids, previous = (random_grids_fixed(UNEVEN, n) for n in (1, 2))
    stream, lengths = encode(small_prior(UNEVEN), grids, previous)
    assert lengths == (3, 3, 14)
    assert hashlib.sha256(stream).hexdigest() == (
        "4caf41db6065c9673480051ffe9e3b410d0dbc9101b6cbe528f9000e0c86c01c"
    )
    short, _ = encode(small_prior(UNEVEN), grids[:1])
    assert short.hex() == "000630"


def random_grids_fixed(levels, seed):
    """Like random_grids, but of numbers that no library can change."""
    shapes = shapes_of(random_grids(levels, (2, 1, 2), 0))
    return [
        (np.arange(np.prod(shape)) ** 2 * (seed + 3) // 7 % entries).astype(np.int16).reshape(shape)
        for shape, (_, _, entries) in zip(shapes, levels, strict=True)
    ]


@pytest.mark.parametrize("smooth", [0, 0.9])
def test_cost_is_the_size_of_the_stream(smooth):
    prior = small_prior()
    grids, previous = (random_grids(PAPER, (4, 8, 8), seed, smooth) for seed in (0, 1))
    stream, lengths = encode(prior, grids, previous)
    costs = [bits.sum() / 8 for bits in prior.cost(grids, previous)]
    assert abs(len(stream) - sum(costs)) <= 0.01 * sum(costs)
    assert abs(lengths[0] - costs[0]) <= 0.01 * costs[0] + 8


def test_many_are_as_one_by_one():
    prior = small_prior(UNEVEN)
    sizes = [(1, 2, 2), (2, 2, 2), (1, 2, 2), (1, 1, 1), (2, 2, 2)]
    chunks = [random_grids(UNEVEN, size, seed) for seed, size in enumerate(sizes)]
    previous = [None, chunks[1], chunks[2], None, chunks[0]]
    encoded = encode_many(prior, chunks, previous)
    assert encoded == [encode(prior, *pair) for pair in zip(chunks, previous, strict=True)]
    streams, shapes = [stream for stream, _ in encoded], [shapes_of(grids) for grids in chunks]
    for left, right in zip(decode_many(prior, streams, shapes, previous), chunks, strict=True):
        assert same(left, right)
    assert decode_many(prior, [], [], []) == []
    streams[2] += b"\1"
    decoded = decode_many(prior, streams, shapes, previous)
    assert [isinstance(grids, FormatError) for grids in decoded] == [
        False,
        False,
        True,
        False,
        False,
    ]
    assert same(decoded[4], chunks[4])


def test_a_pass_longer_than_a_run():
    grids = random_grids(PAPER, (1, 50, 50), 0)
    assert grids[1].shape[1] * grids[1].shape[2] > 2 * 4096
    prior = small_prior()
    stream, _ = encode(prior, grids)
    assert same(decode(prior, stream, shapes_of(grids)), grids)


def test_what_follows_the_end_is_an_error():
    prior, grids = small_prior(), random_grids(PAPER, (1, 2, 2), 0)
    stream, (length,) = encode(prior, grids)
    shapes = shapes_of(grids)
    for wrong in (stream + b"\0", stream + b"\1", stream + bytes(1000), b""):
        with pytest.raises(FormatError):
            decode(prior, wrong, shapes)
    for wrong in (stream, stream[: length + 1]):
        with pytest.raises(FormatError):
            decode(prior, wrong, shapes[:1])


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=300), st.booleans(), seeds)
def test_any_bytes_decode_or_fail(data, saturating, seed):
    prior = small_prior(UNEVEN, seed, saturating)
    shapes = shapes_of(random_grids(UNEVEN, (1, 1, 2), 0))
    for levels in (None, 1, 3):
        try:
            grids = decode(prior, data, shapes[:levels])
        except FormatError:
            continue
        for grid, (_, _, entries) in zip(grids, UNEVEN, strict=False):
            assert grid.min() >= 0
            assert grid.max() < entries


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_damaged_streams_decode_or_fail(data):
    prior, grids = small_prior(), random_grids(PAPER, (2, 2, 2), 0)
    stream, _ = encode(prior, grids)
    place = data.draw(st.integers(0, len(stream) - 2))  # the last byte may have some freedom
    damaged = bytearray(stream)
    damaged[place] ^= data.draw(st.integers(1, 255))
    try:
        decoded = decode(prior, bytes(damaged), shapes_of(grids))
    except FormatError:
        return
    assert not same(decoded, grids)
