"""Coefficients of details as numbers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vqcodec.model.config import DetailConfig
from vqcodec.model.details import quantised


def dequantise(symbols: Sequence[Tensor], config: DetailConfig) -> Tensor:
    """By block, what symbols of the first planes make most likely."""
    found = quantised(symbols, config)
    return torch.from_numpy(config.likely(found.values.numpy())) * found.step
