"""How much an error is seen where: what the search and training weigh squared errors by."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

WINDOW = 7  # pixels, as of SSIM
FLOOR = 30.0  # added to the variance of 8-bit values: half of SSIM's C2
FADE = 0.25  # 0: squared error, 1: about SSIM; chosen in docs/training-log.md


def visibility(clips: Tensor) -> Tensor:
    """How much an error counts at each pixel of (B, 3, T, H, W) in 0..1.

    It falls with the fourth root of the variance around it, where SSIM's falls with the variance:
    1 - SSIM is about the squared error over 2 (variance + C2 / 2), for errors of zero mean.

    Returns:
        (B, 1, T, H, W), 1 on average over a clip.
    """
    luma = 255 * clips.mean(1)
    mean, square = (
        F.avg_pool2d(values, WINDOW, 1, WINDOW // 2, count_include_pad=False)
        for values in (luma, luma.square())
    )
    weight = ((square - mean.square()).clamp(min=0) + FLOOR) ** -FADE
    return (weight / weight.mean((1, 2, 3), keepdim=True))[:, None]
