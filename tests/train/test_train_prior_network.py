"""vqcodec.train.prior_network: equal to the integers of vqcodec.entropy"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from vqcodec.entropy.config import MAX_HIDDEN, MAX_INPUTS, PriorConfig
from vqcodec.entropy.integer import Reference
from vqcodec.entropy.prior import Prior, known
from vqcodec.model.config import PRESETS, LevelConfig, ModelConfig, RefinementConfig
from vqcodec.train.prior_network import PriorNetwork, contexts, extends, prior_config

MODEL = ModelConfig(
    (LevelConfig(8, 8, entries=20), LevelConfig(4, 4, entries=64, split=True)),
    RefinementConfig(stages=2, entries=5),
)
CODEBOOKS = [torch.eye(grid.entries)[:, :10] for grid in MODEL.grids]
CORNERS = {(0, dy, dx) for dy in (-1, 1) for dx in (-1, 1)}
SHAPES = ((2, 3, 2), (2, 6, 4), (2, 6, 4), (4, 6, 4), (4, 6, 4))


@pytest.fixture(params=[0.5, 4.0], ids=["moderate", "saturating"])
def network(request):
    """Weights of all sizes, biases too."""
    torch.manual_seed(0)
    network = PriorNetwork(prior_config(MODEL, hidden=12, embedding=7), CODEBOOKS)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape) * request.param)
    network.project()
    return network


@pytest.fixture
def grids():
    """Two chunks: grids of each, int16, coarsest first."""
    rng = np.random.default_rng(0)
    return [
        [
            rng.integers(level.entries, size=shape).astype(np.int16)
            for level, shape in zip(MODEL.grids, SHAPES, strict=True)
        ]
        for _ in range(2)
    ]


def tensors(chunk):
    return [torch.from_numpy(grid)[None].int() for grid in chunk]


def nothing():
    return [
        torch.full((1, *shape), level.entries, dtype=torch.int32)
        for level, shape in zip(MODEL.grids, SHAPES, strict=True)
    ]


@pytest.mark.parametrize("memory", [False, True])
def test_every_integer_is_the_references(network, grids, memory):
    before, chunk = grids
    prior = Prior.from_tensors(network.config, network.tensors(), Reference)
    canvas = known(network.config, [chunk], [before if memory else None])
    previous = tensors(before) if memory else nothing()
    for number, level in enumerate(network.config.levels):
        twin = network.level(number)
        rows = contexts(network.config, number, tensors(chunk), previous)
        places = twin.places(rows.shape[:4])
        reference = prior.networks[number]
        for run in canvas.runs(number):
            where = canvas.where(run)
            symbols = torch.from_numpy(canvas.grid(number)[where].ravel())
            order = symbols.argsort()
            index = tuple(torch.as_tensor(w) if not isinstance(w, slice) else w for w in where)
            logits, hidden = twin.high(
                rows[index].flatten(0, -2)[order], places[index].flatten()[order]
            )
            low_logits = twin.low(hidden, symbols[order] // level.low)

            expected = prior.hidden(canvas, run)[order.numpy()]
            np.testing.assert_array_equal(integers(hidden), expected)
            high = reference.high(expected)
            np.testing.assert_array_equal(reference._weights(integers(logits)), high)
            low = reference.low(expected, symbols[order].numpy() // level.low)
            impossible = low_logits.isinf()
            low_logits = low_logits.masked_fill(impossible, -(1 << 40))
            np.testing.assert_array_equal(
                reference._weights(low_logits.detach().numpy().astype(np.int64)), low
            )
            assert (low[impossible.numpy()] == 0).all()


def integers(x):
    values = x.detach().numpy()
    assert (values == np.rint(values)).all()
    return values.astype(np.int64)


def test_bits_are_what_coding_costs(network, grids):
    before, chunk = grids
    prior = Prior.from_tensors(network.config, network.tensors())
    for number, cost in enumerate(prior.cost(chunk, before)):
        bits = network.level(number).bits(tensors(chunk), tensors(before))[0].detach().numpy()
        # The coder rounds the logits of two digits to 1/64 bit, gives each symbol at least one of
        # 2^24 parts, and so spends no more than 24 bits on a digit.
        most = 20
        apart = np.abs(np.minimum(bits, most) - np.minimum(cost, most))
        assert (apart <= 2 / 64 + 1.45 * 2.0 ** (np.minimum(bits, most) - 24)).all()
        assert abs(bits.mean() - cost.mean()) < 0.005 * cost.mean() or bits.max() > most


def test_all_parameters_learn(network, grids):
    before, chunk = grids
    for number in range(len(network.levels)):
        network.level(number).bits(tensors(chunk), tensors(before)).mean().backward()
    assert all(bool((p.grad != 0).any()) for p in network.parameters())


def test_projection_keeps_weights_within_their_integers(network):
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1e6)
    network.project()
    Prior.from_tensors(network.config, network.tensors())


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("embedding", [8, 32, MAX_INPUTS])
def test_every_model_can_have_a_prior(preset, embedding):
    model = PRESETS[preset]
    config = prior_config(model, hidden=8, embedding=embedding)
    assert [(level.stride_t, level.stride, level.entries) for level in config.levels] == [
        grid[:3] for grid in model.grids
    ]
    assert PriorConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize(
    ("draw", "least"),
    [(torch.rand, 0.99), (torch.randn, 0.98)],  # some of the latter are beyond the integers
)
def test_embeddings_start_like_the_codebooks(draw, least):
    torch.manual_seed(0)
    codebooks = [draw(grid.entries, 3) for grid in MODEL.grids]
    network = PriorNetwork(prior_config(MODEL, hidden=12, embedding=7), codebooks)
    for number, level in enumerate(network.config.levels):
        for source in level.sources:
            table = torch.from_numpy(network.tensors()[f"{number}.embedding.{source}"]).float()
            apart, before = (torch.cdist(x, x).flatten() for x in (table[:-1], codebooks[source]))
            assert float(torch.corrcoef(torch.stack([apart, before]))[0, 1]) > least


def test_a_wider_network_starts_as_the_narrow_one_and_uses_what_is_new(network, grids):
    exported = {name: torch.from_numpy(array) for name, array in network.tensors().items()}
    wide = PriorNetwork(prior_config(MODEL, hidden=20, embedding=7), CODEBOOKS)
    wide.load(exported, network.config)
    chunk = tensors(grids[0])
    for number in range(len(MODEL.grids)):
        level, narrow = wide.level(number), network.config.levels[number].hidden
        bits = level.bits(chunk, nothing())
        assert torch.equal(bits, network.level(number).bits(chunk, nothing()))
        bits.sum().backward()
        for name in ("w_high", "w3"):
            assert level._parameter(name).grad[narrow:].any(), name
        assert level._parameter("w_low").grad[:, narrow:].any()


def test_a_prior_of_two_passes_that_sees_no_corners_can_be_gone_on_from(network, grids):
    config = network.config
    levels = [
        dataclasses.replace(
            level,
            passes=2,
            neighbours=[n for n in level.neighbours if n[1:] not in CORNERS or n.level != number],
        )
        for number, level in enumerate(config.levels)
    ]
    before = PriorNetwork(PriorConfig(tuple(levels)), CODEBOOKS)
    assert extends(config, before.config)
    assert not extends(before.config, config)
    exported = {name: torch.from_numpy(array) for name, array in before.tensors().items()}
    network.load(exported, before.config)
    chunk = tensors(grids[0])
    for number, level in enumerate(config.levels):
        assert level.passes == (4 if number < 3 else 2)
        bits = network.level(number).bits(chunk, nothing())
        assert torch.equal(bits, before.level(number).bits(chunk, nothing()))
        bits.sum().backward()
        corners = [level.neighbours.index(n) for n in level.neighbours if n[1:] in CORNERS]
        if number < 3:
            weights = network.level(number)._parameter("w1").grad
            assert weights.view(len(level.neighbours), -1)[corners].any(1).all()


def test_odd_steps_look_at_the_even_ones_on_both_sides():
    even, odd = prior_config(MODEL, hidden=12, embedding=7).levels[1:3]
    assert {(1, 0, 0, 0), (1, 1, 0, 0), (2, -1, 0, 0)} <= set(odd.neighbours)
    assert {level for level, *_ in even.neighbours} == {0, 1}


def test_the_finest_level_is_twice_as_wide():
    config = prior_config(MODEL, hidden=12, embedding=7)
    assert [level.hidden for level in config.levels] == [12, 24, 24, 12, 12]
    assert prior_config(MODEL, hidden=200, embedding=7).levels[1].hidden == MAX_HIDDEN
