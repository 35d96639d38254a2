"""Repair of stamps, and resampling, as pure arithmetic."""

from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqcodec.video.timing import Shown, StampChooser, Timeline, frame_count, resample

RATE = Fraction(16)


def clip(times, last):
    ends = [*times[1:], times[-1] + last]
    return [
        Shown(i, Fraction(t), Fraction(e - t))
        for i, (t, e) in enumerate(zip(times, ends, strict=True))
    ]


def constant(count, rate):
    return clip([i / Fraction(rate) for i in range(count)], 1 / Fraction(rate))


def times_of(stamps, duration=1, max_gap=100):
    timeline = Timeline(Fraction(max_gap))
    return [timeline.place(None if s is None else Fraction(s), Fraction(duration)) for s in stamps]


@pytest.mark.parametrize("count", [1, 2, 33, 160])
def test_a_video_at_the_rate_passes_one_to_one(count):
    assert list(resample(constant(count, 16), RATE)) == list(range(count))


@pytest.mark.parametrize("rate", [Fraction(12), Fraction(30000, 1001), Fraction(60), Fraction(120)])
def test_count_follows_duration(rate):
    frames = constant(100, rate)
    assert len(list(resample(frames, RATE))) == frame_count(100 / rate, RATE)


@pytest.mark.parametrize("rate", [16, 32, 48, 64])
def test_millisecond_stamps_keep_the_stride_even(rate):
    times = [Fraction(round(Fraction(1000 * i, rate)), 1000) for i in range(10 * rate)]
    picked = list(resample(clip(times, Fraction(1, rate)), RATE))
    assert len(picked) == 160
    assert {b - a for a, b in pairwise(picked)} == {rate // 16}


def test_a_long_last_frame_counts():
    assert list(resample(clip([0, Fraction(1, 16)], Fraction(1)), RATE)) == [0] + [1] * 16


def test_a_video_shorter_than_half_a_turn_gives_one_frame():
    assert list(resample(constant(3, 1000), RATE)) == [2]


def test_start_and_duration():
    frames = constant(160, 16)
    window = resample(frames, RATE, start=Fraction(2), duration=Fraction(1))
    assert list(window) == list(range(32, 48))
    assert list(resample(frames, RATE, start=Fraction(10))) == []


@given(
    st.lists(st.fractions(Fraction(1, 500), Fraction(2)), min_size=1, max_size=40),
    st.sampled_from([Fraction(8), Fraction(16), Fraction(24000, 1001)]),
)
def test_duration_is_kept_to_half_a_frame(steps, rate):
    times = [sum(steps[:i], Fraction(0)) for i in range(len(steps))]
    picked = list(resample(clip(times, steps[-1]), rate))
    total = sum(steps)
    assert len(picked) == 1 or abs(len(picked) / rate - total) <= 1 / rate / 2
    assert picked == sorted(picked)


@pytest.mark.parametrize(
    ("stamps", "times"),
    [
        ([0, 1, 3, 7], [0, 1, 3, 7]),  # good ones are believed
        ([-3, -2, -1], [-3, -2, -1]),
        ([None, None, None], [0, 1, 2]),
        ([0, None, 2, 3], [0, 1, 2, 3]),
        ([0, 0, 0, 0], [0, 1, 2, 3]),  # a stuck clock
        ([0, 1, 1000, 2, 3], [0, 1, 2, 3, 4]),  # one wild stamp
        ([0, 1, 500, 501, 502], [0, 1, 2, 3, 4]),  # the clock set forwards
        ([50, 51, 0, 1, 2], [50, 51, 52, 53, 54]),  # and back
    ],
)
def test_repair(stamps, times):
    assert times_of(stamps) == times


@given(st.lists(st.none() | st.integers(-(2**40), 2**40), min_size=1, max_size=50))
def test_any_stamps_give_increasing_and_bounded_times(stamps):
    times = times_of(stamps)
    assert all(0 < b - a <= 100 for a, b in pairwise(times))


def test_out_of_order_presentation_stamps_lose_to_decoding_stamps():
    chooser = StampChooser()
    chosen = [chooser.choose(p, d) for p, d in [(1, 1), (2, 2), (4, 3), (3, 4), (5, 5), (7, 6)]]
    assert chosen == [1, 2, 4, 4, 5, 6]
    assert StampChooser().choose(None, 3) == 3
    assert StampChooser().choose(None, None) is None
