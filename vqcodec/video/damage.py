"""What of a video is lost or corrupt: how many frames, and where."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

_MAX_RANGES = 10
# How far (in frames) a loss may be from the packet that the error is told of: up to 16 pictures are
# held to be reordered, and transport streams flag the packet before a loss.
_NEAR = 16


@dataclass
class Damage:
    """Frames of the source that are lost or corrupt.

    Attributes:
        count: how many; where many in a row are lost, by the time that they would have taken.
        ranges: where the first few are: (start, stop) in s from the first frame, in order of time.
        failure: why reading stopped early, if it did.
    """

    count: int = 0
    ranges: list[tuple[Fraction, Fraction]] = field(default_factory=list)
    failure: str | None = None
    _more: bool = False

    def add(self, start: Fraction, stop: Fraction, count: int = 1) -> None:
        """Count frames from ``start`` to ``stop`` s, not before those that were counted last."""
        self.count += count
        if self.ranges and not self._more and start <= self.ranges[-1][1]:
            self.ranges[-1] = self.ranges[-1][0], max(stop, self.ranges[-1][1])
        elif len(self.ranges) < _MAX_RANGES:
            self.ranges.append((start, stop))
        else:
            self._more = True

    def __bool__(self) -> bool:
        return self.count > 0 or self.failure is not None

    def __str__(self) -> str:
        where = [
            f"{start:.2f} to {stop:.2f} s" if start < stop else f"at {stop:.2f} s"
            for start, stop in (map(float, times) for times in self.ranges)
        ]
        frames = f"{self.count} frame{'s' * (self.count != 1)} lost or corrupt, "
        parts = [frames + ", ".join(where + ["…"] * self._more)] * (self.count > 0)
        if self.failure is not None:
            parts.append(f"cannot be read to its end: {self.failure}")
        return "; ".join(parts)


class Watch:
    """Finds the frames that are lost between decoded pictures, and adds them to ``damage``.

    A gap between two pictures means nothing by itself, as rates vary. After an error it is what the
    error cost: one frame, or all that refer to it, which some decoders drop without a word.
    """

    def __init__(self, damage: Damage) -> None:
        self._damage = damage
        self._errors: list[Fraction] = []  # times of packets
        self._end: Fraction | None = None  # of the latest picture
        self._duration = Fraction(0)  # of the latest picture
        self._hurt = Fraction(-1)  # where the latest known damage ends
        self._lead = Fraction(0)  # what was lost before time 0

    def error(self, time: Fraction | None) -> None:
        """A packet is corrupt, to be shown at ``time`` (s, before 0 if it led the video)."""
        if time is None:
            time = self._end or Fraction(0)
            self._add(time, time)
        else:
            self._errors.append(time)

    def picture(self, time: Fraction, duration: Fraction, *, corrupt: bool) -> None:
        """A picture is shown from ``time`` (s) for ``duration`` (s)."""
        self._duration = duration
        if self._end is not None:
            self._gap(self._end, time)
        elif begin := [error for error in self._errors if error < time]:  # the beginning is lost
            self._errors = [error for error in self._errors if error >= time]
            count = max(len(begin), round((time - min(begin)) / duration))
            self._add(max(Fraction(0), min(begin)), time, count)
            self._lead = max(Fraction(0), -min(begin))
        if corrupt:
            self._add(time, time + duration)
        self._end = time + duration
        self._settle(time)

    def finish(self, promised: Fraction | None, tolerance: Fraction) -> None:
        """No picture follows.

        Args:
            promised: how long the video should have been, in seconds; None if that is unknown.
            tolerance: seconds that may be missing without any error.
        """
        end = self._end or Fraction(0)
        if promised is not None and (self._errors or promised - self._lead - end > tolerance):
            self._gap(end, promised - self._lead, sure=True)
        self._settle(None)

    def _gap(self, start: Fraction, stop: Fraction, *, sure: bool = False) -> None:
        """Count what is missing there, if an error explains it or it is ``sure`` to be missing."""
        if stop - start > self._duration / 2 and (sure or self._errors):
            self._add(start, stop, max(1, round((stop - start) / self._duration)))

    def _settle(self, time: Fraction | None) -> None:
        """Count errors of packets well before ``time`` that nothing near them bears out."""
        near = _NEAR * self._duration
        for error in [e for e in self._errors if time is None or e + near < time]:
            self._errors.remove(error)
            if self._hurt < error - near:
                self._add(error, error + self._duration)

    def _add(self, start: Fraction, stop: Fraction, count: int = 1) -> None:
        self._damage.add(start, stop, count)
        self._hurt = stop
