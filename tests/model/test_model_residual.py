"""vqcodec.model.quantizer.ResidualQuantizer, and what of Codebook only it uses"""

from __future__ import annotations

import copy

import pytest
import torch

from vqcodec.model.quantizer import EMA_DECAY, Codebook, ResidualQuantizer

STAGES, ENTRIES, DIM = 3, 8, 4
ALL = torch.tensor([STAGES, STAGES])


def waiting(**options):
    torch.manual_seed(0)
    return ResidualQuantizer(dim=DIM, stages=STAGES, entries=ENTRIES, **options)


def ready(**options):
    """Stages in use, each half as coarse as the one before."""
    quantizer = waiting(**options)
    for number, stage in enumerate(quantizer.stages):
        stage.codebook.mul_(0.5**number)
        stage.adopt()
    return quantizer


def clips(count=2, seed=1):
    return torch.randn(count, DIM, 2, 3, 5, generator=torch.Generator().manual_seed(seed))


def looked_up(quantizer, indices):
    """The sum of the entries, by nothing but indexing."""
    return sum(
        stage.codebook[grid].movedim(-1, 1)
        for stage, grid in zip(quantizer.stages, indices, strict=False)
    )


def test_each_stage_takes_the_nearest_entry_to_what_is_left():
    quantizer, z = ready(), clips()
    rest = z.movedim(1, -1).reshape(-1, DIM)
    for stage, grid in zip(quantizer.stages, quantizer.encode(z, STAGES), strict=True):
        assert grid.shape == (2, 2, 3, 5)
        nearest = torch.cdist(rest.double(), stage.codebook.double()).argmin(1)
        assert torch.equal(grid.flatten(), nearest)
        rest = rest - stage.codebook[nearest]


def test_encode_decode_and_forward_agree():
    quantizer, z = ready().eval(), clips()
    before = {name: tensor.clone() for name, tensor in quantizer.state_dict().items()}
    output, indices = quantizer(z, ALL), quantizer.encode(z, STAGES)
    assert all(torch.equal(a, b) for a, b in zip(output.indices, indices, strict=True))
    torch.testing.assert_close(output.vectors, quantizer.decode(indices))
    for name, tensor in quantizer.state_dict().items():
        assert torch.equal(tensor, before[name])


@pytest.mark.parametrize("count", range(1, STAGES + 1))
def test_fewer_stages_are_a_prefix_and_decode_to_the_partial_sum(count):
    quantizer, z = ready(), clips()
    indices = quantizer.encode(z, STAGES)
    prefix = quantizer.encode(z, count)
    assert len(prefix) == count
    assert all(torch.equal(a, b) for a, b in zip(prefix, indices, strict=False))
    decoded = quantizer.decode(prefix)
    torch.testing.assert_close(decoded, looked_up(quantizer, prefix))
    # The zero vector leaves any of them as it was.
    more = (*prefix, *[torch.zeros_like(prefix[0])] * (STAGES - count))
    assert torch.equal(quantizer.decode(more), decoded)


@pytest.mark.parametrize("training", [False, True])
def test_each_clip_has_its_own_number_of_stages(training):
    quantizer, z = ready().train(training), clips(5)
    before = copy.deepcopy(quantizer)
    used = [-1, 0, 1, 2, 3]
    output = quantizer(z, torch.tensor(used))
    indices = before.encode(z, STAGES)
    # What is used decides what is passed on, not what is chosen.
    assert all(torch.equal(a, b) for a, b in zip(output.indices, indices, strict=True))
    for clip, count in enumerate(used):
        if count <= 0:
            assert not output.vectors[clip].any()
        else:
            expected = before.decode([grid[clip : clip + 1] for grid in indices[:count]])[0]
            torch.testing.assert_close(output.vectors[clip], expected)


def test_gradients_pass_straight_through_where_any_stage_is_used():
    quantizer, z = ready(), clips(3).requires_grad_()
    weights = torch.randn(z.shape)
    (quantizer(z, torch.tensor([0, 1, 3])).vectors * weights).sum().backward()
    assert not z.grad[0].any()
    torch.testing.assert_close(z.grad[1:], weights[1:])


def test_commitment_pulls_towards_the_sums_of_the_stages_in_use():
    quantizer, z = ready(), clips(3).requires_grad_()
    before = copy.deepcopy(quantizer)
    used = torch.tensor([0, 1, 3])
    output = quantizer(z, used)
    output.loss.backward()
    loss, gradient = 0.0, torch.zeros_like(z)
    for number in range(STAGES):
        apart = z.detach() - before.decode(output.indices[: number + 1])
        apart[used <= number] = 0
        loss += float(apart.square().mean()) / STAGES
        gradient += 2 * apart / z.numel() / STAGES
    assert output.loss.item() == pytest.approx(loss, rel=1e-5)
    torch.testing.assert_close(z.grad, gradient)


def test_waits_then_draws_the_codebooks_from_the_data():
    quantizer, z = waiting(delay=2), clips(2)
    fresh = [stage.codebook.clone() for stage in quantizer.stages]
    for _ in range(2):
        output = quantizer(z, torch.tensor([0, 2]))
        assert not output.vectors[0].any()
        assert torch.equal(output.vectors[1], z[1])
        assert output.loss == 0
        assert not any(grid.any() for grid in output.indices)
        assert not any(stage.started for stage in quantizer.stages)
    assert all(torch.equal(a, s.codebook) for a, s in zip(fresh, quantizer.stages, strict=True))
    quantizer(z, ALL)
    assert all(stage.started for stage in quantizer.stages)
    errors = [(z - quantizer.decode(quantizer.encode(z, n))).square().mean() for n in (1, 2, 3)]
    assert z.square().mean() > errors[0] > errors[1] > errors[2]


@pytest.mark.parametrize("delay", [0, 2])
def test_restart_waits_and_draws_again(delay):
    quantizer = ready(delay=delay)
    quantizer(clips(), ALL)
    old = quantizer.stages[0].codebook.clone()
    quantizer.restart()
    assert not any(stage.started for stage in quantizer.stages)
    far = clips(seed=2) * 100
    for _ in range(delay):
        assert torch.equal(quantizer(far, ALL).vectors, far)
    assert torch.equal(quantizer.stages[0].codebook, old)
    quantizer(far, ALL)
    assert quantizer.stages[0].codebook.abs().max() > 20
    assert all(stage.started for stage in quantizer.stages)


def test_the_zero_entry_stays_zero():
    quantizer = waiting(delay=1, worth=0.1)
    for step in range(40):
        # Half of them nothing but a little noise, and towards the end a new place: restarts.
        z = clips(seed=step) * torch.tensor([0.01, 1.0])[:, None, None, None, None]
        quantizer(z + 5 * (step > 30), ALL)
        for stage in quantizer.stages:
            assert not stage.codebook[0].any()
            assert step < 1 or not stage.total[0].any()
    assert all(float(stage.usage[0]) > 0 for stage in quantizer.stages)


def test_dead_entries_restart_but_never_the_zero_entry():
    book = Codebook(dim=2, entries=4, zero=True)
    book.codebook[:] = torch.tensor([[0.0, 0], [1, 0], [0, 1], [1000, 0]])
    book.adopt()
    book.usage[:] = torch.tensor([1e-6, 5.0, 5.0, 1e-4])
    data = torch.tensor([[1.0, 0], [0, 1]]).repeat(20, 1)
    book.follow(data, book.nearest(data))
    assert not book.codebook[0].any()
    assert float(book.usage[0]) < 1e-5
    assert bool((book.codebook[3] == data).all(1).any())
    share = float(book.usage[1:3].sum()) / 4
    assert float(book.usage[3]) == pytest.approx(share, rel=1e-2)
    torch.testing.assert_close(book.total[3], book.codebook[3] * book.usage[3])


def test_what_is_dead_is_measured_without_the_zero_entrys_share():
    def after_a_step(zero):
        book = Codebook(dim=2, entries=4, zero=zero)
        book.codebook[:] = torch.tensor([[0.0, 0], [1, 0], [0, 1], [9, 9]])
        book.adopt()
        book.usage[0] = 1e4
        data = torch.zeros(100, 2)
        book.follow(data, book.nearest(data))
        return book.usage

    assert after_a_step(zero=True)[3] == pytest.approx(EMA_DECAY)  # rare, not dead
    assert after_a_step(zero=False)[3] > 1000


@pytest.mark.parametrize("training", [False, True])
def test_an_entry_must_take_away_its_worth(training):
    quantizer, z = ready(worth=0.4, decay=0.5).train(training), clips(3)
    z[1] *= 0.3
    z[2, ..., 2:] *= 0.1
    before = copy.deepcopy(quantizer)
    output = quantizer(z, torch.full((3,), STAGES))
    assert all(
        torch.equal(a, b) for a, b in zip(output.indices, before.encode(z, STAGES), strict=True)
    )
    rest = z.movedim(1, -1)
    energy = rest.square().sum(-1).mean((1, 2, 3), keepdim=True)
    for number, (stage, grid) in enumerate(zip(before.stages, output.indices, strict=True)):
        nearest = stage.nearest(rest.reshape(-1, DIM)).reshape(grid.shape)
        without = rest.square().sum(-1)
        with_it = (rest - stage.codebook[nearest]).square().sum(-1)
        enough = without - with_it >= 0.4 * 0.5**number * energy
        assert torch.equal(grid, nearest * enough)
        assert 0 < int(((nearest > 0) & ~enough).sum()) < grid.numel()
        rest = rest - stage.codebook[grid]


def test_a_clip_of_nothing_has_zero_entries():
    z = clips(2)
    z[0] = 0
    for grid in ready(worth=0.4, decay=0.5).encode(z, STAGES):
        assert not grid[0].any()
        assert grid[1].any()


def test_the_more_an_entry_must_be_worth_the_more_are_zero():
    zeros = [
        sum(int((grid == 0).sum()) for grid in ready(worth=worth).encode(clips(), STAGES))
        for worth in (0.0, 0.1, 0.5, 1.0)
    ]
    assert zeros == sorted(zeros)
    assert zeros[0] < zeros[1] < zeros[-1]


def test_a_batch_that_is_not_finite_leaves_everything_alone():
    quantizer = ready(worth=0.1)
    quantizer(clips(), ALL)
    before = {name: tensor.clone() for name, tensor in quantizer.state_dict().items()}
    z = clips()
    z[0, 0, 0, 0, 0] = float("nan")
    quantizer(z, ALL)
    for name, tensor in quantizer.state_dict().items():
        assert torch.equal(tensor, before[name]) or name.endswith("age")
