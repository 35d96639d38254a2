"""The training loop: one process, or several under ``torchrun``."""

from __future__ import annotations

import dataclasses
import math
import time
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from vqcodec import __version__
from vqcodec.codec import find_device
from vqcodec.errors import CheckpointError, SettingError
from vqcodec.files import make_folder
from vqcodec.model.checkpoint import MODEL, Checkpoint, export, load, save, store
from vqcodec.model.config import PRESETS, ModelConfig
from vqcodec.model.network import MSVQVAE
from vqcodec.train.config import (
    CACHED_SIDE,
    VALIDATION_CLIPS,
    Progress,
    RunOptions,
    TrainConfig,
)
from vqcodec.train.data import Augmentation, Clips, Footage, find_videos, prepare, split
from vqcodec.train.data import validation_clips as cut_validation_clips
from vqcodec.train.losses import perceptual_loss, reconstruction_loss
from vqcodec.train.optimizer import make_optimizer
from vqcodec.train.pictures import find_pictures
from vqcodec.train.prior_network import PriorNetwork
from vqcodec.train.process import commit, process_group, stop_signals
from vqcodec.train.rate import Priced, PricedNetwork
from vqcodec.train.state import read_state, save_state
from vqcodec.train.stills import Motion, Stills
from vqcodec.train.validation import Validation, validate

STATE = "state.safetensors"
LEVELS = 1  # marks the random numbers that choose quality levels
PRIOR_FACTOR = 5.0  # of the learning rate, for a prior that learns on beside its network


class Reporter(Protocol):
    """What a run tells; the command line draws it."""

    def message(self, text: str) -> None: ...
    def prepared(self, done: int, total: int, problem: str | None) -> None: ...
    def progress(self, progress: Progress) -> None: ...
    def validated(self, step: int, result: Validation) -> None: ...


def train(config: TrainConfig, options: RunOptions, reporter: Reporter) -> Path:
    """Train until the schedule ends or SIGINT or SIGTERM arrives; return the model's path.

    ``options.out`` receives ``state.safetensors`` (to resume) and ``model.safetensors`` (to use).
    A prior that ``options.init`` has comes along: exact for a decoder trained alone, after other
    fine-tuning where ``train_prior`` is to go on from. Details do not: they come with that.
    Under ``torchrun`` the batch is shared out among the processes.

    Raises:
        CheckpointError: ``init`` or the perceptual weights do not fit, the saved state is damaged,
            or there is no such device.
        DataError: no usable videos, or no usable stills where there should be some.
        OutputError: ``out`` or the cache cannot be written.
        SettingError: a saved state of other settings, clips that do not fit the model's strides, a
            batch that cannot be shared out, a share of stills where there are none, or codes to
            keep where there are none.
    """
    with process_group(options.device):
        return _Run(config, options, reporter).run()


class _Run:
    def __init__(self, config: TrainConfig, options: RunOptions, reporter: Reporter) -> None:
        self.config, self.options = config, options
        self.rank = dist.get_rank() if dist.is_initialized() else 0
        self.world = dist.get_world_size() if dist.is_initialized() else 1
        self.reporter = reporter
        if config.batch % self.world:
            raise SettingError(f"batch {config.batch} does not divide among {self.world} processes")
        if config.decoder_only and options.init is None:
            raise SettingError("decoder_only needs a checkpoint to start from")
        self.videos = find_videos(options.data)  # before anything is fetched or made
        find_device(options.device)
        self.perceptual = (
            perceptual_loss(config.perceptual, weights=options.vgg_weights, device=options.device)
            if config.perceptual_weight
            else None
        )
        torch.manual_seed(config.seed)
        # What to start from: its prior too, as codes move by little in fine-tuning.
        init = None if options.init is None else load(options.init)
        self.network = self._network(init).to(options.device)
        _check_shape(config, self.network)
        self.stored = None
        if init is not None and init.config.code_grids == self.network.config.grids:
            self.stored = None if init.prior is None else init.prior.without_details()
        elif init is not None and init.prior is not None:
            reporter.message("the prior of --init is left behind: it is for other grids")
        self.prior = self._prior()
        # All that learns: in one pass, in one state.
        self.learner: nn.Module = self.network
        if self.prior is not None:
            self.learner = PricedNetwork(self.network, self.prior)
        self.optimizer = make_optimizer(
            config.optimizer,
            self.network,
            pixels=(self.network.analysis.stem, self.network.synthesis.tail[-1]),
            lr=config.lr,
            betas=config.betas,
            beside=self.prior.groups(PRIOR_FACTOR) if self.prior is not None else (),
        )
        self.step, self.elapsed = 0, 0.0
        self.stills = self._stills()
        make_folder(options.out)
        # After all that can fail at once: decoding may take hours.
        self.train_set, validation_set = self._footage()
        self.validation_clips = cut_validation_clips(
            validation_set, frames=config.frames, size=config.size, limit=VALIDATION_CLIPS
        )
        self.total_steps = self._schedule_length()
        self.last_validation: Validation | None = None

    def run(self) -> Path:
        options, config = self.options, self.config
        state = options.out / STATE
        if options.resume and state.exists():
            self._resume(state)
        clips = Clips(
            self.train_set,
            frames=config.frames,
            size=config.size,
            seed=config.seed,
            augmentation=Augmentation(),
            stills=self.stills,
            still_share=config.still_share,
        )
        share = config.batch // self.world
        batches = clips.batches(self.step, range(self.rank * share, (self.rank + 1) * share))
        model = self._parallel()
        began, first_step, earlier = time.monotonic(), self.step, self.elapsed
        with stop_signals() as stopped, closing(batches):
            while True:
                self.elapsed = earlier + time.monotonic() - began
                fraction = self._fraction()
                if fraction >= 1 or self._agree(stopped()):
                    break
                lr = self._learning_rate(fraction)
                loss = self._train_step(model, next(batches), lr)
                self.step += 1
                seconds = time.monotonic() - began
                speed = (self.step - first_step) * config.batch / seconds
                if self.rank == 0:
                    self.reporter.progress(
                        Progress(self.step, fraction, earlier + seconds, speed, loss, lr)
                    )
                    if self.step % options.validate_every == 0:
                        self._validate()
                    if self.step % options.save_every == 0:
                        self._save(state)
            if self.rank == 0:
                self._save(state)  # first: who sends SIGTERM may not wait for long
                self._validate()
                save(self._finished(), options.out / MODEL)
                if not self.network.started:
                    self.reporter.message(
                        f"stopped before quantisation began (step {config.delay}): "
                        "the model is of no use yet"
                    )
                if self.stored and not (self.prior or config.decoder_only):
                    self.reporter.message(
                        "its prior is for the codes of before: go on with --stage prior"
                    )
                if fraction < 1:
                    self.reporter.message(f"stopped at step {self.step}; run again to resume")
        return options.out / MODEL

    def _train_step(self, model: nn.Module, batch: Tensor, lr: float) -> float:
        config, device = self.config, self.options.device
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group.get("factor", 1.0)
        model.train()
        clip = self._cut_short(batch).to(device).float().div_(255)
        kind = torch.device(device).type
        with torch.autocast(kind, torch.bfloat16, enabled=self.options.bf16):
            output = model(clip, self._quality(len(clip)))
            loss = reconstruction_loss(config.reconstruction, output.clip, clip)
            loss = loss + config.commitment * output.commitment
            if self.perceptual is not None:
                loss = loss + config.perceptual_weight * self.perceptual(output.clip, clip)
            if isinstance(output, Priced):
                loss = loss + config.trade * output.rate
        self.optimizer.zero_grad(set_to_none=True)
        # What the prior learns from says nothing of the network, and is no part of its loss.
        learnt = [output.surprise] if isinstance(output, Priced) else []
        torch.autograd.backward([loss, *learnt])
        limit = config.clip_grad or math.inf
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), limit)
        if bool(norm.isfinite()):
            self.optimizer.step()
            if self.prior is not None:
                self.prior.project()
        elif self.rank == 0:
            self.reporter.message(f"step {self.step} skipped: its gradient is not finite")
        return float(loss.detach())

    def _cut_short(self, batch: Tensor) -> Tensor:
        """(B, 3, T, H, W) as it is, or sometimes as (2B, 3, T/2, H, W) or (4B, 3, T/4, H, W)."""
        # A place after the last, so that no clip is cut by the same random numbers.
        rng = np.random.default_rng((self.config.seed, self.step, self.config.batch))
        if rng.random() >= self.config.short_clips:
            return batch
        pieces = int(rng.choice((2, 4)))
        return torch.cat(batch.chunk(pieces, dim=2))

    def _quality(self, clips: int) -> Tensor | None:
        """The quality level to decode each clip at, (clips,); None for the highest."""
        weights = np.array(self.config.level_weights)
        if not weights.size:
            return None
        rng = np.random.default_rng(
            (self.config.seed, self.step, self.config.batch, self.rank, LEVELS)
        )
        levels = rng.choice(len(weights), size=clips, p=weights / weights.sum()) + 1
        return torch.from_numpy(levels)

    def _footage(self) -> tuple[list[Footage], list[Footage]]:
        def report(done: int, problem: str | None) -> None:
            if self.rank == 0:
                self.reporter.prepared(done, len(self.videos), problem)

        def decode() -> list[Footage]:
            return prepare(
                self.videos,
                self.options.cache,
                short_side=CACHED_SIDE * self.config.size,
                report=report,
            )

        if self.rank:
            dist.barrier()  # the first process decodes, the others find the cache filled
        footage = decode()
        if self.world > 1 and self.rank == 0:
            dist.barrier()
        return split(footage, self.config.validation)

    def _stills(self) -> Stills | None:
        config, options = self.config, self.options
        if not config.still_share:
            return None
        if not options.stills:
            raise SettingError("still_share needs stills")

        def report(problem: str) -> None:
            if self.rank == 0:
                self.reporter.message(f"skipped {problem}")

        pictures = find_pictures(options.stills, report=report)
        return Stills(
            pictures, frames=config.frames, size=config.size, motion=Motion(), report=report
        )

    def _network(self, init: Checkpoint | None) -> MSVQVAE:
        config = self.config
        architecture = PRESETS[config.model]
        shape = _shape(architecture)
        start = None if init is None else _shape(init.config)
        if init is not None and config.decoder_only and start == shape:
            # The codes stay as they are: so does the choice among them.
            architecture = init.with_details(None).config
        network = MSVQVAE(architecture, rotate=config.rotation, delay=config.delay)
        if init is not None:
            if start not in _beginnings(shape):
                raise CheckpointError(
                    f"{self.options.init}: of another architecture than {config.model}"
                )
            _transfer(init.with_details(None).build(), network)
        if config.decoder_only:
            if start != shape:
                raise SettingError("decoder_only needs a checkpoint with all levels")
            network.freeze_codes()
        return network

    def _prior(self) -> PriorNetwork | None:
        if not self.config.trade:
            return None
        if self.stored is None:
            raise CheckpointError(
                f"{self.options.init or 'trade'}: there is no prior to say what indices cost"
            )
        prior = PriorNetwork(self.stored.config, self.network.codebooks())
        prior.load(self.stored.tensors)
        return prior.to(self.options.device)

    def _parallel(self) -> nn.Module:
        if self.world == 1:
            return self.learner
        # The quantisers keep their buffers in step themselves. Where clips differ in quality, the
        # graph differs from step to step and from process to process; and a split level has no
        # use for guesses while its codebook is not drawn.
        config = self.config
        split = any(level.split for level in self.network.config.levels)
        return DistributedDataParallel(
            self.learner,
            broadcast_buffers=False,
            find_unused_parameters=bool(config.level_weights) or config.decoder_only or split,
        )

    def _agree(self, stop: bool) -> bool:
        """Whether any process wants to stop or has run out of time."""
        if self.world == 1:
            return stop
        flag = torch.tensor(float(stop), device=self.options.device)
        dist.all_reduce(flag, op=dist.ReduceOp.MAX)
        return bool(flag)

    def _schedule_length(self) -> int | None:
        config = self.config
        if config.steps is not None or config.minutes is not None:
            return config.steps
        clips = sum(max(1, item.frames // config.frames) for item in self.train_set)
        return max(1, math.ceil(config.epochs * clips / config.batch))

    def _fraction(self) -> float:
        by_steps = self.step / self.total_steps if self.total_steps else 0.0
        by_time = self.elapsed / (60 * self.config.minutes) if self.config.minutes else 0.0
        fraction = max(by_steps, by_time)
        if self.world > 1 and self.config.minutes:
            # Clocks differ; the first process's decides for all.
            shared = torch.tensor(fraction, dtype=torch.float64, device=self.options.device)
            dist.broadcast(shared, src=0)
            fraction = float(shared)
        return min(1.0, fraction)

    def _learning_rate(self, fraction: float) -> float:
        warm = min(1.0, (self.step + 1) / self.config.warmup) if self.config.warmup else 1.0
        return self.config.lr * warm * 0.5 * (1 + math.cos(math.pi * fraction))

    def _validate(self) -> None:
        self.last_validation = validate(
            self.network,
            self.validation_clips,
            device=self.options.device,
            bf16=self.options.bf16,
            prior=self.prior,
        )
        self.reporter.validated(self.step, self.last_validation)

    def _save(self, path: Path) -> None:
        info = {
            "step": self.step,
            "elapsed": self.elapsed,
            "config": self.config.to_json(),
            "model": self.network.config.to_json(),
        }
        save_state(path, self.learner, self.optimizer, info)

    def _resume(self, path: Path) -> None:
        state = read_state(path)
        try:
            before = TrainConfig.from_json(state.info["config"])
            step, elapsed = int(state.info["step"]), float(state.info["elapsed"])
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{path}: damaged: {error}") from error
        now = self.config  # a run may be made longer or shorter
        same = dataclasses.replace(before, steps=now.steps, minutes=now.minutes, epochs=now.epochs)
        if now != same or state.info.get("model") != self.network.config.to_json():
            raise SettingError(
                f"{path}: was saved under other settings; use them, another --out, or --restart"
            )
        state.restore(self.learner, self.optimizer)
        self.step, self.elapsed = step, elapsed
        if self.rank == 0:
            self.reporter.message(f"resumed at step {self.step}")

    def _finished(self) -> Checkpoint:
        prior = self.stored
        if self.prior is not None:
            prior = store(self.prior.config, self.prior.tensors())
        elif prior is None and not self.config.decoder_only:
            self.network.sort_codebooks()  # no prior knows the entries by their old numbers
        return dataclasses.replace(export(self.network, self._card()), prior=prior)

    def _card(self) -> dict[str, Any]:
        validation = self.last_validation
        return {
            "version": __version__,
            "commit": commit(),
            "training": dataclasses.asdict(self.config),
            "steps": self.step,
            "clip_steps": self.step * self.config.batch,
            "minutes": round(self.elapsed / 60, 1),
            "device": self.options.device,
            "videos": len(self.train_set),
            "stills": 0 if self.stills is None else len(self.stills.pictures),
            "validation": None if validation is None else dataclasses.asdict(validation),
        }


def _shape(config: ModelConfig) -> ModelConfig:
    """A configuration less what no weight depends on."""
    levels = tuple(
        dataclasses.replace(level, fill_blocks=level.fill_blocks if level.split else 0, worth=0.0)
        for level in config.levels
    )
    refinement = config.refinement
    if refinement is not None:
        refinement = dataclasses.replace(refinement, worth=0.0, decay=1.0)
    return ModelConfig(levels, refinement, config.tail_blocks)


def _beginnings(config: ModelConfig) -> list[ModelConfig]:
    """Architectures to go on from: this one, without refinement, with no level split."""
    levels = tuple(
        dataclasses.replace(level, split=False, fill_blocks=0) for level in config.levels
    )
    found = [config, dataclasses.replace(config, levels=levels)]
    return found + [dataclasses.replace(each, refinement=None) for each in found]


def _transfer(ready: MSVQVAE, network: MSVQVAE) -> None:
    """Start from another network's weights; what it lacks starts afresh."""
    state = network.state_dict()
    for name, tensor in ready.state_dict().items():
        if name == "synthesis.quality.weight":  # a row for each grid; there may be more now
            rows = dict(zip(_owners(ready.config), tensor, strict=True))
            for row, (owner, missing) in zip(state[name], _owners(network.config), strict=True):
                row.copy_(rows.get((owner, missing), rows.get((owner, 0), row)))
        else:
            state[name] = tensor
    network.load_state_dict(state)
    network.adopt_codebooks()
    if ready.refiner is None and network.refiner is not None:
        network.refiner.restart()


def _owners(config: ModelConfig) -> list[tuple[int, int]]:
    """Of each grid the level, or stage behind the levels, and how many more grids that has."""
    counts = [len(level.grids) for level in config.levels]
    counts += [1] * (len(config.code_grids) - config.first_stage)
    return [(owner, more) for owner, count in enumerate(counts) for more in reversed(range(count))]


def _check_shape(config: TrainConfig, network: MSVQVAE) -> None:
    strides = network.config
    if config.size % strides.stride:
        raise SettingError(f"size must be a multiple of {strides.stride}, not {config.size}")
    step = strides.stride_t * (4 if config.short_clips else 1)
    if config.frames % step:
        raise SettingError(f"frames must be a multiple of {step}, not {config.frames}")
    if config.perceptual == "ms-ssim" and config.size < 11:
        raise SettingError(f"MS-SSIM needs a size of at least 11, not {config.size}")
