"""How fast the network is, as ratios to the paper's own, both timed in turn in one run.

    python -m vqcodec.bench.speed [--threads 2] [--clips 1] [--rounds 9] [--json]

Only ratios travel between machines; the times are those of this one.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from vqcodec.bench.paper_network import PaperNetwork
from vqcodec.model import checkpoint, registry


def measure(*, clips: int, rounds: int, model: str | None = None) -> dict[str, float]:
    """Median seconds per 32×64×64 clip for each network and direction, and their ratios."""
    ours, paper = checkpoint.load(registry.find(model)).build(), PaperNetwork().eval()
    clip = torch.rand(clips, 3, 32, 64, 64)
    with torch.inference_mode():
        our_indices, paper_indices = ours.encode(clip), paper.encode(clip)
        work: dict[str, Callable[[], object]] = {
            "encode": lambda: ours.encode(clip),
            "decode": lambda: ours.decode(our_indices),
            "paper_encode": lambda: paper.encode(clip),
            "paper_decode": lambda: paper.decode(paper_indices),
        }
        seconds: dict[str, list[float]] = {name: [] for name in work}
        for turn in range(rounds + 1):
            for name, call in work.items():
                began = time.perf_counter()
                call()
                if turn:  # the first round warms up
                    seconds[name].append((time.perf_counter() - began) / clips)
    result = {name: statistics.median(times) for name, times in seconds.items()}
    for direction in ("encode", "decode"):
        pairs = zip(seconds[f"paper_{direction}"], seconds[direction], strict=True)
        result[f"{direction}_ratio"] = statistics.median(theirs / mine for theirs, mine in pairs)
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
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    result = measure(clips=arguments.clips, rounds=arguments.rounds, model=arguments.model)
    result["start_up_ratio"] = start_up()
    if arguments.json:
        print(json.dumps({"threads": arguments.threads, "clips": arguments.clips, **result}))
        return
    print(f"{arguments.threads} threads, {arguments.clips} clip(s) of 32x64x64 at once, medians")
    for direction in ("encode", "decode"):
        print(
            f"{direction}: {1e3 * result[direction]:.1f} ms a clip, "
            f"the paper's network {1e3 * result[f'paper_{direction}']:.1f} ms: "
            f"{result[f'{direction}_ratio']:.1f} times faster"
        )
    print(f"vqcodec --help: {result['start_up_ratio']:.1f} times python -c pass")


if __name__ == "__main__":
    main()
