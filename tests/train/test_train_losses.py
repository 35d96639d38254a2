"""vqcodec.train.losses"""

from __future__ import annotations

import pickle
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from safetensors.torch import save_file

from vqcodec import metrics
from vqcodec.errors import CheckpointError
from vqcodec.train.losses import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    VGGLoss,
    ms_ssim_loss,
    perceptual_loss,
    reconstruction_loss,
)


@pytest.fixture(scope="module")
def features():
    """torchvision's VGG-16 as it comes, with random weights; the classifier is left on paper."""
    with torch.device("meta"):
        features = torchvision.models.vgg16(weights=None, init_weights=False).features
    torch.manual_seed(0)
    features.to_empty(device="cpu")
    for layer in features:
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(layer.weight)
            torch.nn.init.zeros_(layer.bias)
    return features


@pytest.fixture(scope="module")
def vgg(features):
    return VGGLoss(features)


@pytest.fixture
def clips():
    generator = torch.Generator().manual_seed(0)
    clip = torch.rand(2, 3, 2, 32, 32, generator=generator)
    noise = torch.randn(2, 3, 2, 32, 32, generator=generator)
    return clip, (clip + noise * 0.1).clamp(0, 1)


# Pixels


def test_pixel_losses(clips):
    a, b = clips
    assert reconstruction_loss("mse", a, b) == F.mse_loss(a, b)
    assert reconstruction_loss("l1", a, b) == F.l1_loss(a, b)
    with pytest.raises(ValueError, match="unknown"):
        reconstruction_loss("l3", a, b)


def test_log_mse_is_what_mean_psnr_measures(clips):
    a, b = clips
    psnr = [-10 * float((x - y).square().mean().log10()) for x, y in zip(a, b, strict=True)]
    expected = -np.mean(psnr) / 10 * np.log(10)
    assert float(reconstruction_loss("log-mse", a, b)) == pytest.approx(expected, abs=0.01)
    assert bool(reconstruction_loss("log-mse", a, a).isfinite())


def test_log_visible_weighs_errors_by_where_they_are():
    clip = torch.full((1, 3, 2, 32, 32), 0.5)
    clip[..., 16:] += 0.1 * torch.randn(1, 3, 2, 32, 16, generator=torch.Generator().manual_seed(0))
    smooth, textured = clip.clone(), clip.clone()
    smooth[..., :12] += 0.1
    textured[..., 20:] += 0.1
    seen, hidden = (reconstruction_loss("log-visible", x, clip) for x in (smooth, textured))
    plain = reconstruction_loss("log-mse", smooth, clip)
    assert float(plain) == pytest.approx(float(reconstruction_loss("log-mse", textured, clip)))
    assert seen > plain > hidden


# VGG-16


def test_vgg_loss_is_zero_for_equal_clips_only(vgg, clips):
    a, b = clips
    assert vgg(a, a) == 0
    assert vgg(a, b) > 0


def test_vgg_loss_passes_gradients_to_the_picture_alone(vgg, clips):
    decoded = clips[1].clone().requires_grad_()
    vgg(decoded, clips[0]).backward()
    assert bool(decoded.grad.isfinite().all())
    assert float(decoded.grad.abs().min(dim=0).values.max()) > 0
    assert all(parameter.grad is None for parameter in vgg.parameters())


def test_vgg_loss_compares_relu1_2_relu2_2_and_relu3_3(vgg, features, clips):
    mean, std = (torch.tensor(v)[None, :, None, None] for v in (IMAGENET_MEAN, IMAGENET_STD))
    x, y = ((c.transpose(1, 2).flatten(0, 1) - mean) / std for c in clips)
    expected = sum(F.l1_loss(features[:end](x), features[:end](y)) for end in (4, 9, 16))
    torch.testing.assert_close(vgg(*clips), expected)


def test_vgg_weights_from_a_file(features, clips, tmp_path):
    state = {f"features.{name}": tensor for name, tensor in features.state_dict().items()}
    save_file(state, tmp_path / "vgg.safetensors")
    torch.save(state, tmp_path / "vgg.pth")
    expected = VGGLoss(features)(*clips)
    for name in ("vgg.safetensors", "vgg.pth"):
        loss = perceptual_loss("vgg16", weights=tmp_path / name)
        torch.testing.assert_close(loss(*clips), expected)


class Evil:
    def __reduce__(self):
        return print, ("code was run",)


@pytest.mark.parametrize("name", ["vgg.pth", "vgg.safetensors"])
@pytest.mark.parametrize(
    "content",
    [None, b"", b"noise" * 100, pickle.dumps(Evil(), 2), pickle.dumps([1], 2)],
    ids=["missing", "empty", "noise", "code", "list"],
)
def test_bad_vgg_files_name_the_ways_out(tmp_path, capsys, name, content):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError) as error:
        perceptual_loss("vgg16", weights=tmp_path / name)
    assert "--perceptual none|ms-ssim" in str(error.value)
    assert "--vgg-weights FILE" in str(error.value)
    assert "\n" not in str(error.value)
    assert "code was run" not in capsys.readouterr().out


def test_vgg_file_of_another_network(tmp_path):
    save_file({"features.0.weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match="--vgg-weights FILE"):
        perceptual_loss("vgg16", weights=tmp_path / "other.safetensors")


def test_no_network_names_the_ways_out(monkeypatch):
    def refuse(*_args, **_options):
        raise URLError("Name or service not known")

    monkeypatch.setattr(torchvision.models._api.WeightsEnum, "get_state_dict", refuse)
    with pytest.raises(CheckpointError, match=r"not known.*--perceptual none\|ms-ssim.*FILE"):
        perceptual_loss("vgg16")


# MS-SSIM and none


@pytest.mark.parametrize("size", [16, 64])
def test_ms_ssim_loss_is_the_metric(size):
    rng = np.random.default_rng(0)
    clip = rng.integers(0, 256, (2, 4, size, size, 3), dtype=np.uint8)
    noisy = (clip * 0.7 + rng.integers(0, 70, clip.shape)).astype(np.uint8)
    tensors = [torch.from_numpy(c).permute(0, 4, 1, 2, 3).float() / 255 for c in (noisy, clip)]
    expected = 1 - np.mean([metrics.ms_ssim(a, b) for a, b in zip(clip, noisy, strict=True)])
    loss = ms_ssim_loss(*tensors)
    assert float(loss) == pytest.approx(expected, abs=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        assert float(ms_ssim_loss(*tensors)) == float(loss)


def test_ms_ssim_loss_has_gradients_everywhere(clips):
    torch.testing.assert_close(ms_ssim_loss(clips[0], clips[0]), torch.tensor(0.0))
    for decoded in (clips[1], 1 - clips[0], torch.zeros_like(clips[0])):
        decoded = decoded.clone().requires_grad_()
        ms_ssim_loss(decoded, clips[0]).backward()
        assert bool(decoded.grad.isfinite().all())


def test_perceptual_loss_by_name(clips):
    assert perceptual_loss("none") is None
    assert perceptual_loss("ms-ssim")(*clips) > 0
    with pytest.raises(ValueError, match="unknown"):
        perceptual_loss("lpips")
