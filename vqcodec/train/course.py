"""The course of a stage that follows the network: steps, schedule, and what it resumes from."""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from vqcodec.codec import find_device
from vqcodec.errors import CheckpointError, SettingError
from vqcodec.model import checkpoint as checkpoints
from vqcodec.train.config import CACHED_SIDE, Progress, RunOptions, check_seed
from vqcodec.train.data import Footage, find_videos, prepare, split
from vqcodec.train.state import read_state, save_state

WARMUP = 50  # steps
LARGEST_GRADIENT = 1.0

Result = TypeVar("Result")


@dataclass(frozen=True)
class Settings:
    """What every stage has to be told; each has defaults of its own, and more.

    Attributes:
        chunks: chunks of footage to code and learn from.
        frames, size: shape of a chunk: multiples of the model's strides.
        batch: chunks a step, where a stage does not say otherwise.
        steps: optimiser steps.
        minutes: stop after this much wall time, coding aside; the learning rate then follows time.
        lr: peak learning rate, annealed to zero along a cosine.
        validation: fraction of the videos set aside; the same videos as those of the network's own
            training if the fraction is.
        seed: of everything random.
    """

    chunks: int = 1200
    frames: int = 32
    size: int = 64
    batch: int = 4
    steps: int | None = None
    minutes: float | None = 30.0
    lr: float = 1e-3
    validation: float = 0.02
    seed: int = 0

    def __post_init__(self) -> None:
        self.check_counts("chunks", "frames", "size", "batch", "steps")
        for name in ("minutes", "lr"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise SettingError(f"{name} must be above 0, not {value}")
        if not 0 <= self.validation <= 1:
            raise SettingError(f"validation must lie in 0..1, not {self.validation}")
        check_seed(self.seed)
        if self.steps is None and self.minutes is None:
            raise SettingError("steps or minutes must say how long to train")

    def check_counts(self, *names: str) -> None:
        """Raise SettingError where one of these, if it is there, is not at least 1."""
        for name in names:
            value = getattr(self, name)
            if value is not None and not value >= 1:
                raise SettingError(f"{name} must be at least 1, not {value}")

    def check_shape(self, size: int, frames: int) -> None:
        """Raise SettingError where a chunk's shape is no multiple of these."""
        if self.size % size or self.frames % frames:
            raise SettingError(
                f"size and frames must be multiples of {size} and {frames}, "
                f"not {self.size} and {self.frames}"
            )


class Reporter(Protocol):
    """What a run tells."""

    def message(self, text: str) -> None: ...
    def prepared(self, done: int, total: int, problem: str | None) -> None: ...
    def encoded(self, done: int, total: int) -> None: ...
    def progress(self, progress: Progress) -> None: ...


def initial(options: RunOptions, stage: str) -> checkpoints.Checkpoint:
    """The checkpoint that a stage goes on from.

    Raises:
        CheckpointError: there is none, or it cannot be read, or there is no such device.
        DataError: there is nothing to train on.
    """
    find_videos(options.data)
    find_device(options.device)
    if options.init is None:
        raise CheckpointError(f"{stage} is for a checkpoint: none was given")
    return checkpoints.load(options.init)


def footage_of(
    config: Settings, options: RunOptions, reporter: Reporter
) -> tuple[list[Footage], list[Footage]]:
    """Footage to train on, and what is set aside.

    Raises:
        DataError: no usable videos.
        OutputError: the cache cannot be written.
    """
    videos = find_videos(options.data)
    footage = prepare(
        videos,
        options.cache,
        short_side=CACHED_SIDE * config.size,
        report=lambda done, problem: reporter.prepared(done, len(videos), problem),
    )
    return split(footage, config.validation)


def autocast(options: RunOptions) -> torch.autocast:
    """Mixed precision, where a run is to have it."""
    kind = torch.device(options.device).type
    return torch.autocast(kind, torch.bfloat16, enabled=options.bf16)


class Course:
    """Where a run stands; goes on from a saved state if there is one.

    Args:
        config: of the stage.
        options: ``out`` must be there.
        reporter: what is told.
        network, optimizer: what learns.
        state: name of the file to resume from.
        identity: what a saved state must agree in, beside ``config``.

    Attributes:
        step, elapsed: steps and seconds done, earlier sessions included.

    Raises:
        CheckpointError: the saved state is damaged.
        SettingError: it is of other settings.
    """

    def __init__(
        self,
        config: Settings,
        options: RunOptions,
        reporter: Reporter,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        state: str,
        identity: dict[str, str],
    ) -> None:
        self.config, self.options, self.reporter = config, options, reporter
        self.network, self.optimizer = network, optimizer
        self.step, self.elapsed = 0, 0.0
        self._path = options.out / state
        settings = dataclasses.asdict(config)
        del settings["steps"], settings["minutes"]  # a run may be made longer or shorter
        self._identity = {"config": json.dumps(settings, sort_keys=True), **identity}
        if options.resume and self._path.exists():
            self._resume()

    def run(
        self,
        stopped: Callable[[], bool],
        train_step: Callable[[], float],
        validate: Callable[[], Result],
        finish: Callable[[Result], checkpoints.Checkpoint],
    ) -> Path:
        """Train until the schedule ends or ``stopped``; return where the model is.

        Args:
            stopped: asked before each step.
            train_step: one step, the learning rate set and no gradients left; returns its loss.
            validate: measures, and tells so.
            finish: the checkpoint, given the last result.
        """
        options = self.options
        began, first_step, earlier = time.monotonic(), self.step, self.elapsed
        while True:
            self.elapsed = earlier + time.monotonic() - began
            fraction = self._fraction()
            if fraction >= 1 or stopped():
                break
            lr = self._learning_rate(fraction)
            for group in self.optimizer.param_groups:
                group["lr"] = lr * group.get("factor", 1.0)
            self.optimizer.zero_grad(set_to_none=True)
            loss = train_step()
            self.step += 1
            seconds = time.monotonic() - began
            speed = (self.step - first_step) * self.config.batch / seconds
            self.reporter.progress(
                Progress(self.step, fraction, earlier + seconds, speed, loss, lr)
            )
            if self.step % options.validate_every == 0:
                validate()
            if self.step % options.save_every == 0:
                self._save()
        self._save()  # first: who sends SIGTERM may not wait for long
        path = options.out / checkpoints.MODEL
        checkpoints.save(finish(validate()), path)
        if fraction < 1:
            self.reporter.message(f"stopped at step {self.step}; run again to resume")
        return path

    def descend(self, loss: Tensor) -> float:
        """A step of all of the network down the gradients of its loss, of a norm of at most 1."""
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), LARGEST_GRADIENT)
        self.optimizer.step()
        return float(loss.detach())

    def card(self, videos: int, result: Any) -> dict[str, Any]:
        """What a checkpoint says of the run; ``result`` is a dataclass."""
        return {
            "training": dataclasses.asdict(self.config),
            "steps": self.step,
            "minutes": round(self.elapsed / 60, 1),
            "device": self.options.device,
            "videos": videos,
            "validation": dataclasses.asdict(result),
        }

    def _fraction(self) -> float:
        config = self.config
        by_steps = self.step / config.steps if config.steps else 0.0
        by_time = self.elapsed / (60 * config.minutes) if config.minutes else 0.0
        return min(1.0, max(by_steps, by_time))

    def _learning_rate(self, fraction: float) -> float:
        warm = min(1.0, (self.step + 1) / WARMUP)
        return self.config.lr * warm * 0.5 * (1 + math.cos(math.pi * fraction))

    def _save(self) -> None:
        info = {"step": self.step, "elapsed": self.elapsed, **self._identity}
        save_state(self._path, self.network, self.optimizer, info)

    def _resume(self) -> None:
        state = read_state(self._path)
        try:
            step, elapsed = int(state.info["step"]), float(state.info["elapsed"])
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{self._path}: damaged: {error}") from error
        if any(state.info.get(key) != value for key, value in self._identity.items()):
            raise SettingError(
                f"{self._path}: was saved under other settings or for another --init; "
                "use those, another --out, or --restart"
            )
        state.restore(self.network, self.optimizer)
        self.step, self.elapsed = step, elapsed
        self.reporter.message(f"resumed at step {self.step}")
