"""vqcodec.search: codes of the least distortion and bits"""

import numpy as np
import pytest
import torch
from video_builders import scene

from vqcodec.limits import MAX_EFFORT
from vqcodec.model.checkpoint import load
from vqcodec.model.registry import find as find_model
from vqcodec.search import THRIFT, _waiting, search
from vqcodec.visibility import visibility


@pytest.fixture(scope="module")
def model():
    """The shipped one: random weights leave a search nothing to find."""
    return load(find_model(None))


@pytest.fixture(scope="module")
def network(model):
    return model.build()


@pytest.fixture(scope="module")
def prior(model):
    return model.prior.build()


@pytest.fixture(scope="module")
def clips():
    """Two clips of 16 frames, smooth on the left and textured on the right.

    In 8 frames there are 16 codes of the top, too few for each clip to have a better one in reach.
    """
    pictures = np.stack([scene(16, 48, 48), scene(32, 48, 48)[16:]]).astype(np.float32)
    texture = np.random.default_rng(0).normal(0, 20, (*pictures.shape[:3], 24, 1))
    pictures[..., 24:, :] += texture
    return torch.from_numpy(pictures.clip(0, 255) / 255).permute(0, 4, 1, 2, 3).contiguous()


def distortion(network, clips, grids):
    error = (255 * (network.decode(grids) - clips)).square() * visibility(clips)
    return error.flatten(1).sum(1) / 3


def bits(prior, grids):
    arrays = [grid.to(torch.int16).numpy() for grid in grids]
    return torch.tensor(
        [
            sum(float(cost.sum()) for cost in prior.cost([array[clip] for array in arrays]))
            for clip in range(len(arrays[0]))
        ]
    )


def find(network, clips, quality=4, *, effort=3, trade=1.0, prior=None, **options):
    return search(network, clips, quality, effort=effort, trade=trade, prior=prior, **options)


def test_no_effort_and_no_freedom_are_the_nearest_codes(network, clips, prior):
    nearest = network.encode(clips, 4)
    for options in ({"effort": 0}, {"freedom": 0.0}):
        found = find(network, clips, prior=prior, **options)
        for expected, grid in zip(nearest, found, strict=True):
            assert torch.equal(expected, grid)


@pytest.mark.parametrize("quality", [1, 2, 3, 5])
def test_without_trade_distortion_falls(network, clips, quality):
    before = distortion(network, clips, network.encode(clips, quality))
    previous = before
    for effort in (1, 4, MAX_EFFORT):
        found = find(network, clips, quality, effort=effort, trade=0.0)
        assert [grid.shape[0] for grid in found] == [2] * quality
        now = distortion(network, clips, found)
        assert (now <= previous * 1.0001).all()
        previous = now
    assert (previous < 0.99 * before).all()


@pytest.mark.parametrize("trade", [0.5, 4.0])
def test_with_trade_distortion_and_bits_fall_in_sum(network, clips, prior, trade):
    nearest = network.encode(clips, 4)
    found = find(network, clips, trade=trade, prior=prior, effort=6)
    d, b = distortion(network, clips, nearest), bits(prior, nearest)
    price = trade * d / b
    after = distortion(network, clips, found) + price * bits(prior, found)
    assert (after < d + price * b).all()


def test_more_trade_takes_fewer_bits(network, clips, prior):
    sizes = [
        bits(prior, find(network, clips, trade=trade, prior=prior, effort=6)).sum()
        for trade in (0.0, 1.0, 8.0)
    ]
    assert sizes[2] < sizes[1] < sizes[0]


def test_a_model_without_prior_counts_distortion_alone(network, clips):
    for one, other in zip(
        find(network, clips, trade=5.0), find(network, clips, trade=0.0), strict=True
    ):
        assert torch.equal(one, other)


def test_equal_input_equal_output(network, clips, prior):
    one, other = (find(network, clips, prior=prior) for _ in range(2))
    assert all(map(torch.equal, one, other))


def test_a_third_of_the_places_waits_in_turn():
    grid = torch.zeros(2, 4, 6, 6, dtype=torch.int64)
    assert not _waiting(grid, 0).any()
    turns = [_waiting(grid, turn) for turn in (1, 2, 3)]
    assert torch.equal(sum(turn.int() for turn in turns), torch.ones(4, 6, 6, dtype=torch.int32))
    for places in turns:
        for axis in range(3):
            assert not (places & places.roll(1, axis)).narrow(axis, 1, 3).any()
    assert torch.equal(_waiting(grid, 4), turns[0])


def test_a_guess_is_taken_where_it_is_as_good_and_cheaper(network, clips, prior):
    """From codes none of which is the guess, the search finds that many need not be coded."""
    grids = network.encode(clips, 3)
    z = network(clips).latents[2]
    nearest = network.quantizers[1].encode(z)
    start = (*grids[:2], nearest.clamp(min=1))

    class Coded:
        def __getattr__(self, name):
            return getattr(network, name)

        def encode(self, _clips, _quality):
            return start

    found = find(Coded(), clips, 3, prior=prior, effort=4)
    assert (found[2] == 0).float().mean() > 0.1
    price = distortion(network, clips, start) / bits(prior, start)
    before = distortion(network, clips, start) + price * bits(prior, start)
    assert (distortion(network, clips, found) + price * bits(prior, found) < 0.98 * before).all()


def test_bits_of_details_cost_less(network, prior, clips, monkeypatch):
    prices = []

    def keep(grids, _coefficients, _config, _prior, price):
        prices.append(price)
        return grids[-1]

    monkeypatch.setattr("vqcodec.search.thrifty", keep)
    for thrift, trade in ((1.0, 1.0), (THRIFT, 1.0), (THRIFT, 2.0)):
        monkeypatch.setattr("vqcodec.search.THRIFT", thrift)
        find(network, clips[:1], 5, effort=1, trade=trade, prior=prior)
    full, less, twice = prices
    assert 0 < less < full
    assert less == pytest.approx(THRIFT * full)
    assert twice == pytest.approx(2 * less)
