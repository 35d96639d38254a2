"""Building blocks of the network. All tensors are (B, C, T, H, W), channels last in memory.

Compute stays on the coarse grids: pictures enter and leave through space-time shuffles, as in
pixel-unshuffle stems, because a convolution at full resolution costs more than all others together.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """x + time(space(norm(x))): a 3×3 convolution in space, then one of 3 taps in time.

    The factorised pair costs 12 C² per position where a 3×3×3 convolution costs 27 C². Both run as
    2D convolutions over views of the same memory: faster than 3D ones of a flat kernel, and for a
    (3, 1, 1) kernel over T = 2 oneDNN's bfloat16 weight gradient reads stray memory (torch 2.15).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.space = nn.Conv2d(channels, channels, 3, padding=1)
        self.time = nn.Conv2d(channels, channels, (3, 1), padding=(1, 0))
        # A block starts as the identity: deep stacks train from the first step.
        nn.init.zeros_(self.time.weight)
        assert self.time.bias is not None
        nn.init.zeros_(self.time.bias)

    def forward(self, x: Tensor) -> Tensor:
        b, c, t, h, w = x.shape
        rows = x.permute(0, 2, 3, 4, 1)
        # Layer norm over channels at each position: statistics never cross positions, so a clip's
        # borders, length and padding cannot be seen from inside.
        y = self.norm(rows)
        y = self.space(y.reshape(b * t, h, w, c).permute(0, 3, 1, 2))
        y = F.silu(y).permute(0, 2, 3, 1).reshape(b, t, h * w, c)
        y = self.time(y.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        out: Tensor = rows + y.reshape(b, t, h, w, c)
        return out.permute(0, 4, 1, 2, 3)


class Mix(nn.Conv3d):
    """A convolution of one tap: each position's channels mixed, as one matrix product.

    Several times as fast as PyTorch's own 3D convolution on a processor, and the same to the last
    bits. Parameters are named and shaped as its are.
    """

    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__(inputs, outputs, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        rows = F.linear(x.permute(0, 2, 3, 4, 1), self.weight.flatten(1), self.bias)
        return rows.permute(0, 4, 1, 2, 3)


def blocks(count: int, channels: int) -> nn.Sequential:
    """``count`` residual blocks in a row; the identity for 0."""
    return nn.Sequential(*(ResidualBlock(channels) for _ in range(count)))


def space_to_channels(x: Tensor, t: int, s: int) -> Tensor:
    """(B, C, T, H, W) → (B, C·t·s·s, T/t, H/s, W/s), channel order (C, t, s, s)."""
    b, c, frames, height, width = x.shape
    x = x.reshape(b, c, frames // t, t, height // s, s, width // s, s)
    x = x.permute(0, 2, 4, 6, 1, 3, 5, 7)
    x = x.reshape(b, frames // t, height // s, width // s, c * t * s * s)
    return x.permute(0, 4, 1, 2, 3)


def channels_to_space(x: Tensor, t: int, s: int) -> Tensor:
    """Inverse of :func:`space_to_channels`."""
    b, channels, frames, height, width = x.shape
    c = channels // (t * s * s)
    x = x.permute(0, 2, 3, 4, 1).reshape(b, frames, height, width, c, t, s, s)
    x = x.permute(0, 4, 1, 5, 2, 6, 3, 7)
    return x.reshape(b, c, frames * t, height * s, width * s)


class Down(nn.Module):
    """Unshuffle by (t, s, s), then mix channels at each position."""

    def __init__(self, inputs: int, outputs: int, t: int, s: int) -> None:
        super().__init__()
        self.t, self.s = t, s
        self.mix = Mix(inputs * t * s * s, outputs)

    def forward(self, x: Tensor) -> Tensor:
        if self.t == 1:
            return self._in_space(x)
        y: Tensor = self.mix(space_to_channels(x, self.t, self.s))
        return y

    def _in_space(self, x: Tensor) -> Tensor:
        """Frame by frame it is a convolution that does not overlap, without the shuffle's copy."""
        b, c, t, _, _ = x.shape
        weight = self.mix.weight.reshape(-1, c, self.s, self.s)
        y = F.conv2d(
            x.transpose(1, 2).flatten(0, 1),
            weight.contiguous(memory_format=torch.channels_last),  # so that the result is, too
            self.mix.bias,
            stride=self.s,
        )
        rows = y.permute(0, 2, 3, 1)
        return rows.reshape(b, t, *rows.shape[1:]).permute(0, 4, 1, 2, 3)


class Up(nn.Module):
    """Mix channels at each position, then shuffle by (t, s, s)."""

    def __init__(self, inputs: int, outputs: int, t: int, s: int) -> None:
        super().__init__()
        self.t, self.s = t, s
        self.mix = Mix(inputs, outputs * t * s * s)

    def forward(self, x: Tensor) -> Tensor:
        return channels_to_space(self.mix(x), self.t, self.s)
