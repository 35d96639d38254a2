"""Seams: the flicker at borders of chunks beside that inside them, at every quality level.

    python -m vqcodec.bench.seams --root EVAL [--seconds 10] [--limit N] [--model M] [--json]

Whole videos of at least so many seconds, coded with effort 0 and decoded as ``decode`` does; and
once more with the chunks put side by side as they are, to show what smoothing them does.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vqcodec import metrics
from vqcodec.bench.clips import CLIP_FRAMES, CLIP_RATE, CLIP_SIDE, Video, spread
from vqcodec.bench.datasets import folder_videos
from vqcodec.bench.page import arguments_of, show
from vqcodec.bench.tables import Table, number
from vqcodec.codec import Codec, Frames
from vqcodec.errors import DataError, SourceError, VqcodecError
from vqcodec.seam import joined

SECONDS = 10.0


@dataclass(frozen=True)
class SeamPoint:
    """One quality level, means over videos, in grey levels (:class:`vqcodec.metrics.Flicker`).

    Attributes:
        quality: level, 1 to the number that the model has.
        inside: flicker inside chunks.
        border: at the borders between them.
        unsmoothed: at these, without smoothing.
    """

    quality: int
    inside: float
    border: float
    unsmoothed: float

    @property
    def excess(self) -> float:
        """How much more there is at borders, in per cent of what is inside; below 0 for less."""
        return 100 * (self.border / self.inside - 1)


def find_videos(root: Path, seconds: float = SECONDS, limit: int | None = None) -> list[Frames]:
    """Videos below ``root`` of at least so many seconds, or a spread sample of them.

    Each is uint8 (T, 64, 64, 3), the centre square at 16 fps.

    Raises:
        DataError: there is none.
    """
    least = max(CLIP_FRAMES + 1, seconds * CLIP_RATE)  # with one border at least
    found = [v for v in map(_read, folder_videos(root)) if len(v) >= least]
    if not found:
        raise DataError(f"{root}: no video of {seconds:g} seconds")
    return found if limit is None else spread(found, limit)


def measure(codec: Codec, videos: Sequence[Frames]) -> list[SeamPoint]:
    """Code every video, and decode it at every quality level."""
    figures = np.array([_code(codec, video) for video in videos])
    means = figures.mean(0).tolist()
    return [SeamPoint(quality, *row) for quality, row in enumerate(means, start=1)]


def table(points: Sequence[SeamPoint], videos: int) -> Table:
    """The points, one row each."""
    rows = [
        [
            str(p.quality),
            number(p.inside, 2),
            number(p.border, 2),
            f"{p.excess:+.1f} %",
            number(p.unsmoothed, 2),
        ]
        for p in points
    ]
    return Table(
        f"Flicker at borders of chunks, mean over {videos} videos",
        ["quality", "inside", "at borders", "more", "not smoothed"],
        rows,
    )


def _read(video: Video) -> Frames:
    """A whole video; no frames of what cannot be read."""
    try:
        return video.cut.read(video.path)[0]
    except SourceError:
        return np.empty((0, CLIP_SIDE, CLIP_SIDE, 3), np.uint8)


def _code(codec: Codec, frames: Frames) -> list[tuple[float, float, float]]:
    """Of each quality level, the lowest first: flicker inside, at borders, there unsmoothed."""
    chunks = [frames[start : start + CLIP_FRAMES] for start in range(0, len(frames), CLIP_FRAMES)]
    carry = codec.carry()
    coded = [codec.encode_batch([chunk], carry=carry)[0] for chunk in chunks]
    found = []
    for quality in range(1, len(codec.levels) + 1):
        decoded = [
            codec.decode(grids[:quality], len(chunk))
            for grids, chunk in zip(coded, chunks, strict=True)
        ]
        smoothed = metrics.flicker(
            frames, np.concatenate(list(joined(decoded, codec.seams(quality))))
        )
        plain = metrics.flicker(frames, np.concatenate(decoded))
        assert smoothed.inside is not None
        assert smoothed.border is not None
        assert plain.border is not None
        found.append((smoothed.inside, smoothed.border, plain.border))
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = arguments_of("Flicker at borders of chunks.")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="leave shorter ones out")
    options = parser.parse_args(arguments)
    try:
        codec = Codec.load(options.model)
        videos = find_videos(options.root, options.seconds, options.limit)
    except VqcodecError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    points = measure(codec, videos)
    about = [
        "By `python -m vqcodec.bench.seams`: "
        f"{CLIP_SIDE}x{CLIP_SIDE}, {float(CLIP_RATE):g} frames a second,",
        f"{options.seconds:g} seconds or more, effort 0, model {codec.model_id.hex()},",
        f"{len(videos)} such videos of {options.root.name}/. In grey levels: RMS of the",
        "differences between frames that the source does not have.",
    ]
    found = {"videos": len(videos), "points": [dataclasses.asdict(p) for p in points]}
    show(table(points, len(videos)), about, found, as_json=options.json)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
