"""vqcodec.train.optimizer"""

from __future__ import annotations

import copy

import pytest
import torch

from vqcodec.model.config import PRESETS, RestorationConfig
from vqcodec.model.network import MSVQVAE
from vqcodec.model.restoration import Restoration
from vqcodec.train import optimizer as module
from vqcodec.train.optimizer import MOMENTUM, Muon, make_optimizer, orthogonalise
from vqcodec.train.state import read_state, save_state

BETAS = (0.9, 0.99)


@pytest.fixture
def narrow(monkeypatch):
    """Let the matrices of the tiny network count as ones."""
    monkeypatch.setattr(module, "SMALLEST", 8)


def new_run(seed=0, lr=1e-2):
    torch.manual_seed(seed)
    network = MSVQVAE(PRESETS["tiny"])
    return network, make_optimizer("muon", network, pixels=_pixels(network), lr=lr, betas=BETAS)


def _pixels(network):
    return network.analysis.stem, network.synthesis.tail[-1]


def step(network, optimizer):
    output = network(torch.rand(1, 3, 8, 16, 16))
    optimizer.zero_grad(set_to_none=True)
    (output.clip.square().mean() + output.commitment).backward()
    optimizer.step()


@pytest.mark.parametrize("shape", [(64, 64), (64, 300), (300, 64)])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4])
def test_orthogonalise_pulls_all_singular_values_to_about_one(shape, scale):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * scale
    result = orthogonalise(matrix)
    assert (result.shape, result.dtype) == (matrix.shape, matrix.dtype)
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    inside = u.T @ result @ v.T  # diagonal if the singular vectors stay
    values = inside.diagonal()[s > 0.05 * s.max()]
    assert 0.6 < float(values.min()) <= float(values.max()) < 1.3
    assert float((inside - inside.diagonal().diag()).abs().max()) < 0.05


def test_orthogonalise_of_nothing_is_nothing():
    assert not orthogonalise(torch.zeros(64, 80)).any()


def test_small_parameters_are_adams():
    torch.manual_seed(0)
    ours = [torch.randn(shape, requires_grad=True) for shape in ((5,), (3, 4), (2, 3, 1, 1))]
    theirs = copy.deepcopy(ours)
    optimizer = Muon([{"params": ours}], lr=1e-2, betas=BETAS)
    adam = torch.optim.Adam(theirs, lr=1e-2, betas=BETAS)
    for number in range(30):
        for group in (*optimizer.param_groups, *adam.param_groups):
            group["lr"] = 1e-2 / (1 + number)
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.randn(a.shape) * 10.0 ** (number % 5 - 3)
            b.grad = a.grad.clone()
        optimizer.step()
        adam.step()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


def test_matrices_move_by_an_orthogonal_matrix_of_adams_size():
    torch.manual_seed(0)
    weight = torch.randn(64, 32, 3, 3, requires_grad=True)
    before, momentum = weight.detach().clone(), torch.zeros(64, 288)
    optimizer = Muon([{"params": [weight], "matrix": True}], lr=0.5, betas=BETAS)
    for _ in range(3):
        weight.grad = torch.randn(weight.shape)
        gradient = weight.grad.flatten(1)
        optimizer.step()
        momentum = MOMENTUM * momentum + (1 - MOMENTUM) * gradient
        update = orthogonalise((1 - MOMENTUM) * gradient + MOMENTUM * momentum)
        moved = (weight.detach() - before).flatten(1)
        torch.testing.assert_close(moved, -0.5 * 0.2 * 288**0.5 * update, atol=2e-2, rtol=0)
        assert float(moved.square().mean().sqrt()) == pytest.approx(0.5 * 0.2, rel=0.2)
        before = weight.detach().clone()


def test_what_has_no_gradient_stays():
    weight, bias = (torch.ones(shape, requires_grad=True) for shape in ((64, 64, 1, 1), (3,)))
    optimizer = Muon(
        [{"params": [bias]}, {"params": [weight], "matrix": True}], lr=1.0, betas=BETAS
    )
    optimizer.step()
    assert bool((weight == 1).all())
    assert bool((bias == 1).all())
    assert not optimizer.state


@pytest.mark.parametrize("name", ["base", "paper", "single-level"])
def test_matrices_are_the_wide_convolutions_inside(name):
    with torch.device("meta"):
        network = MSVQVAE(PRESETS[name])
    others, matrices = (
        {id(p) for p in group["params"]}
        for group in make_optimizer(
            "muon", network, pixels=_pixels(network), lr=1e-3, betas=BETAS
        ).param_groups
    )
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    assert names.keys() == others | matrices
    assert not others & matrices
    chosen = {names[key] for key in matrices}
    assert all(name.endswith(".weight") for name in chosen)
    blocks = {name for name in names.values() if name.endswith(("space.weight", "time.weight"))}
    assert blocks <= chosen
    assert "synthesis.stages.0.join.weight" in chosen
    tail = PRESETS[name].tail_blocks
    for apart in ("analysis.down.0.0", "synthesis.tail.1", "synthesis.quality", "analysis.heads"):
        assert any(name.startswith(apart) for name in names.values()), (apart, tail)
        assert not any(name.startswith(apart) for name in chosen)
    size = {key: p.numel() for key, p in ((id(p), p) for p in network.parameters())}
    assert sum(size[key] for key in matrices) > 0.8 * sum(size.values())


def test_what_restores_has_matrices_too():
    network = Restoration(RestorationConfig(48, 3, 1, 96, 2), levels=8, planes=4)
    ends = network.intervals.enter, network.intervals.leave
    _, matrices = make_optimizer("muon", network, pixels=ends, lr=1e-3, betas=BETAS).param_groups
    inside = (*network.blocks, *network.detail_blocks, *network.intervals.blocks)
    assert {id(p) for p in matrices["params"]} == {
        id(layer.weight) for block in inside for layer in (block.space, block.time)
    }


def test_a_network_without_matrices_is_adams_alone():
    (group,) = new_run()[1].param_groups
    assert not group["matrix"]


def test_adam_and_nothing_else_goes_by_its_name():
    network = MSVQVAE(PRESETS["tiny"])
    assert isinstance(make_optimizer("adam", network, lr=1e-3, betas=BETAS), torch.optim.Adam)
    with pytest.raises(ValueError, match="unknown optimiser: sgd"):
        make_optimizer("sgd", network, lr=1e-3, betas=BETAS)


def test_saved_state_goes_on_bit_for_bit(narrow, tmp_path):
    network, optimizer = new_run()
    for _ in range(2):
        step(network, optimizer)
    save_state(tmp_path / "state", network, optimizer, {})
    step(network, optimizer)

    again, other = new_run(seed=1)
    assert len(other.param_groups) == 2
    read_state(tmp_path / "state").restore(again, other)
    step(again, other)
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name
    ours, theirs = (o.state_dict()["state"] for o in (optimizer, other))
    assert ours.keys() == theirs.keys()
    kinds = set()
    for index, slots in ours.items():
        assert slots.keys() == theirs[index].keys()
        kinds.add(tuple(slots))
        for name, tensor in slots.items():
            assert torch.equal(tensor, theirs[index][name])
    assert kinds == {("momentum",), ("step", "exp_avg", "exp_avg_sq")}


def test_a_rate_of_nearly_nothing_moves_nearly_nothing(narrow):
    network, optimizer = new_run(lr=1e-12)
    before = [parameter.detach().clone() for parameter in network.parameters()]
    step(network, optimizer)
    for old, new in zip(before, network.parameters(), strict=True):
        torch.testing.assert_close(new.detach(), old)
