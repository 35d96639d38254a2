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
from torch import Tensor, nn

from vqcodec.model import details
from vqcodec.model.config import LevelConfig, ModelConfig
from vqcodec.model.details import Coefficients, Plane, Quantised
from vqcodec.model.layers import Down, Mix, Up, blocks
from vqcodec.model.mending import Mending
from vqcodec.model.quantizer import Codebook, ResidualQuantizer, VectorQuantizer
from vqcodec.model.restoration import Restoration


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


class Decoded(NamedTuple):
    """Pictures, and what the decoder guessed on the way.

    Attributes:
        clip: (B, 3, T, H, W) float32 in 0..1.
        guesses: for grids of odd steps, by number, what index 0 stands for: (B, T', H', W',
            lookup_dim).
    """

    clip: Tensor
    guesses: dict[int, Tensor]


class Detailed(NamedTuple):
    """Planes of details.

    Attributes:
        planes: the first so many.
        before: what all of them but the last say; None if there is but one.
    """

    planes: list[Plane]
    before: Quantised | None


class MSVQVAE(nn.Module):
    """The network of a :class:`ModelConfig`.

    A quality level *q* is the first *q* grids of indices. The decoder takes any of them: vectors
    of levels that are not there are zero, the odd steps of a split level that has but its even ones
    are guessed, and the tail is told how many grids there are.

    Where odd steps are there, their index 0 says that the guess will do (as a skipped block does in
    other codecs).

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
        self.restoration = (
            Restoration(config.restoration, len(config.grids), len(config.detail_grids))
            if config.restoration is not None
            else None
        )
        self.mending = (
            Mending(config.mending, len(config.grids), len(config.code_grids))
            if config.mending is not None
            else None
        )

    def forward(self, clip: Tensor, quality: Tensor | None = None) -> Output:
        """Encode and decode (B, 3, T, H, W) in 0..1, with gradients through the quantisers.

        Args:
            clip: the pictures.
            quality: (B,) integers, the quality level at which each clip is decoded, 1 to the
                number of grids of codes; None for the highest of these. (Details learn nothing.)
        """
        if quality is None:
            quality = torch.full((len(clip),), len(self.config.code_grids))
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
            codes = self._parts(number, quantized.indices, 1)
            entries = self._parts(number, quantized.vectors, 2)
            wanted = self._parts(number, z, 2)
            some = None  # where not all of a level's grids are there
            if len(codes) > 1:
                guess = self.synthesis.guess(number, entries[0], seen)
                some = _interleave(entries[0], guess)
                if not self.training or self._quantizer(number).started:
                    codes[1], entries[1] = self._settle(
                        number, wanted[1], codes[1], entries[1], guess
                    )
            indices += codes
            latents += wanted
            complete = bool((quality >= len(indices)).all())
            project = self._quantizer(number).project_out
            whole = _join(entries)
            vectors = project(whole)
            kept = vectors
            if not complete:
                if some is not None:
                    kept = project(torch.where(_each(there > 1), whole, some))
                kept = kept * _each(there > 0)
            context = stage(kept, context)
            seen = context if complete else stage(vectors, seen)
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

        They are the nearest entries; at odd steps of a split level 0 where the guess will do
        (``worth`` of :class:`vqcodec.model.config.LevelConfig`), at residual stages 0 where no
        entry is worth its bits (:class:`ResidualQuantizer`). Then come planes of details, int16.
        """
        wanted = len(self.config.grids) if quality is None else quality
        count = min(wanted, len(self.config.code_grids))
        indices: list[Tensor] = []
        context = None
        features = self.analysis.features(clip)
        for number, stage in enumerate(self.synthesis.stages):
            if len(indices) >= count:
                break
            quantizer = self._quantizer(number)
            z = self.analysis.code(number, features[number], context)
            nearest = quantizer.encode(z)
            codes = self._parts(number, nearest, 1)
            entries = self._parts(number, quantizer.decode(nearest), 2)
            if len(codes) > 1 and len(indices) + 1 < count:
                guess = self.synthesis.guess(number, entries[0], context)
                aim = self._parts(number, z, 2)[1]
                codes[1], entries[1] = self._settle(number, aim, codes[1], entries[1], guess)
            indices += codes
            if len(indices) < count:
                context = stage(quantizer.project_out(_join(entries)), context)
        if self.refiner is not None and len(indices) < count:
            residual = self.analysis.refine(features[-1], context)
            indices += self.refiner.encode(residual, count - len(indices))
        indices = indices[:count]
        if count < wanted:
            decoded = self.reconstruct(indices).clip
            found = self.details(decoded, self.lacking(clip, decoded), wanted - count)
            indices += [plane.symbols for plane in found.planes]
        return tuple(indices)

    def lacking(self, clip: Tensor, decoded: Tensor) -> Coefficients:
        """What (B, 3, T, H, W) in 0..1 has beyond what its codes decode to."""
        assert self.config.details is not None
        return details.lacking(255 * (clip - decoded), self.config.details)

    def details(
        self,
        decoded: Tensor,
        wanted: Coefficients,
        planes: int,
        finest: Coefficients | None = None,
    ) -> Detailed:
        """The first planes of what is wanted beyond pictures that codes made.

        Args:
            decoded: (B, 3, T, H, W) in 0..1, these pictures.
            wanted: what they lack, which planes are to say.
            planes: how many.
            finest: the same for the last of all planes of the model, if that is another.
        """
        config = self.config.details
        assert config is not None
        found: list[Plane] = []
        known: Quantised | None = None
        for plane in range(planes):
            if found:
                known = self.aimed(decoded, details.quantised(found[-1].symbols, known, config))
            if finest is not None and plane + 1 == config.planes:
                wanted = finest
            found.append(details.quantise(wanted, known, config))
        return Detailed(found, known)

    def shown(self, decoded: Tensor, found: Detailed) -> Tensor:
        """What :meth:`decode` makes of these planes behind codes, without that work once more."""
        assert self.config.details is not None
        symbols = found.planes[-1].symbols
        known = details.quantised(symbols, found.before, self.config.details)
        return self._restored(decoded, known).clamp_(0, 1)

    def aimed(self, decoded: Tensor, known: Quantised) -> Quantised:
        """What planes say, and where the picture that is restored behind them says it is."""
        if self.restoration is None:
            return known
        return details.aimed(known, self._restored(decoded, known) - decoded)

    def decode(self, indices: Sequence[Tensor]) -> Tensor:
        """Inverse of :meth:`encode`: any number of the first grids → (B, 3, T, H, W) in 0..1."""
        if len(indices) > len(self.config.grids):
            raise ValueError(f"{len(indices)} grids for a model of {len(self.config.grids)}")
        count = len(self.config.code_grids)
        codes, planes = indices[:count], indices[count:]
        picture = self.reconstruct(codes).clip
        if planes:
            clips = (slice(number, number + 1) for number in range(len(picture)))
            picture = torch.cat(
                [self._detailed(picture[one], [plane[one] for plane in planes]) for one in clips]
            )
        elif self.restoration is not None:
            quality = torch.full((len(picture),), len(codes), device=picture.device)
            picture = self.restoration(picture, None, quality)
        return picture.clamp_(0, 1)

    def _detailed(self, decoded: Tensor, planes: Sequence[Tensor]) -> Tensor:
        """What codes made, with planes of details: nominally in 0..1."""
        assert self.config.details is not None
        known = details.quantised(planes[0], None, self.config.details)
        for plane in planes[1:]:
            known = details.quantised(plane, self.aimed(decoded, known), self.config.details)
        return self._restored(decoded, known)

    def _restored(self, decoded: Tensor, known: Quantised) -> Tensor:
        if self.restoration is None:
            return decoded + known.picture
        level = len(self.config.code_grids) + known.plane + 1
        quality = torch.full((len(decoded),), level, device=decoded.device)
        restored: Tensor = self.restoration(decoded, known, quality)
        return restored

    def reconstruct(
        self, indices: Sequence[Tensor], shifts: Sequence[Tensor] | None = None
    ) -> Decoded:
        """What any number of the first codes decode to before it is restored.

        Details correct these pictures; what codes stand for may be shifted.

        Args:
            indices: per grid of codes (B, T', H', W') integers.
            shifts: what to add to code vectors, with gradients: for each of the levels' grids that
                are there, (B, T', H', W', lookup_dim), then, if stages of refinement are, for
                their sum.
        """
        if not 1 <= len(indices) <= len(self.config.code_grids):
            raise ValueError(f"{len(indices)} grids for a model of {len(self.config.code_grids)}")
        moves = [None] * len(indices) if shifts is None else [_channels_first(s) for s in shifts]
        context = None
        guesses: dict[int, Tensor] = {}
        begin = 0
        for number, stage in enumerate(self.synthesis.stages):
            level, quantizer = self.config.levels[number], self._quantizer(number)
            end = begin + len(level.grids)
            if begin < len(indices):
                entries = _plus(quantizer.decode(indices[begin]), moves[begin])
                if level.split:
                    guess = odd = self.synthesis.guess(number, entries, context)
                    if end <= len(indices):
                        codes = indices[end - 1]
                        guesses[end - 1] = guess.permute(0, 2, 3, 4, 1)
                        odd = torch.where(codes[:, None] > 0, quantizer.decode(codes), guess)
                        odd = _plus(odd, moves[end - 1])
                    entries = _interleave(entries, odd)
                vectors = quantizer.project_out(entries)
            else:
                assert context is not None
                vectors = context.new_zeros(context.shape[0], level.dim, *context.shape[2:])
            context = stage(vectors, context)
            begin = end
        refined = None
        if self.refiner is not None and len(indices) > begin:
            refined = _plus(self.refiner.decode(indices[begin:]), moves[begin])
        assert context is not None
        quality = torch.full((len(context),), len(indices), device=context.device)
        return Decoded(self.synthesis.finish(context, refined, quality).clamp(0, 1), guesses)

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

    def _parts(self, number: int, whole: Tensor, axis: int) -> list[Tensor]:
        """Cut what a level has along its time ``axis`` into what each of its grids has."""
        if not self.config.levels[number].split:
            return [whole]
        halves = whole.reshape(*whole.shape[:axis], -1, 2, *whole.shape[axis + 1 :])
        return list(halves.unbind(axis + 1))

    def _settle(
        self, number: int, z: Tensor, codes: Tensor, entries: Tensor, guess: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Let the guess stand wherever no entry is worth it at odd steps of level ``number``.

        Codebook and commitment follow all odd steps, guessed or not, as they follow even ones.

        Args:
            z, guess: what is wanted there and what the decoder guesses, (B, lookup_dim, ...).
            codes, entries: the nearest ones, as returned.
        """
        with torch.no_grad():
            left = (z - guess).square().sum(1)
            taken_away = left - (z - entries).square().sum(1)
            least = self.config.levels[number].worth * left.mean((1, 2, 3), keepdim=True)
            codes = codes * (taken_away >= least)  # number 0 is taken: its entry cannot be had
        return codes, torch.where(codes[:, None] > 0, entries, guess)

    def sort_codebooks(self) -> None:
        """Number all entries anew, close ones near each other (:meth:`Codebook.sort`)."""
        for codebook in self._codebooks():
            codebook.sort()

    def freeze_codes(self) -> None:
        """Stop training all that decides codes: what is left is the decoder behind them."""
        decoder = (self.synthesis.stages, self.synthesis.fills)
        for part in (self.analysis, self.quantizers, self.refiner, *decoder):
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
                    Mix(2 * level.width, level.width),
                    blocks(level.fusion_blocks, level.width),
                )
            )
        self.heads = nn.ModuleList(Mix(level.width, level.lookup_dim) for level in config.levels)
        if config.refinement is not None:
            width = config.levels[-1].width
            self.refinement_fusion = nn.Sequential(
                Mix(2 * width, width), blocks(config.refinement.encoder_blocks, width)
            )
            self.refinement_head = Mix(width, config.refinement.dim)

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
            self.refine = Mix(config.refinement.dim, last.width, bias=False)
            self.refined = blocks(config.refinement.decoder_blocks, last.width)
        self.fills = nn.ModuleDict(
            {str(number): Fill(level) for number, level in enumerate(config.levels) if level.split}
        )
        self.quality = nn.Embedding(len(config.code_grids), last.width)
        nn.init.zeros_(self.quality.weight)
        self.tail = nn.Sequential(
            blocks(config.tail_blocks, last.width), Up(last.width, 3, last.stride_t, last.stride)
        )

    def guess(self, number: int, even: Tensor, context: Tensor | None) -> Tensor:
        """A level's entries at odd steps, from those at even ones; see :class:`Fill`."""
        assert context is not None
        entries: Tensor = self.fills[str(number)](even, context)
        return entries

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
    """What stands between: entries at odd steps in time, guessed from even ones and coarser levels.

    What it learns is the difference from the mean of the step before and the step after.
    """

    def __init__(self, level: LevelConfig) -> None:
        super().__init__()
        self.join = Mix(2 * level.lookup_dim + level.width, level.width)
        self.blocks = blocks(level.fill_blocks, level.width)
        self.out = Mix(level.width, level.lookup_dim)
        for parameter in self.out.parameters():
            nn.init.zeros_(parameter)

    def forward(self, even: Tensor, context: Tensor) -> Tensor:
        """(B, lookup_dim, T'/2, H', W'), context (B, width, T', H', W') → as the first."""
        after = torch.cat([even[:, :, 1:], even[:, :, -1:]], 2)
        features = self.blocks(self.join(torch.cat([even, after, context[:, :, 1::2]], 1)))
        with torch.autocast(features.device.type, enabled=False):
            guess: Tensor = (even + after) / 2 + self.out(features.float())
        return guess


class Stage(nn.Module):
    """Join a level's code vectors with the coarser levels' output, refine, scale up.

    The output is a context on the next level's grid, or at the last level on its own:
    (B, width of that level, ...).
    """

    def __init__(self, inputs: int, width: int, *, count: int, up: Up | None) -> None:
        super().__init__()
        self.join = Mix(inputs, width)
        self.blocks = blocks(count, width)
        self.up = up if up is not None else nn.Identity()

    def forward(self, vectors: Tensor, context: Tensor | None) -> Tensor:
        x = vectors if context is None else torch.cat([vectors, context], 1)
        y: Tensor = self.up(self.blocks(self.join(x)))
        return y


def _each(condition: Tensor) -> Tensor:
    """(B,) → (B, 1, 1, 1, 1)."""
    return condition[:, None, None, None, None]


def _interleave(even: Tensor, odd: Tensor) -> Tensor:
    """Twice (B, C, T/2, H, W) → (B, C, T, H, W)."""
    return torch.stack([even, odd], 3).flatten(2, 3)


def _join(parts: Sequence[Tensor]) -> Tensor:
    """What a level's one or two grids hold, in order of time."""
    return parts[0] if len(parts) == 1 else _interleave(*parts)


def _channels_first(vectors: Tensor) -> Tensor:
    return vectors.permute(0, 4, 1, 2, 3)


def _plus(vectors: Tensor, shift: Tensor | None) -> Tensor:
    return vectors if shift is None else vectors + shift
