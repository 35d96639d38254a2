"""Peak memory of ``vqcodec decode`` by the size of the pictures, beside what is estimated.

    python tests/slow/pictures.py [--outputs mp4 webm y4m png gif mkv] [--codec NAME] [--repeat 1]

For each shape of chunk in ``SHAPES`` it makes files of random indices for the shipped model,
decodes them in processes of their own, and prints the peak resident set (what ``/usr/bin/time -v``
calls "Maximum resident set size"). Fails if one takes more than :mod:`vqcodec.memory` says. Takes
some minutes on one core, so this is no part of the default test run.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from fractions import Fraction
from pathlib import Path

import numpy as np
from memory import measure

from vqcodec.container import Header, Level, Writer
from vqcodec.entropy.details import BLOCK, COLOURS, SPLITS, page_of
from vqcodec.memory import Allowance, output_bytes
from vqcodec.model.checkpoint import load
from vqcodec.model.registry import find

CHUNKS = 9  # more than need each other
SHAPES = (  # width, height, frames of a chunk, levels
    *((64, 64, 32, 2), (64, 64, 32, 3), (64, 64, 32, 8), (64, 64, 64, 8), (8, 8, 1, 8)),
    *(
        (128, 128, 32, 3),
        (128, 128, 32, 8),
        (176, 176, 32, 4),
        (176, 176, 32, 8),
        (224, 224, 32, 8),
        (256, 256, 32, 1),
        (256, 256, 32, 2),
    ),
    *((256, 256, 32, 3), (256, 256, 32, 8), (512, 512, 8, 3), (512, 512, 8, 8)),
    *((592, 592, 8, 8), (512, 512, 32, 2), (512, 512, 32, 3)),
    *((1024, 1024, 8, 3), (1024, 1024, 8, 8)),
)


def make(path: Path, shape: tuple[int, int, int, int]) -> Header:
    width, height, frames, quality = shape
    model = load(find(None))
    levels = tuple(Level(*grid) for grid in model.config.grids[:quality])
    header = Header(width, height, Fraction(1), Fraction(16), 0, model.model_id[:8], levels)
    generator = np.random.default_rng(0)

    def draw(shape: tuple[int, int, int], level: Level) -> np.ndarray:
        symbols = generator.integers(0, level.entries, shape)
        if level.details:  # most are zeros, as in any file
            symbols *= generator.random(shape) < 0.02
            if shape[0] % COLOURS:
                splits = generator.integers(0, SPLITS, (height // BLOCK, width // BLOCK))
                symbols[-1:] = page_of(splits.astype(np.int16))
        return symbols

    details = any(level.details for level in levels)
    packing = {"packer": "range", "prior": model.prior.build()} if details else {"packer": "raw"}
    with path.open("wb") as file, Writer(file, header, **packing) as writer:
        for _ in range(CHUNKS):
            shapes = zip(header.grid_shapes(frames), levels, strict=True)
            writer.write(frames, [draw(shape, level) for shape, level in shapes])
    return header


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--outputs", nargs="+", default=["mp4", "webm", "y4m", "png", "gif"])
    parser.add_argument("--codec", help="Encoder of all outputs.")
    parser.add_argument("--repeat", type=int, default=1, help="Runs of each, the largest counts.")
    options = parser.parse_args()
    above = []
    with tempfile.TemporaryDirectory() as temporary:
        coded = Path(temporary) / "in.vqv"
        for shape in SHAPES:
            header = make(coded, shape)
            width, height, frames, levels = shape
            shown = f"{width}x{height}, {frames} frames, {levels} levels"
            for output in options.outputs:
                more = ("--codec", options.codec) if options.codec else ()
                nbytes = output_bytes(width, height, options.codec or "libx264")
                estimate = Allowance(header, nbytes).needed(frames)
                decoded = Path(temporary) / ("out" if output == "png" else f"out.{output}")
                common = ("decode", "-q", "-f", "--memory", str(estimate), *more)
                peak = max(
                    measure(*common, str(coded), str(decoded))[0] for _ in range(options.repeat)
                )
                print(f"{shown}, {output}: {peak:.0f} MiB, estimated {estimate}", flush=True)
                above += [f"{shown}, {output}"] * (peak > estimate)
                shutil.rmtree(decoded) if decoded.is_dir() else decoded.unlink()
    if above:
        sys.exit(f"more than estimated: {'; '.join(above)}")


if __name__ == "__main__":
    main()
