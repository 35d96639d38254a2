"""vqcodec.model.network"""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from vqcodec.model.config import PRESETS, ModelConfig
from vqcodec.model.network import MSVQVAE


def lively(**options):
    """A network whose blocks are not the identity that they start as."""
    torch.manual_seed(0)
    network = MSVQVAE(PRESETS["tiny"], **options)
    for module_name, parameter in network.named_parameters():
        if ".time." in module_name:
            torch.nn.init.normal_(parameter, std=0.1)
    return network


@pytest.fixture(scope="module")
def tiny():
    return lively().eval().requires_grad_(False)


def shapes(name, clip_shape):
    """Grid and picture shapes, computed without computing anything else."""
    with FakeTensorMode():
        network = MSVQVAE(PRESETS[name])
        grids = network.encode(torch.zeros(2, 3, *clip_shape))
        return [tuple(grid.shape) for grid in grids], tuple(network.decode(grids).shape)


def test_grids_of_the_papers_clip():
    grids, clip = shapes("base", (32, 64, 64))
    assert grids == [(2, 4, 8, 8), (2, 8, 16, 16)]
    assert clip == (2, 3, 32, 64, 64)


def test_grids_of_the_single_level_baseline():
    grids, clip = shapes("single-level", (32, 64, 64))
    assert grids == [(2, 8, 16, 16)]
    assert clip == (2, 3, 32, 64, 64)


def test_any_multiple_of_8_runs(tiny):
    grids = tiny.encode(torch.rand(1, 3, 40, 96, 80))
    assert [tuple(grid.shape) for grid in grids] == [(1, 5, 12, 10), (1, 10, 24, 20)]
    assert tiny.decode(grids).shape == (1, 3, 40, 96, 80)


@pytest.mark.parametrize("name", ["base", "base-512", "single-level"])
def test_size_and_cost_are_bounded(name):
    with FakeTensorMode():
        network = MSVQVAE(PRESETS[name])
        clip = torch.zeros(1, 3, 32, 64, 64)
        with FlopCounterMode(display=False) as counter:
            network.decode(network.encode(clip))
    assert sum(parameter.numel() for parameter in network.parameters()) <= 18.5e6
    assert 1e9 < counter.get_total_flops() <= 40e9


@pytest.mark.parametrize("rotate", [False, True])
def test_forward_equals_encode_then_decode(rotate):
    network = lively(rotate=rotate).eval()
    clip = torch.rand(2, 3, 16, 24, 32)
    output = network(clip)
    indices = network.encode(clip)
    for ours, theirs in zip(output.indices, indices, strict=True):
        assert torch.equal(ours, theirs)
    assert torch.equal(output.clip.clamp(0, 1), network.decode(indices))


def test_the_bottom_code_depends_on_the_top_code():
    network = lively().eval()
    clip = torch.rand(1, 3, 8, 32, 32)
    _, before = network.encode(clip)
    network.quantizers[0].codebook.mul_(-20)
    _, after = network.encode(clip)
    assert not torch.equal(before, after)


def test_what_is_far_away_is_not_seen(tiny):
    clip = torch.rand(1, 3, 8, 16, 160)
    other = clip.clone()
    other[..., -8:] = 0
    far = 80
    for a, b in zip(tiny.encode(clip), tiny.encode(other), strict=True):
        steps = far * a.shape[-1] // 160
        assert torch.equal(a[..., :steps], b[..., :steps])
        assert not torch.equal(a, b)
    a, b = (tiny.decode(tiny.encode(c)) for c in (clip, other))
    assert torch.equal(a[..., :far], b[..., :far])


def test_clips_of_a_batch_do_not_see_each_other(tiny):
    clips = torch.rand(3, 3, 8, 16, 16)
    grids = tiny.encode(clips)
    alone = [tiny.encode(clip[None]) for clip in clips]
    for level, grid in enumerate(grids):
        assert torch.equal(grid, torch.cat([one[level] for one in alone]))


def test_every_parameter_is_trained():
    # Without this, DDP would wait for gradients that never come.
    tiny = PRESETS["tiny"]
    for config in (tiny, ModelConfig(tiny.levels[1:])):
        for delay in (0, 1):
            network = MSVQVAE(config, delay=delay)
            output = network(torch.rand(1, 3, 8, 16, 16))
            (output.clip.square().mean() + output.commitment).backward()
            missing = [n for n, p in network.named_parameters() if p.grad is None]
            assert not missing


def test_decoding_needs_a_grid_for_each_level(tiny):
    with pytest.raises(ValueError, match="1 grids for 2 levels"):
        tiny.decode([torch.zeros(1, 1, 2, 2, dtype=torch.int64)])


def test_started_tells_whether_codebooks_come_from_data():
    network = lively(delay=1)
    clip = torch.rand(1, 3, 8, 16, 16)
    states = [network.started]
    for _ in range(2):
        network(clip)
        states.append(network.started)
    assert states == [False, False, True]
    adopted = lively(delay=5)
    adopted.adopt_codebooks()
    assert adopted.started
