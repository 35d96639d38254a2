"""Vector quantisation with a codebook that follows the data (VQ-VAE, appendix A.1; paper 3.1, 4.2).

The codebook is not trained by gradient: entries are exponential moving averages of the vectors
assigned to them, started from the data by k-means, and restarted where they fall out of use.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

DECAY = 0.99  # of the moving averages, per step
DEAD = 0.02  # an entry used less than this fraction of the mean is restarted
EPSILON = 1e-5
ROWS = 1 << 15  # vectors looked up at once: bounds the memory of distances


class Quantized(NamedTuple):
    """What a quantiser gives.

    Attributes:
        vectors: (B, dim, T, H, W) decoded code vectors; gradients pass to the input.
        indices: (B, T, H, W) int64 in 0..entries-1.
        loss: scalar commitment loss ‖z − sg(e)‖², averaged over positions and channels.
    """

    vectors: Tensor
    indices: Tensor
    loss: Tensor


class VectorQuantizer(nn.Module):
    """Nearest entry of a codebook, searched in ``lookup_dim`` channels, decoded to ``dim``.

    Args:
        lookup_dim: channels of the vectors to be quantised.
        dim: channels of a decoded vector.
        entries: codebook size K.
        rotate: pass gradients by the rotation trick (Fifty et al. 2024, section 4) instead of
            straight through.
        delay: training steps that pass vectors on unquantised before the codebook is drawn from
            them; features that still change fast would leave a codebook behind.
    """

    codebook: Tensor  # (K, lookup_dim): decides the decoded picture
    usage: Tensor  # (K,): moving average of assignments per step
    total: Tensor  # (K, lookup_dim): moving sum of assigned vectors
    age: Tensor  # (): training steps seen

    def __init__(
        self,
        *,
        lookup_dim: int,
        dim: int,
        entries: int,
        rotate: bool = False,
        delay: int = 0,
    ) -> None:
        super().__init__()
        self.rotate, self.delay = rotate, delay
        self.project_out = nn.Conv3d(lookup_dim, dim, 1)
        self.register_buffer("codebook", torch.randn(entries, lookup_dim))
        self.register_buffer("usage", torch.zeros(entries))
        self.register_buffer("total", torch.zeros(entries, lookup_dim))
        self.register_buffer("age", torch.zeros((), dtype=torch.int64))

    def forward(self, z: Tensor) -> Quantized:
        """Quantise (B, lookup_dim, T, H, W) float32; in training mode the codebook moves too."""
        grid = z.shape[0:1] + z.shape[2:]
        flat = z.permute(0, 2, 3, 4, 1).reshape(-1, z.shape[1])
        age = int(self.age)
        if self.training:
            self.age += 1
            if age < self.delay:
                return Quantized(
                    self.project_out(z),
                    torch.zeros_like(flat[:, 0]).long().reshape(grid),
                    z.sum() * 0,
                )
            if age == self.delay:
                self._start(flat.detach())
        indices = self._nearest(flat.detach())
        # Looked up before the update, which may hand a dead entry's place to a far-away vector.
        entries = F.embedding(indices, self.codebook)
        if self.training:
            self._update(flat.detach(), indices)
        loss = F.mse_loss(flat, entries)
        if not self.training:
            passed = entries
        elif self.rotate:
            passed = _rotate(flat, entries)
        else:
            passed = flat + (entries - flat).detach()
        vectors = self.project_out(passed.reshape(*grid, -1).permute(0, 4, 1, 2, 3))
        return Quantized(vectors, indices.reshape(grid), loss)

    def encode(self, z: Tensor) -> Tensor:
        """(B, lookup_dim, T, H, W) float32 → (B, T, H, W) int64 in 0..entries-1."""
        flat = z.permute(0, 2, 3, 4, 1).reshape(-1, z.shape[1])
        return self._nearest(flat).reshape(z.shape[0], *z.shape[2:])

    def decode(self, indices: Tensor) -> Tensor:
        """(B, T, H, W) integers → (B, dim, T, H, W) decoded vectors."""
        vectors: Tensor = self.project_out(
            F.embedding(indices.long(), self.codebook).permute(0, 4, 1, 2, 3)
        )
        return vectors

    @torch.no_grad()
    def adopt(self) -> None:
        """Take the present codebook as drawn from data: training goes on from its entries."""
        self.usage.fill_(1.0)
        self.total.copy_(self.codebook)
        self.age.fill_(self.delay + 1)

    def _nearest(self, flat: Tensor) -> Tensor:
        """(N, lookup_dim) → (N,): the entry at the smallest Euclidean distance."""
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
            nearest = self._nearest(data)
            counts = torch.bincount(nearest, minlength=entries).to(data.dtype)
            sums = torch.zeros_like(self.codebook).index_add_(0, nearest, data)
            means = sums / counts.clamp(min=1)[:, None]
            self.codebook.copy_(torch.where(counts[:, None] > 0, means, self.codebook))
        # Sums on a GPU differ in their last bits from process to process.
        self.codebook.copy_(_broadcast(self.codebook))
        self.adopt()

    @torch.no_grad()
    def _update(self, flat: Tensor, indices: Tensor) -> None:
        entries = self.codebook.shape[0]
        counts = torch.bincount(indices, minlength=entries).to(flat.dtype)
        sums = torch.zeros_like(self.total).index_add_(0, indices, flat)
        _all_reduce(counts)
        _all_reduce(sums)
        if not bool(sums.isfinite().all()):
            return  # one bad batch would stay in the averages for good
        self.usage.lerp_(counts, 1 - DECAY)
        self.total.lerp_(sums, 1 - DECAY)
        # Laplace smoothing keeps rarely used entries finite.
        mass = self.usage.sum()
        smooth = (self.usage + EPSILON) / (mass + entries * EPSILON) * mass
        self.codebook.copy_(self.total / smooth[:, None])
        dead = self.usage < DEAD * mass / entries
        if bool(dead.any()):
            fresh = _broadcast(_draw(_gather(flat), entries))
            share = mass / entries
            self.codebook[dead] = fresh[dead]
            self.total[dead] = fresh[dead] * share
            self.usage[dead] = share


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
