"""The metrics against scikit-image, against hand-made cases, and at their limits."""

from __future__ import annotations

import time

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from vqcodec import metrics


@pytest.fixture
def pair() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    ramp = np.linspace(0, 200, 64, dtype=np.float64)
    clean = np.broadcast_to(ramp[None, None, :, None], (32, 64, 64, 3))
    reference = (clean + rng.normal(0, 8, clean.shape)).clip(0, 255).astype(np.uint8)
    noisy = (reference + rng.normal(0, 12, clean.shape)).clip(0, 255).astype(np.uint8)
    return reference, noisy


def test_psnr_and_ssim_are_scikit_image(pair: tuple[np.ndarray, np.ndarray]) -> None:
    reference, decoded = pair
    expected = [peak_signal_noise_ratio(a, b) for a, b in zip(*pair, strict=True)]
    assert metrics.frame_psnr(reference, decoded) == pytest.approx(expected, abs=1e-9)
    assert metrics.psnr(reference, decoded) == pytest.approx(np.mean(expected))
    expected = [
        structural_similarity(a, b, channel_axis=-1, data_range=255)
        for a, b in zip(*pair, strict=True)
    ]
    assert metrics.ssim(reference, decoded) == pytest.approx(np.mean(expected))


def test_identical_frames_are_capped(pair: tuple[np.ndarray, np.ndarray]) -> None:
    reference, decoded = pair
    assert metrics.psnr(reference, reference) == 100.0
    assert metrics.pooled_psnr(reference, reference) == 100.0
    half = np.concatenate([reference[:16], decoded[16:]])
    assert np.isfinite(metrics.psnr(reference, half))
    assert metrics.pooled_psnr(reference, half) < metrics.psnr(reference, half)


def test_ms_ssim_orders_and_bounds(pair: tuple[np.ndarray, np.ndarray]) -> None:
    reference, decoded = pair
    assert metrics.ms_ssim(reference, reference) == pytest.approx(1.0)
    assert 0 < metrics.ms_ssim(reference, 255 - reference) + 1e-9 < 0.2
    assert 0.5 < metrics.ms_ssim(reference, decoded) < 1.0


@pytest.mark.parametrize(("side", "scales"), [(11, 1), (43, 2), (64, 3), (128, 4), (1080, 5)])
def test_ms_ssim_takes_the_scales_that_fit(side: int, scales: int) -> None:
    assert metrics.ms_ssim_scales(side, 2 * side) == scales
    if side <= 128:
        frame = np.zeros((1, side, side, 3), np.uint8)
        assert metrics.ms_ssim(frame, frame) == pytest.approx(1.0)


def test_flicker_separates_borders() -> None:
    reference = np.full((64, 8, 8, 3), 100, np.uint8)
    decoded = reference.copy()
    decoded[32:] += 10  # one jump, exactly at the border
    found = metrics.flicker(reference, decoded)
    assert found == metrics.Flicker(inside=0.0, border=10.0)
    constant = metrics.flicker(reference, reference + 50)
    assert constant == metrics.Flicker(inside=0.0, border=0.0)
    assert metrics.flicker(reference[:32], decoded[:32]).border is None
    assert metrics.flicker(reference[:1], decoded[:1]) == metrics.Flicker(None, None)


def test_extreme_flicker_does_not_overflow() -> None:
    reference = np.zeros((2, 8, 8, 3), np.uint8)
    reference[1], decoded = 255, np.zeros_like(reference)
    decoded[0] = 255
    assert metrics.flicker(reference, decoded).inside == 510.0


def test_wrong_input_is_refused(pair: tuple[np.ndarray, np.ndarray]) -> None:
    reference, _ = pair
    for bad in (reference[:16], reference.astype(np.float32), reference[..., :1]):
        with pytest.raises(ValueError, match="clip"):
            metrics.psnr(reference, bad)
    with pytest.raises(ValueError, match="11x11"):
        metrics.ms_ssim(reference[:, :8, :8], reference[:, :8, :8])


def test_fast_enough(pair: tuple[np.ndarray, np.ndarray]) -> None:
    start = time.process_time()
    metrics.ssim(*pair)
    assert time.process_time() - start < 1.0


def test_missing_perceptual_weights_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    reason = metrics.perceptual_unavailable()
    assert reason is not None
    assert "LPIPS and DISTS left out" in reason
    with pytest.raises(RuntimeError, match="left out"):
        metrics.PerceptualMetrics()
