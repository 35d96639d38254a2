"""What comes last: a small network that brings decoded pictures closer to their source.

The decoder of codes works on coarse grids, and each of their cells makes its own pixels. Planes of
details correct single coefficients and leave all others as the codes have them. What either has
left can be told in part from what is there, beside it and in the frames before and after, as the
loop filters of other codecs do. It runs on 2×2 pixels, once for whatever grids there are.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from vqcodec.model.config import RestorationConfig
from vqcodec.model.layers import Down, Up, blocks

_STRIDE = 2
_LOUD = 4.0  # details are small beside pictures
# Of all frames, that it runs on at once: of several clips what caches hold, of one clip more, as
# strips look beyond their edges.
_CLIPS_PIXELS, _PIXELS = 1 << 17, 1 << 19


class Restoration(nn.Module):
    """Decoded pictures to pictures closer to the source. It begins as the identity.

    Args:
        config: its shape.
        levels: how many quality levels there are.
    """

    def __init__(self, config: RestorationConfig, levels: int) -> None:
        super().__init__()
        self.enter = Down(9, config.width, 1, _STRIDE)
        self.quality = nn.Embedding(levels, config.width)
        self.blocks = blocks(config.blocks, config.width)
        self.detail_blocks = blocks(config.detail_blocks, config.width)
        self.leave = Up(config.width, 3, 1, _STRIDE)
        for parameter in (self.quality.weight, *self.leave.parameters()):
            nn.init.zeros_(parameter)

    def forward(self, decoded: Tensor, details: Tensor | None, quality: Tensor) -> Tensor:
        """What to show.

        Args:
            decoded: (B, 3, T, H, W) in 0..1, of codes alone.
            details: of the same shape and unit, what is added to it; None if there are none.
            quality: (B,) integers, the quality levels of these pictures, from 1.

        Returns:
            (B, 3, T, H, W) float32, nominally in 0..1.
        """
        if torch.is_grad_enabled():
            return self._restored(decoded, details, quality)
        count = max(1, _CLIPS_PIXELS // decoded[0, 0].numel())
        parts = [slice(start, start + count) for start in range(0, len(decoded), count)]
        return torch.cat([self._in_strips(decoded[p], _of(details, p), quality[p]) for p in parts])

    def _in_strips(self, decoded: Tensor, details: Tensor | None, quality: Tensor) -> Tensor:
        """Large pictures take less memory in strips, each with as much around it as it looks at."""
        batch, _, frames, height, width = decoded.shape
        strip = max(1, _PIXELS // (batch * frames * width * _STRIDE)) * _STRIDE
        steps = len(self.blocks) + (0 if details is None else len(self.detail_blocks))
        reach = steps * _STRIDE
        restored = torch.empty_like(decoded)
        for top in range(0, height, strip):
            begin, end = max(0, top - reach), min(height, top + strip + reach)
            rows = ..., slice(begin, end), slice(None)
            found = self._restored(decoded[rows], _of(details, rows), quality)
            restored[..., top : top + strip, :] = found[..., top - begin :, :][..., :strip, :]
        return restored

    def _restored(self, decoded: Tensor, details: Tensor | None, quality: Tensor) -> Tensor:
        added = torch.zeros_like(decoded) if details is None else details
        picture = (decoded + added).clamp(0, 1)
        seen = torch.cat([picture - 0.5, _LOUD * added, decoded - 0.5], 1)
        features = self.enter(seen) + self.quality(quality - 1)[:, :, None, None, None]
        features = self.blocks(features)
        if details is not None:
            features = self.detail_blocks(features)
        change: Tensor = self.leave(features)
        return picture + change.float() / _LOUD


def _of(details: Tensor | None, part: Any) -> Tensor | None:
    return None if details is None else details[part]
