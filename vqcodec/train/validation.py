"""How good a network is on clips it does not train on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vqcodec import metrics
from vqcodec.model.network import MSVQVAE
from vqcodec.train.prior_network import PriorNetwork


@dataclass(frozen=True)
class Validation:
    """Means over clips, by the paper's protocol (frame-wise, 8-bit), for each quality level.

    Attributes:
        psnr: dB, at each quality level.
        ssim: scikit-image's, 0..1, at each quality level.
        perplexity: per grid, coarsest first: 2 to the entropy of the indices, at most K.
        bpp: bits per pixel at fixed length, at each quality level.
        entropy_bpp: the same if each grid cost its empirical (zero-order) entropy.
        coded_bpp: the same if each cost what the prior says, every clip alone; None without one.
    """

    psnr: tuple[float, ...]
    ssim: tuple[float, ...]
    perplexity: tuple[float, ...]
    bpp: tuple[float, ...]
    entropy_bpp: tuple[float, ...]
    coded_bpp: tuple[float, ...] | None = None


@torch.inference_mode()
def validate(
    network: MSVQVAE,
    clips: Tensor,
    *,
    device: str,
    bf16: bool,
    prior: PriorNetwork | None = None,
    batch: int = 8,
) -> Validation:
    """Encode and decode uint8 (N, 3, T, H, W) and measure.

    The network is left in evaluation mode.
    """
    network.eval()
    kind = torch.device(device).type
    grids = network.config.grids
    counts = [torch.zeros(grid.entries) for grid in grids]
    psnr: list[list[float]] = [[] for _ in grids]
    ssim: list[list[float]] = [[] for _ in grids]
    bits = np.zeros(len(grids))
    for part in torch.split(clips, batch):
        with torch.autocast(kind, torch.bfloat16, enabled=bf16):
            indices = network.encode(part.to(device).float().div(255))
        for count, grid in zip(counts, indices, strict=True):
            count += torch.bincount(grid.flatten().cpu(), minlength=len(count))
        if prior is not None:
            nothing = [
                torch.full_like(found, grid.entries)
                for found, grid in zip(indices, grids, strict=True)
            ]
            for number in range(len(grids)):
                bits[number] += float(prior.level(number).bits(indices, nothing).sum())
        for number in range(len(grids)):
            with torch.autocast(kind, torch.bfloat16, enabled=bf16):
                decoded = network.decode(indices[: number + 1])
            for clip, result in zip(part, to_uint8(decoded).cpu(), strict=True):
                a, b = (np.ascontiguousarray(c.permute(1, 2, 3, 0).numpy()) for c in (clip, result))
                psnr[number].append(metrics.psnr(a, b))
                ssim[number].append(metrics.ssim(a, b))
    entropies = [_entropy(count) for count in counts]
    rates = [
        entropy / (grid.stride_t * grid.stride**2)
        for entropy, grid in zip(entropies, grids, strict=True)
    ]
    return Validation(
        psnr=tuple(float(np.mean(values)) for values in psnr),
        ssim=tuple(float(np.mean(values)) for values in ssim),
        perplexity=tuple(2**entropy for entropy in entropies),
        bpp=tuple(network.config.bits_per_pixel(number + 1) for number in range(len(grids))),
        entropy_bpp=tuple(float(rate) for rate in np.cumsum(rates)),
        coded_bpp=None if prior is None else tuple(np.cumsum(bits / clips[:, 0].numel()).tolist()),
    )


def to_uint8(clip: Tensor) -> Tensor:
    """Float in 0..1 → uint8, rounded to the nearest."""
    return clip.mul(255).add(0.5).clamp(0, 255).to(torch.uint8)


def _entropy(counts: Tensor) -> float:
    """Bits per symbol of a histogram."""
    p = counts / counts.sum()
    p = p[p > 0]
    return float(-(p * p.log2()).sum())
