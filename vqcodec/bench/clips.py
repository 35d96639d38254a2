"""From video files to clips: cut, cache as uint8, pick a sample."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from vqcodec.errors import SourceError
from vqcodec.files import make_folder, replacing

CLIP_FRAMES = 32
CLIP_RATE = Fraction(16)
CLIP_SIDE = 64

Mode = Literal["clips", "videos"]
T = TypeVar("T")


@dataclass(frozen=True)
class Cut:
    """How a file becomes 64×64 frames.

    Attributes:
        fit: ``stretch`` squashes the whole picture, ``crop`` takes its centre square; both by
            timestamps to 16 fps with antialiased bicubic. ``authors`` takes every source frame
            as it comes and squashes it with scikit-image's ``resize`` (order 3, antialiased),
            which is what reproduces the published per-clip figures.
    """

    fit: Literal["stretch", "crop", "authors"]

    def read(self, path: Path) -> tuple[NDArray[np.uint8], Fraction]:
        """All frames of a file, uint8 (T, 64, 64, 3) RGB, and their rate.

        Raises:
            SourceError: the file cannot be read as a video.
        """
        if self.fit == "authors":
            return _read_source_frames(path)
        from vqcodec.video import read_frames

        frames = read_frames(path, width=CLIP_SIDE, height=CLIP_SIDE, rate=CLIP_RATE, fit=self.fit)
        return frames, CLIP_RATE


def _read_source_frames(path: Path) -> tuple[NDArray[np.uint8], Fraction]:
    import av
    from skimage.transform import resize

    try:
        with av.open(str(path)) as container:
            rate = container.streams.video[0].average_rate or CLIP_RATE
            pictures = [p.to_ndarray(format="rgb24") for p in container.decode(video=0)]
    except (OSError, IndexError, ValueError) as error:  # av.FFmpegError is one of the first two
        raise SourceError(f"{path}: {error}") from error
    if not pictures:
        raise SourceError(f"{path}: no frames")
    shape = (CLIP_SIDE, CLIP_SIDE)
    small: list[Any] = [resize(p, shape, order=3, anti_aliasing=True) for p in pictures]
    frames = (np.stack(small) * 255).round().clip(0, 255).astype(np.uint8)
    return frames, Fraction(rate)


@dataclass(frozen=True)
class Video:
    """One source file. ``id`` is its path below the data set's root, without the suffix."""

    id: str
    path: Path
    cut: Cut


@dataclass(frozen=True)
class Clip:
    """Frames to code: uint8 (T, H, W, 3) RGB at ``rate`` frames a second."""

    id: str
    frames: NDArray[np.uint8]
    rate: Fraction

    @property
    def sha256(self) -> str:
        """Hash of pixels, shape and rate: the clip's part of a result's cache key."""
        digest = hashlib.sha256(f"{self.frames.shape} {self.rate}".encode())
        digest.update(np.ascontiguousarray(self.frames).data)
        return digest.hexdigest()


@dataclass(frozen=True)
class ClipRef:
    """Where a clip lies: ``count`` frames of a video from frame ``start``. Cheap and picklable."""

    id: str
    video: Video
    start: int
    count: int

    def load(self, cache: FrameCache) -> Clip:
        """Read the clip.

        Raises:
            SourceError: the video cannot be read.
        """
        frames, rate = cache.frames(self.video)
        return Clip(self.id, np.array(frames[self.start : self.start + self.count]), rate)


@dataclass(frozen=True)
class FrameCache:
    """Decoded frames on disk, one ``.npy`` per video, keyed by path, size, time stamp and cut."""

    folder: Path

    def frames(self, video: Video) -> tuple[NDArray[np.uint8], Fraction]:
        """All frames, memory-mapped uint8 (T, 64, 64, 3), and their rate; decoded at first use.

        Raises:
            SourceError: missing or unreadable.
            OutputError: the cache cannot be written.
        """
        try:
            stat = video.path.stat()
        except OSError as error:
            raise SourceError(f"{video.path}: {error.strerror}") from error
        key = f"{video.path.absolute()} {stat.st_size} {stat.st_mtime_ns} {video.cut} 1"
        stem = hashlib.sha256(key.encode()).hexdigest()[:32]
        found = sorted(self.folder.glob(f"{stem}-*.npy"))
        if not found:
            frames, rate = video.cut.read(video.path)
            make_folder(self.folder)
            path = self.folder / f"{stem}-{rate.numerator}-{rate.denominator}.npy"
            with replacing(path, force=True) as temporary:
                np.save(temporary, frames)
            found = [path]
        numerator, denominator = found[0].stem.split("-")[1:]
        return np.load(found[0], mmap_mode="r"), Fraction(int(numerator), int(denominator))


@dataclass(frozen=True)
class Skipped:
    """A video or clip left out, and why, in one line."""

    id: str
    reason: str


def spread(items: Sequence[T], count: int) -> list[T]:
    """``count`` of ``items`` at even distances, first and last included; all if there are fewer."""
    if count >= len(items):
        return list(items)
    return [items[int(i)] for i in np.linspace(0, len(items) - 1, count).round()]


def cut_clips(
    videos: Sequence[Video],
    cache: FrameCache,
    *,
    mode: Mode = "clips",
    limit: int | None = None,
    progress: Callable[[Iterable[Video]], Iterable[Video]] = iter,
) -> tuple[list[ClipRef], list[Skipped]]:
    """Cut videos into non-overlapping clips of 32 frames, or take each video whole.

    With a ``limit`` below the number of videos, that many videos are taken at even distances, and
    of each its first clip; above it, clips are taken at even distances. Decodes what is not in
    the cache yet. A tail shorter than a clip is left out; a video without a clip is skipped.
    """
    first_only = limit is not None and limit <= len(videos)
    chosen = spread(videos, limit) if limit is not None and first_only else list(videos)
    refs: list[ClipRef] = []
    skipped: list[Skipped] = []
    for video in progress(chosen):
        try:
            length = len(cache.frames(video)[0])
        except SourceError as error:
            skipped.append(Skipped(video.id, str(error)))
            continue
        if mode == "videos":
            refs.append(ClipRef(video.id, video, 0, length))
        elif length < CLIP_FRAMES:
            skipped.append(Skipped(video.id, f"too short: {length} frames at 16 fps"))
        else:
            count = 1 if first_only else length // CLIP_FRAMES
            refs += [
                ClipRef(f"{video.id}#{k}", video, k * CLIP_FRAMES, CLIP_FRAMES)
                for k in range(count)
            ]
    return (spread(refs, limit) if limit is not None else refs), skipped
