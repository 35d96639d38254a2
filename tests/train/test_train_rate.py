"""vqcodec.train.rate: network and prior in one training run"""

from __future__ import annotations

import dataclasses
import signal

import pytest
import torch

from vqcodec.entropy.prior import Prior
from vqcodec.errors import CheckpointError
from vqcodec.model.checkpoint import export, load, read_safetensors, save, store
from vqcodec.model.config import PRESETS
from vqcodec.model.network import MSVQVAE
from vqcodec.train.loop import STATE, train
from vqcodec.train.prior_network import PriorNetwork, prior_config
from vqcodec.train.rate import PricedNetwork, _expected


@pytest.fixture
def network(request):
    """A tiny network in training, its codebooks drawn from what it makes of ``clips``.

    Its bottom is whole, or split with the parameter True.
    """
    torch.manual_seed(0)
    top, bottom = PRESETS["tiny"].levels
    if getattr(request, "param", False):
        bottom = dataclasses.replace(bottom, split=True, worth=0.2)
    network = MSVQVAE(dataclasses.replace(PRESETS["tiny"], levels=(top, bottom))).train()
    network(clips())
    return network


BOTH = pytest.mark.parametrize("network", [False, True], ids=["whole", "split"], indirect=True)


def clips():
    generator = torch.Generator().manual_seed(1)
    smooth = torch.rand(3, 3, 4, 4, 4, generator=generator)
    return torch.nn.functional.interpolate(smooth, size=(16, 16, 16), mode="trilinear")


def prior_of(network):
    return PriorNetwork(prior_config(network.config, hidden=8, embedding=4), network.codebooks())


def nothing(network, grids):
    return [
        torch.full_like(found, grid.entries)
        for found, grid in zip(grids, network.config.grids, strict=False)
    ]


def train_prior_on(prior, network, steps):
    """Let a prior learn what ``clips`` are coded as; bits of each level."""
    grids = [grid.int() for grid in network.eval().encode(clips())]
    optimizer = torch.optim.Adam(prior.parameters(), lr=0.03)
    for _ in range(steps):
        optimizer.zero_grad()
        levels = range(len(prior.levels))
        bits = [prior.level(n).bits(grids, nothing(network, grids)).sum() for n in levels]
        sum(bits).backward()
        optimizer.step()
        prior.project()
    return [float(part.detach()) for part in bits]


@BOTH
def test_tables_hold_what_bits_are_looked_up_in(network):
    prior = prior_of(network)
    train_prior_on(prior, network, 3)
    grids = [grid.int() for grid in network.eval().encode(clips())]
    before = nothing(network, grids)
    for number, (level, grid) in enumerate(zip(network.config.grids, grids, strict=True)):
        chosen = torch.randperm(grid.numel())[:50]
        tables = prior.level(number).tables(grids, before, chosen)
        assert tables.shape == (len(chosen), level.entries)
        torch.testing.assert_close(tables.neg().exp2().sum(1), torch.ones(len(chosen)))
        bits = prior.level(number).bits(grids, before).flatten()[chosen]
        symbols = grid.flatten()[chosen].long()
        torch.testing.assert_close(tables.gather(1, symbols[:, None])[:, 0], bits)


@BOTH
def test_gradients_go_where_they_belong(network):
    prior = prior_of(network)
    highest = len(network.config.grids)
    output = PricedNetwork(network, prior)(clips(), torch.tensor([1, 2, highest]))
    output.rate.backward(retain_graph=True)
    assert all(bool((p.grad != 0).any()) for p in network.analysis.stem.parameters())
    assert all(p.grad is None for p in prior.parameters())
    network.zero_grad()
    output.surprise.backward()
    assert all(bool((p.grad != 0).any()) for p in prior.parameters())
    assert all(p.grad is None for p in network.parameters())


@BOTH
def test_levels_that_are_not_used_do_not_count(network):
    prior = prior_of(network)
    output = PricedNetwork(network, prior)(clips(), torch.tensor([1, 1, 2]))
    output.surprise.backward()
    for number in range(len(prior.levels)):
        learnt = any(p.grad is not None for p in prior.level(number).parameters())
        assert learnt == (number < 2)
    assert float(output.rate.detach()) >= 0.5


def test_vectors_move_to_cheaper_codes():
    generator = torch.Generator().manual_seed(0)
    codebook = torch.randn(64, 4, generator=generator)
    costs = 10 * torch.rand(500, 64, generator=generator)
    z = torch.randn(500, 4, generator=generator).requires_grad_()

    def bits():
        nearest = torch.cdist(z.detach(), codebook).argmin(1)
        return nearest, float(costs.gather(1, nearest[:, None]).mean())

    nearest, before = bits()
    for _ in range(10):
        expected = _expected(z, codebook, nearest, costs)
        assert expected.shape == (500,)
        (slope,) = torch.autograd.grad(expected.sum(), z)
        z.data -= 0.02 * slope / slope.norm(dim=1, keepdim=True).clamp(min=1e-9)
        nearest, after = bits()
    assert after < 0.75 * before


def test_no_vector_is_drawn_to_the_entry_that_a_guess_is_numbered_as():
    codebook = torch.tensor([[0.1, 0.0], [0.0, 0.0], [0.0, 0.2]])
    z = torch.tensor([[0.1, 0.02]], requires_grad=True)  # nearest to entry 0, which is free
    costs = torch.tensor([[0.0, 8.0, 8.0]])
    for guess in (False, True):
        expected = _expected(z, codebook, torch.tensor([int(guess)]), costs, guess=guess)
        assert (float(expected.detach()) == 8) == guess


def test_where_the_nearest_is_not_chosen_no_step_changes_the_bits():
    codebook = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    z = torch.tensor([[0.7, 0.1], [0.6, 0.3], [0.1, 0.1]], requires_grad=True)
    costs = torch.tensor([[0.5, 6.0, 7.0]]).repeat(3, 1)
    expected = _expected(z, codebook, torch.tensor([0, 1, 0]), costs)
    (slope,) = torch.autograd.grad(expected.sum(), z)
    assert expected[0] == 0.5
    assert not slope[0].any()
    assert slope[1].any()


@pytest.fixture
def init(network, tmp_path):
    """A checkpoint with a prior."""
    prior = prior_of(network)
    stored = store(prior.config, prior.tensors())
    save(dataclasses.replace(export(network, {}), prior=stored), tmp_path / "init.safetensors")
    return tmp_path / "init.safetensors"


def test_a_run_trains_both_and_resumes(quick, options, init, new_recorder, monkeypatch):
    # The prior knows entries by their numbers.
    monkeypatch.setattr(MSVQVAE, "sort_codebooks", lambda _self: pytest.fail("sorted anew"))
    config = dataclasses.replace(quick, trade=0.5, level_weights=(1.0, 2.0, 1.0, 2.0), delay=0)
    whole = dataclasses.replace(options, init=init, out=options.out.parent / "whole")
    broken = dataclasses.replace(options, init=init, out=options.out.parent / "broken")
    path = train(config, whole, new_recorder())

    def interrupt(progress):
        if progress.step == 3:
            signal.raise_signal(signal.SIGTERM)

    train(config, broken, new_recorder(after_step=interrupt))
    train(config, broken, new_recorder())
    (_, expected), (_, found) = (read_safetensors(o.out / STATE) for o in (whole, broken))
    assert expected.keys() == found.keys()
    for name, tensor in expected.items():
        assert torch.equal(tensor, found[name]), name

    first, model = load(init), load(path)
    assert model.prior.config == first.prior.config
    moved = [
        name
        for name, tensor in first.prior.tensors.items()
        if not torch.equal(tensor, model.prior.tensors[name])
    ]
    assert moved
    assert isinstance(model.prior.build(), Prior)


def test_validation_says_what_codes_cost(quick, options, init, recorder):
    config = dataclasses.replace(quick, trade=0.5, delay=0)
    train(config, dataclasses.replace(options, init=init), recorder)
    (_, result) = recorder.validations[-1]
    assert len(result.coded_bpp) == 4
    assert list(result.coded_bpp) == sorted(result.coded_bpp)
    assert result.coded_bpp[-1] < 1.2 * result.bpp[-1]


def test_without_a_prior_there_is_no_price(quick, options, recorder, tiny):
    config = dataclasses.replace(quick, trade=0.5)
    for start in (None, tiny):
        with pytest.raises(CheckpointError, match="there is no prior"):
            train(config, dataclasses.replace(options, init=start), recorder)


def test_frozen_codes_have_no_other_price(quick):
    with pytest.raises(ValueError, match="trade has nothing to change"):
        dataclasses.replace(quick, trade=0.5, decoder_only=True)
