"""Planes of details: the coder against a plain reading of docs/format.md, and hostile bytes."""

import dataclasses
import hashlib
from fractions import Fraction
from functools import cache

import numpy as np
import pytest
from entropy_builders import PAPER, random_grids, same, shapes_of
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import random_config, random_tensors

from vqcodec.container import Header, Level
from vqcodec.container.packing import Packing
from vqcodec.entropy.coder import decode, encode
from vqcodec.entropy.details import (
    CONTEXTS,
    ENTRIES,
    LIMIT,
    SPLITS,
    Known,
    page_of,
    passes,
    refined,
    splits_of,
    symbols_of,
)
from vqcodec.entropy.integer import TABLE
from vqcodec.entropy.prior import Prior
from vqcodec.entropy.tables import Table, costs_of
from vqcodec.errors import CheckpointError, FormatError

CODES = len(PAPER)
GOLDEN = "0bd980bef74fb46e8a4180a645c7ea678fe9e4ffa44f1be20a7dc2b85c505f9f"
GOLDEN_LENGTHS = 3, 29, 8174, 12199


@cache
def tensors_of(planes, seed=0, saturating=False):
    """A random prior, and its tensors."""
    config = random_config(PAPER, hidden=16, embedding=8)
    config = dataclasses.replace(config, planes=planes)
    tensors = random_tensors(config, seed, saturating)
    for name in tensors:  # no cost is below 0
        if name.endswith((".costs", ".splits")):
            tensors[name] = np.abs(tensors[name])
    return Prior.from_tensors(config, tensors), tensors


def prior_of(planes, seed=0, saturating=False):
    return tensors_of(planes, seed, saturating)[0]


def random_planes(frames, height, width, count, seed, density):
    """Symbols of random coefficients, ``density`` of them not 0 in the last plane."""
    random = np.random.default_rng(seed)
    shape = 3 * frames, height, width
    most = (LIMIT + 1 << count - 1) - 1
    values = random.geometric(0.3, shape).clip(max=most) * (random.random(shape) < density)
    values *= random.choice((-1, 1), shape)
    first, *others = planes_of(values, count)
    splits = random.integers(0, SPLITS, (height // 8, width // 8)) * (density > 0)
    return [np.concatenate([first, page_of(splits.astype(np.int16))]), *others]


def planes_of(values, count):
    grids, known = [], np.zeros_like(values)
    for plane in range(count):
        found = np.sign(values) * (np.abs(values) >> count - 1 - plane)
        grids.append(symbols_of(found, known, plane).astype(np.int16))
        known = 2 * found
    return grids


def chunk_of(frames, height, width, planes, seed, density=0.05):
    codes = random_grids(PAPER, (frames // 8, height // 8, width // 8), seed)
    return codes + random_planes(frames, height, width, planes, seed, density)


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from([8, 16, 64]),
    st.sampled_from([8, 16]),
    st.sampled_from([8, 24]),
    st.integers(1, 4),
    st.integers(0, 3),
    st.sampled_from([0, 0.001, 0.05, 0.9]),
)
def test_round_trip_and_every_prefix(frames, height, width, planes, seed, density):
    prior, chunk = prior_of(planes), chunk_of(frames, height, width, planes, seed, density)
    stream, lengths = encode(prior, chunk)
    assert len(lengths) == len(chunk) - 1
    for count, end in enumerate([*lengths, len(stream)], 1):
        assert same(decode(prior, stream[:end], shapes_of(chunk)[:count]), chunk[:count])


def logarithm(x):
    x = min(x, 4095) + 1
    e = x.bit_length() - 1
    return 8 * e + ((8 * x) >> e) - 8


def block_by_the_document(tensors, codes, way, block, rows):
    """``docs/format.md``, *Details*: the 17 numbers that the codes of a block make."""
    total = [32 * number for number in tensors[f"codes.{len(codes)}"][way].tolist()]
    for level, grid in enumerate(codes):
        side = grid.shape[1] / rows  # of a block, in cells
        found = [
            code
            for step in grid.tolist()
            for y, row in enumerate(step)
            for x, code in enumerate(row)
            if block == ((int(y / side)), int(x / side))
            or (side < 1 and (y, x) == (int(block[0] * side), int(block[1] * side)))
        ]
        rows_of = [tensors[f"codes.{level}"][code].tolist() for code in found]
        for number, column in enumerate(zip(*rows_of, strict=True)):
            total[number] += 32 * sum(column) // len(found)
    return total


class AroundByTheDocument:
    """``docs/format.md``, *Details*: what is known around coefficients (t, i, j, y, x) in a pass.

    Args:
        values: {(c, t, i, j, y, x): v} of what this plane has decoded, ``done`` its places.
        before: the same of the plane before, None in the first plane.
        shape: (F, height / 8, width / 8).
        colour: of the pass.
    """

    def __init__(self, values, before, done, shape, colour):
        self.values, self.before, self.done, self.colour = values, before, done, colour
        self.frames, *self.blocks = shape
        self._bands, self._within = {}, {}

    def m(self, c, *at):
        if (c, *at) in self.done:
            return abs(self.values.get((c, *at), 0))
        return 2 * abs(self.before.get((c, *at), 0)) if self.before is not None else 0

    def sums(self, c, t, i, j, y, x):
        steps = [(dt, di, dj) for dt in range(-2, 3) for di in range(-2, 3) for dj in range(-2, 3)]
        sides = ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1))
        found = [0] * 4
        for dt, di, dj in steps:
            far = sorted((abs(dt), abs(di), abs(dj)))
            at = t + dt, i + di, j + dj
            own = self.m(c, *at, y, x)
            if far == [0, 0, 1]:
                found[0 if dt else 1] += 2 * own
                found[3] += sum(self.m(c, *at, *side) for side in sides)
            elif far == [0, 0, 2]:
                found[0 if dt else 1] += own
            elif far == [0, 1, 1]:
                found[1] += own
            elif far == [0, 0, 0]:
                found[2] += sum(self.m(c, *at, *side) for side in sides)
        return found

    def band(self, t, i, j):
        if (t, i, j) not in self._bands:
            blocks = list(np.ndindex(*self.blocks))
            total = sum(sum(self.sums(self.colour, t, i, j, *block)[:2]) for block in blocks)
            self._bands[t, i, j] = logarithm(16 * total // len(blocks))
        return self._bands[t, i, j]

    def within(self, y, x):
        if (y, x) not in self._within:
            places = list(np.ndindex(self.colour + 1, self.frames, 8, 8))
            self._within[y, x] = logarithm(sum(self.m(*place, y, x) for place in places))
        return self._within[y, x]


def context_by_the_document(tensors, block, around, place):
    """``docs/format.md``, *Details*: the context of a coefficient (t, i, j, y, x).

    Args:
        tensors: of the plane.
        block: the numbers of its block.
        around: what is known around it.
    """
    (t, i, j, y, x), colour, before = place, around.colour, around.before
    own = around.sums(colour, *place)
    if before is not None and before.get((colour, *place), 0):
        size = abs(before[(colour, *place)])
        return 128 + (min(size, 3) - 1) * 4 + sum(edge <= own[0] + own[1] for edge in (3, 9, 19))
    u = own + (around.sums(0, *place) if colour else [0] * 4)
    u += [around.m(0, *place) if colour else 0, around.m(1, *place) if colour == 2 else 0]
    u = [around.band(t, i, j), around.within(y, x), *(logarithm(value) for value in u)]
    tau = sum(edge <= 32 * t // around.frames for edge in (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 22))
    sigma = 8 * i + j
    if not any(u[2:]):
        value = int(tensors["still"][colour, 64 * tau + sigma]) + block[16]
        value += int(tensors["overall"][colour, 0, u[0]]) + int(tensors["overall"][colour, 1, u[1]])
        return 64 + min(max(value >> 8, 0), 63)
    first = np.array(u) @ tensors["w1"].astype(int) + np.array(block[:16])
    first += tensors["time"][colour, tau] + tensors["space"][colour, sigma]
    h = [min(max((int(value) + 16) >> 5, 0), 127) for value in first]
    value = int(np.dot(h, tensors["w2"].astype(int))) + int(tensors["b2"][0])
    return min(max(value >> 8, 0), 63)


def page_by_the_document(ways):
    """``docs/format.md``, *Details*: (number of the block, row of the table), in order."""
    found = []
    for y, x in sorted(np.ndindex(ways.shape), key=lambda at: (sum(at), at[0])):
        above, left = ways[y - 1, x] if y else 0, ways[y, x - 1] if x else 0
        found.append((y * ways.shape[1] + x, 4 * above + left))
    return found


@pytest.mark.parametrize(("height", "width"), [(16, 40), (40, 16), (8, 8), (24, 24)])
def test_the_page_comes_first_and_in_diagonals(height, width):
    chunk = chunk_of(8, height, width, 1, seed=3)
    recorder = Recorder(chunk[-1])
    prior_of(1).planes(chunk[:CODES], chunk[-1].shape).code(recorder)
    assert recorder.splits == page_by_the_document(splits_of(chunk[-1][-1:]))


class Recorder(Known):
    def __init__(self, grid):
        super().__init__(grid)
        self.runs = []
        self.splits = []

    def split(self, contexts, places):
        self.splits += zip(places.tolist(), contexts.tolist(), strict=True)
        return super().split(contexts, places)

    def run(self, colour, contexts, places):
        for context in np.unique(contexts).tolist():
            self.runs.append((colour, context, places[contexts == context].tolist()))
        assert (np.diff(contexts) >= 0).all()
        return super().run(colour, contexts, places)


@pytest.mark.parametrize(("seed", "saturating"), [(0, False), (2, True)])
def test_contexts_are_those_of_the_document(seed, saturating):
    frames, height, width = 8, 8, 24
    prior, stored = tensors_of(2, seed, saturating)
    chunk = chunk_of(frames, height, width, 2, seed, density=0.02)
    codes, grids = chunk[:CODES], chunk[CODES:]
    planes, before = prior.planes(codes, grids[0].shape), None
    known, chosen = np.zeros_like(grids[1]), set()
    ways = splits_of(grids[0][-1:])
    for plane, grid in enumerate(grids):
        prefix = f"details.{plane}."
        tensors = {
            name.removeprefix(prefix): t for name, t in stored.items() if name.startswith(prefix)
        }
        blocks = {
            (y, x): block_by_the_document(tensors, codes, ways[y, x], (y, x), height // 8)
            for y in range(height // 8)
            for x in range(width // 8)
        }
        recorder = Recorder(grid)
        assert np.array_equal(planes.code(recorder), grid)
        if plane == 0:
            assert recorder.splits == page_by_the_document(ways)
        known = refined(2 * known, grid[: len(known)], plane).astype(np.int16)
        values, everything = {}, {}
        for (ct, row, column), v in np.ndenumerate(known):
            c, t = divmod(ct, frames)
            i, y = divmod(row, height // 8)
            j, x = divmod(column, width // 8)
            everything[c, t, i, j, y, x] = int(v)
        done, index = set(), 0
        for colour in range(3):
            for number in range(recorder.extent(colour)):
                passed = sorted(
                    p[1:] for p in everything if p[0] == colour and sum(p[1:4]) == number
                )
                found = {}
                shape = frames, height // 8, width // 8
                around = AroundByTheDocument(values, before, done, shape, colour)
                for place in passed:
                    context = context_by_the_document(tensors, blocks[place[3:]], around, place)
                    found.setdefault(context, []).append(place)
                    chosen.add(context)
                for context in sorted(found):
                    expected = [
                        ((t * 8 + i) * (height // 8) + y) * width + j * (width // 8) + x
                        for t, i, j, y, x in found[context]
                    ]
                    assert recorder.runs[index] == (colour, context, expected)
                    index += 1
                for place in passed:
                    done.add((colour, *place))
                    values[(colour, *place)] = everything[(colour, *place)]
            # What no pass holds has symbol 0: the plane before, in steps of half the size.
            for place in (p for p in everything if p[0] == colour and p not in done):
                done.add(place)
                values[place] = everything[place]
        assert index == len(recorder.runs)
        before = everything
    assert len(chosen) > (6 if saturating else 40)


def test_what_is_no_page_is_refused():
    """The range packer can hold nothing else; a reader of the others makes sense of all."""
    chunk = chunk_of(8, 16, 24, 1, seed=1)
    levels = [Level(*grid) for grid in prior_of(1).grids]
    header = Header(24, 16, Fraction(1), Fraction(16), 8, bytes(8), tuple(levels))
    for place, value in (((0, 1), 4), ((5, 5), 1), ((0, 3), 1)):
        spoilt = [*chunk[:-1], chunk[-1].copy()]
        spoilt[-1][(-1, *place)] = value
        with pytest.raises(ValueError, match="ways to split"):
            Packing(header, prior=prior_of(1)).pack([(8, spoilt)])
    Packing(header, prior=prior_of(1)).pack([(8, chunk)])


def test_values_and_symbols_are_inverse():
    for plane, limit in enumerate((15, 31, 63)):
        values = np.arange(-limit, limit + 1)
        known = 2 * (np.sign(values) * (np.abs(values) // 2)) if plane else 0 * values
        symbols = symbols_of(values, known, plane)
        assert symbols.min() == 0
        assert symbols.max() == ENTRIES[min(plane, 1)] - 1
        assert np.array_equal(refined(known, symbols, plane), values)


def test_golden_bytes():
    """Any change to the bytes is one of the format."""
    stream, lengths = encode(prior_of(3, seed=5), chunk_of(8, 16, 16, 3, seed=5))
    assert hashlib.sha256(stream).hexdigest() == GOLDEN
    assert lengths == GOLDEN_LENGTHS


def test_zeros_cost_hardly_anything():
    chunk = chunk_of(32, 64, 64, 3, seed=0, density=0)
    stream, lengths = encode(prior_of(3), chunk)
    assert len(stream) - lengths[CODES - 1] <= 3 * 3


def test_what_does_not_end_or_go_on_is_invalid():
    prior, chunk = prior_of(2), chunk_of(8, 16, 16, 2, seed=1)
    stream, _ = encode(prior, chunk)
    for wrong in (stream[:-1], stream + b"\1", stream + bytes(9)):
        with pytest.raises(FormatError):
            decode(prior, wrong, shapes_of(chunk))


def test_an_extent_beyond_all_passes_is_invalid(monkeypatch):
    prior, chunk = prior_of(1), chunk_of(8, 8, 8, 1, seed=1)
    monkeypatch.setattr(Known, "extent", lambda _known, _colour: passes(8) + 1)
    stream, _ = encode(prior, chunk)
    monkeypatch.undo()
    with pytest.raises(FormatError, match="more passes"):
        decode(prior, stream, shapes_of(chunk))


@settings(deadline=None, max_examples=60)
@given(st.binary(min_size=1, max_size=600))
def test_any_bytes_decode_or_are_refused(data):
    prior, chunk = prior_of(3), chunk_of(8, 16, 16, 3, seed=1)
    try:
        grids = decode(prior, data, shapes_of(chunk))
    except FormatError:
        return
    assert encode(prior, grids)[0] == data


def test_tables_follow_what_was_seen():
    counts = np.zeros((CONTEXTS, 3))
    counts[0] = 1000, 10, 10
    table = Table(costs_of(counts))
    assert table.bits[0, 0] < 0.1 < 5 < table.bits[0, 1] < 8
    assert np.allclose(table.bits[1], table.bits[2])  # never seen: the average
    assert table.bits[1, 0] < table.bits[1, 1]
    assert np.array_equal(table.weights.sum(1) + 3, np.full(CONTEXTS, 1 << 24))


def test_bits_are_what_the_stream_takes():
    prior, chunk = prior_of(3), chunk_of(16, 32, 32, 3, seed=2)
    spent = 8 * (len(encode(prior, chunk)[0]) - len(encode(prior, chunk[:CODES])[0]))
    assert spent == pytest.approx(sum(prior.detail_bits(chunk)), abs=24)


def test_a_prior_needs_its_tables():
    config = dataclasses.replace(random_config(PAPER, hidden=16, embedding=8), planes=1)
    tensors = random_tensors(config, 0)
    del tensors["details.0.w1"]
    with pytest.raises(CheckpointError, match=r"details\.0\.w1"):
        Prior.from_tensors(config, tensors)


def test_the_digest_knows_the_tables():
    digests = {prior_of(planes, seed).digest() for planes in (0, 1, 2) for seed in (0, 1)}
    assert len(digests) == 6


def test_the_digest_knows_all_that_is_said_of_splits():
    prior, tensors = tensors_of(2)
    for row in range(SPLITS**2):
        changed = dict(tensors)
        changed["details.0.splits"] = tensors["details.0.splits"].copy()
        changed["details.0.splits"][row, 0] ^= 1
        assert Prior.from_tensors(prior.config, changed).digest() != prior.digest()


def test_frequencies_are_those_of_the_document():
    prior, tensors = tensors_of(3, seed=3)
    table, costs = prior.details[0].table, tensors["details.0.costs"]
    for context in (0, 17, 100, CONTEXTS - 1):
        logits = [-8 * abs(int(cost)) for cost in costs[context]]
        weights = [int(TABLE[min(max(logits) - z, len(TABLE) - 1)]) for z in logits]
        free = (1 << 24) - len(logits)
        shares = [weight * free // sum(weights) for weight in weights]
        shares[weights.index(max(weights))] += free - sum(shares)
        assert table.weights[context].tolist() == shares
