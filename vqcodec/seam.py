"""No seams: the last frames of a chunk and the first of the next are brought closer together.

Chunks are decoded apart, so what stands still looks a little different in each, and jumps from one
to the next. A chunk that is decoded alone stays as it is. Where two meet there is a rule: the jump
is taken for an error where it is small, and for motion or a cut where it is large, and part of the
error is taken off on either side, less and less with the distance to the border. A model may have a
network that mends what the rule leaves (:mod:`vqcodec.model.mending`).

The better the pictures are, the smaller a jump need be to be motion; where they are coarse, more
of it is error.

The rule was chosen on footage set aside from training (``docs/training-log.md``), on four frames on
either side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from vqcodec.model.config import REACH

if TYPE_CHECKING:
    from vqcodec.container import Level

Frames: TypeAlias = NDArray[np.uint8]  # (T, H, W, 3)
# Takes and gives up to REACH frames before a border and as many after it.
Mend: TypeAlias = Callable[[Frames, Frames], tuple[Frames, Frames]]

SHARE = 0.3  # of the jump that is taken off the frame at the border
FADE = 0.6  # the same for each frame farther away
MOTION = 56.0  # RMS of a jump, in grey levels, that is more likely motion than error,
FINER = 0.6  # and so many times that for each plane of details after the first
DETAIL_SHARE = 0.4  # as `SHARE`, where there are details
COARSE = 0.1  # bits a pixel: of fewer, at fixed length, pictures are coarse,
COARSE_SHARE, COARSE_MOTION = 0.5, 90.0  # and these are theirs
SQUARE = 5  # pixels: what side the squares have in which it is judged


def rule(levels: Sequence[Level]) -> Mend:
    """The rule for chunks of these levels."""
    codes = [level for level in levels if not level.details]
    planes = len(levels) - len(codes)
    share = DETAIL_SHARE if planes else SHARE
    motion = MOTION * FINER ** max(0, planes - 1)
    if sum(level.bits / (level.stride_t * level.stride**2) for level in codes) < COARSE:
        share, motion = COARSE_SHARE, COARSE_MOTION
    return partial(smooth, share=share, motion=motion)


class Seams:
    """Takes chunk after chunk, and gives back frames as they are ready.

    Args:
        mend: what is done to frames near a border: a :func:`rule`, or more.
    """

    def __init__(self, mend: Mend) -> None:
        self._mend = mend
        self._held: Frames | None = None

    @property
    def held(self) -> int:
        """How many frames wait for the next chunk."""
        return 0 if self._held is None else len(self._held)

    def push(self, frames: Frames, *, joins: bool = True) -> Frames:
        """Take the next chunk; return the frames held back and those of its own that are ready.

        Args:
            frames: (T, H, W, 3), T at least 1.
            joins: false if it does not go on from the chunk before: no jump is an error then.
        """
        # Of a short chunk half is for either border.
        near = min(REACH, (len(frames) + 1) // 2)
        if self._held is None:
            ready = frames
        else:
            before, after = self._held, frames[:near]
            if joins:
                before, after = self._mend(before, after)
            ready = np.concatenate([before, after, frames[near:]])
        self._held = ready[len(ready) - near :]
        return ready[: len(ready) - near]

    def finish(self) -> Frames:
        """The frames that were held back, if any; no chunk follows."""
        assert self._held is not None, "a chunk was pushed"
        held, self._held = self._held, None
        return held


def joined(chunks: Iterable[Frames], seams: Seams) -> Iterator[Frames]:
    """The frames of consecutive chunks without seams, in parts of any length."""
    for frames in chunks:
        yield seams.push(frames)
    if seams.held:
        yield seams.finish()


def across(before: Frames, after: Frames, ruled: Mend) -> tuple[Frames, NDArray[np.int16]]:
    """What the network that mends sees of a border.

    Args:
        before, after: (T, H, W, 3) each, T up to ``REACH``. Beyond these, pictures stand still.
        ruled: the rule.

    Returns:
        ``REACH`` frames before the border and as many after it, as the rule leaves them, uint8
        (2 REACH, H, W, 3); and what it added to the last before it, int16 (H, W, 3).
    """
    first, last = ruled(before, after)
    begin = first[:1].repeat(REACH - len(first), 0)
    end = last[-1:].repeat(REACH - len(last), 0)
    return np.concatenate([begin, first, last, end]), first[-1].astype(np.int16) - before[-1]


def smooth(
    before: Frames, after: Frames, share: float = SHARE, motion: float = MOTION
) -> tuple[Frames, Frames]:
    """Copies of the end of a chunk and of the next chunk, of which the frames near the border move.

    Args:
        before: (S, H, W, 3), the last frames of a chunk.
        after: (T, H, W, 3), the first of the next.
        share: of the jump that is taken off the frames at the border.
        motion: RMS of a jump, in grey levels, that is more likely motion than error.
    """
    jump = after[0].astype(np.float32) - before[-1]
    power = _around(np.square(jump).mean(-1))
    error = jump * np.exp(power / -(motion**2))[..., None]
    before, after = before.copy(), after.copy()
    shares = share * FADE ** np.arange(REACH)
    for distance, share in enumerate(shares[: len(after)]):
        after[distance] = _rounded(after[distance] - share * error)
    for distance, share in enumerate(shares[: len(before)]):
        before[-1 - distance] = _rounded(before[-1 - distance] + share * error)
    return before, after


def _around(power: NDArray[np.float32]) -> NDArray[np.float32]:
    """(H, W): the mean over the square around each place; what is outside mirrors the inside.

    As of ``scipy.ndimage.uniform_filter``, whose import takes longer than to decode a few chunks.
    """
    mean = np.pad(power, SQUARE // 2, "symmetric")
    for axis in (0, 1):
        mean = sliding_window_view(mean, SQUARE, axis).mean(-1)
    return mean


def _rounded(frame: NDArray[Any]) -> Frames:
    rounded: Frames = np.clip(np.rint(frame), 0, 255).astype(np.uint8)
    return rounded
