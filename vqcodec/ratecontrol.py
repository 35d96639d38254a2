"""Rate control: which level, and how much bits count, so that a file gets the size asked for.

Two passes over the source. The first (:class:`Survey`) takes the nearest codes of all levels, what
they cost, and keeps some chunks, here and there. On those it then searches for the level and for a
place between the two ends that a level has:

- -1: the nearest codes,
- 0: what the search finds if only distortion counts (more bytes or less, by the model),
- 1: what it finds if hardly anything but bits counts.

In the second pass, :class:`Steering` corrects the place after each batch by what is left of the
budget. Of a video so short that all of it is kept, trials show the very size that the file will
have, and nothing is left to correct.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import inf, log
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from vqcodec.chunkcoder import ChunkCoder
from vqcodec.container import Header
from vqcodec.container.packing import Packing

if TYPE_CHECKING:
    from vqcodec.codec import Codec, Frames, Grids

Batches: TypeAlias = "Callable[[Iterable[Frames]], Iterator[list[Frames]]]"

LEAST_EFFORT = 2  # without search there is nothing to steer by
TOLERANCE = 0.05
NEAREST = -1.0  # the place of the nearest codes
MOST_TRADE = 16.0  # beyond it pictures fall apart and hardly a bit is saved
FAIR = MOST_TRADE ** (-1 / 3)  # the place of a trade of 1
MOST_BYTES = (NEAREST, 0.0)  # places, of which either may take the most bytes of a level
LEAST_BYTES = (FAIR, 1.0)  # and the least: bits that count too much mislead
SAMPLE_CHUNKS = 8
SAMPLE_PIXELS = 16 * 32 * 256 * 256  # fewer chunks of larger pictures: 100 MB in all
SAMPLE_SPANS = 2  # of neighbours, as what codes cost depends on those in the chunk before
TRIALS = 8  # between the two ends
CLOSE = 0.01  # enough for a trial
NEAR = 0.03  # the same where there is much for the second pass to correct
MANY = 32  # chunks; for it that is much
CAUTION = 8  # chunks that the sample is trusted like, against what the second pass finds


@dataclass(frozen=True)
class Target:
    """What was asked for, of a whole file; one of the two is given.

    Attributes:
        nbytes: size.
        kbps: kilobits (1000) per second.

    Raises:
        ValueError: it is not one number above 0.
    """

    nbytes: int | None = None
    kbps: float | None = None

    def __post_init__(self) -> None:
        given = [value for value in (self.nbytes, self.kbps) if value is not None]
        if len(given) != 1 or not 0 < given[0] < inf:
            raise ValueError("either target_size or bitrate must be given, and above 0")

    def bytes_of(self, header: Header, frames: int) -> float:
        """Size of a file with so many frames."""
        if self.kbps is None:
            assert self.nbytes is not None
            return self.nbytes
        return self.kbps * 1000 / 8 * float(frames / header.rate)


@dataclass(frozen=True)
class Outcome:
    """How rate control went.

    Attributes:
        target: bytes that the file should have had.
        problem: what it has instead and why, if that is more than 5 % off.
    """

    target: int
    problem: str | None


class Survey:
    """The first pass: takes batch after batch, then makes a plan for the second.

    Args:
        codec: the model.
        header: of the file, with as many levels as it may get at most.
        packer, independent: as for :class:`~vqcodec.container.Writer`.
        effort: of the search for codes.
        fixed: whether the file has to have all levels of ``header``.
        batches: puts chunks into the batches that the second pass will have.
    """

    def __init__(
        self,
        codec: Codec,
        header: Header,
        *,
        packer: str,
        independent: bool,
        effort: int,
        fixed: bool,
        batches: Batches,
    ) -> None:
        self._codec, self._header, self._batches = codec, header, batches
        self._packer, self._independent, self._effort = packer, independent, effort
        self._first = len(header.levels) if fixed else 1
        self._packing = self._new_packing(len(header.levels))
        self._uses_prior = codec.prior is not None and packer in ("auto", "range")
        self._costs: list[Costs] = []
        self._sample: list[_Sampled] = []
        self._span = self._every = 1  # so many chunks are kept, of so many
        self._last: Grids | None = None
        self._measured: dict[tuple[int, float], float] = {}

    def add(self, batch: Sequence[Frames]) -> None:
        """Take the next chunks, of one shape."""
        for frames, grids in zip(batch, self._codec.encode_batch(batch, self._most), strict=True):
            number = len(self._costs)
            before = self._last if self._packing.may_follow(number) else None
            self._costs.append(self._cost(len(frames), grids, before))
            self._last = grids
            self._keep(number, frames, grids)

    def plan(self, target: float, overhead: int) -> Steering:
        """Choose level and place.

        Args:
            target: bytes of the whole file.
            overhead: bytes of all but the header and the pictures' payloads.
        """
        quality = self._choose(target, overhead)
        found = self._solve(quality, target, overhead)
        while found.miss > TOLERANCE and quality > self._first:
            # It takes too much at its least; the one below may come closer at its most.
            below = self._solve(quality - 1, target, overhead)
            if below.miss >= found.miss:
                break
            quality, found = quality - 1, below
        nearest = self._nearest(quality)
        tried = sorted(place for q, place in self._measured if q == quality and place >= found.low)
        logs = [log(self._size(quality, place) / nearest.sum()) for place in tried]
        return Steering(
            quality=quality,
            place=found.place,
            target=target,
            budget=found.budget,
            expected=nearest,
            curve=None if self._is_whole else (tried, logs),
            why=self._why(quality, found, target),
        )

    @property
    def _most(self) -> int:
        return len(self._header.levels)

    @property
    def _is_whole(self) -> bool:
        return self._every == self._span

    def _keep(self, number: int, frames: Frames, grids: Grids) -> None:
        """Keep a chunk, if it is one of the sample; thin that out if it grows too large."""
        most = max(1, min(SAMPLE_CHUNKS, SAMPLE_PIXELS // frames[..., 0].size))
        if number == 0:
            self._span = self._every = max(1, most // SAMPLE_SPANS)
        if number % self._every < self._span:
            starts = number % self._span == 0  # a trial has no chunk before it
            alone = self._cost(len(frames), grids, None) if starts else self._costs[number]
            self._sample.append(_Sampled(number, frames, alone))
        if len(self._sample) > most:
            self._every *= 2
            self._sample = [k for k in self._sample if k.number % self._every < self._span]

    def _choose(self, target: float, overhead: int) -> int:
        """The first level that takes as much as there is when bits count as much as they should."""
        for quality in range(self._first, self._most):
            budget = self._budget(quality, target, overhead)
            natural = self._nearest(quality).sum()
            if natural >= budget and self._size(quality, FAIR) >= budget:
                return quality
        return self._most

    def _solve(self, quality: int, target: float, overhead: int) -> _Solution:
        """How a level meets the target best; trials are slow, so as few as will do."""
        budget = self._budget(quality, target, overhead)
        high = self._first_place(quality, LEAST_BYTES, lambda size: size <= budget)
        if high is None:
            place = min(LEAST_BYTES, key=lambda place: self._size(quality, place))
            miss = log(self._size(quality, place) / budget) if budget > 0 else inf
            return _Solution(budget, place, miss, place)
        low = self._first_place(quality, MOST_BYTES, lambda size: size >= budget)
        if low is None:
            place = max(MOST_BYTES, key=lambda place: self._size(quality, place))
            return _Solution(budget, place, log(budget / self._size(quality, place)), place)
        lowest = low
        for q, place in sorted(self._measured):
            if q == quality and low < place < high:
                if self._size(quality, place) >= budget:
                    low = place
                else:
                    high = place
        close = NEAR if len(self._costs) > MANY else CLOSE
        # Regula falsi on the logarithm of the size; an end that stays counts less (Illinois).
        above, below = (abs(log(self._size(quality, place) / budget)) for place in (low, high))
        stayed = 0
        for _ in range(TRIALS):
            if min(above, below) < close:
                break
            place = low + (high - low) * above / (above + below)
            off = log(self._size(quality, place) / budget)
            if off > 0:
                low, above = place, off
                below /= 2 if stayed > 0 else 1
                stayed = 1
            else:
                high, below = place, -off
                above /= 2 if stayed < 0 else 1
                stayed = -1
        misses = [abs(log(self._size(quality, end) / budget)) for end in (low, high)]
        miss = min(misses)
        place = low if miss == misses[0] else high
        if not self._is_whole and miss:
            place = low + (high - low) * misses[0] / sum(misses)
        return _Solution(budget, place, 0.0 if miss < close else miss, lowest, between=True)

    def _first_place(
        self, quality: int, places: Sequence[float], fits: Callable[[float], bool]
    ) -> float | None:
        """The first of some places whose size fits."""
        return next((place for place in places if fits(self._size(quality, place))), None)

    def _size(self, quality: int, place: float) -> float:
        """Bytes of all payloads at a place, measured or estimated."""
        key = quality, place
        if key not in self._measured:
            share = 1.0
            if not self._is_whole:
                sampled = sum(kept.costs[quality - 1] for kept in self._sample)
                share = float(sampled / self._nearest(quality).sum())
            self._measured[key] = self._encode(quality, place) / share
        return self._measured[key]

    def _encode(self, quality: int, place: float) -> int:
        """Bytes of the sample's payloads at a place."""
        trade, freedom = _aim(place)
        length = len(self._sample) if self._is_whole else self._span
        total = 0
        for begin in range(0, len(self._sample), length):
            coder = ChunkCoder(self._codec, self._new_packing(quality), effort=self._effort)
            span = self._sample[begin : begin + length]
            for batch in self._batches(kept.frames for kept in span):
                _, packed = coder.code(batch, trade=trade, freedom=freedom)
                total += sum(len(chunk.payload) for chunk in packed)
        return total

    def _cost(self, frames: int, grids: Grids, before: Grids | None) -> Costs:
        """About the bytes of a chunk's payload up to each of its levels."""
        if self._codec.prior is None or not self._uses_prior:
            return np.array(
                [
                    len(self._new_packing(q).pack([(frames, grids[:q])])[0].payload)
                    for q in range(1, len(grids) + 1)
                ],
                np.float64,
            )
        prior = self._codec.prior
        codes = len(prior.levels)
        bits = [float(part.sum()) for part in prior.cost(grids[:codes], before)]
        bits += prior.detail_bits(grids)
        raw = [self._header_at(q).raw_bytes(frames) for q in range(1, len(grids) + 1)]
        return np.minimum(np.cumsum(bits) / 8 + 1 + np.arange(len(bits)), raw)

    def _nearest(self, quality: int) -> Costs:
        """(N,) bytes of each chunk's payload with the nearest codes."""
        return np.array([costs[quality - 1] for costs in self._costs])

    def _budget(self, quality: int, target: float, overhead: int) -> float:
        """Bytes for the payloads."""
        return target - overhead - len(self._header_at(quality).to_bytes())

    def _header_at(self, quality: int) -> Header:
        return replace(self._header, levels=self._header.levels[:quality])

    def _new_packing(self, quality: int) -> Packing:
        return Packing(self._header_at(quality), self._packer, self._codec.prior, self._independent)

    def _why(self, quality: int, found: _Solution, target: float) -> str:
        """The reason in case that the file misses the target."""
        beside = target - found.budget

        def most(level: int) -> int:
            return round(max(self._size(level, place) for place in MOST_BYTES) + beside)

        def least(level: int) -> int:
            return round(min(self._size(level, place) for place in LEAST_BYTES) + beside)

        if target <= beside:
            return f"all but the pictures takes {round(beside)} bytes"
        if found.between:
            return "sizes between cannot be had" if self._is_whole else "the end came as a surprise"
        if target < least(quality):
            gap = ""
            if quality > self._first:
                gap = f", quality {quality - 1} at most {most(quality - 1)}"
            return f"quality {quality} takes at least {least(quality)} bytes{gap}"
        gap = ""
        if quality < self._most:
            gap = f", quality {quality + 1} at least {least(quality + 1)}"
        return f"quality {quality} takes at most {most(quality)} bytes{gap}"


@dataclass(frozen=True)
class _Solution:
    """How a level meets a target best.

    Attributes:
        budget: bytes for the payloads.
        place: where it comes closest.
        miss: how far from the budget, as a logarithm; 0 if close enough.
        low: from where on sizes fall with the place.
        between: whether the level has both larger and smaller sizes.
    """

    budget: float
    place: float
    miss: float
    low: float
    between: bool = False


class Steering:
    """The second pass: what to encode with, corrected as the file grows.

    Attributes:
        quality: the level.
    """

    def __init__(
        self,
        *,
        quality: int,
        place: float,
        target: float,
        budget: float,
        expected: Costs,
        curve: tuple[Sequence[float], Sequence[float]] | None,
        why: str,
    ) -> None:
        self.quality = quality
        self._target, self._why = target, why
        self._place, self._left = place, budget
        self._expected, self._done = expected, 0
        self._curve = curve
        self._due = self._spent = CAUTION * float(expected.mean())

    @property
    def aim(self) -> tuple[float, float]:
        """Of the search in the next batch: ``trade`` and ``freedom``."""
        return _aim(self._place)

    def spend(self, sizes: Sequence[int]) -> None:
        """Tell what the next payloads came to."""
        if self._curve is None:
            return
        places, logs = self._curve
        begin, self._done = self._done, self._done + len(sizes)
        shrunk = float(np.exp(np.interp(self._place, places, logs)))
        self._due += shrunk * float(self._expected[begin : self._done].sum())
        self._spent += sum(sizes)
        self._left -= sum(sizes)
        ahead = float(self._expected[self._done :].sum()) * self._spent / self._due
        if ahead > 0:
            wanted = log(self._left / ahead) if self._left > 0 else -inf
            falling = np.minimum.accumulate(logs)[::-1]
            self._place = float(np.interp(wanted, falling, places[::-1]))

    def outcome(self, nbytes: int) -> Outcome:
        """How it went, the whole file being of ``nbytes``."""
        target = round(self._target)
        off = nbytes / target - 1
        if abs(off) <= TOLERANCE:
            return Outcome(target, None)
        than = f"{abs(off):.0%} {'more' if off > 0 else 'less'} than the {target} asked for"
        return Outcome(target, f"{nbytes} bytes, {than}: {self._why}")


@dataclass(frozen=True)
class _Sampled:
    """A chunk that was kept: its number, and what its nearest codes cost as a trial packs them."""

    number: int
    frames: Frames
    costs: Costs


Costs: TypeAlias = npt.NDArray[np.float64]


def _aim(place: float) -> tuple[float, float]:
    """``trade`` and ``freedom`` at a place; sizes fall about evenly from place to place."""
    return MOST_TRADE * max(0.0, place) ** 3, min(1.0, 1 + place)
