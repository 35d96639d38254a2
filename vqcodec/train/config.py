"""What a training run is, as data. The defaults are the paper's recipe (section 4.2)."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from vqcodec.errors import SettingError
from vqcodec.model.config import PRESETS

RECONSTRUCTIONS = ("mse", "l1", "log-mse", "log-visible")
PERCEPTUALS = ("vgg16", "ms-ssim", "none")
OPTIMIZERS = ("adam", "muon")
VALIDATION_CLIPS = 32
CACHED_SIDE = 2  # footage is kept at twice the clip's size, so crops stay sharp
MAX_SEED = (1 << 63) - 1  # that PyTorch takes

T = TypeVar("T")


@dataclass(frozen=True)
class TrainConfig:
    """Everything that shapes the weights a run produces, apart from its data and ``init``.

    Attributes:
        model: name of an architecture in :data:`vqcodec.model.config.PRESETS`.
        frames, size: shape of a training clip: multiples of the model's strides.
        batch: clips a step, over all processes together.
        epochs: passes over the footage, counted in 2-second clips; ``steps`` overrides it.
        steps: optimiser steps.
        minutes: stop after this much wall time; the learning rate then follows time.
        optimizer: ``adam`` or ``muon``.
        lr: peak learning rate, annealed to zero along a cosine.
        betas: Adam's.
        warmup: steps of linear warm-up.
        clip_grad: largest gradient norm; 0 for no limit.
        reconstruction: ``mse``, ``l1``, ``log-mse``, the mean over clips of log MSE, which is what
            a mean PSNR measures, or ``log-visible``, the same with errors weighed by
            :mod:`vqcodec.visibility`.
        commitment: β, weight of the commitment loss.
        perceptual: ``vgg16``, ``ms-ssim`` or ``none``.
        perceptual_weight: γ.
        rotation: gradients pass the quantiser by the rotation trick, not straight through.
        short_clips: probability that a batch is cut into clips of a half or a quarter of
            ``frames``, so that the last chunk of a video is no stranger.
        still_share: probability that a clip is made from a still by motion of the camera.
        level_weights: how often a clip is decoded at each quality level, relative to each other;
            empty for always at the highest.
        trade: how much the bits of indices weigh against distortion, as in
            :mod:`vqcodec.search`: one per cent of the rate is worth ``trade`` per cent of the
            distortion, if ``reconstruction`` is a logarithm. Above 0, ``init`` must hold a prior,
            which learns on.
        decoder_only: freeze encoder and codebooks; the bitstream stays as it is.
        delay: steps before quantisation begins; a model is of no use before.
        validation: fraction of the videos set aside; never trained on.
        seed: of everything random.
    """

    model: str = "base"
    frames: int = 32
    size: int = 64
    batch: int = 8
    epochs: float = 50.0
    steps: int | None = None
    minutes: float | None = None
    optimizer: str = "adam"
    lr: float = 2e-4
    betas: tuple[float, float] = (0.9, 0.999)
    warmup: int = 0
    clip_grad: float = 0.0
    reconstruction: str = "mse"
    commitment: float = 1.0
    perceptual: str = "vgg16"
    perceptual_weight: float = 0.4
    rotation: bool = False
    short_clips: float = 0.0
    still_share: float = 0.0
    level_weights: tuple[float, ...] = ()
    trade: float = 0.0
    decoder_only: bool = False
    delay: int = 100
    validation: float = 0.02
    seed: int = 0

    def __post_init__(self) -> None:
        for name, allowed in (
            ("model", tuple(PRESETS)),
            ("reconstruction", RECONSTRUCTIONS),
            ("perceptual", PERCEPTUALS),
            ("optimizer", OPTIMIZERS),
        ):
            if getattr(self, name) not in allowed:
                raise SettingError(f"{name} must be one of {', '.join(allowed)}")
        for name, least in (
            *(("frames", 1), ("size", 8), ("batch", 1), ("steps", 1)),
            *(("warmup", 0), ("clip_grad", 0), ("commitment", 0), ("perceptual_weight", 0)),
            *(("delay", 0), ("trade", 0)),
        ):
            value = getattr(self, name)
            if value is not None and not value >= least:
                raise SettingError(f"{name} must be at least {least}, not {value}")
        for name in ("epochs", "minutes", "lr"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise SettingError(f"{name} must be above 0, not {value}")
        check_seed(self.seed)
        grids = len(PRESETS[self.model].grids)
        if self.level_weights and not (
            len(self.level_weights) == grids
            and min(self.level_weights) >= 0
            and 0 < sum(self.level_weights) < math.inf
        ):
            raise SettingError(f"level_weights must be {grids} numbers, not all of them 0")
        if self.trade and self.decoder_only:
            raise SettingError("decoder_only leaves codes as they are: trade has nothing to change")
        for name in ("short_clips", "still_share", "validation"):
            if not 0 <= getattr(self, name) <= 1:
                raise SettingError(f"{name} must lie in 0..1, not {getattr(self, name)}")

    def to_json(self) -> str:
        """Canonical JSON."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> TrainConfig:
        """Inverse of :meth:`to_json`.

        Raises:
            ValueError: not JSON, unknown fields, values out of range.
        """
        try:
            data = json.loads(text)
            tuples = {name: tuple(data[name]) for name in ("betas", "level_weights")}
            return cls(**{**data, **tuples})
        except (TypeError, KeyError) as error:
            raise ValueError(f"not a training configuration: {error}") from error


@dataclass(frozen=True)
class RunOptions:
    """What a run starts from, and how and where it is carried out.

    Attributes:
        data: folders of videos.
        out: folder for checkpoints and logs.
        cache: folder for decoded footage.
        stills: folders of pictures, or tar files of them.
        init: checkpoint to start from, or None.
        vgg_weights: state dict of torchvision's VGG-16 as safetensors or ``.pth``, or None.
        device: ``cpu``, ``cuda``, ...
        bf16: run the network under bfloat16 autocast.
        validate_every, save_every: in steps.
        resume: go on from ``out`` if it holds a state.
    """

    data: tuple[Path, ...]
    out: Path
    cache: Path
    stills: tuple[Path, ...] = ()
    init: Path | None = None
    vgg_weights: Path | None = None
    device: str = "cpu"
    bf16: bool = True
    validate_every: int = 1000
    save_every: int = 500
    resume: bool = True


@dataclass(frozen=True)
class Progress:
    """Where a run stands after a step.

    Attributes:
        step: optimiser steps done, earlier sessions included.
        fraction: of the whole schedule, 0..1.
        elapsed: seconds of wall time, earlier sessions included.
        clips_per_second: over this session.
        loss: total loss of the step.
        lr: learning rate of the step.
    """

    step: int
    fraction: float
    elapsed: float
    clips_per_second: float
    loss: float
    lr: float


def merge(base: TrainConfig, changes: dict[str, Any]) -> TrainConfig:
    """``base`` with those ``changes`` that are not None."""
    return dataclasses.replace(base, **{k: v for k, v in changes.items() if v is not None})


def check_seed(seed: int) -> None:
    """Raise SettingError where random numbers cannot begin with this."""
    if not 0 <= seed <= MAX_SEED:
        raise SettingError(f"seed must lie in 0..{MAX_SEED}, not {seed}")


def checked(make: Callable[..., T], *settings: Any, **named: Any) -> T:
    """What ``make`` makes of settings.

    Raises:
        SettingError: it raises a ValueError: they are none that it can make anything of.
    """
    try:
        return make(*settings, **named)
    except ValueError as error:
        raise SettingError(str(error)) from error
