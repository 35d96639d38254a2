"""MS-VQ-VAE: a hierarchy of vector-quantised grids over space and time (paper, section 3.1).

For the two levels of the paper, and stages that refine them:

    clip ── down ── blocks ─┬────────────── code ── VQ bottom ──────┐
                            ├─ down ─ code ─ VQ top ─ blocks ─ up ──┴─ blocks ─┐
                            └────────────── code ── residual VQ ───────────────┴─ tail ── clip

Encoding a finer level sees the decoded coarser ones, so it spends its code on what they miss
(VQ-VAE-2). Fully convolutional: any T, H, W that are multiples of the top strides.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqcodec.model.config import LevelConfig, ModelConfig
from vqcodec.model.layers import Down, Up, blocks
from vqcodec.model.quantizer import Codebook, ResidualQuantizer, VectorQuantizer


class Output(NamedTuple):
    """A training pass.

    Attributes:
        clip: (B, 3, T, H, W) reconstruction, nominally in 0..1 (not clamped).
        indices: per grid, coarsest first, (B, T', H', W') int64.
        latents: per grid, what was quantised: (B, C, T', H', W') float32, with gradients.
        commitment: scalar, sum of the quantisers' commitment losses.
    """

    clip: Tensor
    indices: tuple[Tensor, ...]
    latents: tuple[Tensor, ...]
    commitment: Tensor


class MSVQVAE(nn.Module):
    """The network of a :class:`ModelConfig`.

    A quality level *q* is the first *q* grids of indices. The decoder takes any of them: vectors
    of levels that are not there are zero, the odd steps of a split level that has but its even ones
    are filled in, and the tail is told how many grids there are.

    Parameters named ``analysis.*`` run only in the encoder; all others decide decoded pictures
    (see :attr:`vqcodec.model.checkpoint.Checkpoint.model_id`).

    Args:
        config: the architecture.
        rotate, delay: see :class:`VectorQuantizer`.
    """

    def __init__(self, config: ModelConfig, *, rotate: bool = False, delay: int = 0) -> None:
        super().__init__()
        self.config = config
        self.frozen = False
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
        self.refiner = (
            ResidualQuantizer(
                dim=config.refinement.dim,
                stages=config.refinement.stages,
                entries=config.refinement.entries,
                worth=config.refinement.worth,
                decay=config.refinement.decay,
                delay=delay,
            )
            if config.refinement is not None
            else None
        )
        self.synthesis = Synthesis(config)

    def forward(self, clip: Tensor, quality: Tensor | None = None) -> Output:
        """Encode and decode (B, 3, T, H, W) in 0..1, with gradients through the quantisers.

        Args:
            clip: the pictures.
            quality: (B,) integers, the quality level at which each clip is decoded, 1 to the
                number of grids; None for the highest.
        """
        if quality is None:
            quality = torch.full((len(clip),), len(self.config.grids))
        quality = quality.to(clip.device)
        # What the encoder sees of the coarser levels, and what the decoder has of them, differ
        # where a clip is decoded without some of them.
        seen = context = None
        indices: list[Tensor] = []
        latents: list[Tensor] = []
        commitment = clip.new_zeros(())
        features: list[Tensor] = self.analysis.features(clip)
        for number, stage in enumerate(self.synthesis.stages):
            z = self.analysis.code(number, features[number], seen)
            quantized = self.quantizers[number](z)
            there = quality - len(indices)
            indices += self._parts(number, quantized.indices, 1)
            latents += self._parts(number, z, 2)
            vectors = self._keep(number, quantized.vectors, there, context)
            context = stage(vectors, context)
            complete = bool((quality >= len(indices)).all())
            seen = context if complete else stage(quantized.vectors, seen)
            commitment = commitment + quantized.loss
        refined = None
        if self.refiner is not None:
            residual = self.refiner(
                self.analysis.refine(features[-1], seen), quality - self.config.first_stage
            )
            indices += residual.indices
            latents += residual.residuals
            commitment = commitment + residual.loss
            refined = residual.vectors
        assert context is not None
        picture = self.synthesis.finish(context, refined, quality)
        return Output(picture, tuple(indices), tuple(latents), commitment)

    def encode(self, clip: Tensor, quality: int | None = None) -> tuple[Tensor, ...]:
        """(B, 3, T, H, W) in 0..1 → the first ``quality`` grids, (B, T', H', W') int64 indices.

        They are the nearest entries, or at residual stages the zero entry where those are not worth
        their bits (:class:`ResidualQuantizer`).
        """
        count = len(self.config.grids) if quality is None else quality
        indices: list[Tensor] = []
        context = None
        features = self.analysis.features(clip)
        for number, stage in enumerate(self.synthesis.stages):
            if len(indices) >= count:
                return tuple(indices[:count])
            quantizer = self._quantizer(number)
            grid = quantizer.encode(self.analysis.code(number, features[number], context))
            indices += self._parts(number, grid, 1)
            if len(indices) < count:
                context = stage(quantizer.decode(grid), context)
        if self.refiner is not None and len(indices) < count:
            residual = self.analysis.refine(features[-1], context)
            indices += self.refiner.encode(residual, count - len(indices))
        return tuple(indices[:count])

    def decode(self, indices: Sequence[Tensor]) -> Tensor:
        """Inverse of :meth:`encode`: any number of the first grids → (B, 3, T, H, W) in 0..1."""
        if not 1 <= len(indices) <= len(self.config.grids):
            raise ValueError(f"{len(indices)} grids for a model of {len(self.config.grids)}")
        first = self.config.first_stage
        books = self.codebooks()
        vectors = [
            F.embedding(grid.long(), book)
            for grid, book in zip(indices[:first], books, strict=False)
        ]
        if len(indices) > first:
            stages = zip(indices[first:], books[first:], strict=False)
            vectors.append(
                torch.stack([F.embedding(grid.long(), book) for grid, book in stages]).sum(0)
            )
        return self.decode_vectors(vectors, len(indices))

    def codebooks(self) -> list[Tensor]:
        """The entries of each grid, (K, channels)."""
        books = [
            self._quantizer(number).codebook
            for number, level in enumerate(self.config.levels)
            for _ in level.grids
        ]
        if self.refiner is not None:
            books += self.refiner.codebooks()
        return books

    def decode_vectors(self, vectors: Sequence[Tensor], quality: int) -> Tensor:
        """Decode entries instead of their indices; gradients pass.

        Args:
            vectors: for each of the levels' grids, as many as there are, (B, T', H', W',
                lookup_dim), then, if there are stages of refinement, their sum.
            quality: how many grids these stand for.

        Returns:
            (B, 3, T, H, W) float32 in 0..1.
        """
        context = None
        rest = [vector.permute(0, 4, 1, 2, 3) for vector in vectors]
        for number, stage in enumerate(self.synthesis.stages):
            count = len(self.config.levels[number].grids)
            context = stage(self._decoded(number, rest[:count], context), context)
            rest = rest[count:]
        refined = rest[0] if rest else None
        levels = torch.full((len(vectors[0]),), quality, device=vectors[0].device)
        assert context is not None
        return self.synthesis.finish(context, refined, levels).clamp(0, 1)

    def _parts(self, number: int, whole: Tensor, axis: int) -> list[Tensor]:
        """Cut what a level has along its time ``axis`` into what each of its grids has."""
        if not self.config.levels[number].split:
            return [whole]
        halves = whole.reshape(*whole.shape[:axis], -1, 2, *whole.shape[axis + 1 :])
        return list(halves.unbind(axis + 1))

    def _decoded(self, number: int, parts: Sequence[Tensor], context: Tensor | None) -> Tensor:
        """A level's code vectors (B, dim, T', H', W') from the entries of the grids there are.

        ``parts`` are (B, lookup_dim, ...).
        """
        level, project = self.config.levels[number], self._quantizer(number).project_out
        if not parts:
            assert context is not None
            batch, _, *grid = context.shape
            return context.new_zeros(batch, level.dim, *grid)
        if len(parts) < len(level.grids):
            assert context is not None
            return self.synthesis.fill(number, project(parts[0]), context)
        decoded: Tensor = project(torch.stack(list(parts), 3).flatten(2, 3))
        return decoded

    def _keep(self, number: int, vectors: Tensor, there: Tensor, context: Tensor | None) -> Tensor:
        """A level's code vectors where of clip b no more than ``there[b]`` of its grids are."""
        count = len(self.config.levels[number].grids)
        kept = vectors * (there >= count)[:, None, None, None, None]
        half = (there > 0) & (there < count)
        if bool(half.any()):
            assert context is not None
            first = self._parts(number, vectors[half], 2)[0]
            filled = self.synthesis.fill(number, first, context[half])
            kept = kept.index_put((half.nonzero()[:, 0],), filled.to(kept.dtype))
        return kept

    def sort_codebooks(self) -> None:
        """Number all entries anew, close ones near each other (:meth:`Codebook.sort`)."""
        for codebook in self._codebooks():
            codebook.sort()

    def freeze_codes(self) -> None:
        """Stop training all that decides codes: what is left is the decoder behind them."""
        for part in (self.analysis, self.quantizers, self.refiner, self.synthesis.stages):
            if part is not None:
                part.requires_grad_(False)
        self.frozen = True

    def train(self, mode: bool = True) -> MSVQVAE:
        """Training mode; codebooks that are frozen do not move in it either."""
        super().train(mode)
        if self.frozen:
            self.quantizers.eval()
            if self.refiner is not None:
                self.refiner.eval()
        return self

    def adopt_codebooks(self) -> None:
        """Go on from the present codebooks in training, not from fresh ones."""
        for codebook in self._codebooks():
            codebook.adopt()

    @property
    def started(self) -> bool:
        """Whether training has drawn the codebooks from data yet."""
        return all(codebook.started for codebook in self._codebooks())

    def _codebooks(self) -> list[Codebook]:
        return [module for module in self.modules() if isinstance(module, Codebook)]

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
        if config.refinement is not None:
            width = config.levels[-1].width
            self.refinement_fusion = nn.Sequential(
                nn.Conv3d(2 * width, width, 1), blocks(config.refinement.encoder_blocks, width)
            )
            self.refinement_head = nn.Conv3d(width, config.refinement.dim, 1)

    @property
    def stem(self) -> nn.Module:
        """The layer that takes in the pixels."""
        finest = self.down[0]
        assert isinstance(finest, nn.Sequential)
        return finest[0]

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

    def refine(self, features: Tensor, context: Tensor | None) -> Tensor:
        """What all levels miss, on the finest grid: (B, dim, T', H', W') float32."""
        assert context is not None
        fused = self.refinement_fusion(torch.cat([features, context], 1))
        with torch.autocast(features.device.type, enabled=False):
            z: Tensor = self.refinement_head(fused.float())
        return z


class Synthesis(nn.Module):
    """Code vectors to picture: one stage a level, coarsest first, then a tail for them all."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.stages = nn.ModuleList()
        for number, level in enumerate(config.levels):
            up = None
            if number + 1 < len(config.levels):
                finer = config.levels[number + 1]
                t, s = level.stride_t // finer.stride_t, level.stride // finer.stride
                up = Up(level.width, finer.width, t, s)
            context = level.width if number else 0
            self.stages.append(
                Stage(level.dim + context, level.width, count=level.decoder_blocks, up=up)
            )
        last = config.levels[-1]
        self.refined: nn.Module = nn.Identity()
        if config.refinement is not None:
            self.refine = nn.Conv3d(config.refinement.dim, last.width, 1, bias=False)
            self.refined = blocks(config.refinement.decoder_blocks, last.width)
        self.fills = nn.ModuleDict(
            {str(number): Fill(level) for number, level in enumerate(config.levels) if level.split}
        )
        self.quality = nn.Embedding(len(config.grids), last.width)
        nn.init.zeros_(self.quality.weight)
        self.tail = nn.Sequential(
            blocks(config.tail_blocks, last.width), Up(last.width, 3, last.stride_t, last.stride)
        )

    def fill(self, number: int, even: Tensor, context: Tensor) -> Tensor:
        """All code vectors of a level from those of even steps; see :class:`Fill`."""
        vectors: Tensor = self.fills[str(number)](even, context)
        return vectors

    def finish(self, context: Tensor, refined: Tensor | None, quality: Tensor) -> Tensor:
        """Context on the finest grid, and what refines it, to (B, 3, T, H, W) float32.

        ``quality`` (B,) is the quality level of each clip, from 1.
        """
        if refined is not None:
            context = context + self.refine(refined)
        context = self.refined(context)
        level = self.quality(quality - 1)[:, :, None, None, None]
        picture: Tensor = self.tail(context + level.to(context.dtype))
        return picture.float() + 0.5


class Fill(nn.Module):
    """Code vectors of odd steps in time, guessed from the even ones and the coarser levels.

    What it learns is the difference from the mean of the step before and the step after.
    """

    def __init__(self, level: LevelConfig) -> None:
        super().__init__()
        self.join = nn.Conv3d(2 * level.dim + level.width, level.width, 1)
        self.blocks = blocks(level.fill_blocks, level.width)
        self.out = nn.Conv3d(level.width, level.dim, 1)
        for parameter in self.out.parameters():
            nn.init.zeros_(parameter)

    def forward(self, even: Tensor, context: Tensor) -> Tensor:
        """(B, dim, T'/2, H', W'), context (B, width, T', H', W') → (B, dim, T', H', W')."""
        after = torch.cat([even[:, :, 1:], even[:, :, -1:]], 2)
        x = torch.cat([even, after, context[:, :, 1::2]], 1)
        odd = (even + after) / 2 + self.out(self.blocks(self.join(x)))
        return torch.stack([even, odd], 3).flatten(2, 3)


class Stage(nn.Module):
    """Join a level's code vectors with the coarser levels' output, refine, scale up.

    The output is a context on the next level's grid, or at the last level on its own:
    (B, width of that level, ...).
    """

    def __init__(self, inputs: int, width: int, *, count: int, up: Up | None) -> None:
        super().__init__()
        self.join = nn.Conv3d(inputs, width, 1)
        self.blocks = blocks(count, width)
        self.up = up if up is not None else nn.Identity()

    def forward(self, vectors: Tensor, context: Tensor | None) -> Tensor:
        x = vectors if context is None else torch.cat([vectors, context], 1)
        y: Tensor = self.up(self.blocks(self.join(x)))
        return y
