"""vqcodec.seam"""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from scipy.ndimage import uniform_filter

from vqcodec import metrics
from vqcodec.container import Level
from vqcodec.model.config import REACH
from vqcodec.seam import (
    DETAIL_SHARE,
    SHARE,
    SQUARE,
    Seams,
    _around,
    across,
    joined,
    rule,
    smooth,
)

SIDE = 24
CODES = (Level(8, 8), Level(8, 4), Level(8, 4))
DETAILS = Level(1, 1, 3, details=True)


def chunks_of(lengths, seed=0, jump=6):
    """A still scene that each chunk shows a little differently."""
    generator = np.random.default_rng(seed)
    scene = generator.integers(40, 200, (SIDE, SIDE, 3))
    errors = generator.normal(0, jump, (len(lengths), SIDE // 4, SIDE // 4, 3))
    return [
        np.clip(scene + error.repeat(4, 0).repeat(4, 1), 0, 255)
        .astype(np.uint8)[None]
        .repeat(length, 0)
        for length, error in zip(lengths, errors, strict=True)
    ]


@settings(deadline=None)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=6))
def test_every_frame_comes_back_in_its_place(lengths):
    chunks = chunks_of(lengths)
    found = np.concatenate(list(joined(chunks, Seams(rule(CODES)))))
    given_frames = np.concatenate(chunks)
    assert (found.dtype, found.shape) == (np.uint8, given_frames.shape)
    near = np.zeros(len(found), bool)
    for border in np.cumsum(lengths)[:-1]:
        near[max(0, border - REACH) : border + REACH] = True
    np.testing.assert_array_equal(found[~near], given_frames[~near])
    assert np.abs(found.astype(int) - given_frames).max() < 40


def test_nothing_to_join():
    assert list(joined([], Seams(rule(CODES)))) == []
    (chunk,) = chunks_of([7])
    np.testing.assert_array_equal(np.concatenate(list(joined([chunk], Seams(rule(CODES))))), chunk)
    assert Seams(rule(CODES)).held == 0


def test_what_stands_still_flickers_less_and_is_closer_to_the_truth():
    chunks = chunks_of([16] * 8)
    truth = np.concatenate([chunk * 0 for chunk in chunks])
    truth[:] = np.mean([chunk[0] for chunk in chunks], 0).round()
    raw, smoothed = np.concatenate(chunks), np.concatenate(list(joined(chunks, Seams(rule(CODES)))))
    before, after = (metrics.flicker(truth, frames, chunk=16) for frames in (raw, smoothed))
    assert after.border < 0.5 * before.border
    assert metrics.psnr(truth, smoothed) > metrics.psnr(truth, raw)


def test_a_cut_stays_a_cut():
    dark, bright = (
        np.full((8, SIDE, SIDE, 3), 20, np.uint8),
        np.full((8, SIDE, SIDE, 3), 220, np.uint8),
    )
    np.testing.assert_array_equal(
        np.concatenate(list(joined([dark, bright], Seams(rule(CODES))))),
        np.concatenate([dark, bright]),
    )


def test_motion_in_one_place_leaves_another_to_be_smoothed():
    first, second = chunks_of([8, 8])
    second[:, :8, :8] = np.where(first[-1, :8, :8] < 128, 255, 0)
    before, after = smooth(first[-REACH:], second[:REACH])
    moved = np.abs(after[0].astype(int) - second[0]).max(-1)
    assert moved[:6, :6].max() == 0
    assert moved[14:, 14:].max() > 0
    assert before.shape == (REACH, SIDE, SIDE, 3)


def test_what_mends_takes_and_gives_the_frames_around_a_border():
    calls = []

    def mend(before, after):
        calls.append((len(before), len(after)))
        return np.full_like(before, 1), np.full_like(after, 2)

    chunks = chunks_of([16, 7, 1, 16])
    seams = Seams(mend)
    found = np.concatenate(list(joined(chunks, seams)))
    assert calls == [(REACH, 4), (4, 1), (1, REACH)]  # half of a short chunk is for either border
    whole = np.concatenate(chunks)
    assert (found[16 - REACH : 16] == 1).all()
    assert (found[16:19] == 2).all()
    assert (found[19:24] == 1).all()
    assert (found[24 : 24 + REACH] == 2).all()
    np.testing.assert_array_equal(found[: 16 - REACH], whole[: 16 - REACH])
    np.testing.assert_array_equal(found[24 + REACH :], whole[24 + REACH :])
    for joins in (True, False, True):  # the first has nothing before it
        seams.push(chunks[0], joins=joins)
    assert len(calls) == 4


@pytest.mark.parametrize(("before", "after"), [(REACH, REACH), (1, REACH), (REACH, 2), (1, 1)])
def test_across_a_border(before, after):
    first, second = chunks_of([before, after])
    frames, moved = across(first, second, rule(CODES))
    assert (frames.dtype, frames.shape) == (np.uint8, (2 * REACH, SIDE, SIDE, 3))
    left, right = smooth(first, second)
    np.testing.assert_array_equal(frames[REACH - before : REACH], left)
    np.testing.assert_array_equal(frames[REACH : REACH + after], right)
    assert (frames[: REACH - before] == left[0]).all()  # what is not there stands still
    assert (frames[REACH + after :] == right[-1]).all()
    np.testing.assert_array_equal(moved, left[-1].astype(int) - first[-1])
    assert moved.min() < 0 < moved.max()


def test_inputs_are_left_alone():
    first, second = chunks_of([8, 8])
    copies = first.copy(), second.copy()
    smooth(first[-REACH:], second[:REACH])
    np.testing.assert_array_equal(first, copies[0])
    np.testing.assert_array_equal(second, copies[1])


def test_what_does_not_go_on_is_not_smoothed():
    first, second = chunks_of([8, 8])
    seams = Seams(rule(CODES))
    parts = [seams.push(first), seams.push(second, joins=False), seams.finish()]
    np.testing.assert_array_equal(np.concatenate(parts), np.concatenate([first, second]))


def test_with_more_details_a_jump_is_sooner_taken_for_motion():
    first, second = chunks_of([8, 8])
    second = np.clip(second.astype(int) + 30, 0, 255).astype(np.uint8)
    whole = np.concatenate([first, second]).astype(int)
    moved = [
        np.abs(
            np.concatenate(list(joined([first, second], Seams(rule(CODES + (DETAILS,) * planes)))))
            - whole
        ).sum()
        for planes in (0, 1, 2, 3)
    ]
    assert moved[1] > moved[2] > moved[3]
    assert moved[1] == pytest.approx(DETAIL_SHARE / SHARE * moved[0], rel=0.02)


def test_of_coarse_pictures_more_is_taken_off():
    first, second = chunks_of([8, 8], jump=30)
    whole = np.concatenate([first, second]).astype(int)
    moved = [
        np.abs(
            np.concatenate(list(joined([first, second], Seams(rule(CODES[:count]))))) - whole
        ).sum()
        for count in (1, 2, 3)
    ]
    assert moved[0] == moved[1] > 1.3 * moved[2]


@pytest.mark.parametrize("length", [1, 2, 3])
def test_short_chunks_share_their_frames(length):
    chunks = chunks_of([length] * 5)
    found = np.concatenate(list(joined(chunks, Seams(rule(CODES)))))
    raw = np.concatenate(chunks)
    jumps, smoothed = (np.abs(np.diff(x.astype(int), axis=0)).mean() for x in (raw, found))
    assert smoothed < jumps


@pytest.mark.parametrize("shape", [(8, 8), (9, 24), (3, 2)])
def test_jumps_are_judged_in_squares(shape):
    power = np.random.default_rng(0).random(shape, np.float32)
    np.testing.assert_allclose(_around(power), uniform_filter(power, SQUARE), rtol=1e-5)
