"""Encode a folder of many short videos: how it scales, and that an interruption costs nothing.

    python tests/slow/folder.py [--videos 1000] [--frames 32] [--model FILE]

The same videos are encoded by one worker, by two, and by two that are interrupted by SIGTERM when
about half is done and then started again. All three must come to the same bytes, and nothing else
may be left. Prints wall and processor seconds: on a busy machine only the latter mean much.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import av
import numpy as np

INTERRUPTED = 128 + signal.SIGTERM


def make(folder: Path, videos: int, frames: int) -> None:
    """H.264 videos of 128×96 in subfolders of 100, each of other moving waves."""
    y, x = np.meshgrid(np.linspace(0, 3, 96), np.linspace(0, 3, 128), indexing="ij")
    for number in range(videos):
        path = folder / f"{number // 100:02}" / f"{number:04}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        slopes = np.random.default_rng(number).uniform(-4, 4, (3, 3))
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=16, width=128, height=96)
            stream.pix_fmt = "yuv420p"
            for t in np.arange(frames) / 16:
                waves = np.sin(np.stack([a * x + b * y + c * t for a, b, c in slopes], axis=-1))
                pixels = (127.5 + 100 * waves).astype(np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
            container.mux(stream.encode(None))


def start(source: Path, target: Path, jobs: int, model: list[str]) -> subprocess.Popen[str]:
    words = ["encode", str(source), str(target), "--jobs", str(jobs), "--json", *model]
    return subprocess.Popen(
        [sys.executable, "-m", "vqcodec", *words], stdout=subprocess.PIPE, text=True
    )


def finish(process: subprocess.Popen[str], code: int, label: str) -> dict[str, float]:
    """Wait for a run, print how it went, and return its summary."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    output, _ = process.communicate()
    if process.returncode != code:
        sys.exit(f"{label}: exit code {process.returncode}")
    summary: dict[str, float] = json.loads(output.splitlines()[-1])["summary"]
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = usage.ru_utime + usage.ru_stime - before.ru_utime - before.ru_stime
    told = ", ".join(f"{summary[key]} {key}" for key in ("encoded", "skipped", "failed", "left"))
    print(
        f"{label}: {told}; {summary['seconds']:.1f} s, {summary['fps']:.0f} fps, "
        f"{used:.1f} s of processor time, returned {time.monotonic() - began:.1f} s after",
        flush=True,
    )
    return summary


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=int, default=1000)
    parser.add_argument("--frames", type=int, default=32)
    parser.add_argument("--model")
    options = parser.parse_args()
    model = ["--model", options.model] if options.model else []
    with tempfile.TemporaryDirectory() as name:
        source, one, two, broken = (Path(name) / part for part in ("in", "1", "2", "broken"))
        make(source, options.videos, options.frames)
        print(
            f"{options.videos} videos of {options.frames} frames, "
            f"{len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f}",
            flush=True,
        )
        finish(start(source, one, 1, model), 0, "one worker")
        finish(start(source, two, 2, model), 0, "two workers")

        process = start(source, broken, 2, model)
        assert process.stdout is not None
        for _ in range(options.videos // 2):  # to be read, or the pipe fills and the run waits
            process.stdout.readline()
        process.terminate()
        cut = finish(process, INTERRUPTED, "interrupted")
        if partial := list(broken.rglob(".*")):
            sys.exit(f"interrupted: left {partial}")
        rest = finish(start(source, broken, 2, model), 0, "resumed")
        if not 0 < rest["skipped"] >= cut["encoded"] or not cut["left"]:
            sys.exit("nothing was interrupted, or nothing was skipped")

        expected = contents(one)
        if len(expected) != options.videos or contents(two) != expected:
            sys.exit("two workers came to something else than one")
        if contents(broken) != expected:
            sys.exit("the interrupted runs came to something else")


if __name__ == "__main__":
    main()
