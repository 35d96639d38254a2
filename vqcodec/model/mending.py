"""Seams mended: a small network for the frames on either side of a border between chunks.

Chunks are decoded apart, so across a border an error of the decoder is a jump. A rule has taken off
what looks like one (:mod:`vqcodec.seam`). What moves and what jumps, and where a moving thing is on
the other side, can be told from the frames around: both sides' frames of one thing are sightings of
it whose errors differ. It runs on 2×2 pixels, with the frames as its channels: each has its place
beside the border.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from vqcodec.model.config import REACH, MendingConfig
from vqcodec.model.strips import strips

_STRIDE = 2
_FRAME = 3 * _STRIDE**2  # channels of a frame
_LOUD, _LOUDER = 4.0, 8.0  # errors are small beside pictures


class Mending(nn.Module):
    """Frames across a border to frames without a seam. It begins as the identity.

    Args:
        config: its shape.
        levels: how many quality levels there are.
        codes: how many of them have no details.
    """

    def __init__(self, config: MendingConfig, levels: int, codes: int) -> None:
        super().__init__()
        self.codes = codes
        self.enter = nn.Conv2d((2 * REACH + 1) * _FRAME, config.width, 1)
        self.quality = nn.Embedding(levels, config.width)
        self.blocks = _blocks(config.blocks, config.width)
        self.detail_blocks = _blocks(config.detail_blocks, config.width)
        self.leave = nn.Conv2d(config.width, 2 * REACH * _FRAME, 1)
        for parameter in (self.quality.weight, *self.leave.parameters()):
            nn.init.zeros_(parameter)

    def forward(self, frames: Tensor, moved: Tensor, quality: int) -> Tensor:
        """What to show.

        Args:
            frames: (B, 2 REACH, 3, H, W) in 0..1, half of them before the border, as the rule left
                them; H and W are even.
            moved: (B, 3, H, W) in the same units, what the rule added to the last before it.
            quality: their quality level, from 1.

        Returns:
            Float32 of the shape of ``frames``, nominally in 0..1.
        """
        if torch.is_grad_enabled():
            return self._mended(frames, moved, quality)
        steps = len(self.blocks) + (len(self.detail_blocks) if quality > self.codes else 0)
        batch, count, _, height, width = frames.shape
        mended = torch.empty_like(frames)
        for strip in strips(height, batch * count * width, _STRIDE, steps * _STRIDE):
            rows = ..., strip.seen, slice(None)
            found = self._mended(frames[rows], moved[rows], quality)
            mended[..., strip.rows, :] = found[..., strip.inside, :]
        return mended

    @torch.inference_mode()
    def shown(
        self, frames: NDArray[np.uint8], moved: NDArray[np.int16], quality: int
    ) -> NDArray[np.uint8]:
        """The same of one border, of and to 8-bit values, as :func:`vqcodec.seam.across` has them.

        Args:
            frames: (2 REACH, H, W, 3).
            moved: (H, W, 3).
            quality: their quality level, from 1.

        Returns:
            uint8 of the shape of ``frames``.
        """
        device = self.enter.weight.device
        pictures, change = (
            as_pictures(torch.from_numpy(part)[None].to(device)) for part in (frames, moved)
        )
        mended = self(pictures, change, quality)[0].clamp_(0, 1).mul_(255).add_(0.5)
        found: NDArray[np.uint8] = mended.to(torch.uint8).movedim(-3, -1).contiguous().cpu().numpy()
        return found

    def _mended(self, frames: Tensor, moved: Tensor, quality: int) -> Tensor:
        seen = torch.cat([(frames - 0.5).flatten(1, 2), _LOUDER * moved], 1)
        level = self.quality.weight[quality - 1][:, None, None]
        features = self.blocks(self.enter(F.pixel_unshuffle(seen, _STRIDE)) + level)
        if quality > self.codes:
            features = self.detail_blocks(features)
        change = self.leave(features).float() / _LOUD
        return frames + F.pixel_shuffle(change, _STRIDE).reshape(frames.shape)


def as_pictures(values: Tensor) -> Tensor:
    """8-bit values (..., H, W, 3), or differences of such, in 0..1: float32 (..., 3, H, W)."""
    return values.movedim(-1, -3).float() / 255


class _Block(nn.Module):
    """x + mix(space(norm(x))): a residual block of the other networks, for a single step in time.

    All is (B, C, H, W), channels last in memory.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.space = nn.Conv2d(channels, channels, 3, padding=1)
        self.mix = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.mix.weight)
        assert self.mix.bias is not None
        nn.init.zeros_(self.mix.bias)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        out: Tensor = x + self.mix(F.silu(self.space(y)))
        return out


def _blocks(count: int, channels: int) -> nn.Sequential:
    return nn.Sequential(*(_Block(channels) for _ in range(count)))
