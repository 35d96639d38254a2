"""vqcodec.model.quantizer.ResidualQuantizer, and what of Codebook only it uses"""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from vqcodec.model.quantizer import DECAY, EPSILON, Codebook, ResidualQuantizer

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
        assert not quantizer.error.any()
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
    assert not quantizer.error.any()
    assert not any(stage.started for stage in quantizer.stages)
    far = clips(seed=2) * 100
    for _ in range(delay):
        assert torch.equal(quantizer(far, ALL).vectors, far)
    assert torch.equal(quantizer.stages[0].codebook, old)
    quantizer(far, ALL)
    assert quantizer.stages[0].codebook.abs().max() > 20
    assert all(stage.started for stage in quantizer.stages)


def test_the_zero_entry_stays_zero():
    quantizer = waiting(delay=1, rate=0.1)
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

    assert after_a_step(zero=True)[3] == pytest.approx(DECAY)  # rare, not dead
    assert after_a_step(zero=False)[3] > 1000


def test_rate_weighs_bits_against_distance():
    generator = torch.Generator().manual_seed(0)
    book = Codebook(dim=3, entries=16)
    book.codebook.copy_(torch.randn(16, 3, generator=generator))
    book.usage.copy_(torch.rand(16, generator=generator) ** 4)
    z = torch.randn(500, 3, generator=generator)
    distances = ((z[:, None] - book.codebook) ** 2).sum(2).double().numpy()
    usage = book.usage.double().numpy() + EPSILON
    bits = -np.log2(usage / usage.sum())
    spent = []
    for rate in (0.0, 0.05, 0.5):
        chosen = book.nearest(z, rate).numpy()
        cost = distances + rate * bits
        taken = cost[np.arange(len(z)), chosen]
        np.testing.assert_allclose(taken, cost.min(1), atol=1e-4)
        spent.append(bits[chosen].mean())
    assert spent[0] > spent[1] > spent[2]


def test_rate_is_in_units_of_the_error_and_only_of_training():
    rate, z = 0.3, clips()
    quantizer = ready(rate=rate)
    stage = quantizer.stages[0]
    stage.usage[0] = 50.0
    flat = z.movedim(1, -1).reshape(-1, DIM)
    plain, cheap = stage.nearest(flat), stage.nearest(flat, rate * 2.0)
    assert int((cheap == 0).sum()) > int((plain == 0).sum())
    assert torch.equal(quantizer.eval()(z, ALL).indices[0].flatten(), plain)
    assert torch.equal(quantizer.encode(z, 1)[0].flatten(), plain)
    # Before there is an average of the error, bits cost nothing.
    assert torch.equal(copy.deepcopy(quantizer).train()(z, ALL).indices[0].flatten(), plain)
    quantizer.error[0] = 2.0
    assert torch.equal(quantizer.train()(z, ALL).indices[0].flatten(), cheap)


def test_rate_spends_fewer_bits_in_the_long_run():
    def bits(rate):
        quantizer = waiting(rate=rate)
        for step in range(60):
            quantizer(clips(4, seed=step), torch.tensor([STAGES] * 4))
        shares = torch.stack([stage.usage / stage.usage.sum() for stage in quantizer.stages])
        return float(-(shares * shares.log2()).sum()), float(shares[0, 0])

    (free, zeros_free), (dear, zeros_dear) = bits(0.0), bits(1.0)
    assert dear < free - 0.5
    assert zeros_dear > 2 * zeros_free  # "nothing to add" is what is cheap


def test_error_is_a_moving_average_of_what_each_stage_leaves():
    quantizer, expected = ready(), None
    for step in range(3):
        z = clips(seed=step)
        before = copy.deepcopy(quantizer)
        indices = quantizer(z, ALL).indices
        left = torch.stack(
            [(z - before.decode(indices[: n + 1])).square().sum(1).mean() for n in range(STAGES)]
        )
        expected = left if expected is None else DECAY * expected + (1 - DECAY) * left
        torch.testing.assert_close(quantizer.error, expected)


def test_a_batch_that_is_not_finite_leaves_everything_alone():
    quantizer = ready(rate=0.1)
    quantizer(clips(), ALL)
    before = {name: tensor.clone() for name, tensor in quantizer.state_dict().items()}
    z = clips()
    z[0, 0, 0, 0, 0] = float("nan")
    quantizer(z, ALL)
    for name, tensor in quantizer.state_dict().items():
        assert torch.equal(tensor, before[name]) or name.endswith("age")
