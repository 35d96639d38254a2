"""Vector quantisation with a codebook that follows the data (VQ-VAE, appendix A.1; paper 3.1, 4.2).

The codebook is not trained by gradient: entries are exponential moving averages of the vectors
assigned to them, started from the data by k-means, and restarted where they fall out of use.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from vqcodec.model.layers import Mix

EMA_DECAY = 0.99  # of the moving averages, per step
DEAD = 0.02  # an entry used less than this fraction of the mean is restarted
EPSILON = 1e-5
ROWS = 1 << 15  # vectors looked up at once: bounds the memory of distances


class Quantized(NamedTuple):
    """What a quantiser gives.

    Attributes:
        vectors: (B, lookup_dim, T, H, W) entries; gradients pass to the input.
        indices: (B, T, H, W) int64 in 0..entries-1.
        loss: scalar commitment loss ‖z − sg(e)‖², averaged over positions and channels.
    """

    vectors: Tensor
    indices: Tensor
    loss: Tensor


class Codebook(nn.Module):
    """Entries that are moving averages of the vectors assigned to them.

    Args:
        dim: channels of an entry.
        entries: codebook size K.
        delay: training steps before the codebook is drawn from the data; features that still
            change fast would leave it behind.
        zero: entry 0 is the zero vector, and stays it.
    """

    codebook: Tensor  # (K, dim): decides the decoded picture
    usage: Tensor  # (K,): moving average of assignments per step
    total: Tensor  # (K, dim): moving sum of assigned vectors
    age: Tensor  # (): training steps seen

    def __init__(self, *, dim: int, entries: int, delay: int = 0, zero: bool = False) -> None:
        super().__init__()
        self.delay, self.zero = delay, zero
        self.register_buffer("codebook", torch.randn(entries, dim))
        self.register_buffer("usage", torch.zeros(entries))
        self.register_buffer("total", torch.zeros(entries, dim))
        self.register_buffer("age", torch.zeros((), dtype=torch.int64))
        if zero:
            self.codebook[0] = 0

    @torch.no_grad()
    def adopt(self) -> None:
        """Take the present codebook as drawn from data: training goes on from its entries."""
        self.usage.fill_(1.0)
        self.total.copy_(self.codebook)
        self.age.fill_(self.delay + 1)

    @torch.no_grad()
    def sort(self) -> None:
        """Number the entries anew: those that share their high digits then lie close together.

        The prior predicts an index digit by digit. A zero vector keeps its number.
        """
        order = tree_order(self.codebook)
        if self.zero:
            order = torch.cat([order[order == 0], order[order != 0]])
        for tensor in (self.codebook, self.usage, self.total):
            tensor.copy_(tensor[order].clone())

    @property
    def started(self) -> bool:
        """Whether training has drawn the codebook from data yet."""
        return int(self.age) > self.delay

    def grow(self, flat: Tensor) -> bool:
        """Count a training step; draw the codebook from (N, dim) when its time has come.

        Returns:
            False while vectors are to be passed on unquantised.
        """
        age = int(self.age)
        self.age += 1
        if age == self.delay:
            self._start(flat)
        return age >= self.delay

    def nearest(self, flat: Tensor) -> Tensor:
        """(N, dim) → (N,): the entry at the smallest Euclidean distance."""
        # Float32 throughout: distances between close entries drown in bfloat16.
        with torch.autocast(flat.device.type, enabled=False):
            # argmin ‖z − e‖² = argmax z·e − ‖e‖²/2
            bias = self.codebook.square().sum(1) / -2
            return torch.cat(
                [
                    torch.addmm(bias, rows, self.codebook.T).argmax(1)
                    for rows in torch.split(flat.float(), ROWS)
                ]
            )

    @torch.no_grad()
    def _start(self, flat: Tensor) -> None:
        """Draw the codebook from a batch: k-means with random vectors as seeds."""
        entries = self.codebook.shape[0]
        data = _gather(flat)
        self.codebook.copy_(_broadcast(_draw(data, entries)))
        for _ in range(5):
            if self.zero:
                self.codebook[0] = 0
            nearest = self.nearest(data)
            counts = torch.bincount(nearest, minlength=entries).to(data.dtype)
            sums = torch.zeros_like(self.codebook).index_add_(0, nearest, data)
            means = sums / counts.clamp(min=1)[:, None]
            self.codebook.copy_(torch.where(counts[:, None] > 0, means, self.codebook))
        if self.zero:
            self.codebook[0] = 0
        # Sums on a GPU differ in their last bits from process to process.
        self.codebook.copy_(_broadcast(self.codebook))
        age = int(self.age)
        self.adopt()
        self.age.fill_(age)

    @torch.no_grad()
    def follow(self, flat: Tensor, indices: Tensor) -> None:
        """Move the entries towards the (N, dim) vectors assigned to them."""
        entries = self.codebook.shape[0]
        counts = torch.bincount(indices, minlength=entries).to(flat.dtype)
        sums = torch.zeros_like(self.total).index_add_(0, indices, flat)
        _all_reduce(counts)
        _all_reduce(sums)
        if not bool(sums.isfinite().all()):
            return  # one bad batch would stay in the averages for good
        self.usage.lerp_(counts, 1 - EMA_DECAY)
        self.total.lerp_(sums, 1 - EMA_DECAY)
        # Laplace smoothing keeps rarely used entries finite.
        mass = self.usage.sum()
        smooth = (self.usage + EPSILON) / (mass + entries * EPSILON) * mass
        self.codebook.copy_(self.total / smooth[:, None])
        dead = self.usage < DEAD * mass / entries
        if self.zero:
            # The zero vector takes most of the mass: the others are measured by what they share.
            mass = mass - self.usage[0]
            dead = self.usage < DEAD * mass / entries
            dead[0] = False
            self.codebook[0] = 0
            self.total[0] = 0
        if bool(dead.any()):
            fresh = _broadcast(_draw(_gather(flat), entries))
            share = mass / entries
            self.codebook[dead] = fresh[dead]
            self.total[dead] = fresh[dead] * share
            self.usage[dead] = share


class VectorQuantizer(Codebook):
    """Nearest entry of a codebook of ``lookup_dim`` channels; ``project_out`` takes it to ``dim``.

    Args:
        lookup_dim: channels of the vectors to be quantised.
        dim: channels of a decoded vector.
        entries: codebook size K.
        rotate: pass gradients by the rotation trick (Fifty et al. 2024, section 4) instead of
            straight through.
        delay: see :class:`Codebook`.
    """

    def __init__(
        self, *, lookup_dim: int, dim: int, entries: int, rotate: bool = False, delay: int = 0
    ) -> None:
        super().__init__(dim=lookup_dim, entries=entries, delay=delay)
        self.rotate = rotate
        self.project_out = Mix(lookup_dim, dim)

    def forward(self, z: Tensor) -> Quantized:
        """Quantise (B, lookup_dim, T, H, W) float32; in training mode the codebook moves too."""
        grid = z.shape[0:1] + z.shape[2:]
        flat = _rows(z)
        if self.training and not self.grow(flat.detach()):
            nothing = torch.zeros_like(flat[:, 0]).long().reshape(grid)
            return Quantized(z, nothing, z.sum() * 0)
        indices = self.nearest(flat.detach())
        # Looked up before the update, which may hand a dead entry's place to a far-away vector.
        entries = F.embedding(indices, self.codebook)
        if self.training:
            self.follow(flat.detach(), indices)
        loss = F.mse_loss(flat, entries)
        if not self.training:
            passed = entries
        elif self.rotate:
            passed = _rotate(flat, entries)
        else:
            passed = flat + (entries - flat).detach()
        return Quantized(_grid(passed, grid), indices.reshape(grid), loss)

    def encode(self, z: Tensor) -> Tensor:
        """(B, lookup_dim, T, H, W) float32 → (B, T, H, W) int64 in 0..entries-1."""
        return self.nearest(_rows(z)).reshape(z.shape[0], *z.shape[2:])

    def decode(self, indices: Tensor) -> Tensor:
        """(B, T, H, W) integers → (B, lookup_dim, T, H, W) entries."""
        return F.embedding(indices.long(), self.codebook).permute(0, 4, 1, 2, 3)


class Refined(NamedTuple):
    """What a residual quantiser gives.

    Attributes:
        vectors: (B, dim, T, H, W), the sum of the stages in use; gradients pass to the input.
        indices: per stage (B, T, H, W) int64.
        residuals: per stage (B, dim, T, H, W), what it quantised; gradients reach the input.
        loss: scalar commitment loss, averaged over clips and stages; 0 for those not in use.
    """

    vectors: Tensor
    indices: tuple[Tensor, ...]
    residuals: tuple[Tensor, ...]
    loss: Tensor


class ResidualQuantizer(nn.Module):
    """Stages of VQ, each on what those before it left over (SoundStream, section III-C).

    Entry 0 of every stage is the zero vector. It takes over wherever the nearest entry would take
    away too little, by a threshold that falls from stage to stage and is the same all over a clip.
    So bits go where most is left to refine, and elsewhere a stage costs next to none (reverse
    water-filling; Cover and Thomas, section 10.3.3).

    Args:
        dim: channels of the vectors to be quantised.
        stages, entries: how many codebooks of what size.
        worth, decay: the threshold, see :class:`vqcodec.model.config.RefinementConfig`.
        delay: see :class:`Codebook`.
    """

    def __init__(
        self,
        *,
        dim: int,
        stages: int,
        entries: int,
        worth: float = 0.0,
        decay: float = 1.0,
        delay: int = 0,
    ) -> None:
        super().__init__()
        self.worth, self.decay = worth, decay
        self.stages = nn.ModuleList(
            Codebook(dim=dim, entries=entries, delay=delay, zero=True) for _ in range(stages)
        )

    def forward(self, z: Tensor, used: Tensor) -> Refined:
        """Quantise (B, dim, T, H, W) float32; of clip b the first ``used[b]`` stages are passed on.

        While codebooks wait for their start, clips that use any stage pass unquantised.
        """
        clips, grid = z.shape[0], z.shape[0:1] + z.shape[2:]
        flat = _rows(z)
        rest = flat.detach()
        energy = _energy(z.detach())
        total = torch.zeros_like(rest)
        per_clip = used.to(rest.device)[:, None, None]
        loss, indices, residuals = z.new_zeros(()), [], []
        waiting = False
        for number, module in enumerate(self.stages):
            assert isinstance(module, Codebook)
            residuals.append(_grid(flat - (flat.detach() - rest), grid))
            if self.training and not module.grow(rest):
                waiting = True
                indices.append(torch.zeros(grid, dtype=torch.int64, device=z.device))
                continue
            chosen, entries = self._choose(number, rest, energy)
            if self.training:
                module.follow(rest, chosen)
            rest = rest - entries
            mask = (per_clip > number).to(rest.dtype)
            total = total + (entries.reshape(clips, -1, entries.shape[1]) * mask).reshape_as(total)
            apart = (flat - (flat.detach() - rest)).square().reshape(clips, -1, rest.shape[1])
            loss = loss + (apart * mask).mean() / len(self.stages)
            indices.append(chosen.reshape(grid))
        any_used = (per_clip > 0).to(flat.dtype)
        passed = (flat.reshape(clips, -1, flat.shape[1]) * any_used).reshape_as(flat)
        if not waiting:
            passed = passed + (total - passed).detach()
        return Refined(_grid(passed, grid), tuple(indices), tuple(residuals), loss)

    def _choose(self, number: int, rest: Tensor, energy: Tensor) -> tuple[Tensor, Tensor]:
        """A stage's codes (N,) and their entries (N, dim) for what is left over (N, dim).

        ``energy`` is that of the clips before all stages, by :func:`_energy`.
        """
        module = self.stages[number]
        assert isinstance(module, Codebook)
        nearest = module.nearest(rest)
        entries = F.embedding(nearest, module.codebook)
        taken_away = (entries * (2 * rest - entries)).sum(1)
        worth_it = taken_away >= self.worth * self.decay**number * energy
        return nearest * worth_it, entries * worth_it[:, None]

    def codebooks(self) -> list[Tensor]:
        """The entries of each stage, (K, dim)."""
        return [module.codebook for module in self.stages if isinstance(module, Codebook)]

    def restart(self) -> None:
        """Wait for ``delay`` steps of training again, then draw the codebooks from data."""
        for module in self.stages:
            assert isinstance(module, Codebook)
            module.age.zero_()

    def encode(self, z: Tensor, stages: int) -> tuple[Tensor, ...]:
        """(B, dim, T, H, W) float32 → for each of the first ``stages`` (B, T, H, W) int64."""
        rest, energy, indices = _rows(z), _energy(z), []
        for number in range(min(stages, len(self.stages))):
            chosen, entries = self._choose(number, rest, energy)
            rest = rest - entries
            indices.append(chosen.reshape(z.shape[0], *z.shape[2:]))
        return tuple(indices)

    def decode(self, indices: Sequence[Tensor]) -> Tensor:
        """At least one stage's (B, T, H, W) integers → (B, dim, T, H, W), their sum."""
        total: Tensor | int = 0
        for grid, module in zip(indices, self.stages, strict=False):
            assert isinstance(module, Codebook)
            total = total + F.embedding(grid.long(), module.codebook)
        assert isinstance(total, Tensor)
        return total.permute(0, 4, 1, 2, 3)


def _rows(z: Tensor) -> Tensor:
    """(B, C, T, H, W) → (B·T·H·W, C)."""
    return z.permute(0, 2, 3, 4, 1).reshape(-1, z.shape[1])


def _energy(z: Tensor) -> Tensor:
    """(B, C, T, H, W) → (B·T·H·W,): for every vector the mean squared length in its own clip."""
    energy = z.square().sum(1).flatten(1)
    return energy.mean(1, keepdim=True).expand_as(energy).flatten()


def _grid(rows: Tensor, grid: torch.Size) -> Tensor:
    """Inverse of :func:`_rows` for a grid (B, T, H, W)."""
    return rows.reshape(*grid, -1).permute(0, 4, 1, 2, 3)


def tree_order(vectors: Tensor) -> Tensor:
    """(N, C) → (N,): an order in which halves, quarters, … are clusters.

    Each part is cut in the middle along its direction of greatest spread.
    """

    def cut(rows: Tensor) -> Tensor:
        if len(rows) <= 1:
            return rows
        spread = vectors[rows].double()
        spread = spread - spread.mean(0)
        direction = torch.linalg.eigh(spread.T @ spread).eigenvectors[:, -1]
        rows = rows[(spread @ direction).argsort(stable=True)]
        middle = len(rows) // 2
        return torch.cat([cut(rows[:middle]), cut(rows[middle:])])

    return cut(torch.arange(len(vectors), device=vectors.device))


def _rotate(z: Tensor, e: Tensor) -> Tensor:
    """Return ``e``; its gradient reaches ``z`` rotated and scaled as z turns into e."""
    with torch.no_grad():
        z_norm, e_norm = z.norm(dim=1, keepdim=True), e.norm(dim=1, keepdim=True)
        u, v = F.normalize(z, dim=1), F.normalize(e, dim=1)
        w = F.normalize(u + v, dim=1)
        scale = torch.where(z_norm > 1e-6, e_norm / z_norm.clamp(min=1e-6), 1.0)
    rotated = z - 2 * (z * w).sum(1, keepdim=True) * w + 2 * (z * u).sum(1, keepdim=True) * v
    turned = rotated * scale
    # Equal to e but for rounding, and but for a z of zero, which has no direction.
    return turned + (e - turned).detach()


def _draw(data: Tensor, count: int) -> Tensor:
    """``count`` random rows of ``data``; with repetition only where it has fewer."""
    order = torch.randperm(data.shape[0], device=data.device)
    return data[order.repeat(-(-count // data.shape[0]))[:count]]


def _parallel() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def _all_reduce(x: Tensor) -> None:
    if _parallel():
        dist.all_reduce(x)


def _gather(x: Tensor) -> Tensor:
    if not _parallel():
        return x
    parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, x.contiguous())
    return torch.cat(parts)


def _broadcast(x: Tensor) -> Tensor:
    if _parallel():
        x = x.contiguous()
        dist.broadcast(x, src=0)
    return x
