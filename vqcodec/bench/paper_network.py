"""The paper authors' own network, layer for layer as they published it, for comparing speed.

Strides and widths are theirs; weights are random, which costs the same time. Not part of the
codec: ours is :mod:`vqcodec.model.network`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

ENTRIES, DIM_BOTTOM, DIM_TOP = 1024, 256, 512


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv3d(channels, channels, 3, padding=1),
            nn.BatchNorm3d(channels),
            nn.ReLU(),
            nn.Conv3d(channels, channels, 3, padding=1),
            nn.BatchNorm3d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.body(x))


class PaperNetwork(nn.Module):
    """Encoder and decoder of the published two-level model: 42 M parameters, 160 GFLOP a clip."""

    def __init__(self) -> None:
        super().__init__()
        self.bottom = nn.Sequential(
            nn.Conv3d(3, 64, 4, 2, 1),
            _Residual(64),
            nn.Conv3d(64, DIM_BOTTOM, 4, 2, 1),
            _Residual(DIM_BOTTOM),
        )
        self.top = nn.Sequential(nn.Conv3d(DIM_BOTTOM, DIM_TOP, 4, 2, 1), _Residual(DIM_TOP))
        self.codebook_bottom = nn.Parameter(torch.randn(ENTRIES, DIM_BOTTOM))
        self.codebook_top = nn.Parameter(torch.randn(ENTRIES, DIM_TOP))
        self.decoder = nn.Sequential(
            nn.ConvTranspose3d(DIM_BOTTOM + DIM_TOP, 256, 4, 2, 1),
            nn.BatchNorm3d(256),
            nn.ReLU(),
            nn.ConvTranspose3d(256, 128, 4, 2, 1),
            nn.BatchNorm3d(128),
            nn.ReLU(),
            nn.Conv3d(128, 3, 3, padding=1),
        )

    def encode(self, clip: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, T, H, W) → top and bottom indices."""
        bottom = self.bottom(clip)
        return _nearest(self.top(bottom), self.codebook_top), _nearest(bottom, self.codebook_bottom)

    def decode(self, indices: tuple[Tensor, Tensor]) -> Tensor:
        """Top and bottom indices → (B, 3, T, H, W)."""
        top, bottom = (
            codebook[grid].permute(0, 4, 1, 2, 3)
            for grid, codebook in zip(
                indices, (self.codebook_top, self.codebook_bottom), strict=True
            )
        )
        top = nn.functional.interpolate(top, scale_factor=2)
        clip: Tensor = self.decoder(torch.cat([bottom, top], 1))
        return clip


def _nearest(features: Tensor, codebook: Tensor) -> Tensor:
    flat = features.permute(0, 2, 3, 4, 1)
    return (flat @ codebook.T - codebook.square().sum(1) / 2).argmax(-1)
