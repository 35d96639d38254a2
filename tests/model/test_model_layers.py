"""vqcodec.model.layers"""

from __future__ import annotations

import pytest
import torch

from vqcodec.model.layers import (
    Down,
    ResidualBlock,
    Up,
    blocks,
    channels_to_space,
    space_to_channels,
)


@pytest.mark.parametrize(("t", "s"), [(1, 1), (2, 2), (4, 4), (1, 2), (2, 1)])
def test_shuffles_undo_each_other(t, s):
    x = torch.arange(2 * 3 * 8 * 8 * 16.0).reshape(2, 3, 8, 8, 16)
    folded = space_to_channels(x, t, s)
    assert folded.shape == (2, 3 * t * s * s, 8 // t, 8 // s, 16 // s)
    assert torch.equal(channels_to_space(folded, t, s), x)


def test_channel_order_of_the_shuffle():
    x = torch.arange(2 * 2 * 2 * 2.0).reshape(1, 2, 2, 2, 2)
    # (C, t, s, s), which for one output position is the order in memory.
    assert torch.equal(space_to_channels(x, 2, 2).flatten(), torch.arange(16.0))


def test_a_block_starts_as_the_identity():
    x = torch.randn(2, 8, 3, 4, 5)
    assert torch.equal(ResidualBlock(8)(x), x)
    assert torch.equal(blocks(0, 8)(x), x)


def test_a_block_equals_its_3d_convolutions():
    block = ResidualBlock(6)
    torch.nn.init.normal_(block.time.weight)
    x = torch.randn(2, 6, 4, 5, 7)
    y = block.norm(x.movedim(1, -1)).movedim(-1, 1)
    y = torch.nn.functional.conv3d(
        y, block.space.weight[:, :, None], block.space.bias, padding=(0, 1, 1)
    )
    y = torch.nn.functional.silu(y)
    y = torch.nn.functional.conv3d(
        y, block.time.weight[:, :, :, :, None], block.time.bias, padding=(1, 0, 0)
    )
    torch.testing.assert_close(block(x), x + y)


@pytest.mark.parametrize("s", [1, 2, 4])
@pytest.mark.parametrize("last", [False, True])
def test_down_in_space_is_a_shuffle_and_a_mix(s, last):
    down, x = Down(3, 10, 1, s), torch.randn(2, 3, 4, 8, 16)
    if last:
        x = x.contiguous(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(down(x), down.mix(space_to_channels(x, 1, s)))


def test_scaling_shapes():
    x = torch.randn(1, 3, 8, 16, 24)
    assert Down(3, 10, 4, 8)(x).shape == (1, 10, 2, 2, 3)
    assert Up(3, 5, 2, 4)(x).shape == (1, 5, 16, 64, 96)
