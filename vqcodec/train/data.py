"""Training clips: a folder tree of videos, decoded once to a uint8 cache, then cut at random.

Every clip is a pure function of (seed, step, place in the batch), so a resumed run sees exactly
the clips an uninterrupted one would have seen, and no loader state needs saving.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vqcodec.errors import DataError, SourceError
from vqcodec.files import make_folder, replacing
from vqcodec.video import VIDEO_SUFFIXES

STILL = 1  # marks the random numbers of clips that are made from stills

_NPY_HEADER = 128  # bytes before the pixels of an .npy file


@dataclass(frozen=True)
class Footage:
    """One decoded video.

    Attributes:
        source: the file it came from.
        cache: ``.npy`` file, uint8 (frames, height, width, 3).
        frames: its length.
    """

    source: Path
    cache: Path
    frames: int

    def read(self, start: int, stop: int) -> np.ndarray:
        """Frames start..stop-1 as uint8 (T, H, W, 3)."""
        return np.array(np.load(self.cache, mmap_mode="r")[start:stop])


def find_videos(roots: Sequence[Path]) -> list[Path]:
    """All video files below ``roots``, sorted.

    Raises:
        DataError: a root does not exist, or none holds a video.
    """
    found: set[Path] = set()
    for root in roots:
        if not root.exists():
            raise DataError(f"{root}: no such folder")
        paths = root.rglob("*") if root.is_dir() else [root]
        found.update(
            path for path in paths if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file()
        )
    if not found:
        raise DataError(f"{', '.join(map(str, roots))}: no videos found")
    return sorted(found)


def prepare(
    videos: Sequence[Path],
    cache: Path,
    *,
    short_side: int,
    report: Callable[[int, str | None], None] = lambda _done, _problem: None,
) -> list[Footage]:
    """Decode every video at 16 fps into ``cache``, once; later calls find it there.

    Args:
        videos: files to decode.
        cache: folder for ``.npy`` files, made if need be.
        short_side: pictures are scaled down until their shorter side is this long, never up.
        report: called after each video with the number done and, if it was skipped, why.

    Raises:
        DataError: not one video could be decoded.
        OutputError: the cache cannot be written.
    """
    make_folder(cache)
    footage = []
    for number, path in enumerate(videos, 1):
        problem = None
        try:
            footage.append(_decode(path, cache, short_side))
        except SourceError as error:
            problem = str(error)
        report(number, problem)
    if not footage:
        raise DataError("none of the videos could be decoded")
    return footage


def _decode(path: Path, cache: Path, short_side: int) -> Footage:
    try:
        stat = path.stat()
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror}") from error
    key = f"{path.absolute()}\n{stat.st_size}\n{stat.st_mtime_ns}\n{short_side}"
    target = cache / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.npy"
    frames = _cached_frames(target)
    if not frames:
        _fill(target, path, short_side)
        frames = _cached_frames(target)
    return Footage(path, target, frames)


def _cached_frames(target: Path) -> int:
    """How many frames a cache file holds; 0 if it is missing or damaged."""
    try:
        return len(np.load(target, mmap_mode="r"))
    except (OSError, ValueError, EOFError):
        return 0


def _fill(target: Path, source: Path, short_side: int) -> None:
    """Decode ``source`` to ``target`` frame by frame: memory does not grow with the video."""
    from vqcodec.video import open_video, probe

    info = probe(source)
    turned = info.rotation % 180 != 0
    width, height = (info.height, info.width) if turned else (info.width, info.height)
    scale = min(1.0, short_side / min(width, height))
    width, height = round(width * scale), round(height * scale)
    with (
        open_video(source, width=width, height=height) as frames,
        replacing(target, force=True) as temporary,
        temporary.open("wb") as file,
    ):
        file.write(bytes(_NPY_HEADER))
        count = sum(1 for frame in frames if file.write(frame.tobytes()))
        # The number of frames is known only now.
        file.seek(0)
        np.lib.format.write_array_header_1_0(
            file, {"descr": "|u1", "fortran_order": False, "shape": (count, height, width, 3)}
        )
        if file.tell() != _NPY_HEADER:
            raise DataError(f"{source}: no room for the header of its cache file")


def split(footage: Sequence[Footage], fraction: float) -> tuple[list[Footage], list[Footage]]:
    """(train, validation), by a hash of each source's name: stable as the collection grows.

    At least one video is set aside, and at least one is left to train on if there are two.
    """

    def place(item: Footage) -> float:
        digest = hashlib.sha256(os.fsencode(item.source.name)).digest()
        return int.from_bytes(digest, "big") / 2**256

    ranked = sorted(footage, key=place)
    wanted = sum(place(item) < fraction for item in ranked)
    aside = min(max(1, wanted), max(1, len(ranked) - 1))
    train = ranked[aside:] or ranked
    return train, ranked[:aside]


@dataclass(frozen=True)
class Augmentation:
    """How far a training clip may stray from its source.

    Attributes:
        whole: probability that a clip shows the largest square of the picture, as ``--fit crop``
            does; all others are smaller crops, and not quite square.
        smallest_crop: shortest crop side, as a fraction of the picture's shorter side.
        squash: crops may be this much wider or narrower than square before the resize.
        flip: probability of a mirror image.
        reverse: probability that time runs backwards.
        fast: probability that every other frame is dropped.
        brightness: largest gain, as a factor, up or down.
    """

    whole: float = 0.4
    smallest_crop: float = 0.5
    squash: float = 1.3
    flip: float = 0.5
    reverse: float = 0.5
    fast: float = 0.15
    brightness: float = 1.2


class Clips:
    """Random training clips of one size.

    Args:
        footage: decoded videos; longer ones are drawn more often.
        frames, size: shape of a clip.
        seed: of the whole run.
        stills: makes a clip of that shape, uint8 (3, T, H, W), from random numbers alone.
        still_share: probability that it does; all other clips are as they would be without.
    """

    def __init__(
        self,
        footage: Sequence[Footage],
        *,
        frames: int,
        size: int,
        seed: int,
        augmentation: Augmentation,
        stills: Callable[[np.random.Generator], Tensor] | None = None,
        still_share: float = 0.0,
    ) -> None:
        self.footage = list(footage)
        self.frames, self.size, self.seed = frames, size, seed
        self.augmentation = augmentation
        self.stills, self.still_share = stills, still_share
        weights = np.array([max(item.frames, frames) for item in footage], dtype=np.float64)
        self.cumulative = np.cumsum(weights / weights.sum())

    def __call__(self, step: int, place: int) -> Tensor:
        """The clip at ``place`` in the batch of ``step``: uint8 (3, T, H, W)."""
        if self.stills is not None:
            rng = np.random.default_rng((self.seed, step, place, STILL))
            if rng.random() < self.still_share:
                return self.stills(rng)
        rng = np.random.default_rng((self.seed, step, place))
        choice = int(np.searchsorted(self.cumulative, rng.random(), side="right"))
        item = self.footage[min(choice, len(self.footage) - 1)]
        options = self.augmentation

        stride = 2 if item.frames >= 2 * self.frames and rng.random() < options.fast else 1
        span = self.frames * stride
        start = int(rng.integers(max(1, item.frames - span + 1)))
        clip = fit_length(item.read(start, start + span)[::stride], self.frames)
        if rng.random() < options.reverse:
            clip = clip[::-1]

        height, width = clip.shape[1:3]
        short = min(height, width)
        side = short * rng.uniform(min(1.0, max(options.smallest_crop, self.size / short)), 1.0)
        squash = options.squash ** rng.uniform(-0.5, 0.5)
        if rng.random() < options.whole:
            side, squash = short, 1.0
        crop_h = min(height, max(8, round(side * squash)))
        crop_w = min(width, max(8, round(side / squash)))
        top = int(rng.integers(height - crop_h + 1))
        left = int(rng.integers(width - crop_w + 1))
        clip = clip[:, top : top + crop_h, left : left + crop_w]
        if rng.random() < options.flip:
            clip = clip[:, :, ::-1]
        gain = options.brightness ** rng.uniform(-1, 1)
        if abs(gain - 1) > 0.02:
            table = np.clip(np.arange(256) * gain + 0.5, 0, 255).astype(np.uint8)
            clip = table[clip]
        return resize(clip, self.size)

    def batches(self, start: int, places: range) -> Generator[Tensor, None, None]:
        """uint8 (B, 3, T, H, W) for steps ``start``, ``start + 1``, … without end.

        The next batches are cut on a thread of their own while the caller trains on this one.
        """

        def batch(step: int) -> Tensor:
            return torch.stack([self(step, place) for place in places])

        with ThreadPoolExecutor(max_workers=1) as pool:
            queue = [pool.submit(batch, start + ahead) for ahead in range(3)]
            step = start + len(queue)
            while True:
                yield queue.pop(0).result()
                queue.append(pool.submit(batch, step))
                step += 1


def validation_clips(footage: Sequence[Footage], *, frames: int, size: int, limit: int) -> Tensor:
    """The first clip of up to ``limit`` videos, centre square: uint8 (N, 3, T, size, size)."""
    clips = (fit_length(item.read(0, frames), frames) for item in footage[:limit])
    return torch.stack([centre_square(clip, size) for clip in clips])


def centre_square(clip: np.ndarray, size: int) -> Tensor:
    """The largest square in the middle, as :func:`resize` makes it."""
    height, width = clip.shape[1:3]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return resize(clip[:, top : top + side, left : left + side], size)


def fit_length(clip: np.ndarray, frames: int) -> np.ndarray:
    """Cut (T, ...) to ``frames``, or play it forth and back until it is long enough."""
    if len(clip) >= frames:
        return clip[:frames]
    cycle = np.concatenate([clip, clip[-2:0:-1]])
    return cycle[np.arange(frames) % len(cycle)]


def resize(clip: np.ndarray, size: int) -> Tensor:
    """uint8 (T, H, W, 3) → uint8 (3, T, size, size), antialiased bicubic."""
    frames = torch.from_numpy(np.ascontiguousarray(clip)).permute(0, 3, 1, 2)
    if frames.shape[2:] != (size, size):
        frames = F.interpolate(frames, (size, size), mode="bicubic", antialias=True)
    return frames.permute(1, 0, 2, 3)


def default_cache() -> Path:
    """Where decoded footage is kept unless ``--cache`` says otherwise."""
    root = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(root).expanduser() / "vqcodec"
