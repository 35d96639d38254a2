"""vqcodec.model.quantizer"""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vqcodec.model import quantizer as module
from vqcodec.model.quantizer import EMA_DECAY, EPSILON, VectorQuantizer, _rotate


def plain(entries, dim, **options):
    """A quantiser whose output is the entry itself, with a given codebook in use."""
    quantizer = VectorQuantizer(lookup_dim=dim, dim=dim, entries=entries, **options)
    with torch.no_grad():
        quantizer.project_out.weight.copy_(torch.eye(dim)[:, :, None, None, None])
        quantizer.project_out.bias.zero_()
    quantizer.adopt()
    return quantizer


def as_grid(vectors):
    """(N, C) → (1, C, 1, 1, N)"""
    return vectors.T[None, :, None, None, :].contiguous()


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 8), st.integers(2, 40), st.floats(0.01, 100))
def test_nearest_is_nearest(seed, dim, entries, scale):
    generator = torch.Generator().manual_seed(seed)
    quantizer = plain(entries, dim)
    quantizer.codebook.copy_(torch.randn(entries, dim, generator=generator) * scale)
    z = torch.randn(50, dim, generator=generator) * scale
    found = quantizer.encode(as_grid(z)).flatten()
    distances = torch.cdist(z.double(), quantizer.codebook.double())
    chosen = distances.gather(1, found[:, None])[:, 0]
    assert bool((chosen - distances.min(1).values <= 1e-5 * scale).all())


def test_many_vectors_are_looked_up_in_parts(monkeypatch):
    quantizer = plain(16, 4)
    z = torch.randn(2, 4, 3, 5, 7)
    whole = quantizer.encode(z)
    monkeypatch.setattr(module, "ROWS", 10)
    assert torch.equal(quantizer.encode(z), whole)


def test_lookup_is_exact_under_autocast():
    quantizer = plain(64, 4).eval()
    z = torch.randn(1, 4, 4, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        under = quantizer.encode(z)
    assert torch.equal(under, quantizer.encode(z))


def test_decode_and_evaluation_give_the_entries():
    quantizer = plain(16, 4).eval()
    z = torch.randn(2, 4, 3, 5, 7)
    output = quantizer(z)
    assert output.indices.shape == (2, 3, 5, 7)
    assert torch.equal(output.vectors, quantizer.decode(output.indices))
    entries = quantizer.codebook[output.indices].movedim(-1, 1)
    assert torch.equal(output.vectors, entries)
    torch.testing.assert_close(output.loss, (z - entries).square().mean())


def test_evaluation_leaves_the_codebook_alone():
    quantizer = plain(16, 4, delay=3).eval()
    before = {name: tensor.clone() for name, tensor in quantizer.state_dict().items()}
    quantizer(torch.randn(1, 4, 2, 4, 4))
    for name, tensor in quantizer.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_moving_averages_against_numpy():
    generator = torch.Generator().manual_seed(1)
    entries, dim = 5, 3
    quantizer = plain(entries, dim)
    codebook = quantizer.codebook.numpy().astype(np.float64)
    usage, total = np.ones(entries), codebook.copy()
    for _ in range(20):
        z = torch.randn(200, dim, generator=generator)
        quantizer(as_grid(z))
        data = z.numpy().astype(np.float64)
        nearest = ((data[:, None] - codebook[None]) ** 2).sum(-1).argmin(1)
        one_hot = np.eye(entries)[nearest]
        usage = EMA_DECAY * usage + (1 - EMA_DECAY) * one_hot.sum(0)
        total = EMA_DECAY * total + (1 - EMA_DECAY) * one_hot.T @ data
        smooth = (usage + EPSILON) / (usage.sum() + entries * EPSILON) * usage.sum()
        codebook = total / smooth[:, None]
    np.testing.assert_allclose(quantizer.codebook.numpy(), codebook, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(quantizer.usage.numpy(), usage, rtol=1e-4)
    np.testing.assert_allclose(quantizer.total.numpy(), total, rtol=1e-4, atol=1e-4)


def test_starts_from_the_data_after_the_delay():
    quantizer = VectorQuantizer(lookup_dim=4, dim=4, entries=32, delay=2)
    before = quantizer.codebook.clone()
    data = torch.randn(32, 4) * 7 + 3
    for _ in range(2):
        z = as_grid(data).requires_grad_()
        output = quantizer(z)
        assert torch.equal(output.vectors, z)
        assert output.loss == 0
        output.loss.backward()
        assert torch.equal(quantizer.codebook, before)
    output = quantizer(as_grid(data))
    # As many vectors as entries: each becomes one.
    assert sorted(output.indices.flatten().tolist()) == list(range(32))
    torch.testing.assert_close(quantizer.codebook[output.indices.flatten()], data)
    assert output.loss < 1e-8


def test_start_follows_clusters():
    torch.manual_seed(0)
    centres = torch.randn(4, 8) * 20
    data = (centres[:, None] + torch.randn(4, 100, 8) * 0.1).reshape(-1, 8)
    quantizer = VectorQuantizer(lookup_dim=8, dim=8, entries=64)
    quantizer(as_grid(data))
    assert torch.cdist(quantizer.codebook, centres).min(1).values.max() < 1


def test_fewer_vectors_than_entries_will_do():
    quantizer = VectorQuantizer(lookup_dim=4, dim=4, entries=32)
    output = quantizer(as_grid(torch.randn(5, 4)))
    assert output.loss < 1e-8
    assert bool(quantizer.codebook.isfinite().all())


def test_dead_entries_restart_from_the_data():
    quantizer = plain(8, 4)
    quantizer.codebook[:] = torch.randn(8, 4)
    quantizer.codebook[3] = 1000.0
    quantizer.adopt()
    quantizer.usage[3] = 1e-4
    quantizer.total[3] = 1000.0 * 1e-4
    data = torch.randn(100, 4)
    quantizer(as_grid(data))
    assert bool((quantizer.codebook[3] == data).all(1).any())
    torch.testing.assert_close(quantizer.usage[3], quantizer.usage.sum() / 8, rtol=0.2, atol=0)
    torch.testing.assert_close(quantizer.total[3], quantizer.codebook[3] * quantizer.usage[3])


def test_an_unused_entry_dies_in_the_end_and_not_at_once():
    torch.manual_seed(0)
    quantizer = plain(4, 2)
    quantizer.codebook[:] = torch.tensor([[0.0, 0], [1, 0], [0, 1], [100, 100]])
    quantizer.adopt()
    steps = 0
    while float(quantizer.codebook[3].norm()) > 50:
        quantizer(as_grid(torch.rand(40, 2)))
        steps += 1
        assert steps < 1000
    assert steps > 100


def test_a_batch_that_is_not_finite_leaves_the_codebook_alone():
    quantizer = plain(8, 4)
    before = quantizer.codebook.clone(), quantizer.usage.clone()
    data = torch.randn(10, 4)
    data[3, 2] = float("nan")
    quantizer(as_grid(data))
    assert torch.equal(quantizer.codebook, before[0])
    assert torch.equal(quantizer.usage, before[1])


def test_straight_through_gradient_is_the_identity():
    quantizer = plain(8, 4)
    z = torch.randn(1, 4, 2, 3, 3, requires_grad=True)
    weights = torch.randn(1, 4, 2, 3, 3)
    before = copy.deepcopy(quantizer)
    output = quantizer(z)
    # The codebook that chose the entries decodes them, not the one it moves to in this step.
    torch.testing.assert_close(output.vectors, before.decode(output.indices))
    (output.vectors * weights).sum().backward()
    torch.testing.assert_close(z.grad, weights)


def test_commitment_pulls_towards_the_entry():
    quantizer = plain(8, 4)
    z = torch.randn(1, 4, 2, 3, 3, requires_grad=True)
    before = copy.deepcopy(quantizer)
    output = quantizer(z)
    output.loss.backward()
    entries = before.decode(output.indices)
    torch.testing.assert_close(z.grad, 2 * (z.detach() - entries) / z.numel())


def test_rotation_trick_is_the_papers():
    torch.manual_seed(0)
    z = torch.randn(20, 5, requires_grad=True)
    e, g = torch.randn(20, 5), torch.randn(20, 5)
    out = _rotate(z, e)
    torch.testing.assert_close(out, e)
    (out * g).sum().backward()
    for zi, ei, gi, grad in zip(z.detach(), e, g, z.grad, strict=True):
        u, v = zi / zi.norm(), ei / ei.norm()
        r = (u + v) / (u + v).norm()
        rotation = torch.eye(5) - 2 * torch.outer(r, r) + 2 * torch.outer(v, u)
        scale = ei.norm() / zi.norm()
        torch.testing.assert_close(grad, scale * rotation.T @ gi, atol=1e-5, rtol=1e-4)
        # It keeps the gradient's angle, and its length but for the ratio of norms.
        torch.testing.assert_close(grad.norm(), scale * gi.norm())
        torch.testing.assert_close(grad @ u / grad.norm(), gi @ v / gi.norm(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("z", [[0.0, 0, 0], [-1.0, -2, -3], [1.0, 2, 3], [1e-9, 0, 0]])
def test_rotation_trick_where_there_is_no_one_rotation(z):
    z = torch.tensor([z], requires_grad=True)
    e = torch.tensor([[1.0, 2, 3]])
    out = _rotate(z, e)
    torch.testing.assert_close(out, e)
    out.sum().backward()
    assert bool(z.grad.isfinite().all())
    assert float(z.grad.norm()) < 10


def test_rotation_in_the_quantiser():
    quantizer = plain(8, 4, rotate=True)
    z = torch.randn(1, 4, 2, 3, 3, requires_grad=True)
    before = copy.deepcopy(quantizer)
    output = quantizer(z)
    torch.testing.assert_close(output.vectors, before.decode(output.indices))
    output.vectors.square().sum().backward()
    assert bool(z.grad.isfinite().all())


def test_adopt_goes_on_from_the_entries():
    quantizer = VectorQuantizer(lookup_dim=4, dim=4, entries=8, delay=10)
    before = quantizer.codebook.clone()
    quantizer.adopt()
    quantizer(as_grid(before))
    torch.testing.assert_close(quantizer.codebook, before)
