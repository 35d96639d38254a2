"""vqcodec.model.network"""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from vqcodec.model.config import PRESETS, ModelConfig
from vqcodec.model.network import MSVQVAE

TINY = PRESETS["tiny"]
SPLIT = dataclasses.replace(
    TINY, levels=(TINY.levels[0], dataclasses.replace(TINY.levels[1], split=True, worth=0.3))
)


def lively(config=TINY, **options):
    """A network whose blocks are not the identity that they start as."""
    torch.manual_seed(0)
    network = MSVQVAE(config, **options)
    for fill in network.synthesis.fills.values():
        torch.nn.init.normal_(fill.out.weight, std=0.1)
    for module_name, parameter in network.named_parameters():
        if ".time." in module_name:
            torch.nn.init.normal_(parameter, std=0.1)
    torch.nn.init.normal_(network.synthesis.quality.weight, std=0.1)
    for stage in network.refiner.stages:
        stage.codebook.mul_(0.1)  # within reach of what there is to refine
    return network


def with_bottom(config, **changes):
    top, bottom = config.levels
    return dataclasses.replace(config, levels=(top, dataclasses.replace(bottom, **changes)))


@pytest.fixture(scope="module")
def tiny():
    return lively().eval().requires_grad_(False)


@pytest.fixture(scope="module")
def split():
    return lively(SPLIT).eval().requires_grad_(False)


def shapes(name, clip_shape):
    """Grid and picture shapes, computed without computing anything else."""
    with FakeTensorMode():
        network = MSVQVAE(PRESETS[name])
        grids = network.encode(torch.zeros(2, 3, *clip_shape))
        return [tuple(grid.shape) for grid in grids], tuple(network.decode(grids).shape)


def test_grids_of_the_papers_clip():
    grids, clip = shapes("base", (32, 64, 64))
    assert grids == [(2, 4, 8, 8)] + 2 * [(2, 4, 16, 16)] + [(2, 8, 16, 16)]
    assert clip == (2, 3, 32, 64, 64)


def test_grids_of_the_single_level_baseline():
    grids, clip = shapes("single-level", (32, 64, 64))
    assert grids == [(2, 8, 16, 16)]
    assert clip == (2, 3, 32, 64, 64)


def test_any_multiple_of_8_runs(tiny):
    grids = tiny.encode(torch.rand(1, 3, 40, 96, 80))
    assert [tuple(grid.shape) for grid in grids] == [(1, 5, 12, 10)] + 3 * [(1, 10, 24, 20)]
    assert tiny.decode(grids).shape == (1, 3, 40, 96, 80)


@pytest.mark.parametrize("name", ["base", "paper-512", "single-level"])
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
    torch.testing.assert_close(output.clip.clamp(0, 1), network.decode(indices))


def test_every_number_of_grids_decodes_to_a_picture_of_its_own(tiny):
    grids = tiny.encode(torch.rand(2, 3, 16, 24, 32))
    decoded = [tiny.decode(grids[:count]) for count in range(1, 5)]
    for number, clip in enumerate(decoded):
        assert clip.shape == (2, 3, 16, 24, 32)
        assert clip.dtype == torch.float32
        assert 0 <= clip.min() <= clip.max() <= 1
        assert not any(torch.equal(clip, other) for other in decoded[:number])


@pytest.mark.parametrize("quality", [1, 2, 3, 4])
def test_encoding_at_a_lower_quality_gives_the_first_grids(tiny, quality):
    clip = torch.rand(2, 3, 8, 24, 16)
    fewer, grids = tiny.encode(clip, quality), tiny.encode(clip)
    assert len(fewer) == quality
    assert all(torch.equal(a, b) for a, b in zip(fewer, grids, strict=False))
    assert all(int(grid.max()) > 0 for grid in grids)


def test_without_a_good_guess_a_split_level_codes_as_a_whole_one_does(tiny):
    whole, split = lively().eval(), lively(SPLIT).eval()
    state = split.state_dict()
    state |= {k: v for k, v in whole.state_dict().items() if k != "synthesis.quality.weight"}
    split.load_state_dict(state)
    torch.nn.init.constant_(split.synthesis.fills["1"].out.bias, 1e3)
    for network in (whole, split):
        network.quantizers[1].codebook[0] = 1e3  # odd steps do not have this entry
    clip = torch.rand(2, 3, 16, 24, 32)
    expected, halves = whole.encode(clip), split.encode(clip)
    assert torch.equal(halves[1], expected[1][:, ::2])
    assert torch.equal(halves[2], expected[1][:, 1::2])
    for a, b in zip(expected[2:], halves[3:], strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("quality", [1, 2, 3, 4, 5])
def test_a_split_level_ends_at_the_quality_asked_for(split, quality):
    clip = torch.rand(2, 3, 16, 24, 32)
    fewer = split.encode(clip, quality)
    assert len(fewer) == quality
    assert all(map(torch.equal, fewer, split.encode(clip)))


@pytest.mark.parametrize("worth", [0.0, 0.3, 1.0])
def test_odd_steps_take_an_entry_where_it_is_worth_it(split, worth):
    network = MSVQVAE(with_bottom(SPLIT, worth=worth)).eval()
    network.load_state_dict(split.state_dict())
    clip = torch.rand(3, 3, 16, 24, 32)
    output = network(clip)
    indices, z = output.indices, output.latents[2]
    guess = network.reconstruct(indices).guesses[2].permute(0, 4, 1, 2, 3)
    nearest = network.quantizers[1].encode(z)
    entries = network.quantizers[1].decode(nearest)
    left = (z - guess).square().sum(1)
    better = left - (z - entries).square().sum(1)
    for number in range(len(clip)):
        mean = left[number].mean()
        taken = (better[number] >= worth * mean) & (nearest[number] > 0)
        assert torch.equal(indices[2][number], nearest[number] * taken)
    share = (indices[2] == 0).float().mean()
    assert 0 < share < 1


def test_half_of_a_split_level_leaves_the_other_steps_to_the_guess(split):
    top, even, odd, *_ = split.encode(torch.rand(2, 3, 16, 24, 32))
    before = split.decode([top, even])
    assert not torch.equal(before, split.decode([top]))
    assert not torch.equal(before, split.decode([top, even, odd]))
    deaf = lively(SPLIT).eval()
    torch.nn.init.zeros_(deaf.synthesis.quality.weight)
    nothing = torch.zeros_like(odd)
    torch.testing.assert_close(deaf.decode([top, even, nothing]), deaf.decode([top, even]))


def test_a_guess_starts_as_the_mean_of_what_is_on_either_side(split):
    even, context = torch.rand(1, 4, 3, 6, 8), torch.rand(1, 16, 6, 6, 8)
    means = (even + torch.cat([even[:, :, 1:], even[:, :, -1:]], 2)) / 2
    fresh = MSVQVAE(SPLIT).synthesis.guess(1, even, context)
    torch.testing.assert_close(fresh, means)
    assert (split.synthesis.guess(1, even, context) - means).abs().max() > 0


def test_shifts_move_what_the_codes_stand_for(split):
    old, new = (split.encode(torch.rand(1, 3, 16, 24, 32)) for _ in range(2))
    guess = split.reconstruct([*old[:1], *new[1:2], *old[2:]]).guesses[2]
    shifts = []
    for number, book in enumerate(split.codebooks()[:3]):
        before, after = book[old[number]], book[new[number]]
        if number == 2:
            before, after = (
                torch.where(grid[2][..., None] > 0, vectors, guess)
                for grid, vectors in ((old, before), (new, after))
            )
        shifts.append(after - before)
    shifts[0].zero_()  # what is guessed depends on the top
    stages = list(zip(split.codebooks()[3:], old[3:], new[3:], strict=True))
    shifts.append(torch.stack([book[b] - book[a] for book, a, b in stages]).sum(0))
    shifted = split.reconstruct(old, shifts).clip
    torch.testing.assert_close(shifted, split.decode([*old[:1], *new[1:]]))
    assert not torch.allclose(shifted, split.decode(old))


@pytest.mark.parametrize("qualities", [(1, 2, 3, 4, 5), (2, 2, 2, 2, 2), (2, 1, 2, 5, 3)])
def test_each_clip_is_decoded_with_the_halves_that_it_has(split, qualities):
    clips = torch.rand(5, 3, 8, 24, 16)
    output = split(clips, torch.tensor(qualities))
    grids = split.encode(clips)
    assert all(torch.equal(a, b) for a, b in zip(output.indices, grids, strict=True))
    for latent, grid in zip(output.latents, grids, strict=True):
        assert latent[:, 0].shape == grid.shape
    for number, quality in enumerate(qualities):
        alone = split.decode([grid[number : number + 1] for grid in grids[:quality]])
        torch.testing.assert_close(output.clip[number : number + 1].clamp(0, 1), alone)


@pytest.mark.parametrize("qualities", [(1, 2, 3, 4), (4, 1, 4, 1), (1, 1, 1, 1), (3, 2, 2, 3)])
def test_each_clip_of_a_pass_is_decoded_at_its_own_quality(tiny, qualities):
    clips = torch.rand(4, 3, 8, 24, 16)
    output = tiny(clips, torch.tensor(qualities))
    grids = tiny.encode(clips)
    assert all(torch.equal(a, b) for a, b in zip(output.indices, grids, strict=True))
    for number, quality in enumerate(qualities):
        alone = tiny.decode([grid[number : number + 1] for grid in grids[:quality]])
        torch.testing.assert_close(output.clip[number : number + 1].clamp(0, 1), alone)


def test_quality_in_training_decides_no_codes():
    clips = torch.rand(2, 3, 8, 16, 16)
    states, outputs = [], []
    for quality in ((4, 4), (1, 3)):
        network = lively()
        network.adopt_codebooks()
        outputs.append(network(clips, torch.tensor(quality)))
        states.append(network.state_dict())
    for a, b in zip(*(output.indices for output in outputs), strict=True):
        assert torch.equal(a, b)
    for name, tensor in states[0].items():
        assert torch.equal(tensor, states[1][name]), name


def test_each_code_depends_on_the_coarser_ones_and_on_no_finer_one():
    network = lively().eval()
    books = [*network.quantizers, *network.refiner.stages]
    clip = torch.rand(1, 3, 8, 32, 32)
    before = network.encode(clip)
    for number, book in enumerate(books):
        changed = book.codebook.clone()
        book.codebook.copy_(-3 * changed.roll(1, 0))
        after = network.encode(clip)
        book.codebook.copy_(changed)
        for finer, (a, b) in enumerate(zip(before, after, strict=True)):
            assert torch.equal(a, b) == (finer < number)


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
    for config in (TINY, ModelConfig(TINY.levels[1:])):
        for delay in (0, 1):
            network = MSVQVAE(config, delay=delay)
            for quality in range(1, len(config.grids) + 1):
                output = network(torch.rand(1, 3, 8, 16, 16), torch.tensor([quality]))
                (output.clip.square().mean() + output.commitment).backward()
                missing = [n for n, p in network.named_parameters() if p.grad is None]
                assert not missing
                network.zero_grad(set_to_none=True)


@pytest.mark.parametrize("drawn", [False, True])
@pytest.mark.parametrize("qualities", [(1, 5), (2, 1), (2, 3)])
def test_guesses_are_trained_where_they_are_used(qualities, drawn):
    network = lively(SPLIT, delay=1)
    if drawn:
        network.adopt_codebooks()
    output = network(torch.rand(2, 3, 8, 16, 16), torch.tensor(qualities))
    output.clip.square().mean().backward()
    gradients = [p.grad for p in network.synthesis.fills.parameters()]
    assert all(g is not None for g in gradients)
    # Before the codebook is drawn, nothing says where a guess will do.
    used = 2 in qualities or drawn
    assert all(bool(g.any()) == used for g in gradients)
    assert all(p.grad is not None for p in network.parameters())


def test_only_what_there_are_grids_for_is_decoded(tiny):
    grid = torch.zeros(1, 1, 2, 2, dtype=torch.int64)
    with pytest.raises(ValueError, match="0 grids for a model of 4"):
        tiny.decode([])
    with pytest.raises(ValueError, match="5 grids for a model of 4"):
        tiny.decode([grid] * 5)


def test_with_frozen_codes_only_what_follows_them_is_trained():
    network = lively(delay=5)
    network.adopt_codebooks()
    network.freeze_codes()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    clip = torch.rand(2, 3, 8, 16, 16)
    with torch.inference_mode():
        indices = network.eval().encode(clip)
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.1)
    for quality in (4, 3, 2, 1):
        network.train()
        output = network(clip, torch.tensor([quality, 4]))
        assert all(torch.equal(a, b) for a, b in zip(output.indices, indices, strict=True))
        optimizer.zero_grad()
        ((output.clip - clip).square().mean() + output.commitment).backward()
        optimizer.step()
    moved = {n for n, t in network.state_dict().items() if not torch.equal(t, before[n])}
    decoder = ("synthesis.refine", "synthesis.quality", "synthesis.tail")
    assert moved == {name for name in before if name.startswith(decoder)}
    after = network.eval().encode(clip)
    assert all(torch.equal(a, b) for a, b in zip(after, indices, strict=True))


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
