"""Structures of the hierarchy compared: distortion against conditional entropy of the indices.

    python -m vqcodec.bench.structures --data TRAIN [--steps N] [--only NAME ...]

Trains each structure on the same clips and steps into ``--out`` (an interrupted run resumes), and
measures it on the validation split. All of them pay what one and the same small context model,
fitted to their own indices of training clips, gives for the indices of clips it has not seen: an
upper bound on their conditional entropy that favours no hand-made entropy coder. Prints Markdown.
With ``--only`` several processes can share the work; whoever comes last compares all that is there.

Networks are narrower than the shipped one (``--scale``), and small equal budgets show differences,
not what a structure can do.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqcodec import metrics
from vqcodec.bench.bdrate import ClipPoints, bd_quality, bd_rate, bootstrap_bd_rate
from vqcodec.files import replacing
from vqcodec.model import checkpoint as checkpoints
from vqcodec.model.config import PRESETS, LevelConfig, ModelConfig
from vqcodec.model.network import MSVQVAE
from vqcodec.model.quantizer import ROWS
from vqcodec.train import data, loop
from vqcodec.train.config import RunOptions, TrainConfig
from vqcodec.train.loop import Progress
from vqcodec.train.state import read_state
from vqcodec.train.validation import Validation, to_uint8

ANCHOR = "residual"  # what the others are compared with
RECIPE = TrainConfig(
    batch=4,
    optimizer="muon",
    lr=1e-3,
    warmup=30,
    clip_grad=1.0,
    reconstruction="log-mse",
    commitment=0.25,
    perceptual="none",
    delay=70,
)
# Below it, all that some structures have is previews, which few clips were trained at.
WINDOW = (0.065, 1.0)
POINTS = (0.075, 0.1, 0.15, 0.2, 0.25, 0.3)  # bpp at which PSNR is tabled
MISSING = "n/a"
HELD_OUT = 24  # clips measured, at most
# Of the context model.
HIDDEN = 128
BATCH = 1024
FIT_STEPS = 200
PASSES = 4  # over the positions of a small grid, at most
FIT_LR = 4e-3
# (earlier in time, down, right) of what is known of the own grid.
_SAME = ((1, 0, 0), (1, -1, 0), (1, 1, 0), (1, 0, -1), (1, 0, 1), (0, -1, 0), (0, 0, -1))


@dataclass(frozen=True)
class Structure:
    """One candidate.

    Attributes:
        what: in a few words.
        config: its network.
        weights: how often a clip is trained at each quality level. About half the clips stop at the
            last coarse level or before it, the others at what refines it, a fifth at the very end.
    """

    what: str
    config: ModelConfig
    weights: tuple[float, ...]


def structures(scale: float = 0.5) -> dict[str, Structure]:
    """All candidates, with widths as a multiple of the shipped network's."""
    top = LevelConfig(
        stride_t=8,
        stride=8,
        width=round(192 * scale),
        encoder_blocks=2,
        fusion_blocks=0,
        decoder_blocks=2,
    )
    bottom = LevelConfig(
        stride_t=4,
        stride=4,
        width=round(128 * scale),
        encoder_blocks=2,
        fusion_blocks=1,
        decoder_blocks=1,
    )
    still = dataclasses.replace(top, stride_t=32, decoder_blocks=1)
    behind_still = dataclasses.replace(top, fusion_blocks=1)
    fine_still = dataclasses.replace(still, stride=4)
    further = dataclasses.replace(bottom, encoder_blocks=1)
    alone = dataclasses.replace(bottom, encoder_blocks=4, fusion_blocks=0)

    def residual(stages: int, *levels: LevelConfig) -> ModelConfig:
        shipped = PRESETS["base"].refinement
        assert shipped is not None
        return ModelConfig(levels, dataclasses.replace(shipped, stages=stages), tail_blocks=3)

    return {
        "residual": Structure(
            "top, bottom, 6 residual stages",
            residual(6, top, bottom),
            (6, 40, 7, 7, 7, 7, 8, 18),
        ),
        "still": Structure(
            "still level 1x8x8, top, bottom, 5 residual stages",
            residual(5, still, behind_still, bottom),
            (3, 3, 40, 9, 9, 9, 9, 18),
        ),
        "levels": Structure(
            "top, bottom, 3 further levels on the bottom grid",
            ModelConfig((top, bottom, further, further, further), tail_blocks=3),
            (6, 40, 18, 18, 18),
        ),
        "still-fine": Structure(
            "still level 1x16x16, bottom, 6 residual stages",
            residual(6, fine_still, bottom),
            (6, 40, 7, 7, 7, 7, 8, 18),
        ),
        "single": Structure(
            "bottom, 7 residual stages",
            residual(7, alone),
            (46, 7, 7, 7, 7, 7, 7, 18),
        ),
    }


@dataclass(frozen=True)
class Measured:
    """A structure's operating points.

    Attributes:
        structure: its name.
        steps: of training.
        cpu: seconds of CPU per step; None where a resumed run cannot tell.
        fixed: bits per pixel at fixed length, per quality level.
        zero_order: bits per pixel by the grids' own histograms, per quality level.
        bpp: bits per pixel by the context model, [quality level][clip].
        psnr: dB, [quality level][clip].
    """

    structure: str
    steps: int
    cpu: float | None
    fixed: list[float]
    zero_order: list[float]
    bpp: list[list[float]]
    psnr: list[list[float]]

    @property
    def points(self) -> ClipPoints:
        return ClipPoints(np.array(self.bpp), np.array(self.psnr))


Sample = tuple[Tensor, ...]  # indices of clips: per grid, coarsest first, (N, T, H, W) int64


class _Log:
    """What a run tells, line by line."""

    def __init__(self, name: str) -> None:
        self._name, self._first = name, time.process_time()
        self._steps = 0

    @property
    def cpu(self) -> float | None:
        return (time.process_time() - self._first) / self._steps if self._steps else None

    def message(self, text: str) -> None:
        print(f"{self._name}: {text}", file=sys.stderr, flush=True)

    def prepared(self, done: int, total: int, problem: str | None) -> None:
        if problem is not None:
            self.message(f"skipped {problem}")
        if done == total:
            self._first = time.process_time()

    def progress(self, progress: Progress) -> None:
        self._steps += 1
        if progress.step % 20 == 0:
            self.message(f"step {progress.step}, loss {progress.loss:.4f}, {self.cpu:.2f} s a step")

    def validated(self, step: int, result: Validation) -> None:
        levels = ", ".join(f"{psnr:.2f}" for psnr in result.psnr)
        self.message(f"step {step}: {levels} dB")


def train(name: str, structure: Structure, arguments: argparse.Namespace) -> float | None:
    """Train one structure, or what is left to do of it; seconds of CPU per step."""
    done = arguments.out / name / loop.STATE
    if done.is_file() and read_state(done).info["step"] >= arguments.steps:
        return None
    model = f"structure-{name}"
    PRESETS[model] = structure.config
    config = dataclasses.replace(
        RECIPE, model=model, steps=arguments.steps, level_weights=structure.weights
    )
    options = RunOptions(
        data=tuple(arguments.data),
        out=arguments.out / name,
        cache=arguments.cache / "footage",
        device=arguments.device,
        validate_every=arguments.steps + 1,  # only at the end
        save_every=50,
    )
    log = _Log(name)
    loop.train(config, options, log)
    return log.cpu


def measure(
    name: str, structure: Structure, arguments: argparse.Namespace, cpu: float | None
) -> Measured:
    """Operating points of a trained structure on clips that it has not seen."""
    config = structure.config
    checkpoint = checkpoints.load(arguments.out / name / loop.MODEL)
    network = checkpoint.build().to(arguments.device)
    frames, size = RECIPE.frames, RECIPE.size
    footage = data.prepare(
        data.find_videos(arguments.data),
        arguments.cache / "footage",
        short_side=loop.CACHED_SIDE * size,
    )
    seen, unseen = data.split(footage, RECIPE.validation)
    held_out = data.validation_clips(unseen, frames=frames, size=size, limit=HELD_OUT)
    cut = data.Clips(
        seen, frames=frames, size=size, seed=RECIPE.seed + 1, augmentation=data.Augmentation()
    )
    fit = _encode(network, lambda n: cut(n, 0), arguments.clips)
    test = _encode(network, lambda n: held_out[n], len(held_out))

    grids, pixels = range(len(config.grids)), frames * size * size
    bits = [conditional_bits(number, fit, test, network) for number in grids]
    zero_order = [_zero_order(grid) * grid[0].numel() / pixels for grid in test]
    return Measured(
        structure=name,
        steps=int(checkpoint.card["steps"]),
        cpu=cpu,
        fixed=[config.bits_per_pixel(number + 1) for number in grids],
        zero_order=list(accumulate(zero_order)),
        bpp=(torch.stack(bits).cumsum(0) / pixels).tolist(),
        psnr=_quality(network, test, held_out),
    )


@torch.inference_mode()
def _encode(network: MSVQVAE, clip: Callable[[int], Tensor], count: int) -> Sample:
    """Indices of ``count`` clips."""
    device = next(network.parameters()).device
    parts = []
    for start in range(0, count, 8):
        clips = torch.stack([clip(n) for n in range(start, min(count, start + 8))])
        with torch.autocast(device.type, torch.bfloat16):
            indices = network.encode(clips.to(device).float().div(255))
        parts.append([grid.cpu() for grid in indices])
    return tuple(torch.cat(grids) for grids in zip(*parts, strict=True))


@torch.inference_mode()
def _quality(network: MSVQVAE, sample: Sample, clips: Tensor) -> list[list[float]]:
    """PSNR, [quality level][clip]."""
    device = next(network.parameters()).device
    psnr = []
    for level in range(1, len(sample) + 1):
        values = []
        for start in range(0, len(clips), 8):
            part = [grid[start : start + 8].to(device) for grid in sample[:level]]
            with torch.autocast(device.type, torch.bfloat16):
                decoded = to_uint8(network.decode(part)).cpu()
            for clip, result in zip(clips[start : start + 8], decoded, strict=True):
                pair = [np.ascontiguousarray(c.permute(1, 2, 3, 0).numpy()) for c in (clip, result)]
                values.append(metrics.psnr(*pair))
        psnr.append(values)
    return psnr


class ContextModel(nn.Module):
    """P(index | contexts): embeddings that start as the codebooks' vectors, and two layers between.

    Args:
        tables: (K, d) vectors for each column of contexts; index K stands for "outside".
        phases: places of a position inside a step of the coarsest grid.
        target: (entries, d) vectors of the indices to predict.
        counts: (entries,) how often each index occurs; what is predicted at first.
    """

    def __init__(
        self, tables: Sequence[Tensor], phases: int, target: Tensor, counts: Tensor
    ) -> None:
        super().__init__()
        self.tables = nn.ModuleList(
            nn.Embedding(
                len(table) + 1, table.shape[1], _weight=F.pad(_standard(table), (0, 0, 0, 1))
            )
            for table in tables
        )
        self.phase = nn.Embedding(phases, 16)
        self.join = nn.Linear(16 + sum(table.shape[1] for table in tables), HIDDEN)
        self.inner = nn.Linear(HIDDEN, HIDDEN)
        self.aim = nn.Linear(HIDDEN, target.shape[1])
        nn.init.zeros_(self.aim.weight)
        # Entries near each other share what is learned of them.
        self.out = nn.Linear(target.shape[1], len(target))
        with torch.no_grad():
            self.out.weight.copy_(_standard(target))
            self.out.bias.copy_(((counts + 0.5) / (counts + 0.5).sum()).log())

    def forward(self, columns: Tensor) -> Tensor:
        """(N, columns + 1) indices, the last one the phase → (N, entries) logits."""
        parts = [table(columns[:, i]) for i, table in enumerate(self.tables)]
        x = F.silu(self.join(torch.cat([*parts, self.phase(columns[:, -1])], 1)))
        x = x + F.silu(self.inner(x))
        y: Tensor = self.out(self.aim(x))
        return y


def conditional_bits(number: int, fit: Sample, test: Sample, network: MSVQVAE) -> Tensor:
    """Bits of grid ``number`` of each clip of ``test``, float64 (N,), by a model of ``fit``.

    Known at each position: the same place and its four neighbours one step earlier, the left and
    upper neighbours, and the indices of all earlier grids at that place.
    """
    torch.manual_seed(0)
    device = next(network.parameters()).device
    entries = network.config.grids[number].entries
    columns, targets = (x.to(device) for x in _contexts(number, fit, network.config))
    own = fit[number].shape[1] > 1
    books = network.codebooks()
    tables = [books[number]] * sum(own or not earlier for earlier, *_ in _SAME)
    tables += books[:number]
    model = ContextModel(
        tables,
        int(columns[:, -1].max()) + 1,
        books[number],
        torch.bincount(targets, minlength=entries).float(),
    ).to(device)
    steps = min(FIT_STEPS, math.ceil(PASSES * len(targets) / BATCH))
    optimizer = torch.optim.AdamW(model.parameters(), lr=FIT_LR, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, FIT_LR, total_steps=steps)
    order = torch.randperm(len(targets)).repeat(-(-steps * BATCH // len(targets)))
    for batch in torch.split(order[: steps * BATCH].to(device), BATCH):
        with torch.autocast(device.type, torch.bfloat16):
            logits = model(columns[batch])
        loss = F.cross_entropy(logits.float(), targets[batch])
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
    columns, targets = (x.to(device) for x in _contexts(number, test, network.config))
    with torch.inference_mode():
        nats = torch.cat(
            [
                F.cross_entropy(model(part), target, reduction="none")
                for part, target in zip(
                    torch.split(columns, ROWS), torch.split(targets, ROWS), strict=True
                )
            ]
        )
    return nats.double().cpu().reshape(len(test[number]), -1).sum(1) / math.log(2)


def _contexts(number: int, sample: Sample, config: ModelConfig) -> tuple[Tensor, Tensor]:
    """(positions, columns + 1) contexts with the phase, and (positions,) indices."""
    own = sample[number]
    clips, time_steps, height, width = own.shape
    padded = F.pad(own, (1, 1, 1, 1, 1, 0), value=config.grids[number].entries)
    columns = [
        padded[:, 1 - earlier :, 1 + down :, 1 + right :][:, :time_steps, :height, :width]
        for earlier, down, right in _SAME
        if time_steps > 1 or not earlier
    ]
    for grid in sample[:number]:
        for axis in (1, 2, 3):
            grid = grid.repeat_interleave(own.shape[axis] // grid.shape[axis], axis)
        columns.append(grid)
    coarsest, finest = config.grids[0], config.grids[number]
    t, s = coarsest.stride_t // finest.stride_t, coarsest.stride // finest.stride
    steps = torch.arange(time_steps)[:, None, None] % t
    rows, places = torch.arange(height)[:, None] % s, torch.arange(width) % s
    columns.append(((steps * s + rows) * s + places).expand(clips, -1, -1, -1))
    return torch.stack([column.reshape(-1) for column in columns], 1), own.reshape(-1)


def _standard(table: Tensor) -> Tensor:
    return (table - table.mean(0)) / (table.std(0) + 1e-6)


def _zero_order(grid: Tensor) -> float:
    """Bits per index of a grid's own histogram."""
    p = torch.bincount(grid.reshape(-1)).double() / grid.numel()
    return float(-(p[p > 0] * p[p > 0].log2()).sum())


def load(folder: Path) -> list[Measured]:
    """All that has been measured below ``folder``, the anchor first."""
    found = [
        Measured(**json.loads(path.read_text()))
        for name in structures()
        if (path := folder / name / "measured.json").is_file()
    ]
    return sorted(found, key=lambda item: item.structure != ANCHOR)


def report(found: Sequence[Measured]) -> str:
    """Markdown: every operating point, PSNR at equal rates, and BD-rates against the anchor."""
    lines: list[str] = []
    for item in found:
        bpp, psnr = np.mean(item.bpp, 1), np.mean(item.psnr, 1)
        cpu = "" if item.cpu is None else f", {item.cpu:.2f} s of CPU a step"
        what = structures()[item.structure].what
        lines += [f"### {item.structure}: {what} ({item.steps} steps{cpu})", ""]
        lines += _table(
            ("quality level", *map(str, range(1, len(bpp) + 1))),
            [
                ("PSNR, dB", *(f"{value:.2f}" for value in psnr)),
                ("bpp, conditional", *(f"{value:.4f}" for value in bpp)),
                ("bpp, zero order", *(f"{value:.4f}" for value in item.zero_order)),
                ("bpp, fixed length", *(f"{value:.4f}" for value in item.fixed)),
            ],
        )
    rows: list[Sequence[str]] = []
    for item in found:
        curve = item.points.curve()
        at = (curve.quality_at(rate) for rate in POINTS)
        rows.append(
            (item.structure, *(MISSING if value is None else f"{value:.2f}" for value in at))
        )
    lines += ["### PSNR in dB at equal conditional entropy", ""]
    lines += _table(("structure", *(f"{rate} bpp" for rate in POINTS)), rows)
    if found and found[0].structure == ANCHOR:
        anchor = found[0].points
        rows = [
            (item.structure, *_deltas(anchor, item.points, window))
            for item in found[1:]
            for window in (WINDOW, None)
        ]
        lines += [f"### Against {found[0].structure}", ""]
        head = ("structure", "bpp", "BD-rate", "95 % over clips", "PSNR range", "BD-PSNR")
        lines += _table(head, rows)
    return "\n".join(lines)


def _deltas(
    anchor: ClipPoints, test: ClipPoints, window: tuple[float, float] | None
) -> tuple[str, ...]:
    rate, quality = (delta(anchor.curve(), test.curve(), window) for delta in (bd_rate, bd_quality))
    interval = bootstrap_bd_rate(anchor, test, window=window)
    return (
        "all" if window is None else f"from {window[0]}",
        MISSING if rate.value is None else f"{rate.value:+.1f} %",
        MISSING if interval is None else f"{interval[0]:+.1f} to {interval[1]:+.1f} %",
        MISSING if rate.value is None else f"{rate.low:.2f} to {rate.high:.2f} dB",
        MISSING if quality.value is None else f"{quality.value:+.2f} dB",
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return [*("| " + " | ".join(line) + " |" for line in lines), ""]


def main() -> None:
    names = tuple(structures())
    parser = argparse.ArgumentParser(description="Structures compared at equal budget.")
    parser.add_argument("--data", type=Path, action="append", required=True, help="videos")
    parser.add_argument("--out", type=Path, default=Path("runs/structures"))
    parser.add_argument("--cache", type=Path, default=Path("cache"))
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    parser.add_argument("--steps", type=int, default=180, help="of 4 clips each, for every one")
    parser.add_argument("--scale", type=float, default=0.5, help="widths; 1: the shipped ones")
    parser.add_argument("--clips", type=int, default=200, help="that the context model learns from")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()

    torch.set_num_threads(arguments.threads)
    candidates = structures(arguments.scale)
    for name in arguments.only:
        target = arguments.out / name / "measured.json"
        if target.is_file():
            continue
        cpu = train(name, candidates[name], arguments)
        found = measure(name, candidates[name], arguments, cpu)
        with replacing(target, force=True) as temporary:
            temporary.write_text(json.dumps(dataclasses.asdict(found)))
    print(report(load(arguments.out)))


if __name__ == "__main__":
    main()
