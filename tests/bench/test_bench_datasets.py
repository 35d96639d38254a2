"""UCF101's tree and split, folders, cutting and caching, archives."""

from __future__ import annotations

import shutil
import tarfile
import zipfile
from collections import Counter
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from bench_builders import DATA, result, write_video

from vqcodec.bench import archive, datasets
from vqcodec.bench.cache import ResultCache
from vqcodec.bench.clips import Clip, FrameCache, cut_clips, spread
from vqcodec.errors import DataError, OutputError, SourceError

needs_ucf101 = pytest.mark.skipif(
    not (DATA / "ucf101").is_dir(), reason="no ../shared/data/ucf101 here"
)


@pytest.fixture
def cache(tmp_path: Path) -> FrameCache:
    return FrameCache(tmp_path / "cache")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic UCF101: two classes of a few groups, one real file and one that is none."""
    root = tmp_path_factory.mktemp("ucf") / "UCF-101"
    video = write_video(root / "Archery" / "v_Archery_g01_c01.avi", frames=70)
    for group in range(2, 8):
        shutil.copy(video, root / "Archery" / f"v_Archery_g{group:02d}_c01.avi")
    (root / "Biking").mkdir()
    (root / "Biking" / "v_Biking_g01_c01.avi").write_bytes(b"not a video")
    (root / "notes.txt").write_text("not UCF101")
    return root.parent


def test_ucf101_tree(tree: Path, cache: FrameCache) -> None:
    videos = datasets.ucf101_videos(tree, "all")
    assert next(v.id for v in videos) == "Archery/v_Archery_g01_c01"
    assert len(videos) == 8
    refs, skipped = cut_clips(videos[:1] + videos[-1:], cache)
    assert [r.id for r in refs] == [f"Archery/v_Archery_g01_c01#{k}" for k in (0, 1)]
    assert [s.id for s in skipped] == ["Biking/v_Biking_g01_c01"]
    clip = refs[1].load(cache)
    assert clip.frames.shape == (32, 64, 64, 3)
    assert clip.rate == 16
    assert clip.sha256 != refs[0].load(cache).sha256


def test_split_keeps_groups_together_and_shares() -> None:
    names = [
        f"v_{label}_g{group:02d}_c{clip:02d}"
        for label in ("Archery", "Biking", "YoYo")
        for group in range(1, 26)
        for clip in range(1, 5)
    ]
    where = datasets.split_groups(names)
    assert where == datasets.split_groups(names[::-1])
    assert where != datasets.split_groups(names, seed=1)
    assert len({(n.rsplit("_c", 1)[0], s) for n, s in where.items()}) == 75
    for label in ("Archery", "Biking", "YoYo"):
        counts = Counter(s for n, s in where.items() if f"_{label}_" in n)
        assert counts == {"train": 68, "val": 16, "test": 16}  # 25 groups: 17, 4, 4
    with pytest.raises(DataError, match="not a UCF101"):
        datasets.split_groups(["clip"])


def test_the_three_splits_are_the_whole(tree: Path) -> None:
    parts = [datasets.ucf101_videos(tree, split) for split in ("train", "val", "test")]
    assert sorted(v.id for part in parts for v in part) == [
        v.id for v in datasets.ucf101_videos(tree, "all")
    ]


@pytest.mark.parametrize("find", [datasets.ucf101_videos, datasets.authors_clips])
def test_absent_ucf101_is_explained(find: object, tmp_path: Path) -> None:
    assert callable(find)
    for root in (tmp_path, tmp_path / "absent"):
        with pytest.raises(DataError, match=r"crcv\.ucf\.edu"):
            find(root)


def test_folder_samples_spread_and_skip(tmp_path: Path, cache: FrameCache) -> None:
    root = tmp_path / "videos"
    for number in range(4):
        write_video(root / "deep" / f"{number}.mkv", frames=70)
    write_video(root / "short.mp4", frames=5)
    (root / "broken.mp4").write_bytes(b"\x00" * 100)
    videos = datasets.folder_videos(root)
    assert [v.id for v in videos] == ["broken", "deep/0", "deep/1", "deep/2", "deep/3", "short"]
    refs, skipped = cut_clips(videos, cache)
    assert len(refs) == 8
    assert {s.id: "too short" in s.reason for s in skipped} == {"broken": False, "short": True}
    refs, _ = cut_clips(videos[1:5], cache, limit=2)
    assert [r.id for r in refs] == ["deep/0#0", "deep/3#0"]
    refs, _ = cut_clips(videos[1:5], cache, limit=6)
    assert len({r.id for r in refs}) == 6
    refs, _ = cut_clips(videos, cache, mode="videos")
    assert [(r.id, r.count) for r in refs][-1] == ("short", 5)
    with pytest.raises(DataError, match="no video files"):
        datasets.folder_videos(tmp_path / "cache")


def test_cache_spares_decoding_until_the_file_changes(tmp_path: Path, cache: FrameCache) -> None:
    path = write_video(tmp_path / "v" / "a.mp4")
    (video,) = datasets.folder_videos(path.parent)
    frames, rate = cache.frames(video)
    assert rate == Fraction(16)
    assert len(list(cache.folder.iterdir())) == 1
    again, _ = cache.frames(video)
    assert isinstance(again, np.memmap)
    assert np.array_equal(frames, again)
    write_video(path, frames=33)
    assert len(cache.frames(video)[0]) == 33
    path.unlink()
    with pytest.raises(SourceError, match=r"a\.mp4"):
        cache.frames(video)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (video,) = datasets.folder_videos(write_video(tmp_path / "v" / "a.mp4").parent)
    with zipfile.ZipFile(tmp_path / "u.zip", "w") as zipped:
        zipped.writestr("a.avi", b"video")
    below = tmp_path / "file" / "below"
    for work in (
        lambda: FrameCache(below).frames(video),
        lambda: ResultCache(below).put("", result("x264", "23", "a", 1000, 30.0)),
        lambda: archive.unpack(tmp_path / "u.zip", below),
    ):
        with pytest.raises(OutputError, match=r"file/below.*: Not a directory"):
            work()


def test_clip_hash_covers_pixels_shape_and_rate() -> None:
    frames = np.zeros((32, 64, 64, 3), np.uint8)
    changed = frames.copy()
    changed[3, 2, 1, 0] = 1
    turned = frames.reshape(64, 32, 64, 3)
    clips = [(frames, 16), (changed, 16), (turned, 16), (frames, 25)]
    assert len({Clip("a", f, Fraction(r)).sha256 for f, r in clips}) == 4
    assert Clip("a", frames, Fraction(16)).sha256 == Clip("b", frames[::1], Fraction(16)).sha256


def test_spread_takes_even_distances() -> None:
    assert spread(list(range(9)), 3) == [0, 4, 8]
    assert spread([1, 2], 5) == [1, 2]
    assert len(set(spread(list(range(94)), 64))) == 64


@needs_ucf101
def test_real_ucf101_files(cache: FrameCache) -> None:
    videos = datasets.ucf101_videos(DATA / "ucf101", "all")
    assert "Fencing/v_Fencing_g01_c06" in {v.id for v in videos}
    refs, skipped = cut_clips([v for v in videos if "g02_c05" in v.id], cache)
    assert not skipped
    assert len(refs) >= 4


@needs_ucf101
def test_authors_clips_are_source_frames(cache: FrameCache) -> None:
    refs = datasets.authors_clips(DATA / "ucf101")
    assert len(refs) == 8
    clip = next(r for r in refs if r.id == "v_ApplyEyeMakeup_g01_c01 #4").load(cache)
    assert clip.frames.shape == (32, 64, 64, 3)
    assert clip.rate == 25


def test_archives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "v_Archery_g01_c01.avi"
    source.write_bytes(b"video")
    member = "UCF-101/Archery/v_Archery_g01_c01.avi"
    with zipfile.ZipFile(tmp_path / "u.zip", "w") as zipped:
        zipped.write(source, member)
    with tarfile.open(tmp_path / "u.tar.gz", "w:gz") as tarred:
        tarred.add(source, member)
    for name in ("u.zip", "u.tar.gz"):
        archive.unpack(tmp_path / name, tmp_path / f"from-{name}")
        assert len(datasets.ucf101_videos(tmp_path / f"from-{name}", "all")) == 1
    with tarfile.open(tmp_path / "evil.tar", "w") as tarred:
        tarred.add(source, "../evil.avi")
    with pytest.raises(DataError, match="cannot unpack"):
        archive.unpack(tmp_path / "evil.tar", tmp_path / "out")
    assert not (tmp_path / "evil.avi").exists()
    (tmp_path / "u.rar").write_bytes(b"Rar!")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DataError, match="bsdtar"):
        archive.unpack(tmp_path / "u.rar", tmp_path / "out")
    tool = tmp_path / "unrar"
    tool.write_text("#!/bin/sh\necho damaged >&2\nexit 3\n")
    tool.chmod(0o755)
    with pytest.raises(DataError, match="unrar failed: damaged"):
        archive.unpack(tmp_path / "u.rar", tmp_path / "out")
    for missing in ("absent.zip", source.name):
        with pytest.raises(DataError):
            archive.unpack(tmp_path / missing, tmp_path / "out")
