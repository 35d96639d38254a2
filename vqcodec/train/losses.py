"""The training objective: L = L_recon + β L_VQ + γ L_perc (paper, section 4.2).

Clips are (B, 3, T, H, W), nominally in 0..1.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqcodec import metrics
from vqcodec.errors import CheckpointError
from vqcodec.visibility import visibility

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
_VGG_TAPS = (3, 8, 15)  # relu1_2, relu2_2, relu3_3 in torchvision's vgg16().features


def reconstruction_loss(kind: str, decoded: Tensor, clip: Tensor) -> Tensor:
    """Pixel loss, a scalar; ``kind`` is one of :data:`vqcodec.train.config.RECONSTRUCTIONS`."""
    if kind == "l1":
        return F.l1_loss(decoded, clip)
    if kind == "mse":
        return F.mse_loss(decoded, clip)
    if kind in ("log-mse", "log-visible"):
        error = (decoded - clip).square()
        if kind == "log-visible":
            error = error * visibility(clip)
        per_clip = error.flatten(1).mean(1)
        # Below 1e-5 (50 dB) a clip is as good as any needs to be.
        return (per_clip + 1e-5).log().mean()
    raise ValueError(f"unknown reconstruction loss: {kind}")


class VGGLoss(nn.Module):
    """ℓ1 distance between VGG-16 features of each frame (paper, section 3.3), equal weights.

    Args:
        features: torchvision's ``vgg16().features``, up to relu3_3 at least.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, features: nn.Sequential) -> None:
        super().__init__()
        self.layers = nn.ModuleList(list(features)[: _VGG_TAPS[-1] + 1])
        for layer in self.layers:
            if isinstance(layer, nn.ReLU):
                layer.inplace = False
        self.requires_grad_(False).eval()
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1))

    def forward(self, decoded: Tensor, clip: Tensor) -> Tensor:
        x, y = ((_frames(c) - self.mean) / self.std for c in (decoded, clip))
        loss = decoded.new_zeros(())
        for number, layer in enumerate(self.layers):
            x, y = layer(x), layer(y)
            if number in _VGG_TAPS:
                loss = loss + F.l1_loss(x, y)
        return loss


def ms_ssim_loss(decoded: Tensor, clip: Tensor) -> Tensor:
    """1 − :func:`vqcodec.metrics.ms_ssim`, with gradients. Frames of at least 11×11 pixels."""
    # Variances as differences of means would drown in bfloat16.
    with torch.autocast(decoded.device.type, enabled=False):
        x, y = _frames(decoded.float()).clamp(0, 1), _frames(clip.float())
        scales = metrics.ms_ssim_scales(*x.shape[2:])
        weights = metrics.MS_SSIM_WEIGHTS[:scales]
        product = x.new_ones(x.shape[:2])
        for scale in range(scales):
            luminance, structure = _ssim_terms(x, y)
            last = scale == scales - 1
            term = (luminance * structure if last else structure).mean((2, 3))
            weight = weights[scale] / sum(weights)
            product = product * term.clamp(min=1e-3) ** weight  # the slope at 0 is infinite
            if not last:
                x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
        return 1 - product.mean()


def _ssim_terms(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Luminance and contrast-structure maps of SSIM, each (N, 3, H - 10, W - 10)."""
    offsets = torch.arange(-5, 6, device=x.device)
    taps = (-offsets.square() / (2 * 1.5**2)).exp()
    window = torch.outer(taps, taps) / taps.sum() ** 2

    def blur(planes: Tensor) -> Tensor:
        return F.conv2d(planes, window.expand(3, 1, 11, 11), groups=3)

    c1, c2 = 0.01**2, 0.03**2
    mean_x, mean_y = blur(x), blur(y)
    variance_x, variance_y = blur(x * x) - mean_x**2, blur(y * y) - mean_y**2
    covariance = blur(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * covariance + c2) / (variance_x + variance_y + c2)
    return luminance, structure


def perceptual_loss(
    kind: str, *, weights: Path | None = None, device: str = "cpu"
) -> Callable[[Tensor, Tensor], Tensor] | None:
    """The loss named ``kind``, one of :data:`vqcodec.train.config.PERCEPTUALS`.

    Args:
        weights: for ``vgg16``, a state dict of torchvision's VGG-16; None to fetch torchvision's.

    Raises:
        CheckpointError: VGG-16's weights cannot be had.
    """
    if kind == "none":
        return None
    if kind == "ms-ssim":
        return ms_ssim_loss
    if kind == "vgg16":
        return VGGLoss(_vgg16_features(weights)).to(device)
    raise ValueError(f"unknown perceptual loss: {kind}")


def _vgg16_features(weights: Path | None) -> nn.Sequential:
    from torchvision.models import VGG16_Weights, vgg16

    advice = "use --perceptual none|ms-ssim, or name a state dict with --vgg-weights FILE"
    try:
        if weights is None:
            network = vgg16(weights=VGG16_Weights.IMAGENET1K_V1)
        else:
            # The classifier is not needed, and may be missing from a trimmed file.
            state = {
                name.removeprefix("features."): tensor.float()
                for name, tensor in _read_state(weights).items()
                if name.startswith("features.")
            }
            with torch.device("meta"):
                network = vgg16(weights=None, init_weights=False)
            network.features.load_state_dict(state, assign=True)
    except Exception as error:  # torchvision lets urllib, socket, zip and pickle errors through
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"VGG-16 weights cannot be had ({reason}); {advice}") from error
    features: nn.Sequential = network.features
    return features


def _read_state(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def _frames(clip: Tensor) -> Tensor:
    """(B, 3, T, H, W) → (B·T, 3, H, W)."""
    b, c, t, h, w = clip.shape
    return clip.permute(0, 2, 1, 3, 4).reshape(b * t, c, h, w)
