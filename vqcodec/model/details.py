"""Details: what the decoded picture lacks, as the quantised coefficients of a fixed transform.

A learned network of this size has a ceiling, and vectors of many channels pay for all of them. At
higher rates it is better to correct the picture itself, where it needs it: by an orthonormal cosine
transform over the whole chunk in time and over 8×8 pixels, of three decorrelated colours, quantised
with a wide zone of zeros. Halving the step refines what is there (embedded quantisation, as in
JPEG 2000), so each halving is a plane of symbols and a quality level.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vqcodec.entropy.details import BLOCK, COLOURS, LIMIT, refined, symbols_of
from vqcodec.model.config import DetailConfig

# Brightness, red against blue, and green against both: orthonormal, so errors are the pixels' own.
_COLOURS = ((1, 1, 1), (1, 0, -1), (1, -2, 1))


class Quantised(NamedTuple):
    """Coefficients as far as planes of symbols say them.

    Attributes:
        values: (B, 192, F, H/8, W/8) int16, whole steps, as :func:`by_block` has them: where it
            is 0 the coefficient is within a step, elsewhere up to a step beyond.
        plane: the last plane that is there, from 0.
        step: of that plane, in 8-bit values.
        likely: (B, 3, F, H, W) float32, what they most likely are, as pixels of 0..1.
    """

    values: Tensor
    plane: int
    step: float
    likely: Tensor

    def of(self, clips: slice) -> Quantised:
        """Of some clips of a batch."""
        return self._replace(values=self.values[clips], likely=self.likely[clips])

    def rows(self, rows: slice) -> Quantised:
        """Of some rows of pixels, whole blocks."""
        blocks = slice(rows.start // BLOCK, rows.stop // BLOCK)
        return self._replace(values=self.values[..., blocks, :], likely=self.likely[..., rows, :])


def analyse(residual: Tensor) -> Tensor:
    """(B, 3, F, H, W) → (B, 3 F, H, W) coefficients, in the order of a plane's grid.

    Coefficient (i, j) of the block (y, x) is at (i · H/8 + y, j · W/8 + x): each frequency is one
    rectangle.
    """
    rows = analyse_blocks(residual).permute(0, 2, 3, 4, 1)
    rows = rows.reshape(*rows.shape[:4], COLOURS, BLOCK, BLOCK).permute(0, 4, 1, 5, 2, 6, 3)
    return rows.flatten(1, 2).flatten(2, 3).flatten(3)


def synthesise(coefficients: Tensor) -> Tensor:
    """Inverse of :func:`analyse`."""
    return synthesise_blocks(by_block(coefficients))


def by_block(grid: Tensor) -> Tensor:
    """(B, 3 F, H, W) → (B, 192, F, H/8, W/8): a channel for each colour's frequencies in space."""
    b, steps, height, width = grid.shape
    shape = b, COLOURS, steps // COLOURS, BLOCK, height // BLOCK, BLOCK, width // BLOCK
    return grid.reshape(shape).permute(0, 2, 4, 6, 1, 3, 5).flatten(4).permute(0, 4, 1, 2, 3)


def analyse_blocks(residual: Tensor) -> Tensor:
    """(B, 3, F, H, W) → (B, 192, F, H/8, W/8) coefficients, as :func:`by_block` has them."""
    b, _, frames, height, width = residual.shape
    blocks = residual.reshape(b, COLOURS, frames, height // BLOCK, BLOCK, width // BLOCK, BLOCK)
    rows = blocks.permute(0, 2, 3, 5, 1, 4, 6).flatten(4)
    space, time = (m.to(residual) for m in _matrices(frames))
    rows = rows @ space.T
    rows = (time @ rows.flatten(2)).reshape(rows.shape)
    return rows.permute(0, 4, 1, 2, 3)


def synthesise_blocks(coefficients: Tensor) -> Tensor:
    """Inverse of :func:`analyse_blocks`."""
    rows = coefficients.permute(0, 2, 3, 4, 1)
    b, frames, down, across, _ = rows.shape
    space, time = (m.to(coefficients) for m in _matrices(frames))
    rows = (time.T @ rows.flatten(2)).reshape(rows.shape) @ space
    rows = rows.reshape(b, frames, down, across, COLOURS, BLOCK, BLOCK)
    return rows.permute(0, 4, 1, 2, 5, 3, 6).reshape(b, COLOURS, frames, down * BLOCK, -1)


def quantise(coefficients: Tensor, config: DetailConfig, planes: int) -> list[Tensor]:
    """Coefficients, of 8-bit values → symbols of the first ``planes`` planes, int16, as shaped."""
    limit, known = LIMIT, torch.zeros_like(coefficients, dtype=torch.int16)
    found = []
    for plane in range(planes):
        size = (coefficients.abs() / config.step_at(plane)).clamp(max=limit).to(torch.int16)
        values = torch.where(coefficients < 0, -size, size)
        symbols = symbols_of(values.cpu().numpy(), known.cpu().numpy(), plane)
        found.append(torch.from_numpy(symbols).to(coefficients.device, torch.int16))
        known, limit = 2 * values, 2 * limit + 1
    return found


def likely(symbols: Sequence[Tensor], config: DetailConfig) -> Tensor:
    """Symbols of the first planes → what the coefficients most likely are, of 8-bit values."""
    return _likely(_values(symbols), len(symbols) - 1, config)


def quantised(symbols: Sequence[Tensor], config: DetailConfig) -> Quantised:
    """Symbols of the first planes, as :func:`quantise` returns them → what they say."""
    values, plane = _values(symbols), len(symbols) - 1
    pixels = synthesise(_likely(values, plane, config)) / 255
    return Quantised(by_block(values), plane, config.step_at(plane), pixels)


def _values(symbols: Sequence[Tensor]) -> Tensor:
    """Symbols of the first planes → coefficients in whole steps of the last of them, int16."""
    arrays = [grid.to(torch.int16).cpu().numpy() for grid in symbols]
    values = np.zeros_like(arrays[0])
    for plane, grid in enumerate(arrays):
        values = refined(2 * values, grid, plane).astype(np.int16)
    return torch.from_numpy(values).to(symbols[0].device)


def _likely(values: Tensor, plane: int, config: DetailConfig) -> Tensor:
    inside = torch.from_numpy(config.likely(values.cpu().numpy())).to(values.device)
    return inside * config.step_at(plane)


def _matrices(frames: int) -> tuple[Tensor, Tensor]:
    """Of a block's colours and pixels (192, 192), and of frames (F, F): a frequency a row."""
    colours = torch.tensor(_COLOURS, dtype=torch.float64)
    colours /= colours.norm(dim=1, keepdim=True)
    side = cosines(BLOCK)
    return torch.kron(colours, torch.kron(side, side)), cosines(frames)


def cosines(size: int) -> Tensor:
    """(size, size): the orthonormal cosine transform, a frequency a row (DCT-II)."""
    number = torch.arange(size, dtype=torch.float64)
    rows = (math.pi / size * number[:, None] * (number + 0.5)).cos() * math.sqrt(2 / size)
    rows[0] /= math.sqrt(2)
    return rows
