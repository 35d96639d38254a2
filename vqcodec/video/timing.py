"""When frames are shown: repair of time stamps, and resampling to a constant rate.

Pure arithmetic on exact fractions of a second; knows nothing of FFmpeg or of pixels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Generic, TypeVar

T = TypeVar("T")

# Matroska and FLV round times to a millisecond, and the time of a frame here is the difference of
# two of those: a frame due at an instant may be stamped this much late, and still counts as due.
TOLERANCE = Fraction(1, 1000)
# Steps backwards shorter than this are disorder; longer ones mean that the clock was set anew.
DISORDER = Fraction(1)


def check_part(start: Fraction | float, duration: Fraction | float | None) -> None:
    """Raise ValueError where these, in seconds, are no part of a video."""
    if not 0 <= start < math.inf or (duration is not None and not 0 < duration < math.inf):
        raise ValueError("duration must be positive, start not negative")


@dataclass(frozen=True)
class Shown(Generic[T]):
    """``item`` is on screen from ``time`` (s, the first frame being at 0) for ``duration`` (s)."""

    item: T
    time: Fraction
    duration: Fraction


class StampChooser:
    """Chooses between the two stamps of a decoded frame, as FFmpeg's players do.

    The presentation stamp is the right one, but in some files (AVI above all) it runs backwards
    where the decoding stamp does not: the one that was wrong less often is believed.
    """

    def __init__(self) -> None:
        self._last: list[int | None] = [None, None]
        self._faults = [0, 0]

    def choose(self, pts: int | None, dts: int | None) -> int | None:
        """The stamp to believe, in the same unit, if there is one."""
        for i, stamp in enumerate((pts, dts)):
            last = self._last[i]
            if stamp is not None:
                self._faults[i] += last is not None and stamp <= last
                self._last[i] = stamp
        if pts is None or (dts is not None and self._faults[0] > self._faults[1]):
            return dts
        return pts


class Timeline:
    """Turns the stamps of successive frames into strictly increasing times.

    A good stamp is believed. Where it is missing, or no later than the stamp before it, the frame
    follows the previous one at that one's duration; at half of it, where the stamp advances but
    time is ahead of it, to fall back in step. A leap (forwards by more than ``max_gap``, backwards
    by more than :data:`DISORDER`) is a new clock: time goes on from the previous frame.
    """

    def __init__(self, max_gap: Fraction) -> None:
        self._max_gap = max_gap
        self._shift = Fraction(0)
        self._last: Fraction | None = None
        self._last_duration = Fraction(0)
        self._last_stamp: Fraction | None = None

    def place(self, stamp: Fraction | None, duration: Fraction) -> Fraction:
        """The time (s) of the next frame, stamped ``stamp`` (s), to be shown ``duration`` > 0."""
        if self._last is None:
            time = Fraction(0) if stamp is None else stamp
        else:
            time = self._follow(self._last, stamp)
        self._last, self._last_duration = time, duration
        self._last_stamp = stamp
        return time

    def _follow(self, last: Fraction, stamp: Fraction | None) -> Fraction:
        following = last + self._last_duration
        if stamp is None:
            return following
        time = stamp + self._shift
        if last < time <= last + self._max_gap:
            return time
        if not last - DISORDER <= time <= last:
            self._shift = following - stamp
        elif self._last_stamp is not None and stamp > self._last_stamp:
            return last + self._last_duration / 2
        return following


def frame_count(duration: Fraction, rate: Fraction) -> int:
    """Frames at ``rate`` per second that stand for ``duration`` seconds: nearest, at least 1.

    >>> frame_count(Fraction(3), Fraction(16)), frame_count(Fraction(1, 1000), Fraction(16))
    (48, 1)
    """
    return max(1, math.ceil(duration * rate - Fraction(1, 2)))


def resample(
    frames: Iterable[Shown[T]],
    rate: Fraction,
    *,
    start: Fraction = Fraction(0),
    duration: Fraction | None = None,
) -> Iterator[T]:
    """Output frame k is what is on screen at ``start + (k + 1/2) / rate``, the middle of its turn.

    So every output frame is off by half a turn at most, frames that come at ``rate`` exactly pass
    one to one whatever jitter their stamps have, and the output lasts as long as the source to
    within half a turn. At least one frame comes out, however short the source, unless ``start``
    is past its end. Holds one frame at a time; the same object is yielded again when it is held.

    Args:
        frames: in order of time, strictly increasing.
        rate: output frames per second, > 0.
        start: seconds to skip, >= 0.
        duration: seconds to keep (all, if None), > 0.
    """
    limit = None if duration is None else frame_count(duration, rate)
    done = 0
    held: Shown[T] | None = None

    def due(until: Fraction) -> Iterator[T]:
        """The held frame, once for each output instant before ``until``."""
        nonlocal done
        if held is not None:
            while done != limit and start + (done + Fraction(1, 2)) / rate < until:
                done += 1
                yield held.item

    for frame in frames:
        yield from due(frame.time - TOLERANCE)
        if done == limit:
            return
        held = frame
    if held is not None:
        end = held.time + held.duration
        yield from due(end)
        if done == 0 and start < end:
            yield held.item
