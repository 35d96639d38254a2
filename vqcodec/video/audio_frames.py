"""Decoded audio of any kind and timing, made even: one rate, frames on a grid, gaps filled."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from av.audio.frame import AudioFrame
    from av.audio.resampler import AudioResampler
    from numpy.typing import NDArray

# Stamps that are off by less (s) are rounded ones; samples simply follow each other. Well below
# the 20 ms that sound may be off the picture.
TOLERANCE = Fraction(1, 200)


class Framer:
    """Cuts audio into frames of ``size`` samples that begin at multiples of it.

    Time before 0 is cut off, overlaps are dropped, gaps become silence. Whole frames of silence
    inside a gap are left out, but for one at either end: encoders keep the time of each frame.

    Args:
        rate: samples a second.
        channels: 1 or 2; others are mixed down.
        size: samples in a frame.
    """

    def __init__(self, rate: int, channels: int, size: int) -> None:
        self._rate, self._channels, self._size = rate, channels, size
        self._resampler: AudioResampler | None = None
        self._kind: object = None
        self._clock = Fraction(0)  # when (s) the next frame is due
        self._at = 0  # where the resampler's next sample belongs
        self._base = 0  # where ``_samples`` begins, a multiple of the size
        self._samples: NDArray[np.float32] | None = None

    def push(self, frame: AudioFrame, time: Fraction) -> Iterator[AudioFrame]:
        """Take a frame that begins at ``time`` (s) and yield what is complete.

        Raises:
            av.FFmpegError: FFmpeg has no conversion for this kind of audio.
        """
        from av.audio.resampler import AudioResampler

        kind = frame.format.name, frame.layout.name, frame.sample_rate
        if self._resampler is None or kind != self._kind or abs(time - self._clock) > TOLERANCE:
            yield from self._resample(None)
            layout = "mono" if self._channels == 1 else "stereo"
            self._resampler = AudioResampler("flt", layout, self._rate)
            self._kind, self._clock, self._at = kind, time, round(time * self._rate)
        self._clock += Fraction(frame.samples, frame.sample_rate)
        frame.pts = None
        yield from self._resample(frame)

    def flush(self) -> Iterator[AudioFrame]:
        """Yield what is left, filled up with silence."""
        import numpy as np

        yield from self._resample(None)
        self._resampler = None
        if self._samples is not None and self._samples.shape[1]:
            left = -self._samples.shape[1] % self._size
            self._samples = np.pad(self._samples, ((0, 0), (0, left)))
            yield from self._emit()

    def _resample(self, frame: AudioFrame | None) -> Iterator[AudioFrame]:
        if self._resampler is not None:
            for ready in self._resampler.resample(frame):
                samples: NDArray[Any] = ready.to_ndarray()
                samples = samples.reshape(-1, self._channels).T  # packed
                at, self._at = self._at, self._at + samples.shape[1]
                yield from self._place(samples, at)

    def _place(self, samples: NDArray[np.float32], at: int) -> Iterator[AudioFrame]:
        """Put samples (channels, n) where they belong."""
        import numpy as np

        if self._samples is None:
            self._base = max(0, at // self._size * self._size)
            self._samples = np.zeros((self._channels, 0), np.float32)
        end = self._base + self._samples.shape[1]
        samples = samples[:, max(0, end - at) :]
        if not samples.shape[1]:
            return
        gap = max(0, at - end)
        if gap > 4 * self._size:
            self._samples = np.pad(self._samples, ((0, 0), (0, self._size + -end % self._size)))
            yield from self._emit()
            self._base = at // self._size * self._size - self._size
            gap = at - self._base
        self._samples = np.concatenate(
            [self._samples, np.zeros((self._channels, gap), np.float32), samples], axis=1
        )
        yield from self._emit()

    def _emit(self) -> Iterator[AudioFrame]:
        import numpy as np
        from av.audio.frame import AudioFrame

        assert self._samples is not None, "only called with some"
        while self._samples.shape[1] >= self._size:
            part, self._samples = self._samples[:, : self._size], self._samples[:, self._size :]
            layout = "mono" if self._channels == 1 else "stereo"
            frame = AudioFrame.from_ndarray(np.ascontiguousarray(part), "fltp", layout)
            frame.sample_rate, frame.time_base = self._rate, Fraction(1, self._rate)
            frame.pts, self._base = self._base, self._base + self._size
            yield frame
