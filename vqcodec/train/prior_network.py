"""The prior in torch, for training: the integer network of :mod:`vqcodec.entropy`, with gradients.

Weights are kept as floats, and rounded to the integers that are exported on every pass, with
straight-through gradients. Whatever follows is the integer arithmetic of the format done in
float32, where it is exact, so the logits trained are the logits coded with. Scales are powers of
two and fixed: one unit of a weight, activation or logit is so many integers.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from vqcodec.entropy.config import MAX_HIDDEN, MAX_INPUTS, LevelPrior, Neighbour, PriorConfig
from vqcodec.model.config import ModelConfig

# Integers to a unit. A weight reaches 127 of them, an activation likewise.
EMBEDDING = 64
INPUT = 128  # weights of the first layer
HIDDEN = 128  # weights of the second and third
OUTPUT = 64  # weights of the digits' logits, whose unit is a bit
ACTIVATION = 32

FIRST_SUM, HIDDEN_SUM, LOGIT = EMBEDDING * INPUT, ACTIVATION * HIDDEN, ACTIVATION * OUTPUT
SHIFTS = (
    (FIRST_SUM // ACTIVATION).bit_length() - 1,
    (HIDDEN_SUM // ACTIVATION).bit_length() - 1,
    (HIDDEN_SUM // ACTIVATION).bit_length() - 1,
)
LOGIT_SHIFT = (LOGIT // 64).bit_length() - 1  # to the format's 64 steps a bit
MAX_BIAS = 1 << 21
EMBEDDING_FACTOR = 3.0  # of the learning rate: each row is met by few steps


def prior_config(model: ModelConfig, *, hidden: int, embedding: int) -> PriorConfig:
    """The prior of a model: for each grid its width, and what its indices look at.

    The grids of the last level before the residual stages get twice the width: their indices have
    most to tell of each other, and there are enough of them to learn it from. They and those of
    coarser levels are coded in four passes; what stages hold tells little of what is beside it.

    A grid looks at its own last steps and at its four sides, and its corners if there are four
    passes, at the grid before it in and around the same place, and at all others in the same place.
    That of odd steps looks at the even ones before and after it. The corners of the last step,
    tried too, did not pay within the training there is time for.
    """
    last = range(model.first_stage - len(model.levels[-1].grids), model.first_stage)
    return PriorConfig(
        tuple(
            LevelPrior(
                grid.stride_t,
                grid.stride,
                grid.entries,
                min(2 * hidden, MAX_HIDDEN) if number in last else hidden,
                embedding,
                neighbours=_neighbours(model, number, MAX_INPUTS // embedding),
                shifts=SHIFTS,
                shift=LOGIT_SHIFT,
                passes=_passes(model, number),
            )
            for number, grid in enumerate(model.code_grids)
        )
    )


_INPUT_AXIS = {"w2": 0, "w_high": 0, "w3": 0, "w_low": 1}  # of weights that take hidden channels
_HERE = ((0, 0),)
_SIDES = ((-1, 0), (1, 0), (0, -1), (0, 1))
_CORNERS = ((-1, -1), (-1, 1), (1, -1), (1, 1))


def _passes(model: ModelConfig, number: int) -> int:
    return 4 if number < model.first_stage else 2


def _neighbours(model: ModelConfig, number: int, most: int) -> tuple[Neighbour, ...]:
    """What grid ``number`` looks at: up to ``most`` codes, those that tell more first."""
    odd = model.odd_grids
    beside = _SIDES + _CORNERS if _passes(model, number) == 4 else _SIDES
    before = [number - 1, number - 2] if number - 1 in odd else [number - 1]
    if number in odd:
        found = [
            (number - 1, 0, _HERE),
            (number - 1, 1, _HERE),
            (number, 0, beside),
            (number, -1, _HERE),
            (number - 1, 0, _SIDES),
            (number - 1, 1, _SIDES),
            *((source, 0, _HERE) for source in reversed(range(number - 1))),
            (number, -1, _SIDES),
        ]
    else:
        found = [
            (number, -1, _HERE),
            (number, 0, beside),
            *((source, 0, _HERE) for source in reversed(range(number))),
            (number, -1, _SIDES),
        ]
        if number:
            found += [(source, 0, _SIDES) for source in before]
            # The steps of the grid before that come next, on either side.
            if model.grids[number - 1].stride_t > model.grids[number].stride_t or number + 1 in odd:
                found += [(before[-1], 1, _HERE), (number - 1, -1, _HERE)]
        found.append((number, -2, _HERE))
    return tuple(Neighbour(source, dt, *at) for source, dt, places in found for at in places)[:most]


class PriorNetwork(nn.Module):
    """One network a level; they share nothing but the grids they look at.

    Args:
        config: the architecture.
        codebooks: per level (entries, any width), what its indices stand for. Embeddings start
            from them, so that what is learnt of an index is soon known of those like it.
    """

    def __init__(self, config: PriorConfig, codebooks: Sequence[Tensor]) -> None:
        super().__init__()
        self.config = config
        self.levels = nn.ModuleList(
            LevelNetwork(config, number, codebooks) for number in range(len(config.levels))
        )

    def level(self, number: int) -> LevelNetwork:
        """The network of a level."""
        level = self.levels[number]
        assert isinstance(level, LevelNetwork)
        return level

    def load(self, tensors: Mapping[str, Tensor], config: PriorConfig | None = None) -> None:
        """Go on from what :meth:`tensors` exported.

        Args:
            tensors: of another prior.
            config: of that one, which this one extends (:func:`extends`); None for the same.
        """
        stored = self.config if config is None else config
        for number, level in enumerate(stored.levels):
            self.level(number).load(tensors, level)

    def project(self) -> None:
        """See :meth:`LevelNetwork.project`."""
        for number in range(len(self.levels)):
            self.level(number).project()

    def groups(self, factor: float = 1.0) -> list[dict[str, Any]]:
        """Parameter groups for an optimiser whose learning rate counts ``factor`` times.

        Of embeddings a step meets only a few rows: their rate is higher still.
        """
        embeddings: list[nn.Parameter] = []
        others: list[nn.Parameter] = []
        for name, parameter in self.named_parameters():
            (embeddings if "embedding" in name else others).append(parameter)
        return [
            {"params": embeddings, "factor": factor * EMBEDDING_FACTOR},
            {"params": others, "factor": factor},
        ]

    def tensors(self) -> dict[str, NDArray[np.integer[Any]]]:
        """What is exported: int8 and int32 arrays, as :meth:`PriorConfig.shapes` names them."""
        return {
            f"{number}.{name}": array
            for number in range(len(self.levels))
            for name, array in self.level(number).tensors().items()
        }


class LevelNetwork(nn.Module):
    """The network that predicts the symbols of one level.

    All parameters are in units (see the constants above). Names and shapes are the format's.
    """

    def __init__(self, config: PriorConfig, number: int, codebooks: Sequence[Tensor]) -> None:
        super().__init__()
        self.config, self.number = config, number
        shapes = {
            name.removeprefix(f"{number}."): shape
            for name, (_, shape) in config.shapes().items()
            if name.startswith(f"{number}.")
        }
        self.scales = {name: _scale(name) for name in shapes}
        # A dot would make a parameter a module's.
        self.parameter_of = nn.ParameterDict(
            {name.replace(".", "_"): _initial(name, shape) for name, shape in shapes.items()}
        )
        for source in config.levels[number].sources:
            self._parameter(f"embedding.{source}").data[:-1] = _embedded(
                codebooks[source], config.levels[number].embedding
            )
        self.project()

    def bits(self, grids: Sequence[Tensor], previous: Sequence[Tensor]) -> Tensor:
        """What each symbol of the level costs when all before it are known.

        Args:
            grids: levels up to this one at least, integers (B, T', H', W').
            previous: the same of the chunk before; a grid of ``entries`` where there is none.

        Returns:
            (B, T', H', W') float32.
        """
        shape = grids[self.number].shape
        symbols = grids[self.number].reshape(-1).long()
        order = torch.argsort(symbols)  # rows of one high digit in a row
        rows = contexts(self.config, self.number, grids, previous).flatten(0, 3)[order]
        places = self.places(shape).reshape(-1)[order]
        sorted_bits = self._bits(rows, places, symbols[order])
        return torch.empty_like(sorted_bits).index_put((order,), sorted_bits).reshape(shape)

    @torch.no_grad()
    def tables(self, grids: Sequence[Tensor], previous: Sequence[Tensor], chosen: Tensor) -> Tensor:
        """What each entry would cost at some places, all other symbols being as they are.

        Args:
            grids, previous: as of :meth:`bits`.
            chosen: (N,) int64, places in the flattened (B, T', H', W').

        Returns:
            (N, entries) float32.
        """
        level, shape = self._level, grids[self.number].shape
        rows = contexts(self.config, self.number, grids, previous).flatten(0, 3)
        high_logits, hidden = self.high(rows[chosen], self.places(shape).reshape(-1)[chosen])
        x3 = hidden @ self._weight("w3") + self._weight("b3")[:, None]  # (high, N, H)
        h3 = _activate(x3, level.shifts[2])
        low_logits = torch.baddbmm(self._weight("b_low")[:, None], h3, self._weight("w_low"))
        low_logits = low_logits.transpose(0, 1).contiguous()  # (N, high, low)
        if spare := level.high * level.low - level.entries:
            low_logits[:, -1, level.low - spare :] = -math.inf
        nats = F.log_softmax(low_logits * _NATS, -1)
        nats += F.log_softmax(high_logits * _NATS, -1)[:, :, None]
        return nats.flatten(1)[:, : level.entries].mul_(-1 / math.log(2))

    def _bits(self, rows: Tensor, places: Tensor, symbols: Tensor) -> Tensor:
        """(N, neighbours), (N,), (N,) ascending → (N,)."""
        low = self._level.low
        high_digits, low_digits = symbols // low, symbols % low
        high_logits, hidden = self.high(rows, places)
        low_logits = self.low(hidden, high_digits)
        high_nats = F.cross_entropy(high_logits * _NATS, high_digits, reduction="none")
        low_nats = F.cross_entropy(low_logits * _NATS, low_digits, reduction="none")
        return (high_nats + low_nats) / math.log(2)

    def high(self, rows: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the high digit (N, high) and the second activation (N, H), integers.

        Args:
            rows: (N, neighbours) codes; ``entries`` of their level where absent.
            places: (N,) from :meth:`places`.
        """
        level, config = self._level, self.config
        hidden = level.hidden
        w1 = self._weight("w1").view(len(level.neighbours), level.embedding, hidden)
        # Of each entry and neighbour, its share of the first sum: a look-up instead of a product.
        tables, starts, start = [], torch.zeros(len(level.neighbours), dtype=torch.int64), 0
        for source in level.sources:
            here = [n for n, at in enumerate(level.neighbours) if at.level == source]
            table = self._weight(f"embedding.{source}") @ w1[here]  # (n, entries + 1, H)
            tables.append(table.flatten(0, 1))
            rows_each = config.levels[source].entries + 1
            starts[here] = start + torch.arange(len(here)) * rows_each
            start += len(here) * rows_each
        bias = self._weight("parity")[:, None] + self._weight("phase").flatten(0, 2)
        tables.append(bias.flatten(0, 1))
        index = torch.cat([rows + starts.to(rows.device), places[:, None] + start], 1)
        x1 = F.embedding_bag(index, torch.cat(tables), mode="sum")
        h1 = _activate(x1, level.shifts[0])
        h2 = _activate(torch.addmm(self._weight("b2"), h1, self._weight("w2")), level.shifts[1])
        return torch.addmm(self._weight("b_high"), h2, self._weight("w_high")), h2

    def low(self, hidden: Tensor, high_digits: Tensor) -> Tensor:
        """Logits of the low digit (N, low), integers; minus infinity where it cannot occur.

        Args:
            hidden: (N, H), the second activation.
            high_digits: (N,), ascending.
        """
        level = self._level
        counts = torch.bincount(high_digits, minlength=level.high).tolist()
        x3 = hidden @ self._weight("w3") + F.embedding(high_digits, self._weight("b3"))
        h3 = _activate(x3, level.shifts[2])
        parts = zip(
            self._weight("b_low").unbind(),
            torch.split(h3, counts),
            self._weight("w_low").unbind(),
            strict=True,
        )
        logits = torch.cat([torch.addmm(bias, part, weight) for bias, part, weight in parts])
        spare = level.high * level.low - level.entries
        if spare:  # of the last high digit alone
            impossible = torch.zeros_like(logits, dtype=torch.bool)
            impossible[len(logits) - counts[-1] :, level.low - spare :] = True
            logits = logits.masked_fill(impossible, -math.inf)
        return logits

    def places(self, shape: Sequence[int]) -> Tensor:
        """(B, T', H', W') int64: pass and place in the coarsest level's cell, as one number."""
        batch, *grid = shape
        across_t, across = self.config.phases(self.number)
        t, y, x = torch.meshgrid(*(torch.arange(side) for side in grid), indexing="ij")
        phase = (t % across_t * across + y % across) * across + x % across
        order = torch.from_numpy(self._level.order)
        place = order[y % 2, x % 2] * across_t * across**2 + phase
        return place.to(self._parameter("w1").device).expand(batch, -1, -1, -1)

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor], stored: LevelPrior) -> None:
        """See :meth:`PriorNetwork.load`; ``stored`` is the level of that prior."""
        level = self._level
        for name, scale in self.scales.items():
            parameter, tensor = self._parameter(name), tensors.get(f"{self.number}.{name}")
            if tensor is None:  # of codes that were not looked at before
                continue
            if name == "parity":  # what the pass had in which a position was
                rows = [stored.order[level.place(pass_)] for pass_ in range(level.passes)]
                tensor = tensor[torch.tensor(rows)]
            if name == "w1":  # neighbours that are new have no say yet
                shape = len(level.neighbours), level.embedding, tensor.shape[1]
                known = torch.zeros(shape)
                known[[level.neighbours.index(n) for n in stored.neighbours]] = tensor.view(
                    -1, *shape[1:]
                ).float()
                tensor = known.flatten(0, 1)
            if name in _INPUT_AXIS:  # nor have channels
                axis = _INPUT_AXIS[name]
                new = parameter.shape[axis] - tensor.shape[axis]
                parameter.narrow(axis, tensor.shape[axis], new).zero_()
            parameter[tuple(map(slice, tensor.shape))] = tensor / scale

    @torch.no_grad()
    def project(self) -> None:
        """Put parameters that a step has pushed out of the integers' range back onto its edge."""
        for name, scale in self.scales.items():
            reach = (MAX_BIAS if _is_bias(name) else 127) / scale
            self._parameter(name).clamp_(-reach, reach)

    def tensors(self) -> dict[str, NDArray[np.integer[Any]]]:
        """The integers, by name."""
        return {
            name: self._weight(name)
            .detach()
            .to("cpu", torch.int32 if _is_bias(name) else torch.int8)
            .numpy()
            for name in self.scales
        }

    @property
    def _level(self) -> LevelPrior:
        return self.config.levels[self.number]

    def _parameter(self, name: str) -> nn.Parameter:
        parameter = self.parameter_of[name.replace(".", "_")]
        assert isinstance(parameter, nn.Parameter)
        return parameter

    def _weight(self, name: str) -> Tensor:
        """A parameter as integers; gradients pass as if it were not rounded."""
        rounded: Tensor = _Round.apply(self._parameter(name) * self.scales[name])
        return rounded


def extends(config: PriorConfig, other: PriorConfig) -> bool:
    """Whether a prior can go on from another: as wide or wider, and looking at no less."""
    if len(config.levels) != len(other.levels):
        return False
    for level, old in zip(config.levels, other.levels, strict=True):
        alike = dataclasses.replace(
            level, hidden=old.hidden, neighbours=old.neighbours, passes=old.passes
        )
        more = level.hidden >= old.hidden and level.passes >= old.passes
        if alike != old or not more or not set(level.neighbours) >= set(old.neighbours):
            return False
    return True


def contexts(
    config: PriorConfig, number: int, grids: Sequence[Tensor], previous: Sequence[Tensor]
) -> Tensor:
    """What each symbol of a level sees: (B, T', H', W', neighbours) int64, ``entries`` if nothing.

    Args:
        grids, previous: as of :meth:`LevelNetwork.bits`.
    """
    level = config.levels[number]
    shape = grids[number].shape[1:]
    turn = torch.from_numpy(level.order)[
        torch.arange(shape[1])[:, None] % 2, torch.arange(shape[2]) % 2
    ]
    joined = {}
    for source in level.sources:
        both = torch.cat([previous[source], grids[source]], 1).long()
        # One step of nothing at the end of each axis, for all that lies outside.
        joined[source] = F.pad(both, (0, 1) * 3, value=config.levels[source].entries)
    found = []
    for source, dt, dy, dx in level.neighbours:
        coarse, codes, start = config.levels[source], joined[source], previous[source].shape[1]
        ratio_t, ratio = coarse.stride_t // level.stride_t, coarse.stride // level.stride
        t = _along(shape[0], ratio_t, start + dt, codes.shape[1] - 1)
        y = _along(shape[1], ratio, dy, codes.shape[2] - 1)
        x = _along(shape[2], ratio, dx, codes.shape[3] - 1)
        codes = codes[:, t[:, None, None], y[:, None], x]
        if source == number and dt == 0:
            seen = torch.tensor([level.sees(pass_, dy, dx) for pass_ in range(level.passes)])
            codes = codes.where(seen[turn].to(codes.device), coarse.entries)
        found.append(codes)
    return torch.stack(found, -1)


def _along(side: int, ratio: int, offset: int, length: int) -> Tensor:
    """(side,) places of a neighbour along an axis, or ``length`` where it lies outside."""
    place = torch.arange(side) // ratio + offset
    return place.where((place >= 0) & (place < length), length)


class _Round(torch.autograd.Function):
    """The nearest integer; the gradient is that of no rounding."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.round()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]


class _Activation(torch.autograd.Function):
    """``clip(rshift_round(x, shift), 0, 127)``; the gradient is that of the clip alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, shift: int) -> Tensor:
        ctx.save_for_backward(x)
        ctx.shift = shift
        return (x * 2.0**-shift).add_(0.5).floor_().clamp_(0, 127)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        inside = torch.ops.aten.hardtanh_backward(gradients[0], x, 0, 127 << ctx.shift)
        return inside.mul_(2.0**-ctx.shift), None


def _activate(x: Tensor, shift: int) -> Tensor:
    y: Tensor = _Activation.apply(x, shift)
    return y


def _embedded(codebook: Tensor, width: int) -> Tensor:
    """(entries, any) → (entries, width): turned at random, distances kept if there is room."""
    centred = codebook.detach().cpu().float() - codebook.float().mean(0)
    turned = centred @ nn.init.orthogonal_(torch.empty(centred.shape[1], width))
    return turned * (_EMBEDDED / turned.square().mean().sqrt().clamp(min=1e-6))


_EMBEDDED = 0.5  # spread of embeddings to start from
_NATS = math.log(2) / LOGIT


def _is_bias(name: str) -> bool:
    return name.startswith("b") or name in ("phase", "parity")


def _scale(name: str) -> int:
    if name.startswith("embedding."):
        return EMBEDDING
    return {
        "w1": INPUT,
        "phase": FIRST_SUM,
        "parity": FIRST_SUM,
        "w2": HIDDEN,
        "b2": HIDDEN_SUM,
        "w3": HIDDEN,
        "b3": HIDDEN_SUM,
        "w_high": OUTPUT,
        "b_high": LOGIT,
        "w_low": OUTPUT,
        "b_low": LOGIT,
    }[name]


def _initial(name: str, shape: tuple[int, ...]) -> nn.Parameter:
    """A parameter to start from: activations near 1, logits near 0."""
    if name.startswith("embedding."):
        return nn.Parameter(torch.randn(shape) * _EMBEDDED)
    if _is_bias(name):
        return nn.Parameter(torch.zeros(shape))
    fan_in = shape[-2]
    gain = {"w1": 2.0, "w2": 1.0, "w3": 1.0}.get(name, 0.1)
    return nn.Parameter(torch.randn(shape) * gain / math.sqrt(fan_in))
