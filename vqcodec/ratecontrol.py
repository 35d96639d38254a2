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

from vqcodec.container import Header
from vqcodec.container.packing import Packing

if TYPE_CHECKING:
    from vqcodec.codec import Codec, Frames, Grids

Batches: TypeAlias = "Callable[[Iterable[Frames]], Iterator[list[Frames]]]"

LEAST_EFFORT = 2  # without search there is nothing to steer by
TOLERANCE = 0.05
NEAREST = -1.0  # the place of the nearest codes
MOST_TRADE = 16.0  # beyond it pictures fall apart and hardly a bit is saved
SAMPLE_CHUNKS = 16
SAMPLE_PIXELS = SAMPLE_CHUNKS * 32 * 256 * 256  # fewer chunks of larger pictures: 100 MB in all
SAMPLE_SPANS = 4  # of neighbours, as what codes cost depends on those in the chunk before
TRIALS = 8  # between the two ends
CLOSE = 0.01  # enough for a trial
CAUTION = 8  # chunks that the sample is trusted like, against what the second pass finds


@dataclass(frozen=True)
class Target:
    """What was asked for, of a whole file; one of the two is given.

    Attributes:
        nbytes: size.
        kbps: kilobits (1000) per second.
    """

    nbytes: int | None = None
    kbps: float | None = None

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
            self._keep(number, frames)

    def plan(self, target: float, overhead: int) -> Steering:
        """Choose level and place.

        Args:
            target: bytes of the whole file.
            overhead: bytes of all but the header and the pictures' payloads.
        """
        quality = self._choose(target, overhead)
        budget, place, miss = self._solve(quality, target, overhead)
        while miss > TOLERANCE and quality > self._first:
            # It takes too much at its least; the one below may come closer at its most.
            below = self._solve(quality - 1, target, overhead)
            if below[2] >= miss:
                break
            quality, (budget, place, miss) = quality - 1, below
        nearest = self._nearest(quality)
        low = self._low(quality)
        tried = sorted(place for q, place in self._measured if q == quality and place >= low)
        logs = [log(self._size(quality, place) / nearest.sum()) for place in tried]
        return Steering(
            quality=quality,
            place=place,
            target=target,
            budget=budget,
            expected=nearest,
            curve=None if self._is_whole else (tried, logs),
            why=self._why(quality, target - budget, target),
        )

    @property
    def _most(self) -> int:
        return len(self._header.levels)

    @property
    def _is_whole(self) -> bool:
        return self._every == self._span

    def _keep(self, number: int, frames: Frames) -> None:
        """Keep a chunk, if it is one of the sample; thin that out if it grows too large."""
        most = max(1, min(SAMPLE_CHUNKS, SAMPLE_PIXELS // frames[..., 0].size))
        if number == 0:
            self._span = self._every = max(1, most // SAMPLE_SPANS)
        if number % self._every < self._span:
            self._sample.append(_Sampled(number, frames))
        if len(self._sample) > most:
            self._every *= 2
            self._sample = [k for k in self._sample if k.number % self._every < self._span]

    def _choose(self, target: float, overhead: int) -> int:
        """The first level that takes as much as there is when bits count as much as they should."""
        for quality in range(self._first, self._most):
            budget = self._budget(quality, target, overhead)
            natural = self._nearest(quality).sum()
            if natural >= budget and self._size(quality, _place(1)) >= budget:
                return quality
        return self._most

    def _solve(self, quality: int, target: float, overhead: int) -> tuple[float, float, float]:
        """How a level meets the target best.

        Returns:
            The budget for payloads, the place, and how far the payloads are then from the budget,
            as a logarithm.
        """
        budget = self._budget(quality, target, overhead)
        high = self._high(quality)
        small = self._size(quality, high)
        if budget <= small:
            return budget, high, log(small / budget) if budget > 0 else inf
        low = self._low(quality)
        big = self._size(quality, low)
        if budget >= big:
            return budget, low, log(budget / big)
        for trial in range(TRIALS):
            share = log(big / budget) / log(big / small) if trial % 2 == 0 else 0.5
            place = low + (high - low) * share
            size = self._size(quality, place)
            if abs(size / budget - 1) < CLOSE:
                return budget, place, 0.0
            if size > budget:
                low, big = place, size
            else:
                high, small = place, size
        if big / budget < budget / small:
            return budget, low, log(big / budget)
        return budget, high, log(budget / small)

    def _low(self, quality: int) -> float:
        """The place of the most bytes."""
        return max(NEAREST, 0.0, key=lambda place: self._size(quality, place))

    def _high(self, quality: int) -> float:
        """The place of the least bytes, as far as is known: bits that count too much mislead."""
        return min(1.0, _place(1), key=lambda place: self._size(quality, place))

    def _size(self, quality: int, place: float) -> float:
        """Bytes of all payloads at a place, measured or estimated."""
        key = quality, place
        if key not in self._measured:
            nearest = self._nearest(quality)
            share = nearest[[kept.number for kept in self._sample]].sum() / nearest.sum()
            self._measured[key] = self._encode(quality, place) / share
        return self._measured[key]

    def _encode(self, quality: int, place: float) -> int:
        """Bytes of the sample's payloads at a place."""
        trade, freedom = _aim(place)
        length = len(self._sample) if self._is_whole else self._span
        total = 0
        for begin in range(0, len(self._sample), length):
            packing = self._new_packing(quality)
            span = self._sample[begin : begin + length]
            for batch in self._batches(kept.frames for kept in span):
                grids = self._codec.encode_batch(
                    batch,
                    quality,
                    effort=self._effort,
                    trade=trade,
                    freedom=freedom,
                    before=packing.memory,
                    follows=packing.follows(len(batch)),
                )
                packed = packing.pack(list(zip(map(len, batch), grids, strict=True)))
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
        bits = [float(part.sum()) for part in self._codec.prior.cost(grids, before)]
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

    def _why(self, quality: int, beside: float, target: float) -> str:
        """The reason in case that the file misses the target."""

        def most(level: int) -> int:
            return round(self._size(level, self._low(level)) + beside)

        def least(level: int) -> int:
            return round(self._size(level, self._high(level)) + beside)

        if target <= beside:
            return f"all but the pictures takes {round(beside)} bytes"
        if target < least(quality):
            gap = ""
            if quality > self._first:
                gap = f", quality {quality - 1} at most {most(quality - 1)}"
            return f"quality {quality} takes at least {least(quality)} bytes{gap}"
        if target > most(quality):
            gap = ""
            if quality < self._most:
                gap = f", quality {quality + 1} at least {least(quality + 1)}"
            return f"quality {quality} takes at most {most(quality)} bytes{gap}"
        return "sizes between cannot be had" if self._is_whole else "the end came as a surprise"


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
    """A chunk that was kept, and its number."""

    number: int
    frames: Frames


Costs: TypeAlias = npt.NDArray[np.float64]


def _aim(place: float) -> tuple[float, float]:
    """``trade`` and ``freedom`` at a place; sizes fall about evenly from place to place."""
    return MOST_TRADE * max(0.0, place) ** 3, min(1.0, 1 + place)


def _place(trade: float) -> float:
    return float((trade / MOST_TRADE) ** (1 / 3))
