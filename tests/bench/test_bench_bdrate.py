"""BD-rate on curves whose answer is known, and where there is none."""

from __future__ import annotations

import numpy as np
import pytest

from vqcodec.bench.bdrate import (
    ClipPoints,
    Curve,
    bd_quality,
    bd_rate,
    bootstrap_bd_rate,
    win_rate,
)

RATE = np.array([0.05, 0.1, 0.2, 0.4])
QUALITY = np.array([24.0, 27.0, 30.0, 33.0])
ANCHOR = Curve.of(RATE, QUALITY)


def test_equal_curves_differ_by_nothing() -> None:
    assert bd_rate(ANCHOR, ANCHOR).value == pytest.approx(0)
    assert bd_quality(ANCHOR, ANCHOR).value == pytest.approx(0)


def test_half_the_bits_is_minus_fifty_percent() -> None:
    delta = bd_rate(ANCHOR, Curve.of(RATE / 2, QUALITY))
    assert delta.value == pytest.approx(-50)
    assert (delta.low, delta.high) == (24, 33)
    # 3 dB per doubling: half the rate at equal quality is 3 dB at equal rate
    assert bd_quality(ANCHOR, Curve.of(RATE / 2, QUALITY)).value == pytest.approx(3)


def test_only_the_common_range_counts() -> None:
    delta = bd_rate(ANCHOR, Curve.of(RATE[1:], QUALITY[1:] + 1))
    assert (delta.low, delta.high) == (28, 33)
    window = bd_rate(ANCHOR, Curve.of(RATE / 2, QUALITY), window=(0.05, 0.1))
    assert (window.low, window.high) == pytest.approx((27, 27)) or window.reason
    window = bd_rate(ANCHOR, Curve.of(RATE / 2, QUALITY), window=(0.025, 0.2))
    assert (window.low, window.high) == pytest.approx((24, 30))
    assert window.value == pytest.approx(-50)


def test_no_overlap_gives_a_reason() -> None:
    delta = bd_rate(ANCHOR, Curve.of(RATE, QUALITY + 50))
    assert delta.value is None
    assert delta.reason == "the curves share no range of quality"
    assert bd_quality(ANCHOR, Curve.of(RATE * 100, QUALITY)).reason
    assert "two points" in str(bd_rate(ANCHOR, Curve.of([0.1], [30])).reason)
    assert "two points" in str(bd_rate(ANCHOR, Curve.of([], [])).reason)
    outside = bd_rate(ANCHOR, ANCHOR, window=(10.0, 20.0))
    assert outside.value is None


def test_dominated_points_and_order_do_not_matter() -> None:
    messy = Curve.of([0.4, 0.1, 0.05, 0.2, 0.3, 0.1], [33, 27, 24, 30, 29, 20])
    assert np.array_equal(messy.rate, RATE)
    assert np.array_equal(messy.quality, QUALITY)
    with pytest.raises(ValueError, match="positive"):
        Curve.of([0.0, 1.0], [1, 2])
    with pytest.raises(ValueError, match="as many"):
        Curve.of([1.0], [1, 2])


def test_no_extrapolation() -> None:
    assert ANCHOR.rate_at(27) == pytest.approx(0.1)
    assert ANCHOR.rate_at(23.9) is None
    assert ANCHOR.quality_at(0.2) == pytest.approx(30)
    assert ANCHOR.quality_at(0.5) is None
    assert Curve.of([0.1], [30]).rate_at(30) == pytest.approx(0.1)


def _points(scale: float, seed: int = 3, clips: int = 20) -> ClipPoints:
    offset = np.random.default_rng(seed).normal(0, 1.5, clips)
    rate = np.repeat(RATE[:, None] * scale, clips, axis=1)
    return ClipPoints(rate, QUALITY[:, None] + offset)


def test_bootstrap_brackets_the_truth_and_repeats() -> None:
    interval = bootstrap_bd_rate(_points(1), _points(0.7, seed=4), resamples=200)
    assert interval is not None
    assert interval[0] < -30 < interval[1]
    assert interval == bootstrap_bd_rate(_points(1), _points(0.7, seed=4), resamples=200)
    # the draw is paired: the spread between clips cancels where both codecs share it
    paired = bootstrap_bd_rate(_points(1), _points(0.7), resamples=50)
    assert paired == pytest.approx((-30, -30))
    assert bootstrap_bd_rate(_points(1, clips=1), _points(1, clips=1)) is None


def test_win_rate_counts_only_comparable_points() -> None:
    found = win_rate(_points(1), _points(0.7))
    assert (found.wins, found.compared, found.below) == (60, 60, 20)
    assert found.share == 1.0
    lost = win_rate(_points(0.7), _points(1))
    assert (lost.wins, lost.compared, lost.below) == (0, 60, 0)
    assert win_rate(_points(1), _points(9)).share is None
