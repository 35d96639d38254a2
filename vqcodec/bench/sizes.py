"""The same weights on larger pictures: rate and quality at 64×64, 128×128 and 256×256.

    python -m vqcodec.bench.sizes --root EVAL [--limit N] [--model M] [--json]

Takes the first 32 frames at 16 fps of each video's centre square. Nothing is scaled up to 128×128:
smaller sources are left out. The pictures of 256×256 are made by bicubic upscaling where the source
has no more; they are easy, and show that the size runs, not how good it is.
"""

from __future__ import annotations

import dataclasses
import io
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from vqcodec import metrics
from vqcodec.bench.bdrate import Curve
from vqcodec.bench.clips import CLIP_FRAMES, CLIP_RATE, spread
from vqcodec.bench.datasets import folder_videos
from vqcodec.bench.ours import header_of
from vqcodec.bench.page import arguments_of, show
from vqcodec.bench.tables import Table, number
from vqcodec.codec import Codec, Frames
from vqcodec.container import Writer
from vqcodec.errors import DataError, SourceError, VqcodecError
from vqcodec.video import probe, read_frames

SIZES = (64, 128, 256)
NATIVE = 128  # sources have at least this many pixels a side; compared with SIZES[0]


@dataclass(frozen=True)
class SizePoint:
    """One quality level at one size, means over clips.

    Attributes:
        size: pixels a side.
        quality: level, 1 to the number that the model has.
        bpp: of the picture chunk, with its head and CRC.
        psnr: dB, mean over frames.
        ssim: mean over frames.
        gain: at 128×128, the PSNR over that at 64×64 at equal bpp, in dB, on the curve through the
            means; None at other sizes, and where that curve does not reach.
    """

    size: int
    quality: int
    bpp: float
    psnr: float
    ssim: float
    gain: float | None = None


def find_sources(root: Path, limit: int | None = None) -> list[Path]:
    """Videos below ``root`` of at least 128×128 pixels and 32 frames, or a spread sample of them.

    Raises:
        DataError: there is none.
    """
    paths = [video.path for video in folder_videos(root) if _suits(video.path)]
    if not paths:
        raise DataError(f"{root}: no video of {NATIVE}x{NATIVE} pixels and {CLIP_FRAMES} frames")
    return paths if limit is None else spread(paths, limit)


def measure(codec: Codec, sources: Sequence[Path]) -> list[SizePoint]:
    """Code every source at every size and quality level with effort 0."""
    points = {size: _mean_points(codec, sources, size) for size in SIZES}
    small = Curve.of([p.bpp for p in points[SIZES[0]]], [p.psnr for p in points[SIZES[0]]])
    points[NATIVE] = [_with_gain(point, small) for point in points[NATIVE]]
    return [point for size in SIZES for point in points[size]]


def table(points: Sequence[SizePoint], clips: int) -> Table:
    """The points, one row each."""
    header = ["size", "quality", "bpp", "PSNR dB", "SSIM", f"dB over {SIZES[0]}, equal bpp"]
    rows = [
        [
            f"{p.size}x{p.size}",
            str(p.quality),
            number(p.bpp, 4),
            number(p.psnr, 2),
            number(p.ssim, 4),
            "-" if p.gain is None else f"{p.gain:+.2f}",
        ]
        for p in points
    ]
    return Table(f"The same weights on larger pictures, mean over {clips} clips", header, rows)


def _suits(path: Path) -> bool:
    try:
        info = probe(path)
        return min(info.width, info.height) >= NATIVE and len(_read(path, NATIVE)) == CLIP_FRAMES
    except SourceError:
        return False


def _read(path: Path, size: int) -> Frames:
    """Up to 32 frames of the centre square, uint8 (T, size, size, 3)."""
    seconds = Fraction(CLIP_FRAMES) / CLIP_RATE
    return read_frames(path, width=size, height=size, rate=CLIP_RATE, fit="crop", duration=seconds)


def _mean_points(codec: Codec, sources: Sequence[Path], size: int) -> list[SizePoint]:
    """One point for each quality level."""
    figures = np.array([list(_code(codec, _read(path, size))) for path in sources])
    return [
        SizePoint(size, quality, *map(float, means))
        for quality, means in enumerate(figures.mean(axis=0), start=1)
    ]


def _code(codec: Codec, frames: Frames) -> Iterator[tuple[float, float, float]]:
    """Bpp, PSNR and SSIM of a clip at each quality level, the lowest first."""
    grids = codec.encode(frames)
    for quality in range(1, len(grids) + 1):
        kept = grids[:quality]
        decoded = codec.decode(kept, len(frames))
        header = header_of(codec, frames, CLIP_RATE, quality)
        stream_bytes = Writer(io.BytesIO(), header, prior=codec.prior).write(len(frames), kept)
        bpp = 8 * stream_bytes / (frames.size // 3)
        yield bpp, metrics.psnr(frames, decoded), metrics.ssim(frames, decoded)


def _with_gain(point: SizePoint, small: Curve) -> SizePoint:
    other = small.quality_at(point.bpp)
    return point if other is None else dataclasses.replace(point, gain=point.psnr - other)


def main(arguments: Sequence[str] | None = None) -> int:
    options = arguments_of("The same weights on larger pictures.").parse_args(arguments)
    try:
        codec = Codec.load(options.model)
        sources = find_sources(options.root, options.limit)
        points = measure(codec, sources)
    except VqcodecError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    about = [
        f"By `python -m vqcodec.bench.sizes`: {CLIP_FRAMES} frames a clip, effort 0,",
        f"model {codec.model_id.hex()}, {options.limit or 'all'} videos of {options.root.name}/.",
        f"Sources smaller than {SIZES[-1]}x{SIZES[-1]} are scaled up to it: it runs, no more.",
    ]
    found = {"clips": len(sources), "points": [dataclasses.asdict(p) for p in points]}
    show(table(points, len(sources)), about, found, as_json=options.json)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
