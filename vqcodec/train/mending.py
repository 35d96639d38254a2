"""Training of what mends seams: frames across borders between chunks, to the source.

Consecutive chunks of footage are coded once by the frozen network, and decoded at some quality
levels each. The result is the initial checkpoint with the mending network in it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from vqcodec.codec import Codec, Frames
from vqcodec.errors import DataError, SettingError
from vqcodec.files import make_folder
from vqcodec.metrics import flicker
from vqcodec.model import checkpoint as checkpoints
from vqcodec.model.config import REACH, MendingConfig
from vqcodec.model.mending import Mending, as_pictures
from vqcodec.seam import across, rule
from vqcodec.train.codes import Sequences
from vqcodec.train.config import VALIDATION_CLIPS, RunOptions, checked
from vqcodec.train.course import (
    Course,
    Reporter,
    Settings,
    autocast,
    footage_of,
    initial,
)
from vqcodec.train.data import validation_clips
from vqcodec.train.optimizer import make_optimizer
from vqcodec.train.process import stop_signals

STATE = "mending-state.safetensors"
BETAS = (0.9, 0.98)
DRAW = 1  # marks the random numbers that choose levels
LEVELS = 3  # at how many quality levels each border is learned from
DETAIL_STEPS = 0.7  # of all steps, at levels with details
SHORT = 0.2  # of all steps, on borders of chunks that have fewer frames for them
JUMP = 2.0  # what the jump's error weighs beside that of the frames
LEAST = 0.05  # of squared errors, in grey levels: less is as good as none


@dataclass(frozen=True)
class MendingTraining(Settings):
    """Everything that shapes a mending network, apart from its data and the checkpoint.

    A step takes ``batch`` borders. Those of a chunk take some 1 MB of memory. The optimiser is Muon
    (:mod:`vqcodec.train.optimizer`).

    Attributes:
        width, blocks, detail_blocks: see :class:`~vqcodec.model.config.MendingConfig`.
    """

    batch: int = 8
    minutes: float | None = 20.0
    lr: float = 2e-3
    width: int = 96
    blocks: int = 4
    detail_blocks: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        checked(self.shape)
        if self.frames < 2 * REACH:
            raise SettingError(f"frames must be at least {2 * REACH}, not {self.frames}")

    def shape(self) -> MendingConfig:
        """The network's configuration."""
        return MendingConfig(self.width, self.blocks, self.detail_blocks)


@dataclass(frozen=True)
class MendingValidation:
    """Error of the change across borders (:class:`vqcodec.metrics.Flicker`), for each level.

    Means over footage set aside, in 8-bit grey levels.

    Attributes:
        inside: of changes inside chunks, to compare.
        rule: across borders, as the rule leaves them.
        mended: across borders, as the network does.
    """

    inside: tuple[float, ...]
    rule: tuple[float, ...]
    mended: tuple[float, ...]


class MendingReporter(Reporter, Protocol):
    """What a run tells; the command line draws it."""

    def mended(self, step: int, result: MendingValidation) -> None: ...


def train_mending(
    config: MendingTraining, options: RunOptions, reporter: MendingReporter
) -> Path | None:
    """Train until the schedule ends or SIGINT or SIGTERM arrives.

    ``options.out`` receives ``mending-state.safetensors`` (to resume) and ``model.safetensors``:
    ``options.init`` with the mending network, all else as it was.

    Returns:
        The model's path; None if the run was stopped before training began.

    Raises:
        CheckpointError: there is no ``init``, or the saved state is damaged.
        DataError: no usable videos, or none of two chunks.
        OutputError: ``out`` or the cache cannot be written.
        SettingError: a saved state of other settings, or chunks that do not fit the model's
            strides.
    """
    with stop_signals() as stopped:
        run = _Run(config, options, reporter)
        coded = run.code(stopped)
        return None if coded is None else run.train(*coded, stopped)


@dataclass(frozen=True)
class _Borders:
    """Borders of one quality level.

    Attributes:
        sources: uint8 (N, 2 REACH, H, W, 3).
        frames: the same decoded, as the rule leaves them.
        moved: int16 (N, H, W, 3), what it added to the last frame before the border.
    """

    sources: Tensor
    frames: Tensor
    moved: Tensor


@dataclass(frozen=True)
class _Video:
    """Two chunks of a video set aside.

    Attributes:
        source: uint8 (2 T, H, W, 3).
        decoded: of each quality level, before and after the border between them.
    """

    source: Frames
    decoded: list[tuple[Frames, Frames]]


class _Run:
    def __init__(
        self, config: MendingTraining, options: RunOptions, reporter: MendingReporter
    ) -> None:
        self.config, self.options, self.reporter = config, options, reporter
        self.checkpoint = initial(options, "mending")
        strides = self.checkpoint.config
        config.check_shape(max(strides.stride, 2), strides.stride_t)
        make_folder(options.out)
        self.shape = config.shape()
        self.codec = Codec(self.checkpoint, device=options.device)
        self.rules = [rule(self.codec.levels_at(q)) for q in self.qualities]
        torch.manual_seed(config.seed)
        levels, codes = len(strides.grids), len(strides.code_grids)
        self.network = Mending(self.shape, levels, codes).to(options.device)
        ready = self.checkpoint.build().mending
        if ready is not None and strides.mending == self.shape:
            self.network.load_state_dict(ready.state_dict())
            reporter.message("goes on from the mending of --init")
        self.optimizer = make_optimizer(
            "muon",
            self.network,
            pixels=(self.network.enter, self.network.leave),
            lr=config.lr,
            betas=BETAS,
        )
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

    @property
    def qualities(self) -> range:
        return range(1, len(self.codec.levels) + 1)

    def code(self, stopped: Callable[[], bool]) -> tuple[list[_Borders], list[_Video]] | None:
        """What to train on, for each quality level, and videos to validate on; None if stopped."""
        config, options = self.config, self.options
        training, held_out = footage_of(config, options, self.reporter)
        training, held_out = (
            [item for item in part if item.frames >= 2 * config.frames]
            for part in (training, held_out)
        )
        if not training or not held_out:
            raise DataError(f"no videos of {2 * config.frames} frames to train and to validate on")
        self.videos = len(training)
        draw = Sequences(training, frames=config.frames, size=config.size, seed=config.seed)
        found: list[list[_Borders]] = [[] for _ in self.qualities]
        done = number = 0
        while done < config.chunks:
            rng = np.random.default_rng((config.seed, number, DRAW))
            chosen = rng.permutation(self.qualities)[:LEVELS].tolist()
            chunks = draw(number)
            for quality, borders in self._borders(chunks, chosen):
                found[quality - 1].append(borders)
            done += len(chunks)
            number += 1
            self.reporter.encoded(done, config.chunks)
            if stopped():
                self.reporter.message("stopped while encoding; run again to start over")
                return None
        clips = validation_clips(
            held_out, frames=2 * config.frames, size=config.size, limit=VALIDATION_CLIPS
        )
        joined = [_joined(found.pop(0)) for _ in self.qualities]  # all are in memory but once
        return joined, [self._video(clip) for clip in clips]

    def _borders(self, chunks: Tensor, qualities: list[int]) -> Iterator[tuple[int, _Borders]]:
        """Quality levels, and the borders between chunks uint8 (N, 3, T, H, W) there."""
        sources = [np.ascontiguousarray(chunk) for chunk in chunks.movedim(1, -1).numpy()]
        grids = self.codec.encode_batch(sources, carry=self.codec.carry())
        for quality in qualities:
            decoded = self.codec.decode_batch([levels[:quality] for levels in grids])
            seen = [
                across(before[-REACH:], after[:REACH], self.rules[quality - 1])
                for before, after in pairwise(decoded)
            ]
            true = [
                np.concatenate([before[-REACH:], after[:REACH]])
                for before, after in pairwise(sources)
            ]
            frames, moved = zip(*seen, strict=True)
            parts = (torch.from_numpy(np.stack(part)) for part in (true, frames, moved))
            yield quality, _Borders(*parts)

    def _video(self, clip: Tensor) -> _Video:
        """Of two chunks uint8 (3, 2 T, H, W)."""
        source = np.ascontiguousarray(clip.movedim(0, -1).numpy())
        parts = list(np.split(source, 2))
        first, last = self.codec.encode_batch(parts, carry=self.codec.carry())
        decoded = [self.codec.decode_batch([first[:q], last[:q]]) for q in self.qualities]
        return _Video(source, [(before, after) for before, after in decoded])

    def train(
        self, training: list[_Borders], held_out: list[_Video], stopped: Callable[[], bool]
    ) -> Path:
        return self.course.run(
            stopped,
            lambda: self._train_step(training),
            lambda: self._validate(held_out),
            self._finished,
        )

    def _train_step(self, training: list[_Borders]) -> float:
        """One step, a function of (seed, step).

        Its loss is what is measured: of frames log MSE, of the jumps across borders RMS, as a share
        of what the rule leaves.
        """
        config, device = self.config, self.options.device
        rng = np.random.default_rng((config.seed, self.course.step))
        quality = self._draw(rng, training)
        borders = training[quality - 1]
        chosen = rng.choice(len(borders.sources), min(config.batch, len(borders.sources)), False)
        sources, frames, moved = (
            as_pictures(part[chosen].to(device))
            for part in (borders.sources, borders.frames, borders.moved)
        )
        if rng.random() < 0.5:  # in time: what was after the border moves the other way
            sources, frames, moved = sources.flip(1), frames.flip(1), -moved
        axes = [axis for axis in (-1, -2) if rng.random() < 0.5]
        sources, frames, moved = (part.flip(axes) for part in (sources, frames, moved))
        there = REACH if rng.random() >= SHORT else int(rng.integers(1, REACH))
        frames = _cut(frames, there)
        with autocast(self.options):
            mended: Tensor = self.network(frames, moved, quality)
        near = slice(REACH - there, REACH + there)
        error, ruled = (255 * (shown - sources)[:, near] for shown in (mended, frames))
        jump, before = (_power(e[:, there] - e[:, there - 1]).sqrt().sum() for e in (error, ruled))
        loss = _power(error).log().mean() + JUMP * jump / before
        return self.course.descend(loss)

    def _draw(self, rng: np.random.Generator, training: list[_Borders]) -> int:
        """A quality level of which there are borders, mostly one with details."""
        there = [q for q in self.qualities if len(training[q - 1].sources)]
        details = [q for q in there if q > self.network.codes]
        codes = [q for q in there if q <= self.network.codes]
        some = details if details and (not codes or rng.random() < DETAIL_STEPS) else codes
        return int(rng.choice(some))

    @torch.inference_mode()
    def _validate(self, held_out: list[_Video]) -> MendingValidation:
        totals = np.array([self._flicker(video) for video in held_out])
        result = MendingValidation(*map(tuple, totals.mean(0).tolist()))
        self.reporter.mended(self.course.step, result)
        return result

    def _flicker(self, video: _Video) -> list[list[float]]:
        """Inside, by the rule, mended; of each quality level."""
        rows = []
        for quality, (before, after) in zip(self.qualities, video.decoded, strict=True):
            frames, moved = across(before[-REACH:], after[:REACH], self.rules[quality - 1])
            shown = self.network.shown(frames, moved, quality)
            found = []
            for middle in (frames, shown):
                whole = np.concatenate([before[:-REACH], middle, after[REACH:]])
                found.append(flicker(video.source, whole, chunk=len(before)))
            ruled, after_all = found
            assert ruled.inside is not None
            assert ruled.border is not None
            assert after_all.border is not None
            rows.append((ruled.inside, ruled.border, after_all.border))
        return [list(row) for row in zip(*rows, strict=True)]

    def _finished(self, result: MendingValidation) -> checkpoints.Checkpoint:
        card = self.course.card(self.videos, result)
        finished = self.checkpoint.with_mending(self.shape, self.network.state_dict())
        return dataclasses.replace(finished, card={**finished.card, "mending": card})


def _cut(frames: Tensor, there: int) -> Tensor:
    """So many frames on either side of the border, and as if pictures stood still beyond them."""
    seen = torch.arange(2 * REACH).clamp(REACH - there, REACH + there - 1)
    return frames[:, seen]


def _power(error: Tensor) -> Tensor:
    """(B,): the mean square, never 0."""
    return error.square().flatten(1).mean(1) + LEAST


def _joined(parts: list[_Borders]) -> _Borders:
    """Borders of one level, or none."""
    if not parts:
        nothing = torch.empty(0)
        return _Borders(nothing, nothing, nothing)
    return _Borders(
        *(
            torch.cat([getattr(part, field.name) for part in parts])
            for field in dataclasses.fields(_Borders)
        )
    )
