"""How fast the network is, as ratios to the paper's own, both timed in turn in one run.

    python -m vqcodec.bench.speed [--threads 2] [--clips 1] [--rounds 9] [--video FILE] [--json]

With a video, also what unpacking its indices takes beside decoding them to pictures, at every
quality level. Only ratios travel between machines; the times are those of this one.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from vqcodec.bench.paper_network import PaperNetwork
from vqcodec.codec import Codec
from vqcodec.container import Reader
from vqcodec.container.chunk import unpacked_ahead
from vqcodec.container.cut import cut_file
from vqcodec.model import checkpoint, registry
from vqcodec.model.config import REACH
from vqcodec.seam import joined
from vqcodec.transcode import batched, encode_file

BATCH = 8  # chunks through the network together


def measure(*, clips: int, rounds: int, model: str | None = None) -> dict[str, float]:
    """Median seconds and GFLOP per 32×64×64 clip for each network and direction, and ratios.

    Ours codes as much as the paper's network does: the levels of the paper. If the model mends
    borders between chunks, also what one takes there.
    """
    ours, paper = checkpoint.load(registry.find(model)).build(), PaperNetwork().eval()
    clip = torch.rand(clips, 3, 32, 64, 64)
    with torch.inference_mode():
        level = ours.config.first_stage
        our_indices, paper_indices = ours.encode(clip, level), paper.encode(clip)
        work: dict[str, Callable[[], object]] = {
            "encode": lambda: ours.encode(clip, level),
            "decode": lambda: ours.decode(our_indices),
            "paper_encode": lambda: paper.encode(clip),
            "paper_decode": lambda: paper.decode(paper_indices),
        }
        if ours.mending is not None:
            mend = partial(
                ours.mending, torch.rand(1, 2 * REACH, 3, 64, 64), torch.zeros(1, 3, 64, 64), level
            )
            work["border"] = lambda: [mend() for _ in range(clips)]
        seconds: dict[str, list[float]] = {name: [] for name in work}
        for turn in range(rounds + 1):
            for name, call in work.items():
                began = time.perf_counter()
                call()
                if turn:  # the first round warms up
                    seconds[name].append((time.perf_counter() - began) / clips)
    result = {name: statistics.median(times) for name, times in seconds.items()}
    for name, call in work.items():
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            call()
        result[f"{name}_gflop"] = counter.get_total_flops() / clips / 1e9
    result["parameters"] = sum(parameter.numel() for parameter in ours.parameters())
    for direction in ("encode", "decode"):
        pairs = zip(seconds[f"paper_{direction}"], seconds[direction], strict=True)
        result[f"{direction}_ratio"] = statistics.median(theirs / mine for theirs, mine in pairs)
    return result


class Unpacking(NamedTuple):
    """Seconds for a video at a quality level; unpacking has one thread, the network what torch has.

    Attributes:
        quality: level.
        unpack: from the file to indices.
        decode: from there to pictures without seams.
    """

    quality: int
    unpack: float
    decode: float


def unpacking(video: Path, codec: Codec, *, rounds: int) -> list[Unpacking]:
    """What unpacking a video and decoding it take at each level: the best of ``rounds``."""
    result = []
    with tempfile.TemporaryDirectory() as folder:
        whole, part = Path(folder, "whole.vqv"), Path(folder, "part.vqv")
        encode_file(video, whole, codec=codec, quality=len(codec.levels))
        for quality in range(1, len(codec.levels) + 1):
            cut_file(whole, part, quality=quality, force=True)
            unpack, decode = [], []
            for _ in range(rounds):
                began = time.perf_counter()
                with part.open("rb") as file:
                    reader = Reader(file, lambda _header: codec.prior)
                    grids = [chunk.grids() for chunk in unpacked_ahead(reader)]
                unpack.append(time.perf_counter() - began)
                began = time.perf_counter()
                chunks = (
                    frames
                    for batch in batched(grids, BATCH, lambda levels: levels[0].shape)
                    for frames in codec.decode_batch(batch)
                )
                for _ in joined(chunks, codec.seams(quality)):
                    pass
                decode.append(time.perf_counter() - began)
            result.append(Unpacking(quality, min(unpack), min(decode)))
    return result


def start_up(rounds: int = 20) -> float:
    """Wall time of ``vqcodec --help`` over that of ``python -c pass``, median of pairs."""
    python = [sys.executable, "-c", "pass"]
    ours = [str(Path(sys.executable).with_name("vqcodec")), "--help"]
    ratios = []
    for _ in range(rounds):
        seconds = []
        for command in (ours, python):
            began = time.perf_counter()
            subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
            seconds.append(time.perf_counter() - began)
        ratios.append(seconds[0] / seconds[1])
    return statistics.median(ratios)


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed beside the paper's network.")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--clips", type=int, default=1, help="run through the network together")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--model", help="a shipped model, or a checkpoint")
    parser.add_argument("--video", type=Path, help="to unpack and decode")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    result: dict[str, Any] = dict(
        measure(clips=arguments.clips, rounds=arguments.rounds, model=arguments.model)
    )
    result["start_up_ratio"] = start_up()
    rows: list[Unpacking] = []
    if arguments.video:
        rows = unpacking(arguments.video, Codec.load(arguments.model), rounds=arguments.rounds)
    if arguments.json:
        result["unpacking"] = [row._asdict() for row in rows]
        print(json.dumps({"threads": arguments.threads, "clips": arguments.clips, **result}))
        return
    print(f"{arguments.threads} threads, {arguments.clips} clip(s) of 32x64x64 at once, medians")
    for direction in ("encode", "decode"):
        print(
            f"{direction}: {1e3 * result[direction]:.1f} ms a clip, "
            f"the paper's network {1e3 * result[f'paper_{direction}']:.1f} ms: "
            f"{result[f'{direction}_ratio']:.1f} times faster; "
            f"{result[f'{direction}_gflop']:.1f} and "
            f"{result[f'paper_{direction}_gflop']:.1f} GFLOP"
        )
    if "border" in result:
        print(
            f"a border between clips: {1e3 * result['border']:.1f} ms more, "
            f"{result['border_gflop']:.1f} GFLOP"
        )
    print(f"{result['parameters'] / 1e6:.1f} M parameters")
    print(f"vqcodec --help: {result['start_up_ratio']:.1f} times python -c pass")
    for quality, unpack, decode in rows:
        print(
            f"level {quality}: unpacking {unpack:.2f} s, decoding {decode:.2f} s: "
            f"{unpack / decode:.2f} of it"
        )


if __name__ == "__main__":
    main()
