"""Codes chosen by what they cost: the encoder's search for the least D + λR.

The nearest code, or none where that is not worth it, is only where the search starts: it knows
neither its bits nor what the decoder makes of it and its neighbours. In every round the search

1. decodes the present codes, and takes the gradient of the distortion for every code vector;
2. asks the prior what every entry would cost at every place;
3. models the distortion around the present codes as a quadratic, whose curvature comes from
   pushing random signs back through the decoder (Hutchinson's estimate of JᵀJ);
4. moves every place to the entry of the least modelled D + λR.

Neighbours move at the same time, which the model of a single place does not see: so the curvature
is taken for stiffer than it is, less so while rounds succeed (Levenberg's method), and after the
first round a third of the places waits, in turn. A round that made a clip worse is undone. The
decoder knows nothing of all this.

Where bits do not count, the round is taken at the end after which what is shown, behind details and
what restores, was closest.

Distortion is the squared error, somewhat more where a picture is smooth
(:mod:`vqcodec.visibility`): the plain one has the search take away faint texture, which costs few
dB of PSNR but SSIM sees.

λ is set for each clip by ``trade``: one per cent of its bits is worth ``trade`` per cent of its
distortion. So all clips give and take at one slope of PSNR against the logarithm of rate. Bits of
details count for less (:data:`THRIFT`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vqcodec.carry import Carry
from vqcodec.entropy.context import Grid
from vqcodec.entropy.prior import Prior
from vqcodec.limits import check_search
from vqcodec.model.details import Plane, grid_of, quantised
from vqcodec.model.network import MSVQVAE
from vqcodec.thrift import thrifty
from vqcodec.visibility import visibility

_ROUNDS = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24)  # by effort
STIFF = 3.0  # at first, when searching freely
LOOSEN, TIGHTEN = 1.2, 2.0
# Of the price of a bit, in details. The curve is the same from 0 to 1 of it, within 0.03 dB; all of
# it takes so many from the first plane that some clips' level 5 is hardly above their level 4.
THRIFT = 0.6


def search(
    network: MSVQVAE,
    clips: Tensor,
    quality: int,
    *,
    effort: int,
    trade: float,
    prior: Prior | None,
    freedom: float = 1.0,
    before: Sequence[Grid] | None = None,
    follows: Sequence[bool] = (),
    carry: Carry | None = None,
) -> tuple[Tensor, ...]:
    """Encode (B, 3, T, H, W) in 0..1 → the first ``quality`` grids, (B, T', H', W') int64.

    Args:
        network: in evaluation mode, its parameters without gradients.
        clips: the pictures.
        quality: how many grids, 1 to the number that the model has.
        effort: 0 for the nearest codes, up to 9: how many rounds are tried.
        trade: how much distortion the bits are worth; 0 for the least distortion.
        prior: what codes cost; None if the model has none, then only distortion counts.
        freedom: 1 to search freely; less, down to 0, to keep all the nearer to the nearest codes.
        before: grids of the chunk before the first clip, if the prior may look at them.
        follows: for each clip whether the prior may look at the chunk before it; none by default.
        carry: where the clips are consecutive, what the one before the first hands on to them.

    Raises:
        ValueError: effort, trade or freedom out of range.
    """
    check_search(effort, trade, freedom)
    count = min(quality, len(network.config.code_grids))
    codes = list(network.encode(clips, count))
    rounds = _ROUNDS[effort]
    price = None
    if quality > count and rounds and freedom and trade and prior is not None:
        # A bit is worth what one is at the end, with all the details.
        price = THRIFT * trade * _worth(network, clips, codes, quality - count, prior)
    if rounds and freedom:
        with torch.inference_mode(False):
            # Codes that are cheaper still would leave more to the details, which costs more.
            limited = trade if quality == count else min(trade, 1.0)
            searched = _Search(
                network, clips.clone(), quality - count, limited, prior, before, follows
            )
            codes = list(searched.run(codes, rounds, STIFF / freedom))
    if quality == count:
        return tuple(codes)
    decoded, planes = network.reconstruct(codes).clip, quality - count
    lacking = network.lacking(clips, decoded)
    if price is not None:
        price = freedom * price
    if carry is None:
        found = network.details(decoded, lacking, planes).planes
        return (*codes, *_priced(network, codes, found, prior, price))
    config = network.config.details
    assert config is not None
    chosen = []
    for number in range(len(clips)):
        one = slice(number, number + 1)
        lacks, own = lacking.of(one), [grid[one] for grid in codes]
        wanted, finest = carry.onto(lacks)
        parts = network.details(decoded[one], wanted, planes, finest)
        worth = None if price is None else price[one]
        grids = _priced(network, own, parts.planes, prior, worth)
        chosen.append(grids)
        said = None
        if planes == config.planes:
            said = grid_of(quantised(grids[-1], parts.before, config).likely)
        carry.keep(lacks, wanted, said, config)
    return (*codes, *(torch.cat(plane) for plane in zip(*chosen, strict=True)))


def _priced(
    network: MSVQVAE,
    codes: list[Tensor],
    planes: Sequence[Plane],
    prior: Prior | None,
    price: Tensor | None,
) -> list[Tensor]:
    """Grids of planes, of which the last is thrifty where a bit has a price (B,)."""
    grids = [plane.symbols for plane in planes]
    if prior is None or price is None:
        return grids
    return [*grids[:-1], _last_plane(network, planes[-1].aims, [*codes, *grids], prior, price)]


def _worth(
    network: MSVQVAE, clips: Tensor, codes: list[Tensor], planes: int, prior: Prior
) -> Tensor:
    """(B,) squared error, mean over the colours, over bits: of codes and so many planes."""
    found, shown = _with_details(network, clips, codes, planes)
    error = (255 * (shown - clips)).square().flatten(1).sum(1) / 3
    bits = [
        sum(float(cost.sum()) for cost in prior.cost(chunk[: len(codes)]))
        + sum(prior.detail_bits(chunk))
        for chunk in _chunks([*codes, *(plane.symbols for plane in found)])
    ]
    return error / torch.tensor(bits, device=error.device).clamp(min=1)


def _with_details(
    network: MSVQVAE, clips: Tensor, codes: Sequence[Tensor], planes: int
) -> tuple[list[Plane], Tensor]:
    """So many planes of what clips have beyond codes, at least one, and what both show."""
    decoded = network.reconstruct(codes).clip
    found = network.details(decoded, network.lacking(clips, decoded), planes)
    return found.planes, network.shown(decoded, found)


def _last_plane(
    network: MSVQVAE, aims: Tensor, grids: list[Tensor], prior: Prior, price: Tensor
) -> Tensor:
    details = network.config.details
    assert details is not None
    chosen = [
        thrifty(chunk, own, details, prior, 3 * worth)
        for chunk, own, worth in zip(
            _chunks(grids), aims.cpu().numpy(), price.tolist(), strict=True
        )
    ]
    return torch.from_numpy(np.stack(chosen)).to(aims.device)


def _chunks(grids: Sequence[Tensor]) -> list[list[Grid]]:
    """The grids of each clip, int16."""
    arrays = [grid.to(torch.int16).cpu().numpy() for grid in grids]
    return [[array[clip] for array in arrays] for clip in range(len(grids[0]))]


class _Search:
    def __init__(
        self,
        network: MSVQVAE,
        clips: Tensor,
        planes: int,
        trade: float,
        prior: Prior | None,
        before: Sequence[Grid] | None,
        follows: Sequence[bool],
    ) -> None:
        self.network, self.clips, self.trade = network, clips, trade
        self.planes = planes  # of details, behind the codes
        self.prior, self.before = prior, before
        self.follows = follows or [False] * len(clips)
        self.books = network.codebooks()
        self.levels = network.config.first_stage
        self.visibility = visibility(clips)
        self.generator = torch.Generator().manual_seed(0)  # equal input, equal output
        self.price: Tensor | None = None  # λ of each clip, distortion per bit
        self.curvatures: list[Tensor] = []  # (C, C) half the mean Hessian, per level

    def run(self, grids: list[Tensor], rounds: int, stiffness: float) -> tuple[Tensor, ...]:
        best = self._look(grids)
        stiff = torch.full_like(best.score, stiffness)
        closest = None if self._priced else _Shown(best.grids, self._shown(best.grids))
        for number in range(rounds):
            moved = self._move(best, stiff, number)
            found = self._look(moved, model=number + 1 < rounds)
            better = found.score < best.score
            best = _choose(better, found, best)
            stiff = torch.where(better, stiff / LOOSEN, stiff * TIGHTEN)
            if closest is not None:
                closest = closest.or_closer(best.grids, self._shown(best.grids))
        return tuple(best.grids if closest is None else closest.grids)

    @property
    def _priced(self) -> bool:
        return self.prior is not None and bool(self.trade)

    @torch.no_grad()
    def _shown(self, grids: list[Tensor]) -> Tensor:
        """(B,) distortion of what is shown."""
        if not self.planes:
            return self._distortion(self.network.decode(grids))
        _, shown = _with_details(self.network, self.clips, grids, self.planes)
        return self._distortion(shown)

    def _look(self, grids: list[Tensor], model: bool = True) -> _State:
        """How good codes are and, with ``model``, where it gets better from there."""
        with torch.enable_grad():
            shifts, error, picture, guesses = self._decode(grids)
            slopes, pushed = [], []
            if model:
                slopes = list(torch.autograd.grad(error.sum(), shifts, retain_graph=True))
                signs = torch.randint(0, 2, picture.shape, generator=self.generator) * 2.0 - 1
                signs = signs.to(picture.device) * self.visibility.sqrt()
                probe = (picture * signs).sum() * (255 / 3**0.5)
                pushed = list(torch.autograd.grad(probe, shifts))
        weights = []
        for push in pushed:
            if len(self.curvatures) < len(pushed):
                rows = push.flatten(0, 3)
                self.curvatures.append(rows.T @ rows / len(rows))
            power = push.square().mean(-1)
            # One probe of few channels is a noisy estimate of how much a place counts.
            weights.append((power / power.mean() + 1) / 2)
        return _State(grids, self._score(grids, error.detach()), slopes, weights, guesses)

    def _score(self, grids: list[Tensor], error: Tensor) -> Tensor:
        """(B,) D + λR of each clip."""
        if self.prior is None or not self.trade:
            return error
        chunks, previous = self._arrays(grids)
        bits = torch.tensor(
            [
                sum(float(cost.sum()) for cost in self.prior.cost(chunk, before))
                for chunk, before in zip(chunks, previous, strict=True)
            ],
            device=error.device,
        )
        if self.price is None:
            self.price = self.trade * error / bits.clamp(min=1)
        return error + self.price * bits

    def _arrays(self, grids: list[Tensor]) -> tuple[list[list[Grid]], list[Sequence[Grid] | None]]:
        """For each clip its grids, and those of the chunk before it if the prior may look."""
        chunks = _chunks(grids)
        previous = [
            last if follows else None
            for last, follows in zip([self.before, *chunks], self.follows, strict=False)
        ]
        return chunks, previous

    def _decode(
        self, grids: list[Tensor]
    ) -> tuple[list[Tensor], Tensor, Tensor, dict[int, Tensor]]:
        """Shifts of code vectors (all 0), distortion (B,), picture, what the decoder guesses."""
        shifts = [
            torch.zeros(*grid.shape, book.shape[1], device=grid.device, requires_grad=True)
            for grid, book in zip(grids[: self.levels + 1], self.books, strict=False)
        ]
        picture, guesses = self.network.reconstruct(grids, shifts)
        error = self._distortion(picture)
        return shifts, error, picture, {number: guess.detach() for number, guess in guesses.items()}

    def _distortion(self, pictures: Tensor) -> Tensor:
        """(B,) mean over the colours, weighed sum over the pixels, of squared 8-bit values."""
        error = (255 * (pictures - self.clips)).square() * self.visibility
        return error.flatten(1).sum(1) / 3

    def _move(self, state: _State, stiff: Tensor, turn: int) -> list[Tensor]:
        """Move every place whose turn it is to the entry of the least modelled D + λR."""
        moved = []
        shift: Tensor | None = None  # of the residual stages' sum, so far
        for level, grid in enumerate(state.grids):
            source = min(level, self.levels)
            book, slope = self.books[level], state.slopes[source]
            weight = stiff[:, None, None, None] * state.weights[source]
            curvature = self.curvatures[source]
            if shift is not None:
                slope = slope + 2 * weight[..., None] * (shift @ curvature)
            here, guess = book[grid], state.guesses.get(level)
            if guess is not None:
                here = torch.where(grid[..., None] > 0, here, guess)
            # (e - here) · slope + weight (e - here)ᵀ M (e - here), less what all entries share
            slope = slope - 2 * weight[..., None] * (here @ curvature)
            bent = ((book @ curvature) * book).sum(1)
            best = torch.empty_like(grid)
            for where, bits in self._tables(level, state.grids):
                cost = slope[where] @ book.T + weight[where][..., None] * bent
                if guess is not None:
                    there = guess[where]
                    pull = slope[where] + weight[where][..., None] * (there @ curvature)
                    cost[..., 0] = (pull * there).sum(-1)
                if bits is not None:
                    assert self.price is not None
                    cost += self.price[:, None, None, None] * bits
                best[where] = cost.argmin(-1)
            best = torch.where(_waiting(grid, turn), grid, best)
            moved.append(best)
            if level >= self.levels:
                step = book[best] - here
                shift = step if shift is None else shift + step
        return moved

    def _tables(
        self, level: int, grids: list[Tensor]
    ) -> Iterator[tuple[tuple[Any, ...], Tensor | None]]:
        """Part by part an index of places, and the bits of every entry there if they count.

        In parts, as a level of 1024 entries takes 8 MiB for each chunk of 64×64.
        """
        if self.prior is None or not self.trade:
            for t in range(grids[level].shape[1]):
                yield (slice(None), slice(t, t + 1)), None
            return
        chunks, previous = self._arrays(grids[: level + 1])
        for (clips, times, y, x), bits in self.prior.tables(level, chunks, previous):
            where = clips, times, torch.from_numpy(y), torch.from_numpy(x)
            yield where, torch.from_numpy(bits).to(self.clips.device)


def _waiting(grid: Tensor, turn: int) -> Tensor:
    """(T', H', W') which places wait: none at first, then a third, no two of them side by side."""
    t, y, x = (torch.arange(count, device=grid.device) for count in grid.shape[1:])
    return ((t[:, None, None] + y[:, None] + 2 * x) % 3 == turn % 3) & (turn > 0)


@dataclass(frozen=True)
class _Shown:
    """Codes, and the distortion (B,) of what is shown of them."""

    grids: list[Tensor]
    error: Tensor

    def or_closer(self, grids: list[Tensor], error: Tensor) -> _Shown:
        """These codes where they are closer, clip by clip."""
        closer = error < self.error
        kept = [_pick(closer, x, y) for x, y in zip(grids, self.grids, strict=True)]
        return _Shown(kept, torch.minimum(error, self.error))


@dataclass(frozen=True)
class _State:
    """Codes, how good they are, and squared error and bits around them. All for B clips.

    Attributes:
        grids: (B, T', H', W') int64, per grid.
        score: (B,) D + λR.
        slopes: (B, T', H', W', C) gradient, per level, then of the residual stages' sum.
        weights: (B, T', H', W') how much a place counts, 1 on average, likewise.
        guesses: what index 0 stands for, see :class:`vqcodec.model.network.Decoded`.
    """

    grids: list[Tensor]
    score: Tensor
    slopes: list[Tensor]
    weights: list[Tensor]
    guesses: dict[int, Tensor]


def _choose(condition: Tensor, yes: _State, no: _State) -> _State:
    """One or the other, clip by clip (B,)."""

    def pick_all(a: list[Tensor], b: list[Tensor]) -> list[Tensor]:
        return [_pick(condition, x, y) for x, y in zip(a, b, strict=False)]

    return _State(
        pick_all(yes.grids, no.grids),
        _pick(condition, yes.score, no.score),
        pick_all(yes.slopes, no.slopes),
        pick_all(yes.weights, no.weights),
        {
            number: _pick(condition, guess, no.guesses[number])
            for number, guess in yes.guesses.items()
        },
    )


def _pick(condition: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    return torch.where(condition.reshape(-1, *[1] * (yes.ndim - 1)), yes, no)
