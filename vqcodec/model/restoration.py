"""What comes last: a small network that brings decoded pictures closer to their source.

The decoder of codes works on coarse grids, and each of their cells makes its own pixels. Planes of
details correct single coefficients and leave all others as the codes have them. What either has
left can be told in part from what is there, beside it and in the frames before and after, as the
loop filters of other codecs do. It runs on 2×2 pixels, once for whatever grids there are. Where
details say between which values coefficients are, these are then put there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from vqcodec.entropy.details import BLOCK
from vqcodec.model.config import RestorationConfig
from vqcodec.model.details import Quantised, analyse_blocks, synthesise_blocks
from vqcodec.model.intervals import Intervals
from vqcodec.model.layers import Down, Up, blocks
from vqcodec.model.strips import Strip, strips

_STRIDE = 2
_LOUD = 4.0  # details are small beside pictures
_PIXELS = 1 << 17  # of several clips that it runs on at once: what caches hold


class Restoration(nn.Module):
    """Decoded pictures to pictures closer to the source.

    It begins as the identity, but for what intervals tell.

    Args:
        config: its shape.
        levels: how many quality levels there are.
        planes: how many of them are planes of details.
    """

    def __init__(self, config: RestorationConfig, levels: int, planes: int) -> None:
        super().__init__()
        self.enter = Down(9, config.width, 1, _STRIDE)
        self.quality = nn.Embedding(levels, config.width)
        self.blocks = blocks(config.blocks, config.width)
        self.detail_blocks = blocks(config.detail_blocks, config.width)
        self.leave = Up(config.width, 3, 1, _STRIDE)
        for parameter in (self.quality.weight, *self.leave.parameters()):
            nn.init.zeros_(parameter)
        self.intervals = (
            Intervals(config.interval_width, config.interval_blocks, planes)
            if config.interval_width and planes
            else None
        )

    def forward(self, decoded: Tensor, details: Quantised | None, quality: Tensor) -> Tensor:
        """What to show.

        Args:
            decoded: (B, 3, T, H, W) in 0..1, of codes alone.
            details: what is added to it; None if nothing is.
            quality: (B,) integers, the quality levels of these pictures, from 1.

        Returns:
            (B, 3, T, H, W) float32, nominally in 0..1.
        """
        likely = None if details is None else details.picture
        if torch.is_grad_enabled():
            picture = self._restored(decoded, likely, quality)
            return picture if details is None else self._settled(decoded, picture, details)
        count = max(1, _PIXELS // decoded[0, 0].numel())
        shown = []
        for start in range(0, len(decoded), count):
            some = slice(start, start + count)
            picture = self._restored_in_strips(decoded[some], _of(likely, some), quality[some])
            if details is not None:
                picture = self._settled_in_strips(decoded[some], picture, details.of(some))
            shown.append(picture)
        return torch.cat(shown)

    def _restored_in_strips(
        self, decoded: Tensor, details: Tensor | None, quality: Tensor
    ) -> Tensor:
        """Large pictures take less memory in strips, each with as much around it as it looks at."""
        steps = len(self.blocks) + (0 if details is None else len(self.detail_blocks))
        restored = torch.empty_like(decoded)
        for strip in _strips(decoded, _STRIDE, steps * _STRIDE):
            rows = ..., strip.seen, slice(None)
            found = self._restored(decoded[rows], _of(details, rows), quality)
            restored[..., strip.rows, :] = found[..., strip.inside, :]
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

    def _settled_in_strips(self, decoded: Tensor, picture: Tensor, details: Quantised) -> Tensor:
        """Likewise."""
        if self.intervals is None:
            return picture
        settled = torch.empty_like(picture)
        for strip in _strips(decoded, BLOCK, self.intervals.reach):
            rows = ..., strip.seen, slice(None)
            found = self._settled(decoded[rows], picture[rows], details.rows(strip.seen))
            settled[..., strip.rows, :] = found[..., strip.inside, :]
        return settled

    def _settled(self, decoded: Tensor, picture: Tensor, details: Quantised) -> Tensor:
        """The picture whose coefficients are where details say."""
        if self.intervals is None:
            return picture
        exactly = torch.autocast(picture.device.type, enabled=False)  # in training: not bfloat16
        with exactly:
            seen = analyse_blocks(255 * (picture - decoded), details.splits)
        found = self.intervals(seen, details)
        with exactly:
            return decoded + synthesise_blocks(found, details.splits) / 255


def _strips(clips: Tensor, unit: int, reach: int) -> Iterator[Strip]:
    """Strips of (B, C, T, H, W)."""
    batch, _, frames, height, width = clips.shape
    return strips(height, batch * frames * width, unit, reach)


def _of(details: Tensor | None, part: Any) -> Tensor | None:
    return None if details is None else details[part]
