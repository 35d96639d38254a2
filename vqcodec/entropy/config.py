"""The prior's architecture as data: everything that decides the shapes of its tensors.

Stored as JSON in the checkpoint, like the network's own configuration. Every limit here serves
one promise: a prior that is accepted computes exactly the same integers on every machine.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vqcodec.entropy.details import (
    COLOURS,
    CONTEXTS,
    ENTRIES,
    HIDDEN,
    INPUTS,
    LOUDNESSES,
    OVERALL,
    SPACES,
    SPLITS,
    TIMES,
)
from vqcodec.errors import CheckpointError
from vqcodec.limits import MAX_ENTRIES, MAX_LEVELS, MAX_PLANES

MAX_HIDDEN = 256
MAX_INPUTS = 768  # 768 · 127² plus biases stays below 2^24, so float32 sums are exact
MAX_REACH_T = 16  # of a neighbour, in steps of its level
MAX_REACH = 64
MAX_PHASES = 1 << 9

# The pass of a position, by y mod 2 and x mod 2, for each number of passes there can be.
_PASSES = {2: ((0, 1), (1, 0)), 4: ((0, 2), (3, 1))}


class Neighbour(NamedTuple):
    """Where a symbol at (t, y, x) looks: a level, and an offset in that level's own grid.

    In a coarser level the offset counts from the cell that covers the symbol.
    """

    level: int
    dt: int
    dy: int
    dx: int


@dataclass(frozen=True)
class LevelPrior:
    """How the indices of one level are predicted.

    Attributes:
        stride_t: frames per grid step, a power of two in 1..64.
        stride: pixels per grid step, a power of two in 1..128.
        entries: codebook entries, 2..32768.
        hidden: channels H of the hidden layers, 1..256.
        embedding: channels e of an embedded neighbour; neighbours × e is at most 768.
        neighbours: the context; at least one. In the level itself only what is decoded before:
            dt < 0, or dt = 0 where an earlier pass may have been.
        shifts: right shifts (s1, s2, s3) before the three activations, each 1..16.
        shift: right shift of the logits, 0..16, after which 64 are one bit.
        passes: in how many a step is coded, 2 or 4. Each knows those before it.
    """

    stride_t: int
    stride: int
    entries: int
    hidden: int
    embedding: int
    neighbours: tuple[Neighbour, ...]
    shifts: tuple[int, int, int]
    shift: int
    passes: int = 2

    def __post_init__(self) -> None:
        object.__setattr__(self, "neighbours", tuple(Neighbour(*n) for n in self.neighbours))
        object.__setattr__(self, "shifts", tuple(self.shifts))
        numbers = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name not in ("neighbours", "shifts")
        }
        offsets = [number for neighbour in self.neighbours for number in neighbour]
        if any(type(n) is not int for n in (*numbers.values(), *offsets, *self.shifts)):
            raise ValueError("only integers make a prior")
        for name, top in (("stride_t", 64), ("stride", 128)):
            value = numbers[name]
            if not (1 <= value <= top and value & (value - 1) == 0):
                raise ValueError(f"{name} must be a power of two between 1 and {top}, not {value}")
        for name, least, top in (
            ("entries", 2, MAX_ENTRIES),
            ("hidden", 1, MAX_HIDDEN),
            ("embedding", 1, MAX_INPUTS),
            ("shift", 0, 16),
        ):
            if not least <= numbers[name] <= top:
                raise ValueError(f"{name} must lie in {least}..{top}, not {numbers[name]}")
        if self.passes not in _PASSES:
            raise ValueError(f"passes must be 2 or 4, not {self.passes}")
        if len(self.shifts) != 3 or not all(1 <= shift <= 16 for shift in self.shifts):
            raise ValueError(f"shifts must be three numbers in 1..16, not {self.shifts}")
        if not 1 <= len(self.neighbours) * self.embedding <= MAX_INPUTS:
            raise ValueError(f"neighbours x embedding must lie in 1..{MAX_INPUTS}")
        for _, dt, dy, dx in self.neighbours:
            if abs(dt) > MAX_REACH_T or max(abs(dy), abs(dx)) > MAX_REACH:
                raise ValueError(f"a neighbour at {(dt, dy, dx)} is out of reach")

    @property
    def low(self) -> int:
        """Values of an index's low digit, a power of two: index = high digit · low + low digit."""
        return int(1 << (self.entries - 1).bit_length() // 2)

    @property
    def high(self) -> int:
        """Values of an index's high digit, the first to be coded."""
        return -(-self.entries // self.low)

    @property
    def order(self) -> NDArray[np.intp]:
        """(2, 2): the pass of a position, by y mod 2 and x mod 2."""
        return np.array(_PASSES[self.passes])

    def place(self, pass_: int) -> tuple[int, int]:
        """(y, x) of the first position that a pass has."""
        y, x = np.argwhere(self.order == pass_)[0].tolist()
        return y, x

    def sees(self, pass_: int, dy: int, dx: int) -> bool:
        """Whether a pass knows the position at this offset from one of its own, in its step."""
        y, x = self.place(pass_)
        return bool(self.order[(y + dy) % 2, (x + dx) % 2] < pass_)

    @property
    def sources(self) -> tuple[int, ...]:
        """Levels that the neighbours lie in, ascending."""
        return tuple(sorted({neighbour.level for neighbour in self.neighbours}))


@dataclass(frozen=True)
class PriorConfig:
    """A prior for a hierarchy of levels, coarsest first.

    Attributes:
        levels: 1 to 16, of codebook indices; strides may only shrink from one to the next.
        planes: of details, behind them.
    """

    levels: tuple[LevelPrior, ...]
    planes: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "levels", tuple(self.levels))
        if not 1 <= len(self.levels) <= MAX_LEVELS:
            raise ValueError(f"a prior has 1 to {MAX_LEVELS} levels, not {len(self.levels)}")
        if type(self.planes) is not int or not 0 <= self.planes <= MAX_PLANES:
            raise ValueError(f"planes must lie in 0..{MAX_PLANES}, not {self.planes}")
        for coarse, fine in zip(self.levels, self.levels[1:], strict=False):
            if coarse.stride < fine.stride or coarse.stride_t < fine.stride_t:
                raise ValueError("levels must be ordered from coarse to fine")
        for number, level in enumerate(self.levels):
            for source, dt, dy, dx in level.neighbours:
                if not 0 <= source <= number:
                    raise ValueError(f"level {number} cannot look into level {source}")
                known = dt < 0 or (
                    dt == 0 and any(level.sees(pass_, dy, dx) for pass_ in range(level.passes))
                )
                if source == number and not known:
                    raise ValueError(f"level {number} has no code at {(dt, dy, dx)} yet")
            across_t, across = self.phases(number)
            if across_t * across * across > MAX_PHASES:
                raise ValueError(
                    f"more than {MAX_PHASES} cells of level {number} in one of level 0"
                )

    def phases(self, level: int) -> tuple[int, int]:
        """Cells of ``level`` in a cell of the coarsest level: in time, and in height and width."""
        coarse, fine = self.levels[0], self.levels[level]
        return coarse.stride_t // fine.stride_t, coarse.stride // fine.stride

    def shapes(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Dtype name and shape of every tensor of the prior, by name.

        int8 values lie in -127..127, int32 values in -2^21..2^21.
        """
        tensors: dict[str, tuple[str, tuple[int, ...]]] = {}
        for number, level in enumerate(self.levels):
            hidden, high, low = level.hidden, level.high, level.low
            across_t, across = self.phases(number)
            for source in level.sources:
                shape = (self.levels[source].entries + 1, level.embedding)
                tensors[f"{number}.embedding.{source}"] = "int8", shape
            tensors |= {
                f"{number}.w1": ("int8", (len(level.neighbours) * level.embedding, hidden)),
                f"{number}.phase": ("int32", (across_t, across, across, hidden)),
                f"{number}.parity": ("int32", (level.passes, hidden)),
                f"{number}.w2": ("int8", (hidden, hidden)),
                f"{number}.b2": ("int32", (hidden,)),
                f"{number}.w_high": ("int8", (hidden, high)),
                f"{number}.b_high": ("int32", (high,)),
                f"{number}.w3": ("int8", (hidden, hidden)),
                f"{number}.b3": ("int32", (high, hidden)),
                f"{number}.w_low": ("int8", (high, hidden, low)),
                f"{number}.b_low": ("int32", (high, low)),
            }
        for plane in range(self.planes):
            tensors |= {
                f"details.{plane}.costs": ("int8", (CONTEXTS, ENTRIES[min(plane, 1)])),
                f"details.{plane}.still": ("int32", (COLOURS, TIMES * SPACES)),
                f"details.{plane}.overall": ("int32", (COLOURS, OVERALL, LOUDNESSES)),
                f"details.{plane}.time": ("int32", (COLOURS, TIMES, HIDDEN)),
                f"details.{plane}.space": ("int32", (COLOURS, SPACES, HIDDEN)),
                f"details.{plane}.w1": ("int8", (INPUTS, HIDDEN)),
                f"details.{plane}.w2": ("int8", (HIDDEN,)),
                f"details.{plane}.b2": ("int32", (1,)),
            }
            # How a block is split counts as one more code of it.
            for number, entries in enumerate((*(level.entries for level in self.levels), SPLITS)):
                tensors[f"details.{plane}.codes.{number}"] = "int8", (entries, HIDDEN + 1)
        if self.planes:
            tensors["details.0.splits"] = "int8", (SPLITS**2, SPLITS)
        return tensors

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no spaces; equal configurations give equal text."""
        data = dataclasses.asdict(self)
        if not self.planes:  # as it was before there were any
            del data["planes"]
        for level in data["levels"]:
            if level["passes"] == 2:  # as it was before there could be more
                del level["passes"]
        return json.dumps(data, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> PriorConfig:
        """Inverse of :meth:`to_json`.

        Raises:
            CheckpointError: not JSON, unknown or missing fields, values out of range.
        """
        try:
            data: dict[str, Any] = json.loads(text)
            levels = tuple(LevelPrior(**level) for level in data.pop("levels"))
            return cls(levels=levels, **data)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise CheckpointError(f"not a configuration of a prior: {error}") from error
