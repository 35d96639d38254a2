"""MS-VQ-VAE: a hierarchy of vector-quantised grids over space and time (paper, section 3.1).

For the two-level model of the paper:

    clip ── down ── blocks ──┬─────────────────── code ── VQ bottom ─┐
                             └─ down ── code ──── VQ top             │ blocks ── up ── clip
                                                   └── blocks ── up ─┴─┘
                                                    (decoded top, seen by both)

Encoding a finer level sees the decoded coarser ones, so it spends its code on what they miss
(VQ-VAE-2). Fully convolutional: any T, H, W that are multiples of the top strides.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vqcodec.model.config import ModelConfig
from vqcodec.model.layers import Down, Up, blocks
from vqcodec.model.quantizer import VectorQuantizer


class Output(NamedTuple):
    """A training pass.

    Attributes:
        clip: (B, 3, T, H, W) reconstruction, nominally in 0..1 (not clamped).
        indices: per level, coarsest first, (B, T', H', W') int64.
        commitment: scalar, sum of the levels' commitment losses.
    """

    clip: Tensor
    indices: tuple[Tensor, ...]
    commitment: Tensor


class MSVQVAE(nn.Module):
    """The network of a :class:`ModelConfig`.

    Parameters named ``analysis.*`` run only in the encoder; all others decide decoded pictures
    (see :attr:`vqcodec.model.checkpoint.Checkpoint.model_id`).
    """

    def __init__(self, config: ModelConfig, *, rotate: bool = False, delay: int = 0) -> None:
        super().__init__()
        self.config = config
        self.analysis = Analysis(config)
        self.quantizers = nn.ModuleList(
            VectorQuantizer(
                lookup_dim=level.lookup_dim,
                dim=level.dim,
                entries=level.entries,
                rotate=rotate,
                delay=delay,
            )
            for level in config.levels
        )
        self.synthesis = Synthesis(config)

    def forward(self, clip: Tensor) -> Output:
        """Encode and decode (B, 3, T, H, W) in 0..1, with gradients through the quantisers."""
        context, indices, commitment = None, [], clip.new_zeros(())
        for number, features in enumerate(self.analysis.features(clip)):
            quantized = self.quantizers[number](self.analysis.code(number, features, context))
            context = self.synthesis.stages[number](quantized.vectors, context)
            indices.append(quantized.indices)
            commitment = commitment + quantized.loss
        assert context is not None
        return Output(context.float() + 0.5, tuple(indices), commitment)

    def encode(self, clip: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, T, H, W) in 0..1 → per level, coarsest first, (B, T', H', W') int64 indices."""
        context, indices = None, []
        last = len(self.config.levels) - 1
        for number, features in enumerate(self.analysis.features(clip)):
            quantizer = self._quantizer(number)
            indices.append(quantizer.encode(self.analysis.code(number, features, context)))
            if number < last:
                context = self.synthesis.stages[number](quantizer.decode(indices[-1]), context)
        return tuple(indices)

    def decode(self, indices: Sequence[Tensor]) -> Tensor:
        """Inverse of :meth:`encode`: index grids → (B, 3, T, H, W) float32 in 0..1."""
        if len(indices) != len(self.config.levels):
            raise ValueError(f"{len(indices)} grids for {len(self.config.levels)} levels")
        context = None
        for number, grid in enumerate(indices):
            vectors = self._quantizer(number).decode(grid)
            context = self.synthesis.stages[number](vectors, context)
        assert context is not None
        clip: Tensor = context.float() + 0.5
        return clip.clamp(0, 1)

    def adopt_codebooks(self) -> None:
        """Go on from the present codebooks in training, not from fresh ones."""
        for number in range(len(self.quantizers)):
            self._quantizer(number).adopt()

    @property
    def started(self) -> bool:
        """Whether training has drawn the codebooks from data yet."""
        return all(
            self._quantizer(number).age > self._quantizer(number).delay
            for number in range(len(self.quantizers))
        )

    def _quantizer(self, number: int) -> VectorQuantizer:
        quantizer = self.quantizers[number]
        assert isinstance(quantizer, VectorQuantizer)
        return quantizer


class Analysis(nn.Module):
    """Picture to features, for every level."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        fine_to_coarse = config.levels[::-1]
        channels, stride_t, stride = 3, 1, 1
        self.down = nn.ModuleList()
        for level in fine_to_coarse:
            self.down.append(
                nn.Sequential(
                    Down(channels, level.width, level.stride_t // stride_t, level.stride // stride),
                    blocks(level.encoder_blocks, level.width),
                )
            )
            channels, stride_t, stride = level.width, level.stride_t, level.stride
        self.fusion = nn.ModuleList()
        for level in config.levels[1:]:
            self.fusion.append(
                nn.Sequential(
                    nn.Conv3d(2 * level.width, level.width, 1),
                    blocks(level.fusion_blocks, level.width),
                )
            )
        self.heads = nn.ModuleList(
            nn.Conv3d(level.width, level.lookup_dim, 1) for level in config.levels
        )

    def features(self, clip: Tensor) -> list[Tensor]:
        """(B, 3, T, H, W) in 0..1 → per level, coarsest first, (B, width, T', H', W')."""
        x, features = clip - 0.5, []
        for down in self.down:
            x = down(x)
            features.append(x)
        return features[::-1]

    def code(self, number: int, features: Tensor, context: Tensor | None) -> Tensor:
        """A level's vectors to be quantised: (B, lookup_dim, T', H', W') float32.

        ``context`` is what the coarser levels decode to on this grid; None at the coarsest.
        """
        if context is not None:
            features = self.fusion[number - 1](torch.cat([features, context], 1))
        with torch.autocast(features.device.type, enabled=False):
            z: Tensor = self.heads[number](features.float())
        return z


class Synthesis(nn.Module):
    """Code vectors to picture: one stage a level, coarsest first."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.stages = nn.ModuleList()
        for number, level in enumerate(config.levels):
            if number + 1 < len(config.levels):
                finer = config.levels[number + 1]
                outputs, t, s = finer.width, finer.stride_t, finer.stride
            else:
                outputs, t, s = 3, 1, 1
            context = level.width if number else 0
            self.stages.append(
                Stage(
                    level.dim + context,
                    level.width,
                    outputs,
                    count=level.decoder_blocks,
                    t=level.stride_t // t,
                    s=level.stride // s,
                )
            )


class Stage(nn.Module):
    """Join a level's code vectors with the coarser levels' output, refine, scale up.

    The output is a (B, width of the next level, ...) context on the next level's grid or, at the
    last level, the picture less its mid-grey, (B, 3, T, H, W).
    """

    def __init__(
        self, inputs: int, width: int, outputs: int, *, count: int, t: int, s: int
    ) -> None:
        super().__init__()
        self.join = nn.Conv3d(inputs, width, 1)
        self.blocks = blocks(count, width)
        self.up = Up(width, outputs, t, s)

    def forward(self, vectors: Tensor, context: Tensor | None) -> Tensor:
        x = vectors if context is None else torch.cat([vectors, context], 1)
        y: Tensor = self.up(self.blocks(self.join(x)))
        return y
