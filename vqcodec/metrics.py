"""Quality of decoded clips, by the paper's protocol and beyond.

Every function takes a reference and a decoded clip, both uint8 (T, H, W, 3) RGB of one shape, and
raises ValueError for anything else. PSNR and SSIM are the paper's (section 3.2): frame by frame
through scikit-image on 8-bit values, then averaged over the frames of a clip. Callers average
over clips.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Frames = NDArray[np.uint8]
Floats = NDArray[np.float64]

PEAK = 255.0
PSNR_CAP = 100.0  # dB; what two identical frames score, so that averages stay finite
CHUNK = 32  # frames; the paper's clip length, and our chunk length

# Wang, Simoncelli, Bovik (2003), table of exponents for five scales. The 11-tap window needs 11
# pixels at the coarsest scale, so a 64×64 frame has room for the first three; their exponents are
# rescaled to sum to one.
MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_WINDOW_RADIUS = 5
_WINDOW_SIGMA = 1.5


def _check(reference: Frames, decoded: Frames) -> None:
    if reference.shape != decoded.shape:
        raise ValueError(f"clips differ in shape: {reference.shape} and {decoded.shape}")
    if reference.ndim != 4 or reference.shape[-1] != 3 or reference.size == 0:
        raise ValueError(f"a clip is (T, H, W, 3) and not empty; this one is {reference.shape}")
    if reference.dtype != np.uint8 or decoded.dtype != np.uint8:
        raise ValueError(f"clips must be uint8, not {reference.dtype} and {decoded.dtype}")


def _to_db(mse: Floats) -> Floats:
    floor = PEAK**2 / 10 ** (PSNR_CAP / 10)
    return np.asarray(10 * np.log10(PEAK**2 / np.maximum(mse, floor)), dtype=np.float64)


def _frame_mse(reference: Frames, decoded: Frames) -> Floats:
    difference = reference.astype(np.int32) - decoded
    return np.asarray(np.square(difference).mean(axis=(1, 2, 3)), dtype=np.float64)


def frame_psnr(reference: Frames, decoded: Frames) -> Floats:
    """PSNR of each frame in dB, float64 (T,), equal to scikit-image's; at most 100 dB."""
    _check(reference, decoded)
    return _to_db(_frame_mse(reference, decoded))


def psnr(reference: Frames, decoded: Frames) -> float:
    """The paper's PSNR in dB: the mean of the frames' PSNR."""
    return float(frame_psnr(reference, decoded).mean())


def pooled_psnr(reference: Frames, decoded: Frames) -> float:
    """PSNR in dB of the squared error pooled over all frames; never above :func:`psnr`."""
    _check(reference, decoded)
    return float(_to_db(_frame_mse(reference, decoded).mean()))


def frame_ssim(reference: Frames, decoded: Frames) -> Floats:
    """scikit-image's SSIM of each frame (7×7 uniform window, per channel), float64 (T,)."""
    from skimage.metrics import structural_similarity

    _check(reference, decoded)
    return np.array(
        [
            structural_similarity(a, b, channel_axis=-1, data_range=255)
            for a, b in zip(reference, decoded, strict=True)
        ]
    )


def ssim(reference: Frames, decoded: Frames) -> float:
    """The paper's SSIM: the mean of the frames' SSIM."""
    return float(frame_ssim(reference, decoded).mean())


def ms_ssim_scales(height: int, width: int) -> int:
    """How many of MS-SSIM's five scales fit a frame: 3 at 64×64, 5 from 176×176 up, at least 1."""
    room = min(height, width) / (2 * _WINDOW_RADIUS + 1)
    return max(1, min(len(MS_SSIM_WEIGHTS), int(math.log2(room)) + 1 if room >= 1 else 1))


def ms_ssim(reference: Frames, decoded: Frames) -> float:
    """Multi-scale SSIM, averaged over channels and frames, with as many scales as fit.

    Gaussian window of 11 taps, σ = 1.5, valid positions only; 2×2 means between scales. At 64×64
    that makes three scales with exponents (0.071, 0.453, 0.476): the first three of the original
    five, rescaled to sum to one. Values are comparable only at one number of scales.

    Raises:
        ValueError: also when a frame is smaller than the window.
    """
    _check(reference, decoded)
    height, width = reference.shape[1:3]
    if min(height, width) < 2 * _WINDOW_RADIUS + 1:
        raise ValueError(f"MS-SSIM needs frames of at least 11x11 pixels, not {width}x{height}")
    scales = ms_ssim_scales(height, width)
    weights = np.array(MS_SSIM_WEIGHTS[:scales]) / sum(MS_SSIM_WEIGHTS[:scales])
    a, b = reference.astype(np.float32), decoded.astype(np.float32)
    product = np.ones((a.shape[0], a.shape[3]))
    for scale, weight in enumerate(weights):
        luminance, structure = _ssim_terms(a, b)
        last = scale == scales - 1
        term = (luminance * structure if last else structure).mean(axis=(1, 2))
        product *= np.maximum(term, 0.0) ** weight  # as usual, negative similarity counts as none
        if not last:
            a, b = _halve(a), _halve(b)
    return float(product.mean())


def _ssim_terms(a: NDArray[np.float32], b: NDArray[np.float32]) -> tuple[Floats, Floats]:
    """Luminance and contrast-structure maps of SSIM, each (T, H - 10, W - 10, 3)."""
    c1, c2 = (0.01 * PEAK) ** 2, (0.03 * PEAK) ** 2
    mean_a, mean_b = _blur(a), _blur(b)
    variance_a = _blur(a * a) - mean_a**2
    variance_b = _blur(b * b) - mean_b**2
    covariance = _blur(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    structure = (2 * covariance + c2) / (variance_a + variance_b + c2)
    return luminance, structure


def _blur(x: NDArray[np.float32]) -> Floats:
    """Gaussian mean of each (H, W) plane of (T, H, W, 3), where the window lies inside."""
    from scipy.ndimage import correlate1d

    taps = np.exp(-0.5 * (np.arange(-_WINDOW_RADIUS, _WINDOW_RADIUS + 1) / _WINDOW_SIGMA) ** 2)
    taps /= taps.sum()
    inside = slice(_WINDOW_RADIUS, -_WINDOW_RADIUS)
    rows = correlate1d(x.astype(np.float64), taps, axis=1)[:, inside]
    return np.asarray(correlate1d(rows, taps, axis=2)[:, :, inside])


def _halve(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Means of 2×2 pixels; an odd last row or column is dropped."""
    t, h, w, c = x.shape
    even = x[:, : h // 2 * 2, : w // 2 * 2]
    return np.asarray(even.reshape(t, h // 2, 2, w // 2, 2, c).mean(axis=(2, 4)))


@dataclass(frozen=True)
class Flicker:
    """Error of the change from frame to frame, RMS in 8-bit grey levels (0 is best, at most 510).

    With r the reference and d the decoded frames, the RMS over pixels and channels of
    (d[t+1] - d[t]) - (r[t+1] - r[t]): a constant error does not count, one that jumps does.

    Attributes:
        inside: over pairs of frames of one chunk; None if there is no such pair.
        border: over pairs that straddle a chunk border; None for a clip of one chunk.
    """

    inside: float | None
    border: float | None


def flicker(reference: Frames, decoded: Frames, chunk: int = CHUNK) -> Flicker:
    """Temporal flicker, apart for pairs inside chunks of ``chunk`` frames and across borders."""
    _check(reference, decoded)
    error = decoded.astype(np.int16) - reference
    jumps = np.square(np.diff(error, axis=0).astype(np.int32)).mean(axis=(1, 2, 3))
    at_border = np.arange(1, len(reference)) % chunk == 0

    def rms(values: Floats) -> float | None:
        return float(np.sqrt(values.mean())) if values.size else None

    return Flicker(inside=rms(jumps[~at_border]), border=rms(jumps[at_border]))


class PerceptualMetrics:
    """LPIPS (VGG-16) and DISTS from the `piq` package, where it and its weights are present.

    Nothing is ever downloaded: the three files must lie in torch's hub folder
    (``$TORCH_HOME/hub/checkpoints``). Use :func:`perceptual_unavailable` first.
    """

    WEIGHTS = ("vgg16-397923af.pth", "lpips_weights.pt", "dists_weights.pt")

    def __init__(self) -> None:
        reason = perceptual_unavailable()
        if reason:
            raise RuntimeError(reason)
        import piq

        self._lpips: Any = piq.LPIPS(reduction="mean")
        self._dists: Any = piq.DISTS(reduction="mean")

    def __call__(self, reference: Frames, decoded: Frames) -> tuple[float, float]:
        """LPIPS and DISTS, each the mean over frames; 0 is best."""
        import torch

        _check(reference, decoded)
        a, b = (
            torch.from_numpy(x).permute(0, 3, 1, 2).float().div(PEAK) for x in (reference, decoded)
        )
        with torch.inference_mode():
            return float(self._lpips(a, b)), float(self._dists(a, b))


def perceptual_unavailable() -> str | None:
    """Why LPIPS and DISTS cannot be computed here, in one line; None if they can."""
    import importlib.util
    from pathlib import Path

    if importlib.util.find_spec("piq") is None:
        return "LPIPS and DISTS left out: the package piq is not installed (pip install piq)"
    import torch

    folder = Path(torch.hub.get_dir()) / "checkpoints"
    missing = [name for name in PerceptualMetrics.WEIGHTS if not (folder / name).is_file()]
    if missing:
        return f"LPIPS and DISTS left out: {', '.join(missing)} not in {folder}"
    return None
