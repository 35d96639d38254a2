"""Training of what comes last: pictures as codes and details make them, to the source.

The footage is coded once by the frozen network, and each clip decoded twice: with all of its codes,
which details correct, and with as many as are in turn. Details are quantised anew each time. The
result is the initial checkpoint with the restoring network in it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from vqcodec.errors import SettingError
from vqcodec.files import make_folder
from vqcodec.metrics import psnr
from vqcodec.model import checkpoint as checkpoints
from vqcodec.model.config import RestorationConfig
from vqcodec.model.details import Quantised, aimed, lacking, quantise, quantised
from vqcodec.model.network import MSVQVAE
from vqcodec.model.restoration import Restoration
from vqcodec.train.config import VALIDATION_CLIPS, RunOptions, checked
from vqcodec.train.course import (
    Course,
    Reporter,
    Settings,
    autocast,
    footage_of,
    initial,
)
from vqcodec.train.data import Augmentation, Clips, validation_clips
from vqcodec.train.optimizer import make_optimizer
from vqcodec.train.process import stop_signals
from vqcodec.train.validation import to_uint8

STATE = "restoration-state.safetensors"
BETAS = (0.9, 0.98)
DETAIL_STEPS = 0.75  # of all steps, at levels with details


@dataclass(frozen=True)
class RestorationTraining(Settings):
    """Everything that shapes a restoring network, apart from its data and the checkpoint.

    Chunks are clips here, which are kept in memory, 2 MB each. The optimiser is Muon
    (:mod:`vqcodec.train.optimizer`).

    Attributes:
        width, blocks, detail_blocks, interval_width, interval_blocks: see
            :class:`~vqcodec.model.config.RestorationConfig`.
    """

    batch: int = 2
    lr: float = 2e-3
    width: int = 48
    blocks: int = 3
    detail_blocks: int = 3
    interval_width: int = 96
    interval_blocks: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        checked(self.shape)

    def shape(self) -> RestorationConfig:
        """The network's configuration."""
        return RestorationConfig(
            self.width,
            self.blocks,
            self.detail_blocks,
            self.interval_width,
            self.interval_blocks,
        )


@dataclass(frozen=True)
class RestorationValidation:
    """Mean PSNR in dB on footage set aside, for each quality level.

    Attributes:
        before: of decoded pictures.
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
        CheckpointError: there is no ``init``, or the saved state is damaged.
        DataError: no usable videos.
        OutputError: ``out`` or the cache cannot be written.
        SettingError: a saved state of other settings, clips that do not fit the model's strides, or
            fewer than it has levels.
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
        decoded: for each number of codes float16 in 0..1 (n, 3, T, H, W), not restored.
        which: for each number of codes, the numbers of these n clips.
    """

    clips: Tensor
    decoded: tuple[Tensor, ...]
    which: tuple[range, ...]

    def of(self, quality: int) -> tuple[Tensor, Tensor]:
        """Clips, and what is decoded of their codes at a quality level."""
        number = min(quality, len(self.which)) - 1
        some = self.which[number]
        return self.clips[some.start : some.stop : some.step], self.decoded[number]


class _Run:
    def __init__(
        self, config: RestorationTraining, options: RunOptions, reporter: RestorationReporter
    ) -> None:
        self.config, self.options, self.reporter = config, options, reporter
        self.checkpoint = initial(options, "restoration")
        strides = self.checkpoint.config
        config.check_shape(max(strides.stride, 8), 2 * strides.stride_t)
        if config.chunks < len(strides.code_grids):
            raise SettingError(
                f"chunks must be at least {len(strides.code_grids)}, one for each level of codes"
            )
        make_folder(options.out)
        self.shape = config.shape()
        self.codes = self.checkpoint.build().to(options.device)
        self.levels = len(self.codes.config.grids)
        torch.manual_seed(config.seed)
        planes = len(self.codes.config.detail_grids)
        self.network = Restoration(self.shape, self.levels, planes).to(options.device)
        self._warm_start(self.codes)
        own = self.network.intervals
        intervals = () if own is None else (own.enter, own.leave)
        self.optimizer = make_optimizer(
            "muon",
            self.network,
            pixels=(self.network.enter, self.network.leave, *intervals),
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

    def _warm_start(self, ready: MSVQVAE) -> None:
        """Go on from the network that the checkpoint has, if none of it is wider or deeper.

        What is more here begins as nothing, but for intervals, which begin with a fixed curve.
        """
        found, own = ready.config.restoration, self.shape
        if ready.restoration is None or found is None:
            return
        widths = (found.width, own.width), (found.interval_width, own.interval_width)
        counts = (
            (found.blocks, own.blocks),
            (found.detail_blocks, own.detail_blocks),
            (found.interval_blocks, own.interval_blocks),
        )
        same = all(before in (0, now) for before, now in widths)
        if same and all(before <= now for before, now in counts):
            self.network.load_state_dict(ready.restoration.state_dict(), strict=False)
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
        numbers = range(config.chunks)
        batches = (
            torch.stack([draw(start, number - start) for number in numbers[start:][: config.batch]])
            for start in numbers[:: config.batch]
        )
        lower = len(self.codes.config.code_grids) - 1
        trained = self._coded(
            batches, (*(numbers[level::lower] for level in range(lower)), numbers), stopped
        )
        if trained is None:
            self.reporter.message("stopped while encoding; run again to start over")
            return None
        clips = validation_clips(
            held_out, frames=config.frames, size=config.size, limit=VALIDATION_CLIPS
        )
        whole = (range(len(clips)),) * (lower + 1)
        kept = self._coded(torch.split(clips, config.batch), whole, None)
        assert kept is not None
        return trained, kept

    @torch.inference_mode()
    def _coded(
        self,
        batches: Iterable[Tensor],
        which: tuple[range, ...],
        stopped: Callable[[], bool] | None,
    ) -> Coded | None:
        """Clips with what their codes decode to; None if stopped."""
        clips: list[Tensor] = []
        decoded: list[list[Tensor]] = [[] for _ in which]
        done = 0
        for batch in batches:
            grids = self.codes.encode(batch.to(self.options.device).float().div_(255), len(which))
            for count, (part, some) in enumerate(zip(decoded, which, strict=True), 1):
                here = [place for place in range(len(batch)) if done + place in some]
                if here:
                    codes = [grid[here] for grid in grids[:count]]
                    part.append(self.codes.reconstruct(codes).clip.cpu().half())
            clips.append(batch)
            done += len(batch)
            if stopped is not None:
                self.reporter.encoded(done, self.config.chunks)
                if stopped():
                    return None
        return Coded(torch.cat(clips), tuple(map(torch.cat, decoded)), which)

    def train(self, training: Coded, held_out: Coded, stopped: Callable[[], bool]) -> Path:
        return self.course.run(
            stopped,
            lambda: self._train_step(training),
            lambda: self._validate(held_out),
            self._finished,
        )

    def _train_step(self, coded: Coded) -> float:
        """One step, a function of (seed, step); the mean over clips of log MSE.

        At levels of codes of one in turn, or at all levels with details.
        """
        config, device = self.config, self.options.device
        rng = np.random.default_rng((config.seed, self.course.step))
        quality = self._draw(rng)
        sources, pictures = coded.of(quality)
        chosen = rng.choice(len(sources), min(config.batch, len(sources)), False)
        axes = [axis for axis in (2, 4) if rng.random() < 0.5]  # in time, and sideways
        clips = sources[chosen].to(device).float().div_(255).flip(axes)
        decoded = pictures[chosen].to(device).float().flip(axes)
        losses = [
            (restored - clips).square().mean((1, 2, 3, 4)).log().mean()
            for _, restored in self._levels(clips, decoded, quality)
        ]
        return self.course.descend(torch.stack(losses).mean())

    def _draw(self, rng: np.random.Generator) -> int:
        """A level of codes, or the last: mostly it is, as there is more to restore."""
        codes = len(self.codes.config.code_grids)
        if codes == self.levels or rng.random() >= DETAIL_STEPS:
            return int(rng.integers(codes)) + 1
        return self.levels

    def _levels(
        self, clips: Tensor, decoded: Tensor, quality: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Pictures before and after they are restored.

        Of the level alone where it has no details, else of all levels with details up to it: what
        each of them is restored to is what the next one's details begin with.
        """
        planes, details = quality - len(self.codes.config.code_grids), self.codes.config.details
        if planes <= 0:
            yield decoded, self._restored(decoded, None, quality)
            return
        assert details is not None
        with torch.no_grad():
            wanted = lacking(255 * (clips - decoded), details)
        known, restored = None, decoded
        for level in range(quality - planes + 1, quality + 1):
            with torch.no_grad():
                if known is not None:
                    known = aimed(known, restored - decoded)
                known = quantised(quantise(wanted, known, details).symbols, known, details)
            restored = self._restored(decoded, known, level)
            yield decoded + known.picture, restored

    def _restored(self, decoded: Tensor, found: Quantised | None, quality: int) -> Tensor:
        level = torch.full((len(decoded),), quality, device=decoded.device)
        with autocast(self.options) if torch.is_grad_enabled() else nullcontext():
            restored: Tensor = self.network(decoded, found, level)
        return restored

    @torch.inference_mode()
    def _validate(self, held_out: Coded) -> RestorationValidation:
        device, size = self.options.device, self.config.batch
        totals = np.zeros((2, self.levels))
        codes = len(self.codes.config.code_grids)
        for quality in sorted({*range(1, codes + 1), self.levels}):
            first = min(quality, codes + 1)
            batches = (torch.split(whole, size) for whole in held_out.of(quality))
            for source, pictures in zip(*batches, strict=True):
                decoded = pictures.to(device).float()
                clips = source.to(device).float().div_(255)
                for level, shown in enumerate(self._levels(clips, decoded, quality), first):
                    totals[:, level - 1] += [
                        sum(map(_psnr, source, to_uint8(x).cpu())) for x in shown
                    ]
        result = RestorationValidation(*map(tuple, (totals / len(held_out.clips)).tolist()))
        self.reporter.restored(self.course.step, result)
        return result

    def _finished(self, result: RestorationValidation) -> checkpoints.Checkpoint:
        card = self.course.card(self.videos, result)
        finished = self.checkpoint.with_restoration(self.shape, self.network.state_dict())
        return dataclasses.replace(finished, card={**finished.card, "restoration": card})


def _psnr(source: Tensor, shown: Tensor) -> float:
    """Of one clip, uint8 (3, T, H, W)."""
    return psnr(*(clip.permute(1, 2, 3, 0).numpy() for clip in (source, shown)))
