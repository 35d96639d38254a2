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

import numpy as np
import torch
from torch import Tensor

from vqcodec.entropy.details import BLOCK, COLOURS, LIMIT, refined, symbols_of
from vqcodec.model.config import DetailConfig

# Brightness, red against blue, and green against both: orthonormal, so errors are the pixels' own.
_COLOURS = ((1, 1, 1), (1, 0, -1), (1, -2, 1))


def analyse(residual: Tensor) -> Tensor:
    """(B, 3, F, H, W) → (B, 3 F, H, W) coefficients, in the order of a plane's grid.

    Coefficient (i, j) of the block (y, x) is at (i · H/8 + y, j · W/8 + x): each frequency is one
    rectangle.
    """
    b, _, frames, height, width = residual.shape
    blocks = residual.reshape(b, COLOURS, frames, height // BLOCK, BLOCK, width // BLOCK, BLOCK)
    space, time, colours = (m.to(residual) for m in _matrices(frames))
    found = torch.einsum("bctykxl,ik->bctiyxl", blocks, space)
    found = torch.einsum("bctiyxl,jl->bctiyjx", found, space)
    found = torch.einsum("bctiyjx,dc->bdtiyjx", found, colours)
    found = torch.einsum("bdtiyjx,ft->bdfiyjx", found, time)
    return found.reshape(b, COLOURS * frames, height, width)


def synthesise(coefficients: Tensor) -> Tensor:
    """Inverse of :func:`analyse`."""
    b, steps, height, width = coefficients.shape
    frames = steps // COLOURS
    shape = b, COLOURS, frames, BLOCK, height // BLOCK, BLOCK, width // BLOCK
    space, time, colours = (m.to(coefficients) for m in _matrices(frames))
    found = torch.einsum("bdfiyjx,ft->bdtiyjx", coefficients.reshape(shape), time)
    found = torch.einsum("bdtiyjx,dc->bctiyjx", found, colours)
    found = torch.einsum("bctiyjx,jl->bctiyxl", found, space)
    found = torch.einsum("bctiyxl,ik->bctykxl", found, space)
    return found.reshape(b, COLOURS, frames, height, width)


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


def dequantise(symbols: Sequence[Tensor], config: DetailConfig) -> Tensor:
    """Symbols of the first planes → coefficients, float32, of the same shape."""
    arrays = [grid.to(torch.int16).cpu().numpy() for grid in symbols]
    values = np.zeros_like(arrays[0])
    for plane, grid in enumerate(arrays):
        values = refined(2 * values, grid, plane).astype(np.int16)
    coefficients = config.likely(values) * np.float32(config.step_at(len(symbols) - 1))
    return torch.from_numpy(coefficients).to(symbols[0].device)


def _matrices(frames: int) -> tuple[Tensor, Tensor, Tensor]:
    colours = torch.tensor(_COLOURS, dtype=torch.float64)
    return _cosines(BLOCK), _cosines(frames), colours / colours.norm(dim=1, keepdim=True)


def _cosines(size: int) -> Tensor:
    """(size, size): the orthonormal cosine transform, a frequency a row (DCT-II)."""
    number = torch.arange(size, dtype=torch.float64)
    rows = (math.pi / size * number[:, None] * (number + 0.5)).cos() * math.sqrt(2 / size)
    rows[0] /= math.sqrt(2)
    return rows
