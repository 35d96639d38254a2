"""How good a network is on clips it does not train on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vqcodec import metrics
from vqcodec.model.network import MSVQVAE


@dataclass(frozen=True)
class Validation:
    """Means over clips, by the paper's protocol (frame-wise, 8-bit).

    Attributes:
        psnr: dB.
        ssim: scikit-image's, 0..1.
        perplexity: per level, coarsest first: 2 to the entropy of the indices, at most K.
        bpp: bits per pixel at fixed length.
        entropy_bpp: bits per pixel if each level cost its empirical (zero-order) entropy.
    """

    psnr: float
    ssim: float
    perplexity: tuple[float, ...]
    bpp: float
    entropy_bpp: float


@torch.inference_mode()
def validate(
    network: MSVQVAE, clips: Tensor, *, device: str, bf16: bool, batch: int = 8
) -> Validation:
    """Encode and decode uint8 (N, 3, T, H, W) and measure.

    The network is left in evaluation mode.
    """
    network.eval()
    kind = torch.device(device).type
    counts = [torch.zeros(level.entries) for level in network.config.levels]
    psnr, ssim = [], []
    for part in torch.split(clips, batch):
        with torch.autocast(kind, torch.bfloat16, enabled=bf16):
            indices = network.encode(part.to(device).float().div(255))
            decoded = network.decode(indices)
        for count, grid in zip(counts, indices, strict=True):
            count += torch.bincount(grid.flatten().cpu(), minlength=len(count))
        frames = to_uint8(decoded).cpu()
        for clip, result in zip(part, frames, strict=True):
            a, b = (np.ascontiguousarray(c.permute(1, 2, 3, 0).numpy()) for c in (clip, result))
            psnr.append(metrics.psnr(a, b))
            ssim.append(metrics.ssim(a, b))
    entropies = [_entropy(count) for count in counts]
    levels = network.config.levels
    return Validation(
        psnr=float(np.mean(psnr)),
        ssim=float(np.mean(ssim)),
        perplexity=tuple(2**entropy for entropy in entropies),
        bpp=network.config.bits_per_pixel(),
        entropy_bpp=sum(
            entropy / (level.stride_t * level.stride**2)
            for entropy, level in zip(entropies, levels, strict=True)
        ),
    )


def to_uint8(clip: Tensor) -> Tensor:
    """Float in 0..1 → uint8, rounded to the nearest."""
    return clip.mul(255).add(0.5).clamp(0, 255).to(torch.uint8)


def _entropy(counts: Tensor) -> float:
    """Bits per symbol of a histogram."""
    p = counts / counts.sum()
    p = p[p > 0]
    return float(-(p * p.log2()).sum())
