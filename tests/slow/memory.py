"""Peak memory of ``vqcodec encode`` and ``vqcodec decode`` for short and for long videos.

    python tests/slow/memory.py [--minutes 1 60] [--model NAME|FILE] [--keep FOLDER]

Makes a small synthetic video of each length, encodes and decodes it in processes of their own, and
prints the peak resident set of each (what ``/usr/bin/time -v`` calls "Maximum resident set size").
Fails if the longest needs more than ``ALLOWED`` times what the shortest does. An hour takes about
20 minutes on one core, so this is no part of the default test run.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

RATE = 16
SIDE = 96
ALLOWED = 1.15
DECODED = "decoded.mp4"


def make_source(path: Path, minutes: float) -> int:
    """Write moving waves; returns the number of frames."""
    count = round(60 * RATE * minutes)
    y, x = np.meshgrid(*(np.linspace(0, 6, SIDE),) * 2, indexing="ij")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=RATE, width=SIDE, height=SIDE)
        stream.pix_fmt = "yuv420p"
        for number in range(count):
            wave = np.sin(x + number / 9) + np.sin(y * 1.5 - number / 7)
            grey = (127 + 60 * wave).astype(np.uint8)
            pixels = np.stack([grey, np.roll(grey, number % SIDE, 1), 255 - grey], axis=-1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        container.mux(stream.encode(None))
    return count


def measure(*arguments: str) -> tuple[float, float]:
    """Run ``vqcodec`` with these arguments; peak resident set in MiB, and seconds."""
    began = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "vqcodec", *arguments])
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"vqcodec {' '.join(arguments)}: exit code {process.returncode}")
    return usage.ru_maxrss / 1024, time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, nargs="+", default=[1, 60])
    parser.add_argument("--model", default="base")
    parser.add_argument("--keep", type=Path, help="Leave the files here.")
    options = parser.parse_args()
    peaks: dict[str, list[float]] = {"encode": [], "decode": []}
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for minutes in sorted(options.minutes):
            video, coded = folder / f"{minutes:g}.mp4", folder / f"{minutes:g}.vqv"
            frames = make_source(video, minutes)
            shown = f"{minutes:g} min, {frames} frames at {Fraction(RATE)} fps"
            common = ("-q", "-f", "--model", options.model)
            decoded = str(folder / DECODED)
            for verb, files in (
                ("encode", (str(video), str(coded))),
                ("decode", (str(coded), decoded)),
            ):
                peak, seconds = measure(verb, *files, *common)
                peaks[verb].append(peak)
                print(f"{verb}, {shown}: {peak:.0f} MiB, {seconds:.0f} s", flush=True)
    for verb, values in peaks.items():
        if values[-1] > ALLOWED * values[0]:
            sys.exit(
                f"{verb}: memory grows with the video, {values[0]:.0f} to {values[-1]:.0f} MiB"
            )


if __name__ == "__main__":
    main()
