"""vqcodec.train.data"""

from __future__ import annotations

import itertools
import os

import numpy as np
import pytest
import torch

import vqcodec.video
from vqcodec.errors import DataError
from vqcodec.train.data import (
    Augmentation,
    Clips,
    Footage,
    find_videos,
    fit_length,
    prepare,
    resize,
    split,
    validation_clips,
)

STILL = Augmentation(whole=0, smallest_crop=1, squash=1, flip=0, reverse=0, fast=0, brightness=1)


def saved(path, clip):
    np.save(path, clip)
    return Footage(path.with_suffix(".mp4"), path, len(clip))


def clips_of(footage, augmentation=STILL, **options):
    options = {"frames": 8, "size": 16, "seed": 0, **options}
    return Clips(footage, augmentation=augmentation, **options)


# Finding and decoding


def test_finds_videos_below_all_roots_once(videos):
    found = find_videos([videos, videos / "a", videos / "b" / "short.mkv"])
    assert [str(path.relative_to(videos)) for path in found] == [
        *("a/tall.mkv", "a/wide.mkv", "b/second.mkv", "b/short.mkv", "b/square.avi"),
    ]


def test_no_videos_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        find_videos([tmp_path / "nothing"])
    (tmp_path / "link.mp4").symlink_to(tmp_path / "gone.mp4")
    with pytest.raises(DataError, match="no videos"):
        find_videos([tmp_path])


def test_footage_is_what_the_video_module_reads(footage):
    for item in footage:
        stored = np.load(item.cache)
        assert stored.dtype == np.uint8
        assert min(stored.shape[1:3]) == 32
        expected = vqcodec.video.read_frames(
            item.source, width=stored.shape[2], height=stored.shape[1]
        )
        assert np.array_equal(stored, expected)
        assert item.frames == len(stored)
        assert np.array_equal(item.read(3, 5), stored[3:5])


def test_small_videos_are_not_scaled_up(videos, tmp_path):
    (item,) = prepare([videos / "b/short.mkv"], tmp_path, short_side=500)
    assert np.load(item.cache).shape == (5, 32, 48, 3)


def test_the_cache_is_used_the_second_time(videos, tmp_path, monkeypatch):
    paths = [videos / "a/wide.mkv", videos / "b/short.mkv"]
    first = prepare(paths, tmp_path / "deep/cache", short_side=32)
    monkeypatch.setattr(vqcodec.video, "open_video", None)
    monkeypatch.setattr(vqcodec.video, "probe", None)
    assert prepare(paths, tmp_path / "deep/cache", short_side=32) == first


def test_the_cache_follows_the_file_and_the_size(videos, tmp_path):
    path = tmp_path / "video.mkv"
    path.write_bytes((videos / "b/short.mkv").read_bytes())
    (before,) = prepare([path], tmp_path, short_side=16)
    (smaller,) = prepare([path], tmp_path, short_side=8)
    os.utime(path, (1, 1))
    (touched,) = prepare([path], tmp_path, short_side=16)
    assert len({before.cache, smaller.cache, touched.cache}) == 3


@pytest.mark.parametrize("damage", [b"", b"noise", None])
def test_a_damaged_cache_is_filled_again(videos, tmp_path, damage):
    (item,) = prepare([videos / "b/short.mkv"], tmp_path, short_side=16)
    whole = item.cache.read_bytes()
    item.cache.write_bytes(whole[:-1] if damage is None else damage)
    (again,) = prepare([videos / "b/short.mkv"], tmp_path, short_side=16)
    assert again == item
    assert item.cache.read_bytes() == whole


def test_unreadable_videos_are_reported_and_skipped(videos, tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"not a video" * 100)
    (tmp_path / "empty.mp4").touch()
    paths = [
        tmp_path / "broken.mp4",
        videos / "b/short.mkv",
        tmp_path / "empty.mp4",
        tmp_path / "gone.mp4",
    ]
    reports = []
    footage = prepare(
        paths, tmp_path / "cache", short_side=16, report=lambda *report: reports.append(report)
    )
    assert [item.source for item in footage] == [videos / "b/short.mkv"]
    assert [done for done, _ in reports] == [1, 2, 3, 4]
    for (_, problem), path in zip(reports, paths, strict=True):
        assert (problem is None) == (path.name == "short.mkv")
        assert problem is None or path.name in problem
    assert len(list((tmp_path / "cache").iterdir())) == 1

    with pytest.raises(DataError, match="none of the videos"):
        prepare(paths[:1], tmp_path / "cache", short_side=16)


# Splitting


def many(count, tmp_path):
    return [Footage(tmp_path / f"{number}.mp4", tmp_path / "x.npy", 10) for number in range(count)]


def test_split_is_stable(tmp_path):
    items = many(300, tmp_path)
    train, aside = split(items, 0.1)
    assert len(train) + len(aside) == 300
    assert not set(train) & set(aside)
    assert 15 <= len(aside) <= 50
    assert split(items[::-1], 0.1) == (train, aside)
    # Whatever else joins the collection, a video stays on its side.
    fewer_train, fewer_aside = split(items[:200], 0.1)
    assert set(fewer_train) <= set(train)
    assert set(fewer_aside) <= set(aside)
    # Nor does it matter in which folder it lies.
    moved = [Footage(tmp_path / "other" / i.source.name, i.cache, 10) for i in items]
    assert [i.source.name for i in split(moved, 0.1)[1]] == [i.source.name for i in aside]


@pytest.mark.parametrize(
    ("count", "fraction", "expected"),
    [(1, 0.1, (1, 1)), (2, 0.0, (1, 1)), (2, 1.0, (1, 1)), (5, 0.0, (4, 1)), (5, 1.0, (1, 4))],
)
def test_split_leaves_something_on_both_sides(tmp_path, count, fraction, expected):
    train, aside = split(many(count, tmp_path), fraction)
    assert (len(train), len(aside)) == expected


# Cutting


def test_a_clip_is_a_pure_function_of_seed_step_and_place(footage):
    clips, again = clips_of(footage, Augmentation()), clips_of(footage, Augmentation())
    seen = set()
    for step, place in itertools.product(range(4), range(3)):
        clip = clips(step, place)
        assert clip.dtype == torch.uint8
        assert clip.shape == (3, 8, 16, 16)
        seen.add(clip.numpy().tobytes())
    assert len(seen) == 12
    for step, place in reversed(list(itertools.product(range(4), range(3)))):
        assert again(step, place).numpy().tobytes() in seen
    assert torch.equal(again(2, 1), clips(2, 1))
    assert not torch.equal(clips_of(footage, Augmentation(), seed=1)(0, 0), clips(0, 0))


def test_batches_are_the_clips_of_each_step(footage):
    clips = clips_of(footage, Augmentation())
    batches = clips.batches(5, range(2, 4))
    for step in range(5, 9):
        expected = torch.stack([clips(step, place) for place in (2, 3)])
        assert torch.equal(next(batches), expected)
    batches.close()


def test_processes_cut_the_clips_that_one_would(footage):
    clips = clips_of(footage, Augmentation())
    whole, left, right = (clips.batches(0, r) for r in (range(4), range(2), range(2, 4)))
    for _ in range(2):
        assert torch.equal(next(whole), torch.cat([next(left), next(right)]))
    for batches in (whole, left, right):
        batches.close()


def test_longer_videos_are_drawn_more_often(tmp_path):
    dark = saved(tmp_path / "dark.npy", np.zeros((100, 16, 16, 3), np.uint8))
    light = saved(tmp_path / "light.npy", np.full((300, 16, 16, 3), 255, np.uint8))
    clips = clips_of([dark, light])
    share = np.mean([bool(clips(0, place).any()) for place in range(400)])
    assert 0.68 < share < 0.82


@pytest.mark.parametrize("frames", [1, 2, 3, 7, 8, 9, 15, 16, 17])
def test_videos_of_any_length(tmp_path, frames):
    item = saved(tmp_path / "x.npy", np.zeros((frames, 20, 30, 3), np.uint8))
    clips = clips_of([item], Augmentation(fast=1.0))
    for place in range(10):
        assert clips(0, place).shape == (3, 8, 16, 16)
    assert validation_clips([item], frames=8, size=16, limit=5).shape == (1, 3, 8, 16, 16)


@pytest.mark.parametrize("shape", [(4, 200), (200, 4), (1, 1), (8, 8), (16, 17), (300, 33)])
def test_pictures_of_any_shape(tmp_path, shape):
    item = saved(tmp_path / "x.npy", np.zeros((9, *shape, 3), np.uint8))
    clips = clips_of([item], Augmentation())
    for place in range(10):
        assert clips(0, place).shape == (3, 8, 16, 16)
    assert validation_clips([item], frames=8, size=16, limit=5).shape == (1, 3, 8, 16, 16)


def numbered(tmp_path, frames=40):
    """Frame k is grey k + 50, darker to the left."""
    clip = np.tile(np.arange(frames, dtype=np.uint8)[:, None, None, None], (1, 16, 16, 3)) + 50
    clip[:, :, :8] -= 40
    return saved(tmp_path / "numbered.npy", clip)


def test_without_augmentation_a_clip_is_a_cut(tmp_path):
    item = numbered(tmp_path)
    source = np.load(item.cache)
    clips = clips_of([item])
    starts = set()
    for place in range(200):
        clip = clips(0, place).permute(1, 2, 3, 0).numpy()
        start = int(clip[0, 0, -1, 0]) - 50
        assert np.array_equal(clip, source[start : start + 8])
        starts.add(start)
    assert starts == set(range(33))  # the last frame too


def test_whole_pictures_are_shown_as_they_are(tmp_path):
    item = numbered(tmp_path)
    source = np.load(item.cache)
    augmentation = Augmentation(**{**vars(STILL), "whole": 1, "smallest_crop": 0.5, "squash": 2})
    for place in range(10):
        clip = clips_of([item], augmentation)(0, place).permute(1, 2, 3, 0).numpy()
        start = int(clip[0, 0, -1, 0]) - 50
        assert np.array_equal(clip, source[start : start + 8])


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"reverse": 1.0}, lambda clip: clip.flip(1)),
        ({"flip": 1.0}, lambda clip: clip.flip(3)),
    ],
)
def test_flips(tmp_path, change, expected):
    item = numbered(tmp_path)
    clip = clips_of([item])(0, 0)
    augmentation = Augmentation(**{**vars(STILL), **change})
    assert torch.equal(clips_of([item], augmentation)(0, 0), expected(clip))


def test_fast_motion_drops_every_other_frame(tmp_path):
    augmentation = Augmentation(**{**vars(STILL), "fast": 1.0})
    clip = clips_of([numbered(tmp_path)], augmentation)(0, 0)
    assert torch.diff(clip[0, :, 0, -1].int()).tolist() == [2] * 7


def test_brightness_keeps_within_range(tmp_path):
    item = saved(tmp_path / "x.npy", np.full((8, 16, 16, 3), 230, np.uint8))
    augmentation = Augmentation(**{**vars(STILL), "brightness": 2.0})
    values = {int(clips_of([item], augmentation)(0, place)[0, 0, 0, 0]) for place in range(50)}
    assert min(values) < 150
    assert max(values) == 255


def test_fit_length_plays_forth_and_back():
    assert fit_length(np.arange(5), 3).tolist() == [0, 1, 2]
    assert fit_length(np.arange(3), 8).tolist() == [0, 1, 2, 1, 0, 1, 2, 1]
    assert fit_length(np.arange(2), 5).tolist() == [0, 1, 0, 1, 0]
    assert fit_length(np.arange(1), 3).tolist() == [0, 0, 0]


def test_resize_keeps_what_fits_and_averages_what_does_not():
    clip = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    assert np.array_equal(resize(clip, 16).permute(1, 2, 3, 0).numpy(), clip)
    stripes = np.zeros((1, 64, 64, 3), np.uint8)
    stripes[:, :, ::2] = 200
    inner = resize(stripes, 16)[..., 2:-2]
    assert int(inner.min()) > 90
    assert int(inner.max()) < 110


def test_validation_clips_are_centre_squares(tmp_path):
    clip = np.zeros((8, 16, 48, 3), np.uint8)
    clip[:, :, 16:32] = 99
    item = saved(tmp_path / "x.npy", clip)
    clips = validation_clips([item] * 5, frames=8, size=16, limit=3)
    assert clips.shape == (3, 3, 8, 16, 16)
    assert bool((clips == 99).all())


def test_rotated_videos_stand_upright(videos, tmp_path):
    import av

    turned = tmp_path / "turned.mp4"
    with av.open(str(videos / "a/wide.mkv")) as source, av.open(str(turned), "w") as target:
        stream = target.add_stream("mpeg4", rate=16)
        stream.width, stream.height, stream.pix_fmt = 64, 36, "yuv420p"
        try:
            stream.set_display_matrix((0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30))
        except AttributeError:
            pytest.skip("this PyAV writes no rotation")
        for frame in source.decode(video=0):
            target.mux(stream.encode(av.VideoFrame.from_ndarray(frame.to_ndarray(format="rgb24"))))
        target.mux(stream.encode(None))
    assert vqcodec.video.probe(turned).rotation in (90, 270)
    (item,) = prepare([turned], tmp_path, short_side=32)
    assert np.load(item.cache).shape[1:] == (57, 32, 3)
