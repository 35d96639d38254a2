"""Details: what the decoded picture lacks, as the quantised coefficients of a fixed transform.

A learned network of this size has a ceiling, and vectors of many channels pay for all of them. At
higher rates it is better to correct the picture itself, where it needs it: by an orthonormal cosine
transform over the whole chunk in time and over 8×8 pixels, of three decorrelated colours, quantised
with a wide zone of zeros. Where little lasts as long as a chunk, a block is split in time into two,
four or eight parts with transforms of their own, whose coefficients of one frequency lie side by
side (as AAC interleaves its short windows). Halving the step refines what is there (embedded
quantisation, as in JPEG 2000), so each halving is a plane of symbols and a quality level.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
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
    """Coefficients as far as planes of symbols say them.

    Attributes:
        values: (B, 192, F, H/8, W/8) int16, whole steps, as :func:`by_block` has them: where it
            is 0 the coefficient is within a step, elsewhere up to a step beyond.
        plane: the last plane that is there, from 0.
        step: of that plane, in 8-bit values.
        likely: (B, 3, F, H, W) float32, what they most likely are, as pixels of 0..1.
        splits: (B, H/8, W/8) int64, how blocks are split.
    """

    values: Tensor
    plane: int
    step: float
    likely: Tensor
    splits: Tensor

    def of(self, clips: slice) -> Quantised:
        """Of some clips of a batch."""
        return self._replace(
            values=self.values[clips], likely=self.likely[clips], splits=self.splits[clips]
        )

    def rows(self, rows: slice) -> Quantised:
        """Of some rows of pixels, whole blocks."""
        blocks = slice(rows.start // BLOCK, rows.stop // BLOCK)
        return self._replace(
            values=self.values[..., blocks, :],
            likely=self.likely[..., rows, :],
            splits=self.splits[:, blocks],
        )


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


def quantise(coefficients: Coefficients, config: DetailConfig, planes: int) -> list[Tensor]:
    """Coefficients → grids of the first ``planes`` planes, int16."""
    wanted, splits = coefficients
    limit, known = LIMIT, torch.zeros_like(wanted, dtype=torch.int16)
    found = []
    for plane in range(planes):
        size = (wanted.abs() / config.step_at(plane)).clamp(max=limit).to(torch.int16)
        values = torch.where(wanted < 0, -size, size)
        symbols = symbols_of(values.cpu().numpy(), known.cpu().numpy(), plane).astype(np.int16)
        if plane == 0:
            pages = np.stack([page_of(own) for own in splits.cpu().numpy().astype(np.int16)])
            symbols = np.concatenate([symbols, pages], 1)
        found.append(torch.from_numpy(symbols).to(wanted.device))
        known, limit = 2 * values, 2 * limit + 1
    return found


def likely(symbols: Sequence[Tensor], config: DetailConfig) -> Tensor:
    """Symbols of the first planes → what the coefficients most likely are, of 8-bit values."""
    return _likely(_values(symbols), len(symbols) - 1, config)


def quantised(symbols: Sequence[Tensor], config: DetailConfig) -> Quantised:
    """Grids of the first planes, as :func:`quantise` returns them → what they say."""
    values, plane = _values(symbols), len(symbols) - 1
    ways = np.stack([splits_of(page) for page in symbols[0][:, -1:].cpu().numpy()])
    splits = torch.from_numpy(ways.clip(0, SPLITS - 1).astype(np.int64)).to(values.device)
    pixels = synthesise(Coefficients(_likely(values, plane, config), splits)) / 255
    return Quantised(by_block(values), plane, config.step_at(plane), pixels, splits)


def _values(symbols: Sequence[Tensor]) -> Tensor:
    """Grids of the first planes → coefficients in whole steps of the last of them, int16."""
    first, *others = (grid.to(torch.int16).cpu().numpy() for grid in symbols)
    values = refined(np.zeros_like(first[:, :-1]), first[:, :-1], 0).astype(np.int16)
    for plane, grid in enumerate(others, start=1):
        values = refined(2 * values, grid, plane).astype(np.int16)
    return torch.from_numpy(values).to(symbols[0].device)


def _likely(values: Tensor, plane: int, config: DetailConfig) -> Tensor:
    inside = torch.from_numpy(config.likely(values.cpu().numpy())).to(values.device)
    return inside * config.step_at(plane)


def _in_space(pictures: Tensor) -> Tensor:
    """(B, 3, F, H, W) → (B, H/8, W/8, F, 192), transformed but for time."""
    b, _, frames, height, width = pictures.shape
    blocks = pictures.reshape(b, COLOURS, frames, height // BLOCK, BLOCK, width // BLOCK, BLOCK)
    return blocks.permute(0, 3, 5, 2, 1, 4, 6).flatten(4) @ _matrix().to(pictures.device).T


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
