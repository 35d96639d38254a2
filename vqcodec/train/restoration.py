"""Training of what comes after details: pictures as codes and details make them, to the source.

The footage is coded once by the frozen network; details are quantised anew each time, by as many
planes as chance says. The result is the initial checkpoint with the restoring network in it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from vqcodec.errors import CheckpointError
from vqcodec.metrics import psnr
from vqcodec.model import checkpoint as checkpoints
from vqcodec.model.config import DetailConfig
from vqcodec.model.details import analyse, dequantise, quantise, synthesise
from vqcodec.model.network import MSVQVAE
from vqcodec.model.restoration import Restoration
from vqcodec.train.config import RunOptions
from vqcodec.train.course import Course, Reporter, check_settings, footage_of, make_folder
from vqcodec.train.data import Augmentation, Clips, validation_clips
from vqcodec.train.loop import VALIDATION_CLIPS
from vqcodec.train.process import stop_signals

STATE = "restoration-state.safetensors"
BETAS = (0.9, 0.98)
LARGEST_GRADIENT = 1.0


@dataclass(frozen=True)
class RestorationTraining:
    """Everything that shapes a restoring network, apart from its data and the checkpoint.

    Attributes:
        chunks: clips of footage to code and train on; they are kept in memory, 1.2 MB each.
        frames, size: shape of a clip: multiples of the model's strides. A step sees half of one.
        width, blocks: see :class:`~vqcodec.model.config.DetailConfig`.
        batch: clips a step.
        steps: optimiser steps.
        minutes: stop after this much wall time, coding aside; the learning rate then follows time.
        lr: peak learning rate of Adam, annealed to zero along a cosine.
        validation: fraction of the videos set aside.
        seed: of everything random.
    """

    chunks: int = 1200
    frames: int = 32
    size: int = 64
    width: int = 48
    blocks: int = 3
    batch: int = 4
    steps: int | None = None
    minutes: float | None = 30.0
    lr: float = 2e-3
    validation: float = 0.02
    seed: int = 0

    def __post_init__(self) -> None:
        check_settings(self, "chunks", "frames", "width", "blocks")


@dataclass(frozen=True)
class RestorationValidation:
    """Mean PSNR in dB on footage set aside, for each number of planes.

    Attributes:
        before: of pictures with their details.
        after: of what the network makes of these.
    """

    before: tuple[float, ...]
    after: tuple[float, ...]


class RestorationReporter(Reporter, Protocol):
    """What a run tells; the command line draws it."""

    def restored(self, step: int, result: RestorationValidation) -> None: ...


def train_restoration(
    config: RestorationTraining, options: RunOptions, reporter: RestorationReporter
) -> Path | None:
    """Train until the schedule ends or SIGINT or SIGTERM arrives.

    ``options.out`` receives ``restoration-state.safetensors`` (to resume) and
    ``model.safetensors``: ``options.init`` with the restoring network, all else as it was.

    Returns:
        The model's path; None if the run was stopped before training began.

    Raises:
        CheckpointError: there is no ``init``, it has no details, or the saved state does not fit.
        DataError: no usable videos.
        OutputError: ``out`` or the cache cannot be written.
        ValueError: clips that do not fit the model's strides.
    """
    with stop_signals() as stopped:
        run = _Run(config, options, reporter)
        coded = run.code(stopped)
        return None if coded is None else run.train(*coded, stopped)


@dataclass(frozen=True)
class Coded:
    """Clips, and what their codes decode to.

    Attributes:
        clips: uint8 (N, 3, T, H, W).
        decoded: float16 in 0..1, of the same shape.
    """

    clips: Tensor
    decoded: Tensor

    def __len__(self) -> int:
        return len(self.clips)


class _Run:
    def __init__(
        self, config: RestorationTraining, options: RunOptions, reporter: RestorationReporter
    ) -> None:
        self.config, self.options, self.reporter = config, options, reporter
        if options.init is None:
            raise CheckpointError("restoration is for a checkpoint: none was given")
        self.checkpoint = checkpoints.load(options.init)
        details = self.checkpoint.config.details
        if details is None:
            raise CheckpointError(f"{options.init}: there are no details to restore behind")
        strides = self.checkpoint.config
        if config.size % max(strides.stride, 8) or config.frames % (2 * strides.stride_t):
            raise ValueError(
                f"size and frames must be multiples of {max(strides.stride, 8)} and "
                f"{2 * strides.stride_t}, not {config.size} and {config.frames}"
            )
        make_folder(options.out)
        self.details: DetailConfig = dataclasses.replace(
            details, width=config.width, blocks=config.blocks
        )
        self.codes = self.checkpoint.build().to(options.device)
        torch.manual_seed(config.seed)
        self.network = Restoration(details.planes, config.width, config.blocks).to(options.device)
        self._warm_start(self.codes)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=config.lr, betas=BETAS)
        self.videos = 0
        self.course = Course(
            config,
            options,
            reporter,
            self.network,
            self.optimizer,
            state=STATE,
            identity={"network": self.checkpoint.network_id.hex()},
        )

    def _warm_start(self, ready: MSVQVAE) -> None:
        """Go on from the network that the checkpoint has, if it is of the same shape."""
        if ready.restoration is not None and self.checkpoint.config.details == self.details:
            self.network.load_state_dict(ready.restoration.state_dict())
            self.reporter.message("goes on from the restoration of --init")

    def code(self, stopped: Callable[[], bool]) -> tuple[Coded, Coded] | None:
        """Clips to train on and to validate on; None if stopped."""
        config, options = self.config, self.options
        training, held_out = footage_of(config, options, self.reporter)
        self.videos = len(training)
        draw = Clips(
            training,
            frames=config.frames,
            size=config.size,
            seed=config.seed,
            augmentation=Augmentation(),
        )
        parts: list[Coded] = []
        while (done := sum(map(len, parts))) < config.chunks:
            count = min(config.batch, config.chunks - done)
            parts.append(self._coded(torch.stack([draw(done, place) for place in range(count)])))
            self.reporter.encoded(done + count, config.chunks)
            if stopped():
                self.reporter.message("stopped while encoding; run again to start over")
                return None
        clips = validation_clips(
            held_out, frames=config.frames, size=config.size, limit=VALIDATION_CLIPS
        )
        kept = [self._coded(part) for part in torch.split(clips, config.batch)]
        return _joined(parts), _joined(kept)

    @torch.inference_mode()
    def _coded(self, clips: Tensor) -> Coded:
        pictures = clips.to(self.options.device).float().div_(255)
        count = len(self.codes.config.code_grids)
        decoded = self.codes.decode(self.codes.encode(pictures, count))
        return Coded(clips, decoded.cpu().half())

    def train(self, training: Coded, held_out: Coded, stopped: Callable[[], bool]) -> Path:
        return self.course.run(
            stopped,
            lambda lr: self._train_step(training, lr),
            lambda: self._validate(held_out),
            self._finished,
        )

    def _train_step(self, coded: Coded, lr: float) -> float:
        """One step, a function of (seed, step); the mean over clips of log MSE."""
        config, device = self.config, self.options.device
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        rng = np.random.default_rng((config.seed, self.course.step))
        chosen = torch.from_numpy(rng.choice(len(coded), min(config.batch, len(coded)), False))
        clips = coded.clips[chosen].to(device).float().div_(255)
        decoded = coded.decoded[chosen].to(device).float()
        planes = int(rng.integers(1, self.details.planes + 1))
        found = self._details(clips, decoded, planes)
        half = config.frames // 2
        start = int(rng.integers(half + 1))
        axes = [axis for axis in (2, 4) if rng.random() < 0.5]  # in time, and sideways
        clips, decoded, found = (
            whole[:, :, start : start + half].flip(axes) for whole in (clips, decoded, found)
        )
        with self._autocast():
            restored = self._restored(decoded, found, planes)
        loss = (restored - clips).square().mean((1, 2, 3, 4)).log().mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), LARGEST_GRADIENT)
        self.optimizer.step()
        return float(loss.detach())

    @torch.no_grad()
    def _details(self, clips: Tensor, decoded: Tensor, planes: int) -> Tensor:
        """What so many planes of details add to decoded pictures, in their unit."""
        coefficients = analyse(255 * (clips - decoded))
        symbols = quantise(coefficients, self.details, planes)
        return synthesise(dequantise(symbols, self.details)) / 255

    def _restored(self, decoded: Tensor, found: Tensor, planes: int) -> Tensor:
        count = torch.full((len(decoded),), planes, device=decoded.device)
        restored: Tensor = self.network(decoded, found, count)
        return restored

    def _autocast(self) -> torch.autocast:
        kind = torch.device(self.options.device).type
        return torch.autocast(kind, torch.bfloat16, enabled=self.options.bf16)

    @torch.inference_mode()
    def _validate(self, held_out: Coded) -> RestorationValidation:
        device = self.options.device
        totals = np.zeros((2, self.details.planes))
        for start in range(0, len(held_out), self.config.batch):
            part = slice(start, start + self.config.batch)
            source = held_out.clips[part]
            clips = source.to(device).float().div_(255)
            decoded = held_out.decoded[part].to(device).float()
            for planes in range(1, self.details.planes + 1):
                found = self._details(clips, decoded, planes)
                for row, pictures in enumerate(
                    (decoded + found, self._restored(decoded, found, planes))
                ):
                    totals[row, planes - 1] += sum(map(_psnr, source, _bytes(pictures)))
        result = RestorationValidation(*map(tuple, (totals / len(held_out)).tolist()))
        self.reporter.restored(self.course.step, result)
        return result

    def _finished(self, result: RestorationValidation) -> checkpoints.Checkpoint:
        card = self.course.card(self.videos, result)
        finished = self.checkpoint.with_details(self.details, self.network)
        return dataclasses.replace(finished, card={**finished.card, "restoration": card})


def _joined(parts: list[Coded]) -> Coded:
    return Coded(torch.cat([p.clips for p in parts]), torch.cat([p.decoded for p in parts]))


def _bytes(pictures: Tensor) -> Tensor:
    """(B, 3, T, H, W) nominally in 0..1 → uint8, as a decoder rounds."""
    return pictures.clamp(0, 1).mul(255).add(0.5).to(torch.uint8).cpu()


def _psnr(source: Tensor, shown: Tensor) -> float:
    """Of one clip, uint8 (3, T, H, W)."""
    return psnr(*(clip.permute(1, 2, 3, 0).numpy() for clip in (source, shown)))
