"""The paper's ablation, rerun: four models on the same data, schedule and budget.

    python -m vqcodec.bench.ablation --data TRAIN --root EVAL [--steps N] [--jobs N]

Trains what is not trained yet into ``--out`` (an interrupted run resumes), measures all four with
the benchmark, and writes its JSON. Small equal budgets show differences, not what a model can do.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from vqcodec.bench import render, schema, session, tables
from vqcodec.bench.runner import Folders
from vqcodec.model.checkpoint import MODEL

# The rows of the paper's tables 2 and 3. "perceptual" stands for the loss chosen by --perceptual.
ROWS: dict[str, tuple[str, ...]] = {
    "single-level": ("--model", "single-level", "--perceptual", "perceptual"),
    "vq-vae-2": ("--model", "paper", "--perceptual", "none"),
    "ms-vq-vae": ("--model", "paper", "--perceptual", "perceptual"),
    "512-entries": ("--model", "paper-512", "--perceptual", "perceptual"),
}
# Of the shipped model's recipe; the same for all rows.
RECIPE = (
    *("--batch", "4", "--lr", "1e-3", "--warmup", "50", "--clip-grad", "1", "--delay", "75"),
    *("--reconstruction", "log-mse", "--commitment", "0.25"),
)


def train(name: str, arguments: argparse.Namespace) -> Path:
    """Train one row in a process of its own and return its model; its log lies beside it."""
    out: Path = arguments.out / name
    out.mkdir(parents=True, exist_ok=True)
    row = [arguments.perceptual if word == "perceptual" else word for word in ROWS[name]]
    command = [
        *(sys.executable, "-m", "vqcodec", "train", "--data", str(arguments.data)),
        *("--out", str(out), "--cache", str(arguments.cache / "footage")),
        *("--steps", str(arguments.steps), "--threads", str(arguments.threads)),
        *("--validate-every", str(arguments.steps)),
        *RECIPE,
        *row,
    ]
    with (out / "log.txt").open("a") as log:
        subprocess.run(command, stdout=log, stderr=log, check=True)
    return out / MODEL


def main() -> None:
    parser = argparse.ArgumentParser(description="The paper's ablation, rerun.")
    parser.add_argument("--data", type=Path, required=True, help="videos to train on")
    parser.add_argument("--root", type=Path, required=True, help="videos to measure on")
    parser.add_argument("--out", type=Path, default=Path("runs/ablation"))
    parser.add_argument("--cache", type=Path, default=Path("cache"))
    parser.add_argument("--json", type=Path, default=Path("cache/ablation.json"))
    parser.add_argument("--steps", type=int, default=500, help="of 4 clips each, for every row")
    parser.add_argument("--perceptual", default="ms-ssim", help="vgg16 where its weights are")
    parser.add_argument("--limit", type=int, default=64, help="clips measured")
    parser.add_argument("--jobs", type=int, default=2, help="rows trained at a time")
    parser.add_argument("--threads", type=int, default=1, help="of each")
    arguments = parser.parse_args()

    with ThreadPoolExecutor(arguments.jobs) as pool:
        models = list(pool.map(lambda name: train(name, arguments), ROWS))
    options = session.Options(
        dataset="folder",
        root=arguments.root,
        folders=Folders(arguments.cache / "bench"),
        codecs=[f"vqcodec:{path}" for path in models],
        limit=arguments.limit,
    )
    found = session.measure(options, *session.find_clips(options))
    schema.save(found, arguments.json)
    print(render.to_markdown(tables.paper_table(found)))


if __name__ == "__main__":
    main()
