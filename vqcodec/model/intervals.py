"""Where in its interval a coefficient is.

Symbols of details say between which two values a coefficient lies, and a restored picture says
how large it looks there. This network has both, of all coefficients around: it runs on 8×8 blocks,
whose frequencies are its channels, and over frequencies in time, with those of a split block's
parts side by side. What it tells always lies inside the interval, as that is certain where the
nearest values were taken.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from vqcodec.entropy.details import BLOCK, COLOURS, SPLITS
from vqcodec.model.details import Quantised
from vqcodec.model.layers import Mix, blocks

_FREQUENCIES = COLOURS * BLOCK * BLOCK
_PLACES = 8  # functions of the place among frequencies in time
_OUTSIDE = 3.0  # halves of an interval, that a coefficient may seem to be from its middle
_LOUD, _LOUDEST = 2.0, 8  # steps
_NARROWEST = 1e-3  # half of an interval, in steps


class Intervals(nn.Module):
    """Coefficients brought into their intervals. It begins with a fixed curve, for each alone.

    Args:
        width: channels.
        count: residual blocks.
        planes: how many planes of details there are.
    """

    def __init__(self, width: int, count: int, planes: int) -> None:
        super().__init__()
        self.enter = Mix(4 * _FREQUENCIES + _PLACES, width)
        self.plane = nn.Embedding(planes, width)
        self.split = nn.Embedding(SPLITS, _PLACES * width)
        self.blocks = blocks(count, width)
        self.leave = Mix(width, 2 * _FREQUENCIES)
        for parameter in (self.plane.weight, self.split.weight, *self.leave.parameters()):
            nn.init.zeros_(parameter)

    @property
    def reach(self) -> int:
        """Of how many pixels around a block it knows."""
        return len(self.blocks) * BLOCK

    def forward(self, seen: Tensor, details: Quantised) -> Tensor:
        """Coefficients, as :func:`vqcodec.model.details.by_block` has them, in 8-bit values.

        Args:
            seen: (B, 192, F, H/8, W/8) float32, of the restored picture.
            details: what planes say of them.

        Returns:
            Float32 of the same shape, each within its interval.
        """
        waves, step = _waves(seen.shape[2], seen.device), details.step
        known = details.values.to(seen.dtype)
        size = known.abs()
        middle = (details.low + details.high) / (2 * step)
        half = ((details.high - details.low) / (2 * step)).clamp(min=_NARROWEST)
        offset = (seen / step - middle) / half
        told = [
            offset.clamp(-_OUTSIDE, _OUTSIDE),
            (known / _LOUD).clamp(-_OUTSIDE, _OUTSIDE),
            size.clamp(max=_LOUDEST).sqrt(),
            half - torch.where(size > 0, 0.5, 1.0),  # 0 where nothing but symbols was known
            _spread(waves, size),
        ]
        features = self.enter(torch.cat(told, 1))
        features = features + self.plane.weight[details.plane][:, None, None, None]
        features = features + self._of_splits(details.splits, waves)
        shift, gain = self.leave(self.blocks(features)).float().chunk(2, 1)
        return step * (middle + half * torch.tanh(offset * (1 + gain) + shift))

    def _of_splits(self, splits: Tensor, waves: Tensor) -> Tensor:
        """(B, h, w) → (B, width, F, h, w): what being split so adds at each frequency in time."""
        told = self.split(splits).unflatten(-1, (_PLACES, -1)).movedim(-1, 1)
        added: Tensor = (told.to(waves.dtype) @ waves).movedim(-1, 2)
        return added.contiguous(memory_format=torch.channels_last_3d)


def _waves(frames: int, device: torch.device) -> Tensor:
    """(8, F): functions of where a frequency in time is among the F there are."""
    along = (torch.arange(frames, device=device) + 0.5) / frames
    order = torch.arange(_PLACES, device=device)
    return torch.cos(math.pi * order[:, None] * along)


def _spread(waves: Tensor, like: Tensor) -> Tensor:
    """(8, F) → (B, 8, F, h, w) for (B, C, F, h, w)."""
    batch, _, _, height, width = like.shape
    spread = waves[:, :, None, None].expand(batch, -1, -1, height, width)
    return spread.contiguous(memory_format=torch.channels_last_3d)  # as all else is
