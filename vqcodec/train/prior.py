"""Training of the prior: how likely an index is, given those around it, for a frozen network.

The footage is encoded once (:mod:`vqcodec.train.codes`); then the levels' networks are trained on
the index grids side by side. The result is the initial checkpoint, with the prior in it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vqcodec.errors import SettingError
from vqcodec.files import make_folder
from vqcodec.model import checkpoint as checkpoints
from vqcodec.train.codes import Codes, encode_training, encode_validation
from vqcodec.train.config import RunOptions, checked
from vqcodec.train.course import Course, Reporter, Settings, footage_of, initial
from vqcodec.train.prior_network import PriorNetwork, extends, prior_config
from vqcodec.train.process import stop_signals

STATE = "prior-state.safetensors"
BETAS = (0.9, 0.98)
MOST_CHUNKS = 4  # times the batch, for levels of few symbols

Stopped: TypeAlias = Callable[[], bool]


@dataclass(frozen=True)
class PriorTraining(Settings):
    """Everything that shapes a prior, apart from its data and the checkpoint it is for.

    A step takes ``batch`` chunks of the finest grid, up to four times as many of coarser ones. The
    optimiser is Adam.

    Attributes:
        hidden: channels of the hidden layers; twice as many, but at most 256, for the last level
            before the residual stages.
        embedding: channels of an embedded neighbour.
        memory: probability that a chunk may look at the chunk before it, where there is one.
    """

    chunks: int = 6000
    lr: float = 1e-2
    hidden: int = 96
    embedding: int = 32
    memory: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_counts("hidden", "embedding")
        if not 0 <= self.memory <= 1:
            raise SettingError(f"memory must lie in 0..1, not {self.memory}")


@dataclass(frozen=True)
class PriorValidation:
    """Bits an index costs on footage set aside, per level, coarsest first.

    Attributes:
        fixed: written at fixed length.
        entropy: by how often the level's indices occur in the training footage, no context.
        alone: by the prior, when no chunk may look at the chunk before.
        memory: by the prior, when each chunk may look at the chunk before if there is one.
    """

    fixed: tuple[float, ...]
    entropy: tuple[float, ...]
    alone: tuple[float, ...]
    memory: tuple[float, ...]


class PriorReporter(Reporter, Protocol):
    """What a run tells; the command line draws it."""

    def predicted(self, step: int, result: PriorValidation) -> None: ...


def train_prior(config: PriorTraining, options: RunOptions, reporter: PriorReporter) -> Path | None:
    """Train until the schedule ends or SIGINT or SIGTERM arrives.

    ``options.out`` receives ``prior-state.safetensors`` (to resume) and ``model.safetensors``,
    ``options.init`` with the prior; its network, and details if it has any, are not touched.

    Returns:
        The model's path; None if the run was stopped before training began.

    Raises:
        CheckpointError: there is no ``init``, or it does not fit, or the saved state is damaged.
        DataError: no usable videos.
        OutputError: ``out`` or the cache cannot be written.
        SettingError: a saved state of other settings, or chunks that do not fit the model's
            strides.
    """
    with stop_signals() as stopped:
        run = _Run(config, options, reporter)
        codes = run.encode(stopped)
        return None if codes is None else run.train(codes, stopped)


class _Run:
    def __init__(self, config: PriorTraining, options: RunOptions, reporter: PriorReporter) -> None:
        self.config, self.options, self.reporter = config, options, reporter
        self.checkpoint = initial(options, "a prior")
        stored = self.checkpoint.prior
        if stored is None:
            self.checkpoint = self.checkpoint.with_details(None)
        model = self.checkpoint.config
        config.check_shape(model.stride, model.stride_t)
        shape = checked(prior_config, model, hidden=config.hidden, embedding=config.embedding)
        make_folder(options.out)
        torch.manual_seed(config.seed)
        self.network = PriorNetwork(shape, self.checkpoint.build().codebooks()).to(options.device)
        self.details = {} if stored is None else stored.details()
        self._warm_start(None if stored is None else stored.without_details())
        self.checkpoint = dataclasses.replace(self.checkpoint, prior=None)
        self.optimizer = torch.optim.Adam(
            self.network.groups(), lr=config.lr, betas=BETAS, fused=True
        )
        self.videos = 0
        self.course = Course(
            config,
            options,
            reporter,
            self.network,
            self.optimizer,
            state=STATE,
            identity={
                "prior": self.network.config.to_json(),
                "network": self.checkpoint.network_id.hex(),
            },
        )

    def _warm_start(self, stored: checkpoints.StoredPrior | None) -> None:
        """Go on from the prior that the checkpoint has, if that can be."""
        if stored is None:
            return
        if extends(self.network.config, stored.config):
            self.network.load(stored.tensors, stored.config)
            self.reporter.message("goes on from the prior of --init")
        else:
            self.reporter.message("starts afresh: the prior of --init is of another shape")

    def encode(self, stopped: Stopped) -> tuple[Codes, Codes] | None:
        """Codes to train on and to validate on; None if stopped."""
        config, options = self.config, self.options
        training, validation = footage_of(config, options, self.reporter)
        self.videos = len(training)

        def report(done: int) -> bool:
            self.reporter.encoded(done, config.chunks)
            return stopped()

        shape = {"frames": config.frames, "size": config.size}
        coder = self.checkpoint.with_details(None)  # the same codes, whatever is behind them
        codes = encode_training(
            coder,
            training,
            options.cache,
            **shape,
            chunks=config.chunks,
            seed=config.seed,
            device=options.device,
            report=report,
        )
        if codes is None:
            self.reporter.message("stopped while encoding; run again to resume")
            return None
        return codes, encode_validation(coder, validation, **shape, device=options.device)

    def train(self, codes: tuple[Codes, Codes], stopped: Stopped) -> Path:
        training, held_out = (_Grids(part, self.network, self.options.device) for part in codes)
        return self.course.run(
            stopped,
            lambda: self._train_step(training),
            lambda: self._validate(training, held_out),
            self._finished,
        )

    def _train_step(self, grids: _Grids) -> float:
        """One step of all levels; returns mean bits an index, levels weighed alike."""
        total = 0.0
        for number in range(len(self.network.levels)):
            # Levels share no weights: one after the other, they need less memory.
            current, previous = grids.take(*self._batch(grids, number))
            bits = self.network.level(number).bits(current, previous).mean()
            bits.backward()  # type: ignore[no-untyped-call]
            total += float(bits.detach())
        self.optimizer.step()
        self.network.project()
        return total / len(self.network.levels)

    def _batch(self, grids: _Grids, number: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Chunks of this step for a level, and which of them may look back.

        Functions of (seed, step). Coarse grids, with few symbols, take more chunks.
        """
        config = self.config
        more = min(MOST_CHUNKS, grids.symbols(-1) // grids.symbols(number))
        batch = min(config.batch * more, len(grids))
        epoch, place = divmod(self.course.step, len(grids) // batch)
        order = np.random.default_rng((config.seed, epoch)).permutation(len(grids))
        remembers = np.random.default_rng((config.seed, epoch, place)).random(batch)
        return order[place * batch : (place + 1) * batch], remembers < config.memory

    @torch.no_grad()
    def _validate(self, training: _Grids, held_out: _Grids) -> PriorValidation:
        levels = self.network.config.levels
        bits = np.zeros((2, len(levels)))
        for start in range(0, len(held_out), self.config.batch):
            chunks = np.arange(start, min(start + self.config.batch, len(held_out)))
            for memory in (False, True):
                current, previous = held_out.take(chunks, np.full(len(chunks), memory))
                for number in range(len(levels)):
                    mean = float(self.network.level(number).bits(current, previous).mean())
                    bits[int(memory), number] += mean * len(chunks) / len(held_out)
        result = PriorValidation(
            fixed=tuple(float((level.entries - 1).bit_length()) for level in levels),
            entropy=tuple(
                _cross_entropy(seen, found, level.entries)
                for seen, found, level in zip(training.grids, held_out.grids, levels, strict=True)
            ),
            alone=tuple(bits[0].tolist()),
            memory=tuple(bits[1].tolist()),
        )
        self.reporter.predicted(self.course.step, result)
        return result

    def _finished(self, result: PriorValidation) -> checkpoints.Checkpoint:
        card = self.course.card(self.videos, result)
        planes = len(self.checkpoint.config.detail_grids)
        return dataclasses.replace(
            self.checkpoint,
            card={**self.checkpoint.card, "prior": card},
            prior=checkpoints.store(
                dataclasses.replace(self.network.config, planes=planes),
                self.network.tensors() | self.details,
            ),
        )


class _Grids:
    """Codes as tensors, ready to be cut into batches."""

    def __init__(self, codes: Codes, network: PriorNetwork, device: str) -> None:
        self.grids = [torch.from_numpy(grid).to(device) for grid in codes.grids]
        self._follows = codes.follows
        self._absent = [level.entries for level in network.config.levels]

    def __len__(self) -> int:
        return len(self._follows)

    def symbols(self, level: int) -> int:
        """Symbols of a level in a chunk."""
        return self.grids[level][0].numel()

    def take(
        self, chunks: NDArray[np.int64], remembers: NDArray[np.bool_]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Grids of some chunks, and of the chunks before them, for those which may look there."""
        here = torch.from_numpy(chunks)
        known = torch.from_numpy(self._follows[chunks] & remembers)[:, None, None, None]
        current = [grid[here].int() for grid in self.grids]
        previous = [
            grid[here - 1].int().where(known.to(grid.device), absent)
            for grid, absent in zip(self.grids, self._absent, strict=True)
        ]
        return current, previous


def _cross_entropy(seen: Tensor, found: Tensor, entries: int) -> float:
    """Bits an index of ``found`` by the histogram of ``seen``, each entry counted once more."""
    counts = torch.bincount(seen.flatten(), minlength=entries).double() + 1
    return float(-(counts / counts.sum()).log2()[found.long()].mean())
