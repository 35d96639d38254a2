"""What of a damaged file cannot be had, by place and by time."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

from vqcodec.container.chunk import Chunk
from vqcodec.errors import ChecksumError, FormatError, TruncatedError

MAX_REMEMBERED = 100  # a file of noise would otherwise fill the memory with them


@dataclass(frozen=True)
class Lost:
    """A stretch of a file that cannot be had.

    Attributes:
        start, frames: which frames are lost with it; none if it held no pictures.
        rate: frames per second.
        offset, nbytes: where it is in the file; no bytes if whole chunks were dropped.
        reason: what is wrong there.
        exact: ``start`` and ``frames`` are certain.
        cut: it is what a truncated file lacks at its end.
    """

    start: int
    frames: int
    rate: Fraction
    offset: int
    nbytes: int
    reason: str
    exact: bool = True
    cut: bool = False

    @classmethod
    def of(cls, chunk: Chunk, error: FormatError) -> Lost:
        """A chunk that was found but cannot be unpacked."""
        return cls(
            chunk.start, chunk.frames, chunk.header.rate, chunk.offset, chunk.nbytes, str(error)
        )

    @property
    def stop(self) -> int:
        """Number of the frame after the last one lost."""
        return self.start + self.frames

    @property
    def error(self) -> FormatError:
        """The same as an exception."""
        return TruncatedError(str(self)) if self.cut else ChecksumError(str(self))

    def __str__(self) -> str:
        if not self.frames:
            return f"{self.reason}; no frames are {'known to be ' if self.cut else ''}lost"
        first, last = (float(frame / self.rate) for frame in (self.start, self.stop))
        about = "" if self.exact else "about "
        return f"{self.reason}; {about}{self.frames} frames lost, {first:.2f} to {last:.2f} s"


@dataclass
class Losses:
    """All of a file.

    Attributes:
        first: in order of time, at most ``MAX_REMEMBERED``.
        count, frames: of all.
        cut: the file is truncated.
    """

    first: list[Lost] = field(default_factory=list)
    count: int = 0
    frames: int = 0
    cut: bool = False

    def add(self, lost: Lost) -> None:
        """Remember one."""
        if self.count < MAX_REMEMBERED:
            self.first.append(lost)
        self.count += 1
        self.frames += lost.frames
        self.cut |= lost.cut

    def __str__(self) -> str:
        """All of them in a line."""
        rest = f"; {self.frames} frames lost in {self.count} places" * (self.count > 1)
        return f"{self.first[0]}{rest}" if self.first else "nothing is lost"

    def lines(self) -> list[str]:
        """One for each that is remembered, and one for the rest."""
        rest = self.count - len(self.first)
        return [str(lost) for lost in self.first] + [f"and {rest} more"] * (rest > 0)

    def as_json(self) -> list[dict[str, object]]:
        """What is remembered, for a report."""
        return [
            {
                "start": float(lost.start / lost.rate),
                "stop": float(lost.stop / lost.rate),
                "frames": lost.frames,
                "exact": lost.exact,
                "offset": lost.offset,
                "bytes": lost.nbytes,
                "reason": lost.reason,
            }
            for lost in self.first
        ]
