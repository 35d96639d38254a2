"""The architecture as data: everything that decides the shapes of a network's weights.

A configuration is stored as JSON inside its checkpoint, so a checkpoint says what it is and no
architecture is ever guessed from a file name. No torch here.
"""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vqcodec.entropy.details import COLOURS, ENTRIES
from vqcodec.errors import CheckpointError
from vqcodec.limits import MAX_ENTRIES, MAX_LEVELS, MAX_PLANES

REACH = 6  # frames on either side of a border between chunks that may change to mend it


class Grid(NamedTuple):
    """One grid of indices, and so one quality level: what a file's header says of it.

    Attributes:
        stride_t: frames per grid step.
        stride: pixels per grid step.
        entries: codebook entries, or symbols; indices are below it.
        details: a plane of details: three colours' coefficients, one after the other in time.
    """

    stride_t: int
    stride: int
    entries: int
    details: bool = False


@dataclass(frozen=True)
class LevelConfig:
    """One level of the hierarchy: a grid of codebook indices at its own stride.

    Attributes:
        stride_t: frames per grid step (a power of two).
        stride: pixels per grid step, in height and width (a power of two).
        entries: codebook entries K.
        dim: channels of a decoded code vector.
        lookup_dim: channels in which the nearest entry is searched; at most ``dim``. A low
            dimension keeps all entries in use (ViT-VQGAN, DAC).
        width: channels of the residual blocks on this level's grid.
        encoder_blocks: residual blocks that see only the picture, on this level's grid.
        fusion_blocks: residual blocks after the decoded coarser level has joined.
        decoder_blocks: residual blocks of the decoder on this level's grid.
        split: the codes make two grids, a quality level each: those of even steps in time, then
            those of odd steps. The decoder guesses those; where a guess will do, index 0 says so.
        fill_blocks: residual blocks of the network that guesses.
        worth: an odd step takes an entry only if that lowers its vector's squared error by at least
            ``worth`` times what the guesses leave of the clip's on average. Of the encoder alone.
    """

    stride_t: int
    stride: int
    entries: int = 1024
    dim: int = 128
    lookup_dim: int = 16
    width: int = 128
    encoder_blocks: int = 2
    fusion_blocks: int = 1
    decoder_blocks: int = 2
    split: bool = False
    fill_blocks: int = 2
    worth: float = 0.0

    def __post_init__(self) -> None:
        _check_shares(self, "worth")
        if self.worth and not self.split:
            raise ValueError("worth is for split levels")
        for field in dataclasses.fields(self):
            if type(getattr(self, field.name)).__name__ != field.type:
                raise ValueError(f"{field.name} must be of type {field.type}")
        for name in ("stride_t", "stride"):
            value = getattr(self, name)
            if not (1 <= value <= 64 and value & (value - 1) == 0):
                raise ValueError(f"{name} must be a power of two between 1 and 64, not {value}")
        for name, top in (("entries", MAX_ENTRIES), ("dim", 4096), ("width", 4096)):
            if not 2 <= getattr(self, name) <= top:
                raise ValueError(f"{name} must lie in 2..{top}, not {getattr(self, name)}")
        if not 1 <= self.lookup_dim <= self.dim:
            raise ValueError(f"lookup_dim must lie in 1..{self.dim}, not {self.lookup_dim}")
        for name in ("encoder_blocks", "fusion_blocks", "decoder_blocks", "fill_blocks"):
            if not 0 <= getattr(self, name) <= 64:
                raise ValueError(f"{name} must lie in 0..64, not {getattr(self, name)}")

    @property
    def grids(self) -> tuple[Grid, ...]:
        """Its grids of indices, one or two."""
        if self.split:
            return (Grid(2 * self.stride_t, self.stride, self.entries),) * 2
        return (Grid(self.stride_t, self.stride, self.entries),)


@dataclass(frozen=True)
class RefinementConfig:
    """Stages of a residual VQ on the finest grid: what all levels together still miss.

    Attributes:
        stages: how many; each is a quality level of its own.
        entries: codebook entries of each stage; entry 0 is the zero vector, "nothing to add".
        dim: channels of the vectors that the stages quantise, one after the other.
        encoder_blocks, decoder_blocks: residual blocks on either side of it.
        worth, decay: at stage k, from 0, an entry is taken only if it lowers a vector's squared
            error by at least ``worth`` · ``decay``^k times the mean squared length of the clip's
            vectors before the first stage; else it is entry 0. Of the encoder alone.
    """

    stages: int
    entries: int = 256
    dim: int = 32
    encoder_blocks: int = 1
    decoder_blocks: int = 1
    worth: float = 0.0
    decay: float = 1.0

    def __post_init__(self) -> None:
        limits = {"stages": (1, MAX_LEVELS), "entries": (2, MAX_ENTRIES), "dim": (1, 4096)}
        _check_integers(self, limits | {"encoder_blocks": (0, 64), "decoder_blocks": (0, 64)})
        _check_shares(self, "worth", "decay")


@dataclass(frozen=True)
class DetailConfig:
    """Planes of details: what the decoded picture lacks (:mod:`vqcodec.model.details`).

    Attributes:
        planes: how many; each is a quality level of its own.
        step: of the first plane's quantiser, in 8-bit values; each further one halves it.
        first, others: where in its interval a coefficient of magnitude 1, or of more, is taken to
            be, as a share of the step.
    """

    planes: int
    step: float
    first: float = 0.31
    others: float = 0.36

    def __post_init__(self) -> None:
        if type(self.planes) is not int or not 1 <= self.planes <= MAX_PLANES:
            raise ValueError(f"planes must be an integer in 1..{MAX_PLANES}, not {self.planes}")
        if type(self.step) not in (int, float) or not 1 <= self.step <= 1024:
            raise ValueError(f"step must be a number in 1..1024, not {self.step}")
        object.__setattr__(self, "step", float(self.step))
        _check_shares(self, "first", "others")

    def step_at(self, plane: int) -> float:
        """The step of a plane's quantiser."""
        return self.step / (1 << plane)

    def likely(self, values: NDArray[np.integer[Any]]) -> NDArray[np.float32]:
        """Where coefficients most likely are that have these values; both in steps."""
        size = np.abs(values).astype(np.float32)
        inside = np.where(size == 1, np.float32(self.first), np.float32(self.others))
        likely: NDArray[np.float32] = np.sign(values) * np.where(size > 0, size + inside, 0)
        return likely


@dataclass(frozen=True)
class RestorationConfig:
    """The network behind everything else (:mod:`vqcodec.model.restoration`).

    Attributes:
        width: channels.
        blocks: residual blocks.
        detail_blocks: more of them, for pictures that details correct.
        interval_width, interval_blocks: channels and residual blocks of what then tells where in
            its interval each coefficient is (:mod:`vqcodec.model.intervals`); no channels: nothing
            does.
    """

    width: int
    blocks: int
    detail_blocks: int = 0
    interval_width: int = 0
    interval_blocks: int = 0

    def __post_init__(self) -> None:
        limits = {"width": (1, 4096), "blocks": (1, 64), "detail_blocks": (0, 64)}
        _check_integers(self, limits | {"interval_width": (0, 4096), "interval_blocks": (0, 64)})
        if self.interval_blocks and not self.interval_width:
            raise ValueError("interval_blocks need an interval_width")


@dataclass(frozen=True)
class MendingConfig:
    """The network for borders between chunks (:mod:`vqcodec.model.mending`).

    Attributes:
        width: channels.
        blocks: residual blocks.
        detail_blocks: more of them, for pictures that details correct.
    """

    width: int
    blocks: int
    detail_blocks: int = 0

    def __post_init__(self) -> None:
        limits = {"width": (1, 4096), "blocks": (1, 64), "detail_blocks": (0, 64)}
        _check_integers(self, limits)


@dataclass(frozen=True)
class ModelConfig:
    """A hierarchy of levels, coarsest first; each finer one refines the last.

    Attributes:
        levels: coarsest first; strides may only shrink from one to the next.
        refinement: residual stages behind the last level, or None.
        tail_blocks: residual blocks between the finest grid and the pixels, run once for whatever
            levels there are.
        details: planes of details behind all those, or None.
        restoration: what brings decoded pictures closer to their source, or None.
        mending: what takes seams off borders between chunks, or None.
    """

    levels: tuple[LevelConfig, ...]
    refinement: RefinementConfig | None = None
    tail_blocks: int = 0
    details: DetailConfig | None = None
    restoration: RestorationConfig | None = None
    mending: MendingConfig | None = None

    def __post_init__(self) -> None:
        if not self.levels:
            raise ValueError("a model has at least one level")
        if len(self.grids) > MAX_LEVELS:
            raise ValueError(f"a model has at most {MAX_LEVELS} grids, not {len(self.grids)}")
        if type(self.tail_blocks) is not int or not 0 <= self.tail_blocks <= 64:
            raise ValueError(f"tail_blocks must lie in 0..64, not {self.tail_blocks}")
        if any(level.split and 2 * level.stride_t > self.stride_t for level in self.levels):
            raise ValueError("a split level has at least twice the steps of the coarsest")
        for coarse, fine in zip(self.grids, self.grids[1:], strict=False):
            if coarse.stride < fine.stride or coarse.stride_t < fine.stride_t:
                raise ValueError("levels must be ordered from coarse to fine")

    @property
    def grids(self) -> tuple[Grid, ...]:
        """All grids: the levels', coarsest first, the refinement's stages, planes of details."""
        return self.code_grids + self.detail_grids

    @property
    def code_grids(self) -> tuple[Grid, ...]:
        """The grids of codebook indices, which the network decodes."""
        grids = [grid for level in self.levels for grid in level.grids]
        if self.refinement is not None:
            last = self.levels[-1]
            stage = Grid(last.stride_t, last.stride, self.refinement.entries)
            grids += [stage] * self.refinement.stages
        return tuple(grids)

    @property
    def detail_grids(self) -> tuple[Grid, ...]:
        """The planes of details."""
        planes = 0 if self.details is None else self.details.planes
        return tuple(Grid(1, 1, ENTRIES[min(plane, 1)], True) for plane in range(planes))

    @property
    def odd_grids(self) -> frozenset[int]:
        """Numbers of the grids of odd steps, whose index 0 stands for a guess."""
        ends = accumulate(len(level.grids) for level in self.levels)
        return frozenset(
            end - 1 for end, level in zip(ends, self.levels, strict=True) if level.split
        )

    @property
    def first_stage(self) -> int:
        """How many grids there are before the refinement's stages."""
        return sum(len(level.grids) for level in self.levels)

    @property
    def stride_t(self) -> int:
        """Frames per step of the coarsest grid: a clip's length is a multiple of it."""
        return self.levels[0].stride_t

    @property
    def stride(self) -> int:
        """Pixels per step of the coarsest grid: width and height are multiples of it."""
        return self.levels[0].stride

    def bits_per_pixel(self, grids: int | None = None) -> float:
        """Bits per pixel of the first ``grids`` grids, written at fixed length (paper, 4.1).

        Without how blocks of details are split.
        """
        return sum(
            math.ceil(math.log2(grid.entries))
            * (COLOURS if grid.details else 1)
            / (grid.stride_t * grid.stride**2)
            for grid in self.grids[:grids]
        )

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no spaces; equal configurations give equal text."""
        data = dataclasses.asdict(self)
        for level in data["levels"]:
            if not level["split"]:  # the text is what it was before levels could be split
                del level["split"], level["fill_blocks"], level["worth"]
        for name in ("details", "restoration", "mending"):
            if data[name] is None:  # as it was before there were any
                del data[name]
        for name in ("detail_blocks", "interval_width", "interval_blocks"):  # likewise
            if data.get("restoration", {}).get(name) == 0:
                del data["restoration"][name]
        return json.dumps(data, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> ModelConfig:
        """Inverse of :meth:`to_json`.

        Raises:
            CheckpointError: not JSON, unknown or missing fields, values out of range.
        """
        try:
            data: dict[str, Any] = json.loads(text)
            if any(level.get("split") and "worth" not in level for level in data["levels"]):
                raise ValueError("a level was split before odd steps were guessed")
            levels = tuple(LevelConfig(**level) for level in data.pop("levels"))
            for name, part in _PARTS.items():
                if data.get(name) is not None:
                    data[name] = part(**data[name])
            return cls(levels=levels, **data)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise CheckpointError(f"not a model configuration: {error}") from error


_PARTS = {
    "refinement": RefinementConfig,
    "details": DetailConfig,
    "restoration": RestorationConfig,
    "mending": MendingConfig,
}


def _check_integers(
    config: RefinementConfig | RestorationConfig | MendingConfig,
    limits: dict[str, tuple[int, int]],
) -> None:
    for name, (least, most) in limits.items():
        value = getattr(config, name)
        if type(value) is not int or not least <= value <= most:
            raise ValueError(f"{name} must be an integer in {least}..{most}, not {value}")


def _check_shares(config: LevelConfig | RefinementConfig | DetailConfig, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        if type(value) not in (int, float) or not 0 <= value <= 1:
            raise ValueError(f"{name} must be a number in 0..1, not {value}")
        object.__setattr__(config, name, float(value))  # equal ones have equal JSON


def _two_level(
    *,
    top: dict[str, Any],
    bottom: dict[str, Any],
    tail_blocks: int,
    refinement: RefinementConfig | None = None,
) -> ModelConfig:
    """The paper's grids: top T/8 × H/8 × W/8, bottom T/4 × H/4 × W/4 (section 4.2)."""
    return ModelConfig(
        levels=(
            LevelConfig(stride_t=8, stride=8, **{"fusion_blocks": 0, **top}),
            LevelConfig(stride_t=4, stride=4, **bottom),
        ),
        refinement=refinement,
        tail_blocks=tail_blocks,
    )


_PAPER = _two_level(
    top={"width": 192, "encoder_blocks": 3, "decoder_blocks": 3},
    bottom={"width": 128, "encoder_blocks": 3, "fusion_blocks": 1, "decoder_blocks": 1},
    tail_blocks=5,
)

PRESETS: dict[str, ModelConfig] = {
    # The shipped network: the paper's two levels, the bottom in two halves, then a stage that
    # refines them. (Details come to it later: they take no training of the network.)
    "base": ModelConfig(
        levels=(_PAPER.levels[0], dataclasses.replace(_PAPER.levels[1], split=True, worth=0.25)),
        refinement=RefinementConfig(stages=1, worth=0.5),
        tail_blocks=_PAPER.tail_blocks,
    ),
    # The paper's grids alone, and its baselines (section 4.3): 512 entries, and a 3D VQ-VAE, the
    # bottom grid alone.
    "paper": _PAPER,
    "paper-512": dataclasses.replace(
        _PAPER,
        levels=tuple(dataclasses.replace(level, entries=512) for level in _PAPER.levels),
    ),
    "single-level": dataclasses.replace(
        _PAPER,
        levels=(dataclasses.replace(_PAPER.levels[-1], encoder_blocks=4, fusion_blocks=0),),
    ),
    # For tests: small enough to train for a few steps within a second.
    "tiny": _two_level(
        top={"width": 16, "encoder_blocks": 1, "decoder_blocks": 1, "dim": 16, "lookup_dim": 4},
        bottom={"width": 16, "encoder_blocks": 1, "decoder_blocks": 0, "dim": 16, "lookup_dim": 4},
        refinement=RefinementConfig(stages=2, entries=16, dim=4, worth=0.1, decay=0.5),
        tail_blocks=1,
    ),
}
"""Named architectures for ``vqcodec train --model``."""
