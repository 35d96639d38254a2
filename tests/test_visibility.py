"""vqcodec.visibility: how much an error is seen where"""

import torch

from vqcodec.visibility import visibility


def test_smooth_pixels_count_more():
    clips = torch.full((2, 3, 4, 32, 32), 0.5)
    generator = torch.Generator().manual_seed(0)
    clips[..., 16:] += 0.1 * torch.randn(2, 3, 4, 32, 16, generator=generator)
    weight = visibility(clips)
    assert weight.shape == (2, 1, 4, 32, 32)
    torch.testing.assert_close(weight.mean((1, 2, 3, 4)), torch.ones(2))
    assert weight[..., :12].mean() > 1.3 * weight[..., 20:].mean()


def test_all_pixels_count_the_same_where_nothing_is_to_be_seen():
    flat = visibility(torch.full((1, 3, 8, 16, 16), 0.5))
    torch.testing.assert_close(flat, torch.ones_like(flat))
