"""The data sets of the benchmark: UCF101 as distributed, the authors' clips of it, any folder."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from pathlib import Path
from typing import Literal

from vqcodec.bench.clips import CLIP_FRAMES, ClipRef, Cut, Video
from vqcodec.bench.published import SAME_CLIPS
from vqcodec.errors import DataError
from vqcodec.video import VIDEO_SUFFIXES

Split = Literal["train", "val", "test", "all"]
SPLIT_SHARES = {"test": 0.15, "val": 0.15}  # the rest is for training

_UCF101_NAME = re.compile(r"v_(?P<name>\w+)_g(?P<group>\d+)_c(?P<clip>\d+)")

UCF101_HELP = """UCF101 comes from https://www.crcv.ucf.edu/data/UCF101.php (UCF101.rar, 6.5 GB).
Unpack it so that ROOT/ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi exists, one folder for each of
the 101 classes, and pass --root ROOT; or pass --archive UCF101.rar and --root ROOT to unpack it."""


def ucf101_videos(root: Path, split: Split = "test", seed: int = 0) -> list[Video]:
    """UCF101's files of one split, sorted by name; whole pictures squashed to 64×64 at 16 fps.

    Raises:
        DataError: ``root`` is missing or holds no ``Class/v_Class_gNN_cNN`` file; the message
            says where the data comes from.
    """
    if (root / "UCF-101").is_dir():  # the folder inside the official archive
        root = root / "UCF-101"
    paths = [p for p in _video_files(root, UCF101_HELP) if _UCF101_NAME.fullmatch(p.stem)]
    if not paths:
        raise DataError(f"{root}: no UCF101 here.\n{UCF101_HELP}")
    where = split_groups([p.stem for p in paths], seed)
    return [
        _video(root, path, Cut("stretch"))
        for path in paths
        if split == "all" or where[path.stem] == split
    ]


def split_groups(names: list[str], seed: int = 0) -> dict[str, str]:
    """Which of train, val and test each UCF101 file name (without suffix) belongs to.

    All files of one group gNN (one source video) go together, and each class is shared out
    70/15/15 by groups, in an order that depends on nothing but class, group and seed. The paper's
    own split was random over clips, so that clips of one video straddle it: its test figures are
    easier to reach than those of this split.
    """
    groups: dict[str, set[str]] = defaultdict(set)
    keys: dict[str, tuple[str, str]] = {}
    for name in names:
        match = _UCF101_NAME.fullmatch(name)
        if match is None:
            raise DataError(f"{name}: not a UCF101 file name (v_Class_gNN_cNN)")
        keys[name] = match["name"], match["group"]
        groups[match["name"]].add(match["group"])
    where: dict[tuple[str, str], str] = {}
    for label, members in groups.items():

        def order(group: str, label: str = label) -> str:
            return hashlib.sha256(f"{seed}/{label}/{group}".encode()).hexdigest()

        left = sorted(members, key=order)
        for split, share in SPLIT_SHARES.items():
            count = round(share * len(members))
            where.update({(label, group): split for group in left[:count]})
            left = left[count:]
        where.update({(label, group): "train" for group in left})
    return {name: where[key] for name, key in keys.items()}


def folder_videos(root: Path) -> list[Video]:
    """Every video below a folder, sorted by path; the centre square of the picture at 16 fps.

    Raises:
        DataError: the folder is missing or holds no video.
    """
    paths = _video_files(root)
    if not paths:
        raise DataError(f"{root}: no video files ({' '.join(sorted(VIDEO_SUFFIXES))}) below it")
    return [_video(root, path, Cut("crop")) for path in paths]


def authors_clips(root: Path) -> list[ClipRef]:
    """The UCF101 clips with published per-clip results that lie below ``root``, in table order.

    As the authors cut them: 32 consecutive source frames at the source's rate, squashed to 64×64;
    clip #k starts at source frame 32·k. Their code resizes with SciPy; scikit-image's antialiased
    ``resize`` of order 3, which is SciPy underneath, reproduces our anchors (see ``Cut``).

    Raises:
        DataError: none of them is there.
    """
    by_stem = {path.stem: path for path in _video_files(root, UCF101_HELP)}
    refs = []
    for row in SAME_CLIPS:
        path = by_stem.get(row.video)
        if path is not None:
            video = _video(root, path, Cut("authors"))
            refs.append(ClipRef(row.id, video, row.number * CLIP_FRAMES, CLIP_FRAMES))
    if not refs:
        raise DataError(f"{root}: none of the clips with published results here.\n{UCF101_HELP}")
    return refs


def _video(root: Path, path: Path, cut: Cut) -> Video:
    return Video(path.relative_to(root).with_suffix("").as_posix(), path, cut)


def _video_files(root: Path, advice: str = "") -> list[Path]:
    if not root.is_dir():
        raise DataError(f"{root}: no such folder" + (f".\n{advice}" if advice else ""))
    return sorted(p for p in root.rglob("*") if p.suffix.lower() in VIDEO_SUFFIXES and p.is_file())
