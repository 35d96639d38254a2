"""What comes after details: a small network that takes away what their quantiser has left.

Planes of details correct single coefficients and leave all others as the codes have them. What is
missing can be told in part from what is there, beside it and in the frames before and after, as
the loop filters of other codecs do. It runs on 2×2 pixels, once for whatever planes there are.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vqcodec.model.layers import Down, Up, blocks

_STRIDE = 2
_LOUD = 4.0  # details are small beside pictures
_PIXELS = 1 << 19  # of all frames of all clips, that it runs on at once


class Restoration(nn.Module):
    """Pictures with details to pictures closer to the source. It begins as the identity.

    Args:
        planes: how many planes of details there may be.
        width: channels.
        count: residual blocks.
    """

    def __init__(self, planes: int, width: int, count: int) -> None:
        super().__init__()
        self.enter = Down(9, width, 1, _STRIDE)
        self.planes = nn.Embedding(planes, width)
        self.blocks = blocks(count, width)
        self.leave = Up(width, 3, 1, _STRIDE)
        for parameter in (self.planes.weight, *self.leave.parameters()):
            nn.init.zeros_(parameter)

    def forward(self, decoded: Tensor, details: Tensor, planes: Tensor) -> Tensor:
        """What to show.

        Args:
            decoded: (B, 3, T, H, W) in 0..1, of codes alone.
            details: of the same shape and unit, what is added to it.
            planes: (B,) integers, of how many planes, from 1.

        Returns:
            (B, 3, T, H, W) float32, nominally in 0..1.
        """
        if torch.is_grad_enabled():
            return self._restored(decoded, details, planes)
        chunk = decoded[0, 0].numel()
        parts = [
            torch.split(whole, max(1, _PIXELS // chunk)) for whole in (decoded, details, planes)
        ]
        return torch.cat([self._in_strips(*part) for part in zip(*parts, strict=True)])

    def _in_strips(self, decoded: Tensor, details: Tensor, planes: Tensor) -> Tensor:
        """Large pictures take less memory in strips, each with as much around it as it looks at."""
        batch, _, frames, height, width = decoded.shape
        strip = max(1, _PIXELS // (batch * frames * width * _STRIDE)) * _STRIDE
        reach = len(self.blocks) * _STRIDE
        restored = torch.empty_like(decoded)
        for top in range(0, height, strip):
            begin, end = max(0, top - reach), min(height, top + strip + reach)
            found = self._restored(decoded[..., begin:end, :], details[..., begin:end, :], planes)[
                ..., top - begin :, :
            ]
            restored[..., top : top + strip, :] = found[..., :strip, :]
        return restored

    def _restored(self, decoded: Tensor, details: Tensor, planes: Tensor) -> Tensor:
        picture = (decoded + details).clamp(0, 1)
        seen = torch.cat([picture - 0.5, _LOUD * details, decoded - 0.5], 1)
        level = self.planes(planes - 1)[:, :, None, None, None]
        change: Tensor = self.leave(self.blocks(self.enter(seen) + level))
        return picture + change.float() / _LOUD
