"""The paper's level, coded in several ways: what each takes, and what it keeps.

    python -m vqcodec.bench.operating --root EVAL [--limit N] [--model M] [--cache DIR] [--json]

The same indices in several packers, then codes that are chosen by what they cost. The clips are
those of ``vqcodec bench``, each coded alone.
"""

from __future__ import annotations

import dataclasses
import io
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vqcodec import metrics
from vqcodec.bench.clips import Clip, FrameCache, cut_clips
from vqcodec.bench.datasets import folder_videos
from vqcodec.bench.ours import header_of
from vqcodec.bench.page import arguments_of, show
from vqcodec.bench.tables import Table, number
from vqcodec.codec import Codec
from vqcodec.container import Writer
from vqcodec.errors import DataError, VqcodecError
from vqcodec.model import checkpoint as checkpoints
from vqcodec.model import registry
from vqcodec.model.checkpoint import Checkpoint

NEAREST = "nearest codes or guess"  # without a threshold, whichever is nearer
PLAIN = "effort 0"
CLOSEST = "effort 9, trade 0"  # the least distortion, whatever the bits


@dataclass(frozen=True)
class Way:
    """How to choose codes, and how to pack them.

    Attributes:
        name: of the choice of codes.
        threshold: whether the model's thresholds decide between codes and guesses.
        effort, trade: of the search.
        packers: what to pack those codes with, one after the other.
    """

    name: str
    threshold: bool = True
    effort: int = 0
    trade: float = 1.0
    packers: tuple[str, ...] = ("range",)


WAYS = (
    Way(NEAREST, threshold=False, packers=("raw", "zstd", "range")),
    Way(PLAIN, packers=("raw", "zstd", "range")),
    Way("effort 3", effort=3),
    Way("effort 5, trade 1.4", effort=5, trade=1.4),
    Way(CLOSEST, effort=9, trade=0.0, packers=("raw", "range")),
)


@dataclass(frozen=True)
class Operated:
    """One way, means over clips.

    Attributes:
        codes, packer: which.
        bpp: of the picture chunk, with its head and CRC.
        saved: share of the bits that indices of fixed length take.
        psnr: dB, mean over frames.
        ssim: mean over frames.
    """

    codes: str
    packer: str
    bpp: float
    saved: float
    psnr: float
    ssim: float


def measure(checkpoint: Checkpoint, clips: Sequence[Clip]) -> list[Operated]:
    """Code every clip at the paper's level in all of :data:`WAYS`."""
    fixed = checkpoint.config.bits_per_pixel(checkpoint.config.first_stage)
    found = []
    for way in WAYS:
        codec = Codec(checkpoint if way.threshold else _without_thresholds(checkpoint))
        figures = np.array([list(_code(codec, clip, way)) for clip in clips]).mean(0)
        *rates, psnr, ssim = map(float, figures)
        found += [
            Operated(way.name, packer, bpp, 1 - bpp / fixed, psnr, ssim)
            for packer, bpp in zip(way.packers, rates, strict=True)
        ]
    return found


def table(found: Sequence[Operated], clips: int) -> Table:
    """One row for each way."""
    header = ["codes", "packer", "bpp", "against fixed length", "PSNR dB", "SSIM"]
    rows = [
        [
            way.codes,
            way.packer,
            number(way.bpp, 4),
            f"{-100 * way.saved:+.1f} %",
            number(way.psnr, 2),
            number(way.ssim, 4),
        ]
        for way in found
    ]
    title = f"The paper's level, coded in several ways: mean over {clips} clips"
    return Table(title, header, rows, labels=2)


def _code(codec: Codec, clip: Clip, way: Way) -> Iterator[float]:
    """Bpp by every packer, PSNR and SSIM of a clip."""
    quality = codec.default_quality
    [grids] = codec.encode_batch([clip.frames], quality, effort=way.effort, trade=way.trade)
    count = len(clip.frames)
    header = header_of(codec, clip.frames, clip.rate, quality)
    for packer in way.packers:
        writer = Writer(io.BytesIO(), header, packer=packer, prior=codec.prior)
        yield 8 * writer.write(count, grids) / (clip.frames.size // 3)
    decoded = codec.decode(grids, count)
    yield metrics.psnr(clip.frames, decoded)
    yield metrics.ssim(clip.frames, decoded)


def _without_thresholds(checkpoint: Checkpoint) -> Checkpoint:
    """The same weights; an encoder that takes an entry wherever it is nearer than the guess."""
    levels = tuple(dataclasses.replace(level, worth=0.0) for level in checkpoint.config.levels)
    config = dataclasses.replace(checkpoint.config, levels=levels)
    return dataclasses.replace(checkpoint, config=config)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = arguments_of("The paper's level, coded in several ways.")
    parser.add_argument("--cache", type=Path, default=Path("cache/bench"), help="decoded clips")
    options = parser.parse_args(arguments)
    try:
        checkpoint = checkpoints.load(registry.find(options.model))
        cache = FrameCache(options.cache)
        refs, _ = cut_clips(folder_videos(options.root), cache, limit=options.limit)
        if not refs:
            raise DataError(f"{options.root}: no clips")
        ways = measure(checkpoint, [ref.load(cache) for ref in refs])
    except VqcodecError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    about = [
        f"By `python -m vqcodec.bench.operating`: quality level {checkpoint.config.first_stage}",
        f"of the model {checkpoint.model_id[:8].hex()},",
        f"{len(refs)} clips of {options.root.name}/, each coded alone.",
        f'"{NEAREST}" takes an entry wherever one is nearer than the guess, "{PLAIN}" only where',
        "that is worth it (`worth` in the model's configuration). The prior has learnt the codes",
        "of the latter, and so charges the former too much.",
    ]
    found = {"clips": len(refs), "ways": [dataclasses.asdict(way) for way in ways]}
    show(table(ways, len(refs)), about, found, as_json=options.json)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
