"""Training of what predicts details, from the coefficients around them and the codes there.

The footage is coded once by the frozen network, and coefficients are drawn from its planes of
details (:mod:`vqcodec.train.loudness`). The planes' networks are trained side by side; then tables
are counted. The result is the initial checkpoint with its details. What restores behind them takes
part in what they say, so they are trained once more behind it; it is left out behind others.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vqcodec.entropy.details import SPLITS, splits_of
from vqcodec.entropy.loudness import block_codes, block_means
from vqcodec.entropy.prior import Prior
from vqcodec.entropy.tables import Costs, costs_of
from vqcodec.errors import CheckpointError
from vqcodec.files import make_folder
from vqcodec.model import checkpoint as checkpoints
from vqcodec.model.config import DetailConfig
from vqcodec.train.codes import Sequences
from vqcodec.train.config import VALIDATION_CLIPS, RunOptions, checked
from vqcodec.train.course import Course, Reporter, Settings, footage_of, initial
from vqcodec.train.data import validation_clips
from vqcodec.train.loudness import Collector, PlaneNetwork, Samples, count
from vqcodec.train.process import stop_signals

STATE = "details-state.safetensors"
BETAS = (0.9, 0.98)
BITS = (5.0, 40.0, 150.0, 500.0)  # about what a block costs in each plane: losses are alike

Grids = list[NDArray[np.int16]]


@dataclass(frozen=True)
class DetailTraining(Settings):
    """Everything that shapes the details of a checkpoint, apart from its data and network.

    A step takes ``batch`` blocks of 8×8 pixels. The optimiser is Adam.

    Attributes:
        planes: of details: quality levels of their own.
        step: of the first plane's quantiser, in 8-bit values; each further one halves it.
    """

    chunks: int = 600
    batch: int = 96
    minutes: float | None = 6.0
    lr: float = 4e-3
    planes: int = 4
    step: float = 112.0

    def __post_init__(self) -> None:
        super().__post_init__()
        checked(DetailConfig, self.planes, self.step)


@dataclass(frozen=True)
class DetailValidation:
    """What planes cost on footage set aside, in bits a pixel, each by itself."""

    bpp: tuple[float, ...]


class DetailReporter(Reporter, Protocol):
    """What a run tells; the command line draws it."""

    def detailed(self, step: int, result: DetailValidation) -> None: ...


def train_details(
    config: DetailTraining, options: RunOptions, reporter: DetailReporter
) -> Path | None:
    """Train until the schedule ends or SIGINT or SIGTERM arrives.

    ``options.out`` receives ``details-state.safetensors`` (to resume) and ``model.safetensors``:
    ``options.init`` with planes of details, in place of those it has; its codes and their prior
    are not touched, nor is what restores behind planes of the same number and step.

    Returns:
        The model's path; None if the run was stopped before training began.

    Raises:
        CheckpointError: there is no ``init``, it has no prior, or the saved state is damaged.
        DataError: no usable videos.
        OutputError: ``out`` or the cache cannot be written.
        SettingError: a saved state of other settings, or chunks that do not fit the model's
            strides.
    """
    with stop_signals() as stopped:
        run = _Run(config, options, reporter)
        coded = run.code(stopped)
        return None if coded is None else run.train(*coded, stopped)


@dataclass(frozen=True)
class _Coded:
    """What there is to learn from.

    Attributes:
        samples: of each plane.
        blocks: for each level (N, n), the codes of each block; then how they are split, (N, 1).
        splits: what it costs how blocks are split.
    """

    samples: list[Samples]
    blocks: list[Tensor]
    splits: Costs


class _Run:
    def __init__(
        self, config: DetailTraining, options: RunOptions, reporter: DetailReporter
    ) -> None:
        self.config, self.options, self.reporter = config, options, reporter
        loaded = initial(options, "a plane of details")
        if loaded.prior is None:
            raise CheckpointError(
                f"{options.init}: its codes need a prior before there are details"
            )
        self.prior = loaded.prior.without_details()
        model = loaded.config
        config.check_shape(max(model.stride, 8), model.stride_t)
        make_folder(options.out)
        details = DetailConfig(config.planes, config.step)
        self.checkpoint = dataclasses.replace(loaded, prior=None)
        if model.details != details:
            self.checkpoint = self.checkpoint.with_details(details)
        self.coder = self.checkpoint.build().to(options.device)
        self.levels = len(model.code_grids)
        torch.manual_seed(config.seed)
        entries = [*(grid.entries for grid in model.code_grids), SPLITS]
        self.networks = [PlaneNetwork(plane, entries) for plane in range(config.planes)]
        self.optimizer = torch.optim.Adam(
            [parameter for network in self.networks for parameter in network.parameters()],
            lr=config.lr,
            betas=BETAS,
        )
        self.videos = 0
        self.course = Course(
            config,
            options,
            reporter,
            nn.ModuleList(self.networks),
            self.optimizer,
            state=STATE,
            identity={"network": self.checkpoint.network_id.hex()},
        )

    def code(self, stopped: Callable[[], bool]) -> tuple[_Coded, list[Grids]] | None:
        """What to learn from, and chunks to validate on; None if stopped."""
        config, options = self.config, self.options
        training, held_out = footage_of(config, options, self.reporter)
        self.videos = len(training)
        draw = Sequences(training, frames=config.frames, size=config.size, seed=config.seed)
        collector = Collector(config.planes, config.seed)
        shape = 3 * config.frames, config.size, config.size
        blocks: list[Grids] = []
        number = 0
        while len(blocks) < config.chunks:
            for grids in self._grids(draw(number)[: config.chunks - len(blocks)]):
                collector.add(grids[self.levels :])
                splits = splits_of(grids[self.levels][-1:]).reshape(-1, 1)
                blocks.append([*block_codes(grids[: self.levels], shape), splits])
            number += 1
            self.reporter.encoded(len(blocks), config.chunks)
            if stopped():
                self.reporter.message("stopped while encoding; run again to start over")
                return None
        joined = [
            torch.from_numpy(np.concatenate(level)).int() for level in zip(*blocks, strict=True)
        ]
        kept = validation_clips(
            held_out, frames=config.frames, size=config.size, limit=VALIDATION_CLIPS
        )
        held = [grids for clip in torch.split(kept, 1) for grids in self._grids(clip)]
        return _Coded(collector.samples(), joined, costs_of(collector.splits)), held

    @torch.inference_mode()
    def _grids(self, clips: Tensor) -> list[Grids]:
        """All grids of chunks uint8 (N, 3, T, H, W)."""
        grids = self.coder.encode(clips.to(self.options.device).float().div_(255))
        arrays = [grid.to(torch.int16).cpu().numpy() for grid in grids]
        return [[array[chunk] for array in arrays] for chunk in range(len(clips))]

    def train(self, coded: _Coded, held: list[Grids], stopped: Callable[[], bool]) -> Path:
        return self.course.run(
            stopped,
            lambda: self._train_step(coded),
            lambda: self._validate(coded, held),
            self._finished,
        )

    def _train_step(self, coded: _Coded) -> float:
        """One step of all planes, a function of (seed, step); returns their mean loss."""
        rng = np.random.default_rng((self.config.seed, self.course.step))
        count_ = len(coded.blocks[0])
        chosen = np.sort(rng.choice(count_, min(self.config.batch, count_), replace=False))
        codes = [level[torch.from_numpy(chosen)] for level in coded.blocks]
        total = 0.0
        for network, samples in zip(self.networks, coded.samples, strict=True):
            bits = network.bits(codes, *samples.of(chosen))
            loss = bits / BITS[network.plane]
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        self.optimizer.step()
        for network in self.networks:
            network.project()
        return total / len(self.networks)

    def _tensors(self, coded: _Coded) -> dict[str, NDArray[Any]]:
        """What is stored of all planes, tables counted."""
        blocks = [level.numpy() for level in coded.blocks]
        found: dict[str, NDArray[Any]] = {}
        for plane, (network, samples) in enumerate(zip(self.networks, coded.samples, strict=True)):
            tensors = network.tensors()
            tables = [tensors[f"codes.{level}"] for level in range(len(blocks))]
            tensors["costs"] = count(tensors, samples, block_means(blocks, tables))
            found |= {f"details.{plane}.{name}": tensor for name, tensor in tensors.items()}
        found["details.0.splits"] = coded.splits
        return found

    def _validate(
        self, coded: _Coded, held: list[Grids]
    ) -> tuple[DetailValidation, dict[str, NDArray[Any]]]:
        tensors = self._tensors(coded)
        stored = {name: tensor.numpy() for name, tensor in self.prior.tensors.items()}
        config = dataclasses.replace(self.prior.config, planes=self.config.planes)
        prior = Prior.from_tensors(config, stored | tensors)
        bits = np.mean([prior.detail_bits(grids) for grids in held], axis=0)
        pixels = self.config.frames * self.config.size**2
        result = DetailValidation(tuple((bits / pixels).tolist()))
        self.reporter.detailed(self.course.step, result)
        return result, stored | tensors

    def _finished(
        self, found: tuple[DetailValidation, dict[str, NDArray[Any]]]
    ) -> checkpoints.Checkpoint:
        result, tensors = found
        config = dataclasses.replace(self.prior.config, planes=self.config.planes)
        return dataclasses.replace(
            self.checkpoint,
            card={**self.checkpoint.card, "details": self.course.card(self.videos, result)},
            prior=checkpoints.store(config, tensors),
        )
