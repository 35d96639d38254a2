"""vqcodec.train.stills, and the clips it adds to those of vqcodec.train.data"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from vqcodec.errors import DataError
from vqcodec.train import stills
from vqcodec.train.data import Augmentation, Clips
from vqcodec.train.pictures import Picture, find_pictures
from vqcodec.train.stills import Course, Motion, Stills

PLAIN = Motion(
    tripod=1, squash=1, brightness=1, unsteady_light=0, object=0, noise=0, parallax=0, shake=0
)


def put(path, picture):
    Image.fromarray(picture.permute(1, 2, 0).numpy()).save(path)


@pytest.fixture(scope="module")
def pictures(photographs):
    return find_pictures([photographs])


def clip_of(pictures, seed=0, motion=None, frames=8, size=16):
    source = Stills(pictures, frames=frames, size=size, motion=motion or Motion())
    return source(np.random.default_rng(seed))


def change(clip):
    """Mean difference from frame to frame."""
    return float(clip.float().diff(dim=1).abs().mean())


# Clips


def test_a_clip_is_a_function_of_the_random_numbers(pictures):
    seen = set()
    for seed in range(30):
        clip = clip_of(pictures, seed)
        assert clip.dtype == torch.uint8
        assert clip.shape == (3, 8, 16, 16)
        assert torch.equal(clip, clip_of(pictures, seed))
        seen.add(clip.numpy().tobytes())
    assert len(seen) == 30


@pytest.mark.parametrize(("frames", "size"), [(1, 8), (2, 16), (5, 24), (40, 64)])
def test_shapes(pictures, frames, size):
    for seed in range(5):
        clip = clip_of(pictures, seed, Motion(object=1, noise=1), frames, size)
        assert clip.shape == (3, frames, size, size)


@pytest.mark.parametrize("shape", [(1, 1), (1, 90), (300, 4), (16, 16), (700, 500)])
def test_pictures_of_any_shape(tmp_path, shape):
    put(tmp_path / "x.png", torch.full((3, *shape), 90, dtype=torch.uint8))
    motion = Motion(brightness=1, unsteady_light=0, object=1, noise=0)
    for seed in range(5):
        assert bool((clip_of(find_pictures([tmp_path]), seed, motion) == 90).all())


def test_most_clips_move_and_some_do_not(pictures):
    motion = Motion(unsteady_light=0, object=0, noise=0, tripod=0.3)
    changes = np.array([change(clip_of(pictures, seed, motion)) for seed in range(100)])
    assert 0.15 < np.mean(changes == 0) < 0.45
    assert np.mean(changes > 1) > 0.3


@pytest.mark.parametrize(
    "part",
    [
        {"tripod": 0.0},
        {"object": 1.0},
        {"noise": 1.0},
        {"brightness": 1.2, "unsteady_light": 1.0},
    ],
)
def test_every_part_of_the_motion_moves_something(pictures, part):
    assert all(change(clip_of(pictures, seed, PLAIN)) == 0 for seed in range(5))
    motion = dataclasses.replace(PLAIN, **part)
    changes = [change(clip_of(pictures, seed, motion, frames=32)) for seed in range(10)]
    assert np.mean([value > 0 for value in changes]) > 0.5


def test_views_stay_inside_the_picture():
    picture = torch.zeros(3, 70, 110)
    for seed in range(100):
        rng = np.random.default_rng(seed)
        course = Course.draw(rng, 32, 2.0, Motion())
        points = stills._lay(rng, stills._scene(rng, course, Motion()), picture, 16)
        assert points.shape == (32, stills.GRID, stills.GRID, 2)
        assert np.abs(points).max() <= 1 + 1e-9


def test_scenes_do_not_fold(pictures):
    """Points side by side stay in order, however near things move."""
    for seed in range(100):
        rng = np.random.default_rng(seed)
        course = Course.draw(rng, 32, 1.0, Motion(turn=0, zoom=0))
        flat = dataclasses.replace(course, turn=np.zeros(32))
        x = stills._scene(rng, flat, Motion(parallax=5.0))[..., 0]
        steps = np.diff(x, axis=2)
        assert (steps > 0).all() or (steps < 0).all()


def test_parallax_moves_near_things_more():
    def uneven(parallax):
        rng = np.random.default_rng(3)
        course = Course.draw(rng, 32, 1.0, Motion(pan=0.05, zoom=0, turn=0, shake=0))
        moved = np.diff(stills._scene(rng, course, Motion(parallax=parallax)), axis=0)
        return float(np.ptp(moved, axis=(1, 2)).max())

    assert uneven(0.0) < 1e-9 < 1e-4 < uneven(0.6)


def test_motion_is_smooth(pictures):
    """Frames follow each other: the next but one differs more than the next."""
    motion = dataclasses.replace(PLAIN, tripod=0, pan=0.05, shake=0.01)
    near = far = 0.0
    for seed in range(20):
        clip = clip_of(pictures, seed, motion, frames=16).float()
        near += float((clip[:, 1:] - clip[:, :-1]).abs().mean())
        far += float((clip[:, 4:] - clip[:, :-4]).abs().mean())
    assert 2 * near < far


def test_fine_detail_does_not_alias(tmp_path):
    stripes = torch.zeros(3, 320, 320, dtype=torch.uint8)
    stripes[:, :, ::2] = 200
    put(tmp_path / "stripes.png", stripes)
    motion = dataclasses.replace(PLAIN, tripod=0)
    for seed in range(5):
        clip = clip_of(find_pictures([tmp_path]), seed, motion, size=64)
        assert 90 < int(clip.min()) <= int(clip.max()) < 110


def test_noise_differs_from_frame_to_frame(tmp_path):
    put(tmp_path / "grey.png", torch.full((3, 40, 40), 128, dtype=torch.uint8))
    motion = dataclasses.replace(PLAIN, noise=1.0, most_noise=4.0)
    clip = clip_of(find_pictures([tmp_path]), 0, motion).float()
    assert 0.3 < float(clip.std()) < 6
    assert not torch.equal(clip[:, 0], clip[:, 1])
    assert abs(float(clip.mean()) - 128) < 0.5


def test_an_outline_is_clear_all_around_and_solid_inside():
    for seed in range(20):
        (opacity,) = stills._outline(np.random.default_rng(seed), 33)
        edges = torch.cat([opacity[0], opacity[-1], opacity[:, 0], opacity[:, -1]])
        assert float(edges.max()) == 0
        assert float(opacity[16, 16]) == 1
        assert 0.1 < float(opacity.mean()) < 0.8


# Pictures that cannot be read


def test_a_bad_picture_is_named_once_and_another_taken(pictures, tmp_path):
    bad = Picture(tmp_path / "bad.jpg", "bad.jpg")
    problems = []
    source = Stills([bad, *pictures], frames=4, size=16, motion=Motion(), report=problems.append)
    clips = [source(np.random.default_rng(seed)) for seed in range(20)]
    assert len(problems) == 1
    assert problems[0].startswith("bad.jpg: ")
    again = Stills([bad, *pictures], frames=4, size=16, motion=Motion())
    assert all(
        torch.equal(again(np.random.default_rng(seed)), clip) for seed, clip in enumerate(clips)
    )


def test_nothing_but_bad_pictures_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"in a row cannot be read, such as bad\.jpg"):
        clip_of([Picture(tmp_path / "bad.jpg", "bad.jpg")])


# Beside footage


def clips_of(footage, **more):
    return Clips(footage, frames=8, size=16, seed=0, augmentation=Augmentation(), **more)


def test_stills_take_their_share_and_leave_the_rest_as_it_was(footage, pictures):
    source = Stills(pictures, frames=8, size=16, motion=Motion())
    without, some = clips_of(footage), clips_of(footage, stills=source, still_share=0.3)
    none, every = (clips_of(footage, stills=source, still_share=share) for share in (0.0, 1.0))
    again = clips_of(footage, stills=source, still_share=0.3)
    taken = 0
    for step in range(50):
        for place in range(2):
            clip, video, still = (one(step, place) for one in (some, without, every))
            assert torch.equal(none(step, place), video)
            assert torch.equal(again(step, place), clip)
            assert not torch.equal(still, video)
            assert torch.equal(clip, video) or torch.equal(clip, still)
            taken += torch.equal(clip, still)
    assert 15 < taken < 45


def test_batches_hold_stills(footage, pictures):
    source = Stills(pictures, frames=8, size=16, motion=Motion())
    clips = clips_of(footage, stills=source, still_share=0.5)
    batches = clips.batches(3, range(4))
    for step in (3, 4):
        assert torch.equal(next(batches), torch.stack([clips(step, place) for place in range(4)]))
    batches.close()
