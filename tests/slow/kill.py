"""Kill ``vqcodec`` with SIGKILL at random moments and look at what it leaves.

    python tests/slow/kill.py [--runs 100] [--verbs encode decode repair cut train] [--seed 0]

Each run is a process of its own, with the ``tiny`` model and small inputs, killed after a delay
drawn evenly from nothing to a little more than a whole run takes. The destination must be absent,
the old file, or whole (half of the runs begin with an old file and ``-f``). Hidden files named
``.*.part*`` may be left and are counted; they stay where they are for the runs that follow. A
training run is resumed until it is finished, and its state must then be that of an unbroken one,
bit for bit. Fails at the first broken promise.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import av
import numpy as np
import torch

from vqcodec.container import verify
from vqcodec.container.file import open as open_vqv
from vqcodec.model.checkpoint import MODEL, export, load, save
from vqcodec.model.config import PRESETS
from vqcodec.model.network import MSVQVAE
from vqcodec.train.loop import STATE
from vqcodec.train.state import read_state
from vqcodec.video import read_frames

FRAMES = 200
OLD = b"the old file"
TRAIN = (
    "train --data {0}/videos --out {1} --cache {0}/cache --model tiny --steps 60 --batch 2 "
    "--perceptual none --save-every 3 --validate-every 20 --threads 1 -q"
)
COMMANDS = {
    "encode": "encode {0}/videos/a.mkv {1} --model {0}/tiny.safetensors -q -f",
    "decode": "decode {0}/whole.vqv {1} --model {0}/tiny.safetensors -q -f",
    "repair": "repair {0}/damaged.vqv {1} -q -f",
    "cut": "cut {0}/whole.vqv {1} --quality 1 -q -f",
    "train": TRAIN,
}
TARGETS = {"encode": "out.vqv", "decode": "out.mkv", "repair": "out.vqv", "cut": "out.vqv"}


def start(verb: str, folder: Path, target: Path) -> subprocess.Popen[bytes]:
    words = COMMANDS[verb].format(folder, target).split()
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-m", "vqcodec", *words], env=environment)


def run_whole(verb: str, folder: Path, target: Path) -> float:
    """Seconds of a run that is left alone."""
    began = time.monotonic()
    if code := start(verb, folder, target).wait():
        sys.exit(f"{verb}: exit code {code}")
    return time.monotonic() - began


def kill_after(verb: str, folder: Path, target: Path, delay: float) -> bool:
    """Whether the process was still running."""
    process = start(verb, folder, target)
    try:
        code = process.wait(delay)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return True
    if code:
        sys.exit(f"{verb}: exit code {code} beside what was left by earlier runs")
    return False


def prepare(folder: Path) -> None:
    """Two videos, a tiny model, a file and a damaged one."""
    (folder / "videos").mkdir()
    for name in ("a", "b"):
        with av.open(str(folder / f"videos/{name}.mkv"), "w") as container:
            stream = container.add_stream("ffv1", rate=16, width=64, height=64)
            stream.pix_fmt = "bgr0"
            generator = np.random.default_rng(ord(name))
            for _ in range(FRAMES):
                pixels = generator.integers(0, 256, (64, 64, 3), np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
            container.mux(stream.encode(None))
    torch.manual_seed(0)
    save(export(MSVQVAE(PRESETS["tiny"]), {}), folder / "tiny.safetensors")
    run_whole("encode", folder, folder / "whole.vqv")
    data = bytearray((folder / "whole.vqv").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "damaged.vqv").write_bytes(data[:-50])


def state_of(target: Path, expected: bytes) -> str:
    """absent, old or whole; anything else ends the program."""
    if not target.exists():
        return "absent"
    data = target.read_bytes()
    if data == OLD:
        return "old"
    if target.suffix == ".vqv":
        with target.open("rb") as file:
            whole = data == expected and not verify(file).problems
    else:
        whole = len(read_frames(target)) == FRAMES
    return "whole" if whole else sys.exit(f"{target}: {len(data)} bytes, not whole")


def kill_transcoding(verb: str, folder: Path, runs: int, draw: random.Random) -> str:
    place = folder / verb
    place.mkdir()
    target = place / TARGETS[verb]
    seconds = run_whole(verb, folder, target)
    expected = target.read_bytes()
    seen: Counter[str] = Counter()
    for number in range(runs):
        target.unlink(missing_ok=True)
        if number % 2:
            target.write_bytes(OLD)
        killed = kill_after(verb, folder, target, draw.uniform(0, 1.05 * seconds))
        seen["killed" if killed else "finished"] += 1
        seen[state_of(target, expected)] += 1
    rest = [path for path in place.iterdir() if path != target]
    if not all(path.name.startswith(".") and ".part" in path.name for path in rest):
        sys.exit(f"{verb}: left {[path.name for path in rest]}")
    run_whole(verb, folder, target)
    if state_of(target, expected) != "whole":
        sys.exit(f"{verb}: the run after {runs} killed ones was disturbed")
    return f"{tell(seen)}; {len(rest)} .part files left; {seconds:.1f} s a run"


def kill_training(folder: Path, runs: int, draw: random.Random) -> str:
    whole = folder / "unbroken"
    seconds = run_whole("train", folder, whole)
    expected = read_state(whole / STATE)
    seen: Counter[str] = Counter()
    rest, trained = 0, 0
    target = folder / "train0"
    for _ in range(runs):
        killed = kill_after("train", folder, target, draw.uniform(0, 1.05 * seconds))
        seen["killed" if killed else "finished"] += 1
        step = read_state(target / STATE).info["step"] if (target / STATE).exists() else 0
        seen["no state yet" if not step else "whole state"] += 1
        if (target / MODEL).exists():
            load(target / MODEL).build()
        if step == expected.info["step"]:
            rest += compare(target, expected)
            trained += 1
            target = folder / f"train{trained}"
    run_whole("train", folder, target)
    rest += compare(target, expected)
    return (
        f"{tell(seen)}; {trained + 1} broken runs equal the unbroken one; {rest} .part files left"
    )


def compare(target: Path, expected: object) -> int:
    """End the program unless a finished run equals the unbroken one; .part files it left."""
    found = read_state(target / STATE)
    names = found.tensors.keys() ^ expected.tensors.keys()
    if names or any(not torch.equal(t, expected.tensors[n]) for n, t in found.tensors.items()):
        sys.exit(f"{target}: not what the unbroken run came to")
    return sum(".part" in path.name for path in target.iterdir())


def tell(seen: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(seen.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--verbs", nargs="+", default=list(COMMANDS), choices=list(COMMANDS))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    draw = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        with open_vqv(folder / "whole.vqv") as file:
            assert file.table.frames == FRAMES
        for verb in options.verbs:
            if verb == "train":
                told = kill_training(folder, options.runs, draw)
            else:
                told = kill_transcoding(verb, folder, options.runs, draw)
            print(f"{verb}, {options.runs} runs: {told}", flush=True)


if __name__ == "__main__":
    main()
