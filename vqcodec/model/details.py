"""Details: what the decoded picture lacks, as the quantised coefficients of a fixed transform.

A learned network of this size has a ceiling, and vectors of many channels pay for all of them. At
higher rates it is better to correct the picture itself, where it needs it: by an orthonormal cosine
transform over the whole chunk in time and over 8×8 pixels, of three decorrelated colours, quantised
with a wide zone of zeros. Where little lasts as long as a chunk, a block is split in time into two,
four or eight parts with transforms of their own, whose coefficients of one frequency lie side by
side (as AAC interleaves its short windows).

Each plane of symbols halves the step and refines what is there (embedded quantisation, as in JPEG
2000), so each is a quality level. Of a coefficient that is not 0 so far it says in which half of
its interval that is. Of one that is 0 so far much is known without being said: the restored picture
of the planes before tells where it seems to be (:func:`aimed`). The next plane says whether it is
within a step of there, and if not, on which side. So its symbols tell what cannot be known without
them, most of all signs. They are integers that are read without a look at the picture: decoders
that compute it a little differently read the same, and what they show differs as little.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vqcodec.entropy.details import (
    BLOCK,
    COLOURS,
    LIMIT,
    SPLITS,
    page_of,
    refined,
    splits_of,
    symbols_of,
)
from vqcodec.model.config import DetailConfig

# Brightness, red against blue, and green against both: orthonormal, so errors are the pixels' own.
_COLOURS = ((1, 1, 1), (1, 0, -1), (1, -2, 1))


# An estimate of bits decides how a block is split, at the step of this plane; more parts have to
# save so much, and so many bits. Chosen on validation footage (docs/training-log.md).
_PLANE = 2
_NOISE = 0.6  # of the step: what is far below it costs nothing
_SAVED, _SAVED_BITS = 0.08, 4.0

_NARROWEST = 1e-6  # interval, in 8-bit values


class Coefficients(NamedTuple):
    """What pictures have beyond their codes.

    Attributes:
        grid: (B, 3 F, H, W) float32, in 8-bit values, in the order of a plane's grid.
        splits: (B, H/8, W/8) int64, 0..3: how blocks are split, by halving so many times.
    """

    grid: Tensor
    splits: Tensor

    def of(self, clips: slice) -> Coefficients:
        """Of some clips of a batch."""
        return Coefficients(self.grid[clips], self.splits[clips])


class Quantised(NamedTuple):
    """What planes of symbols say of coefficients: between which two values they lie.

    All are as :func:`by_block` has them.

    Attributes:
        values: (B, 192, F, H/8, W/8) int16, as they are coded: 0 so far, or the sign of what is
            beyond and how far, in steps or about.
        low, high: float32, in 8-bit values.
        likely: float32, likewise: where between them.
        plane: the last plane that is there, from 0.
        step: of that plane, in 8-bit values.
        splits: (B, H/8, W/8) int64, how blocks are split.
    """

    values: Tensor
    low: Tensor
    high: Tensor
    likely: Tensor
    plane: int
    step: float
    splits: Tensor

    def of(self, clips: slice) -> Quantised:
        """Of some clips of a batch."""
        return self._each(lambda part: part[clips], self.splits[clips])

    def rows(self, rows: slice) -> Quantised:
        """Of some rows of pixels, whole blocks."""
        blocks = slice(rows.start // BLOCK, rows.stop // BLOCK)
        return self._each(lambda part: part[..., blocks, :], self.splits[:, blocks])

    def _each(self, of: Callable[[Tensor], Tensor], splits: Tensor) -> Quantised:
        values, low, high, likely = map(of, (self.values, self.low, self.high, self.likely))
        return Quantised(values, low, high, likely, self.plane, self.step, splits)

    @property
    def picture(self) -> Tensor:
        """(B, 3, F, H, W) float32, as pixels of 0..1: what to add where it is likely."""
        return synthesise_blocks(self.likely, self.splits) / 255


class Plane(NamedTuple):
    """Coefficients as a plane says them, both (B, 3 F, H, W) in the order of its grid.

    Attributes:
        symbols: int16; in the first plane a page more.
        aims: float32, where they are in truth, on the scale of their values.
    """

    symbols: Tensor
    aims: Tensor


def analyse(residual: Tensor, splits: Tensor) -> Tensor:
    """(B, 3, F, H, W) → (B, 3 F, H, W) coefficients, in the order of a plane's grid.

    Coefficient (i, j) of the block (y, x) is at (i · H/8 + y, j · W/8 + x): each frequency is one
    rectangle.
    """
    return _as_grid(in_time(splits, residual.shape[2]) @ _in_space(residual))


def synthesise(coefficients: Coefficients) -> Tensor:
    """Inverse of :func:`analyse`."""
    return synthesise_blocks(by_block(coefficients.grid), coefficients.splits)


def by_block(grid: Tensor) -> Tensor:
    """(B, 3 F, H, W) → (B, 192, F, H/8, W/8): a channel for each colour's frequencies in space."""
    b, steps, height, width = grid.shape
    shape = b, COLOURS, steps // COLOURS, BLOCK, height // BLOCK, BLOCK, width // BLOCK
    return grid.reshape(shape).permute(0, 2, 4, 6, 1, 3, 5).flatten(4).permute(0, 4, 1, 2, 3)


def analyse_blocks(residual: Tensor, splits: Tensor) -> Tensor:
    """(B, 3, F, H, W) → (B, 192, F, H/8, W/8) coefficients, as :func:`by_block` has them.

    Args:
        residual: pictures.
        splits: (B, H/8, W/8) int64, how blocks are split.
    """
    blocks = in_time(splits, residual.shape[2]) @ _in_space(residual)
    return blocks.permute(0, 4, 3, 1, 2)


def synthesise_blocks(coefficients: Tensor, splits: Tensor) -> Tensor:
    """Inverse of :func:`analyse_blocks`."""
    blocks = coefficients.permute(0, 3, 4, 2, 1)
    b, down, across, frames, _ = blocks.shape
    blocks = in_time(splits, frames).mT @ blocks @ _matrix().to(blocks.device)
    blocks = blocks.reshape(b, down, across, frames, COLOURS, BLOCK, BLOCK)
    return blocks.permute(0, 4, 3, 1, 5, 2, 6).reshape(b, COLOURS, frames, down * BLOCK, -1)


def lacking(residual: Tensor, config: DetailConfig) -> Coefficients:
    """(B, 3, F, H, W), in 8-bit values → its coefficients, blocks split as it takes fewest bits."""
    blocks, frames = _in_space(residual), residual.shape[2]
    scale = 1 / (_NOISE * config.step_at(_PLANE))
    bits = torch.stack(
        [
            (scale * (time @ blocks)).square_().log1p_().sum((3, 4)) / math.log(4)
            for time in _ways(frames).to(blocks.device)
        ]
    )
    bits[1:] = (1 + _SAVED) * bits[1:] + _SAVED_BITS
    splits = bits.argmin(0)
    return Coefficients(_as_grid(in_time(splits, frames) @ blocks), splits)


def quantise(wanted: Coefficients, before: Quantised | None, config: DetailConfig) -> Plane:
    """The next plane of what is wanted, given what those before it say; None: the first."""
    aims, known = by_block(wanted.grid), torch.zeros_like(wanted.grid, dtype=torch.int16)
    if before is None:
        plane, aims = 0, aims / config.step
        size = aims.abs().clamp(max=LIMIT).to(torch.int16)
    else:
        plane, known = before.plane + 1, before.values
        from_zero = (aims - before.likely) / config.step_at(plane)
        inside = (aims - before.low) / (before.high - before.low).clamp(min=_NARROWEST)
        inside = torch.where(known > 0, inside, 1 - inside).clamp(0, 1)
        sign, known = known.sign(), 2 * known
        aims = torch.where(known == 0, from_zero, sign * (known.abs() + 2 * inside))
        size = torch.minimum(aims.abs(), known.abs() + 1).to(torch.int16)
        known = grid_of(known)
    aims, values = grid_of(aims), grid_of(torch.where(aims < 0, -size, size))
    symbols = symbols_of(values.cpu().numpy(), known.cpu().numpy(), plane).astype(np.int16)
    if plane == 0:
        pages = np.stack([page_of(own) for own in wanted.splits.cpu().numpy().astype(np.int16)])
        symbols = np.concatenate([symbols, pages], 1)
    return Plane(torch.from_numpy(symbols).to(aims.device), aims)


def unaimed(wanted: Coefficients, config: DetailConfig) -> Tensor:
    """What all planes would say if none was aimed: their grid (B, 3 F, H, W), in 8-bit values."""
    step = config.step_at(config.planes - 1)
    most = (LIMIT + 1 << config.planes - 1) - 1
    values = (wanted.grid / step).clamp(-most, most).to(torch.int16)
    return step * torch.from_numpy(config.likely(values.cpu().numpy())).to(values.device)


def quantised(symbols: Tensor, before: Quantised | None, config: DetailConfig) -> Quantised:
    """What the grid of a plane says, given what those before it say; None: the first."""
    if before is None:
        return _first(symbols, config)
    plane = before.plane + 1
    step, here = config.step_at(plane), before.likely
    low, high, known = before.low, before.high, before.values
    values = _refined(2 * known, by_block(symbols), plane)
    upper, lower = values > 0, values < 0
    # Which half it is of those that are not 0 so far; beyond which end, or neither, of the zone of
    # zeros of the others.
    middle, outer = (low + high) / 2, values % 2 != 0
    above = torch.where(known == 0, torch.minimum(here + step, high), middle)
    below = torch.where(known == 0, torch.maximum(here - step, low), middle)
    is_above = torch.where(known == 0, upper, upper == outer)
    is_below = torch.where(known == 0, lower, upper != outer)
    low, high = (
        torch.where(is_above, above, torch.where(is_below, low, torch.maximum(below, low))),
        torch.where(is_above, high, torch.where(is_below, below, torch.minimum(above, high))),
    )
    return _likely(Quantised(values, low, high, here, plane, step, before.splits), config)


def aimed(known: Quantised, seen: Tensor) -> Quantised:
    """The same, where coefficients are likely to be told by a picture.

    Args:
        known: what planes say.
        seen: (B, 3, F, H, W), in 0..1: what the restored picture is beyond that of codes alone.
    """
    found = analyse_blocks(255 * seen, known.splits)
    return known._replace(likely=found.clamp(known.low, known.high))


def _first(symbols: Tensor, config: DetailConfig) -> Quantised:
    ways = np.stack([splits_of(page) for page in symbols[:, -1:].cpu().numpy()])
    splits = torch.from_numpy(ways.clip(0, SPLITS - 1).astype(np.int64)).to(symbols.device)
    grid = by_block(symbols[:, :-1])
    values = _refined(torch.zeros_like(grid, dtype=torch.int16), grid, 0)
    near, far = (config.step * (values.abs() + more) for more in (0, 1))
    low = torch.where(values > 0, near, -far)
    high = torch.where(values < 0, -near, far)
    return _likely(Quantised(values, low, high, 0 * low, 0, config.step, splits), config)


def _likely(found: Quantised, config: DetailConfig) -> Quantised:
    """With what is likely of coefficients that are not 0; of others it is what it was before."""
    share = torch.where(found.values.abs() == 1, config.first, config.others)
    inside = share * (found.high - found.low)
    likely = torch.where(found.values > 0, found.low + inside, found.high - inside)
    kept = found.likely.clamp(found.low, found.high)
    return found._replace(likely=torch.where(found.values == 0, kept, likely))


def _refined(known: Tensor, symbols: Tensor, plane: int) -> Tensor:
    values = refined(known.cpu().numpy(), symbols.to(torch.int16).cpu().numpy(), plane)
    return torch.from_numpy(values.astype(np.int16)).to(symbols.device)


def _in_space(pictures: Tensor) -> Tensor:
    """(B, 3, F, H, W) → (B, H/8, W/8, F, 192), transformed but for time."""
    b, _, frames, height, width = pictures.shape
    blocks = pictures.reshape(b, COLOURS, frames, height // BLOCK, BLOCK, width // BLOCK, BLOCK)
    return blocks.permute(0, 3, 5, 2, 1, 4, 6).flatten(4) @ _matrix().to(pictures.device).T


def grid_of(coefficients: Tensor) -> Tensor:
    """Inverse of :func:`by_block`."""
    return _as_grid(coefficients.permute(0, 3, 4, 2, 1))


def _as_grid(blocks: Tensor) -> Tensor:
    """(B, H/8, W/8, F, 192) coefficients → (B, 3 F, H, W)."""
    parts = blocks.reshape(*blocks.shape[:4], COLOURS, BLOCK, BLOCK)
    return parts.permute(0, 4, 3, 5, 1, 6, 2).flatten(1, 2).flatten(2, 3).flatten(3)


@lru_cache(maxsize=1)
@torch.inference_mode(False)  # what is kept may be needed with gradients
def _matrix() -> Tensor:
    """(192, 192) float32: of a block's colours and pixels, a frequency a row."""
    colours = torch.tensor(_COLOURS, dtype=torch.float64)
    colours /= colours.norm(dim=1, keepdim=True)
    side = _cosines(BLOCK)
    return torch.kron(colours, torch.kron(side, side)).float()


def in_time(splits: Tensor, frames: int) -> Tensor:
    """(..., F, F) float32: of frames in blocks that are split so, a frequency of a part a row.

    Args:
        splits: (...) int64, 0..3.
        frames: F.
    """
    return _ways(frames).to(splits.device)[splits]


@lru_cache(maxsize=8)
@torch.inference_mode(False)
def _ways(frames: int) -> Tensor:
    """(SPLITS, F, F) float32: of frames, in each way to split them."""
    ways = torch.zeros(SPLITS, frames, frames, dtype=torch.float64)
    for way, matrix in enumerate(ways):
        parts = math.gcd(frames, 1 << way)
        length = frames // parts
        for part in range(parts):
            matrix[part::parts, part * length : (part + 1) * length] = _cosines(length)
    return ways.float()


def _cosines(size: int) -> Tensor:
    """(size, size): the orthonormal cosine transform, a frequency a row (DCT-II)."""
    number = torch.arange(size, dtype=torch.float64)
    rows = (math.pi / size * number[:, None] * (number + 0.5)).cos() * math.sqrt(2 / size)
    rows[0] /= math.sqrt(2)
    return rows
