"""Compare rate-distortion curves: Bjøntegaard deltas, confidence intervals, win rates.

Curves are interpolated by pchip (monotone cubic) between log10 of the rate and the quality, over
the range that both curves cover and nowhere else: no value is ever extrapolated. The range goes
with every result; where there is none, the result says why instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """Points of one codec, sorted by rate, of which none is dearer without being better.

    Build it with :meth:`of`.

    Attributes:
        rate: any positive unit (bpp here), strictly increasing.
        quality: any unit in which more is better, strictly increasing.
    """

    rate: Floats
    quality: Floats

    @classmethod
    def of(cls, rate: ArrayLike, quality: ArrayLike) -> Curve:
        """Sort points and drop those that cost at least as much as a point of equal quality.

        Raises:
            ValueError: lengths differ, a rate is not positive, or a value is not finite.
        """
        r, q = np.asarray(rate, np.float64), np.asarray(quality, np.float64)
        if r.shape != q.shape or r.ndim != 1:
            raise ValueError(f"a curve needs as many rates as qualities: {r.shape} and {q.shape}")
        if not (np.isfinite(r).all() and np.isfinite(q).all() and (r > 0).all()):
            raise ValueError("rates must be positive, and all values finite")
        order = np.lexsort((-q, r))
        r, q = r[order], q[order]
        best = np.maximum.accumulate(np.concatenate([[-np.inf], q]))[:-1]
        return cls(r[q > best], q[q > best])

    def rate_at(self, quality: float) -> float | None:
        """The rate that gives ``quality``; None outside the curve."""
        if not len(self.quality) or not self.quality[0] <= quality <= self.quality[-1]:
            return None
        return float(10 ** _interpolate(self.quality, np.log10(self.rate), quality))

    def quality_at(self, rate: float) -> float | None:
        """The quality at ``rate``; None outside the curve."""
        if not len(self.rate) or not self.rate[0] <= rate <= self.rate[-1]:
            return None
        return float(_interpolate(np.log10(self.rate), self.quality, np.log10(rate)))


def _interpolate(x: Floats, y: Floats, at: float) -> float:
    if len(x) == 1:
        return float(y[0])
    from scipy.interpolate import PchipInterpolator

    return float(PchipInterpolator(x, y)(at))


@dataclass(frozen=True)
class Delta:
    """A Bjøntegaard delta and where it holds.

    Attributes:
        value: percent of rate (negative: fewer bits than the anchor) or units of quality
            (positive: better); None where there is no common range.
        low: start of the common range, in quality for a rate, in rate for a quality.
        high: its end.
        reason: why ``value`` is None.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str | None = None


def bd_rate(anchor: Curve, test: Curve, window: tuple[float, float] | None = None) -> Delta:
    """Mean difference in rate at equal quality, in percent of the anchor's rate.

    Args:
        anchor: the codec compared against.
        test: the codec under test.
        window: only qualities that both curves reach at rates inside it count.
    """
    low = max(_lowest(anchor, window), _lowest(test, window))
    high = min(_highest(anchor, window), _highest(test, window))
    mean = _mean_difference(
        (anchor.quality, np.log10(anchor.rate)), (test.quality, np.log10(test.rate)), low, high
    )
    if isinstance(mean, str):
        return Delta(None, reason=mean.format("quality"))
    return Delta(100 * (10**mean - 1), low, high)


def bd_quality(anchor: Curve, test: Curve) -> Delta:
    """Mean difference in quality at equal rate, over the rates that both curves cover."""
    curves = [(np.log10(c.rate), c.quality) for c in (anchor, test)]
    spans = [(x[0], x[-1]) if len(x) else (np.inf, -np.inf) for x, _ in curves]
    low, high = max(s[0] for s in spans), min(s[1] for s in spans)
    mean = _mean_difference(curves[0], curves[1], low, high)
    if isinstance(mean, str):
        return Delta(None, reason=mean.format("rate"))
    return Delta(mean, float(10**low), float(10**high))


def _lowest(curve: Curve, window: tuple[float, float] | None) -> float:
    """The least quality of a curve at rates inside the window; +inf where there is none."""
    if not len(curve.rate) or (window and curve.rate[-1] < window[0]):
        return np.inf
    inside = curve.quality_at(window[0]) if window else None
    return float(curve.quality[0]) if inside is None else inside


def _highest(curve: Curve, window: tuple[float, float] | None) -> float:
    """The best quality of a curve at rates inside the window; -inf where there is none."""
    if not len(curve.rate) or (window and curve.rate[0] > window[1]):
        return -np.inf
    inside = curve.quality_at(window[1]) if window else None
    return float(curve.quality[-1]) if inside is None else inside


def _mean_difference(
    anchor: tuple[Floats, Floats], test: tuple[Floats, Floats], low: float, high: float
) -> float | str:
    """Mean of test minus anchor over [low, high], or why there is none ("{}" names the axis)."""
    if min(len(anchor[0]), len(test[0])) < 2:
        return "a curve has fewer than two points"
    if low >= high:
        return "the curves share no range of {}"
    from scipy.interpolate import PchipInterpolator

    areas = [float(PchipInterpolator(x, y).integrate(low, high)) for x, y in (anchor, test)]
    return (areas[1] - areas[0]) / (high - low)


@dataclass(frozen=True)
class ClipPoints:
    """One codec's rate and quality, float64 (settings, clips): columns line up between codecs."""

    rate: Floats
    quality: Floats

    def curve(self, clips: Any = slice(None)) -> Curve:
        """The mean over clips (all, or those of an index array): the reported curve."""
        return Curve.of(self.rate[:, clips].mean(axis=1), self.quality[:, clips].mean(axis=1))

    def clip_curve(self, clip: int) -> Curve:
        """The curve of one clip."""
        return Curve.of(self.rate[:, clip], self.quality[:, clip])


def bootstrap_bd_rate(
    anchor: ClipPoints,
    test: ClipPoints,
    *,
    resamples: int = 500,
    confidence: float = 0.95,
    seed: int = 0,
) -> tuple[float, float] | None:
    """Percentile interval of :func:`bd_rate` when clips are drawn anew with replacement.

    Both codecs get the same draw. None with fewer than two clips, or if more than a tenth of the
    draws have no common range (the interval of the others would be too narrow).
    """
    clips = anchor.rate.shape[1]
    if clips < 2:
        return None
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(resamples):
        draw = rng.integers(0, clips, clips)
        delta = bd_rate(anchor.curve(draw), test.curve(draw))
        if delta.value is not None:
            values.append(delta.value)
    if len(values) < 0.9 * resamples:
        return None
    tail = 100 * (1 - confidence) / 2
    low, high = np.percentile(values, [tail, 100 - tail])
    return float(low), float(high)


@dataclass(frozen=True)
class WinRate:
    """How often the codec under test is better at equal rate, counted in points of single clips.

    Attributes:
        wins: points where its quality is above the anchor's at the same rate.
        compared: points whose rate the anchor's curve for that clip covers.
        below: points cheaper than anything the anchor can do (not counted as wins).
    """

    wins: int
    compared: int
    below: int

    @property
    def share(self) -> float | None:
        """Wins per comparison, 0 to 1."""
        return self.wins / self.compared if self.compared else None


def win_rate(anchor: ClipPoints, test: ClipPoints) -> WinRate:
    """Compare each point of each clip with the anchor's curve of the same clip."""
    wins = compared = below = 0
    for clip in range(test.rate.shape[1]):
        curve = anchor.clip_curve(clip)
        for rate, quality in zip(test.rate[:, clip], test.quality[:, clip], strict=True):
            other = curve.quality_at(float(rate))
            if other is not None:
                compared += 1
                wins += int(quality > other)
            elif rate < curve.rate[0]:
                below += 1
    return WinRate(wins, compared, below)
