"""vqcodec.train.validation"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from vqcodec import metrics
from vqcodec.model.config import PRESETS
from vqcodec.model.network import MSVQVAE
from vqcodec.train.validation import to_uint8, validate


class Given(torch.nn.Module):
    """A network that codes what the test says, and decodes it as well as there are grids."""

    config = PRESETS["tiny"]

    def __init__(self, indices, decoded):
        super().__init__()
        self.indices, self.decoded, self.clips = indices, decoded, 0

    def encode(self, clip):
        part = slice(self.clips, self.clips + len(clip))
        self.clips = part.stop
        self.part = part
        return tuple(grid[part] for grid in self.indices)

    def decode(self, indices):
        return self.decoded[len(indices) - 1][self.part]


def test_measures_by_the_papers_protocol():
    generator = torch.Generator().manual_seed(0)
    clips = torch.randint(0, 256, (3, 3, 8, 16, 16), dtype=torch.uint8, generator=generator)
    noise = torch.randn(clips.shape, generator=generator) * 0.05
    decoded = [(clips.float() / 255 + noise / level).clamp(0, 1) for level in range(1, 5)]
    top = torch.zeros(3, 1, 2, 2, dtype=torch.int64)
    bottom = torch.arange(32).reshape(2, 4, 4)[None].repeat(3, 1, 1, 1)
    grids = (top, bottom, bottom % 16, bottom % 4)
    result = validate(Given(grids, decoded), clips, device="cpu", bf16=False, batch=2)

    for level in range(4):
        pairs = [
            [c.permute(1, 2, 3, 0).contiguous().numpy() for c in pair]
            for pair in zip(clips, to_uint8(decoded[level]), strict=True)
        ]
        assert result.psnr[level] == pytest.approx(np.mean([metrics.psnr(a, b) for a, b in pairs]))
        assert result.ssim[level] == pytest.approx(np.mean([metrics.ssim(a, b) for a, b in pairs]))
    assert result.psnr == tuple(sorted(result.psnr))
    assert result.perplexity == pytest.approx((1.0, 32.0, 16.0, 4.0))
    # 10 bits in each of the two levels, 4 in each of the stages.
    fixed = (10 / 512, 10 / 512 + 10 / 64, 10 / 512 + 14 / 64, 10 / 512 + 18 / 64)
    assert result.bpp == pytest.approx(fixed)
    assert result.entropy_bpp == pytest.approx((0.0, 5 / 64, 9 / 64, 11 / 64))


def test_leaves_training_state_alone():
    torch.manual_seed(0)
    network = MSVQVAE(PRESETS["tiny"], delay=5).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    random = torch.get_rng_state()
    clips = torch.randint(0, 256, (2, 3, 8, 16, 16), dtype=torch.uint8)
    random = torch.get_rng_state()
    result = validate(network, clips, device="cpu", bf16=True)
    assert len(result.psnr) == 4
    assert all(math.isfinite(value) for value in result.psnr)
    assert torch.equal(torch.get_rng_state(), random)
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name])
    network.train()(torch.rand(1, 3, 8, 16, 16)).clip.mean().backward()


def test_to_uint8_rounds_to_the_nearest():
    values = torch.tensor([-1, 0, 0.4, 0.6, 254.4, 254.6, 255, 300]) / 255
    assert to_uint8(values).tolist() == [0, 0, 0, 1, 254, 255, 255, 255]
