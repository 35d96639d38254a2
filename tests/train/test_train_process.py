"""vqcodec.train.process: signals and torchrun, in processes of their own"""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from vqcodec.model.checkpoint import MODEL, load
from vqcodec.train.loop import STATE
from vqcodec.train.state import read_state

SCRIPT = """
import os, sys
from pathlib import Path
import torch
from safetensors.torch import save_file
from vqcodec.train import loop
from vqcodec.train.config import RunOptions, TrainConfig

torch.set_num_threads(1)
videos, cache, out, steps = sys.argv[1:]

class Report:
    def message(self, text): print(text, flush=True)
    def prepared(self, done, total, problem): pass
    def progress(self, progress): print("step", progress.step, flush=True)
    def validated(self, step, result): pass

class Run(loop._Run):
    def run(self):
        path = super().run()
        rank = os.environ.get("RANK", "0")
        if rank != "0":
            self.network.sort_codebooks()  # as the first process does for its model
        save_file(self.network.state_dict(), Path(out) / f"rank{rank}.safetensors")
        return path

loop._Run = Run
config = TrainConfig(
    model="tiny", frames=8, size=16, batch=4, steps=int(steps), lr=1e-2,
    perceptual="none", delay=2, level_weights=(2.0, 1.0, 1.0, 2.0),
)
options = RunOptions(data=(Path(videos),), out=Path(out), cache=Path(cache), bf16=False)
loop.train(config, options, Report())
"""


@pytest.fixture
def command(tmp_path, videos, cache):
    (tmp_path / "script.py").write_text(SCRIPT)
    return [str(tmp_path / "script.py"), str(videos), str(cache), str(tmp_path / "out")]


def test_sigterm_saves_and_exits(command, footage, tmp_path):
    process = subprocess.Popen(
        [sys.executable, *command, "1000000"], stdout=subprocess.PIPE, text=True
    )
    lines = []
    try:
        for line in process.stdout:
            lines.append(line.strip())
            if line.strip() == "step 4":
                process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()
    assert "run again to resume" in lines[-1]
    info = read_state(tmp_path / "out" / STATE).info
    assert info["step"] == int(lines[-2].removeprefix("step ")) >= 4
    load(tmp_path / "out" / MODEL).build()


def test_two_processes_train_one_network(command, footage, tmp_path):
    result = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc-per-node", "2", *command, "6"),
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    # Only the first process reports.
    assert result.stdout.split() == [word for n in range(1, 7) for word in ("step", str(n))]
    first, second = (load_file(tmp_path / f"out/rank{rank}.safetensors") for rank in (0, 1))
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name
    # The vectors of both processes count: 4 clips of 1 × 2 × 2 and of 2 × 4 × 4.
    for level, count in ((0, 16), (1, 128)):
        assert first[f"quantizers.{level}.age"] == 6
        entries = len(first[f"quantizers.{level}.usage"])
        expected = entries * 0.99**4 + count * (1 - 0.99**4)
        assert float(first[f"quantizers.{level}.usage"].sum()) == pytest.approx(expected, rel=1e-4)
    load(tmp_path / "out" / MODEL).build()
