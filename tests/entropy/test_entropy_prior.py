import numpy as np
import pytest
from entropy_builders import PAPER, UNEVEN, random_grids, reference_prior, small_prior
from synthetic import random_config, random_tensors

from vqcodec.entropy.config import PriorConfig
from vqcodec.entropy.prior import Prior
from vqcodec.errors import CheckpointError


@pytest.fixture
def config():
    return random_config(PAPER, hidden=16, embedding=8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("1.w2"), "1.w2"),
        (lambda t: t.update({"2.w2": t["1.w2"]}), "2.w2"),
        (lambda t: t.update({"0.w2": t["0.w2"].astype(np.int16)}), "int16"),
        (lambda t: t.update({"0.w2": t["0.w2"][1:]}), "15, 16"),
        (lambda t: t["0.w2"].__setitem__((0, 0), -128), "±127"),
        (lambda t: t["0.b3"].__setitem__((0, 0), (1 << 21) + 1), "±2097152"),
        (lambda t: t["0.b3"].__setitem__((0, 0), -(1 << 31)), "±2097152"),
    ],
)
def test_tensors_are_checked(config, change, message):
    tensors = random_tensors(config, 0)
    Prior.from_tensors(config, tensors)
    change(tensors)
    with pytest.raises(CheckpointError, match=message):
        Prior.from_tensors(config, tensors)


@pytest.mark.parametrize("saturating", [False, True])
@pytest.mark.parametrize("levels", [PAPER, UNEVEN])
def test_digest_does_not_depend_on_the_arithmetic(levels, saturating):
    prior = small_prior(levels, 4, saturating)
    assert prior.digest() == reference_prior(levels, 4, saturating).digest()
    assert prior.digest() != small_prior(levels, 5, saturating).digest()


def test_digest_is_golden():
    assert small_prior(UNEVEN).digest().hex() == (
        "3ccaffb92d27df2c4d32d3df3704c6aaa0d52170f68a83354768d47da7cfeba5"
    )


def test_digest_sees_every_tensor(config):
    """A change of any tensor shows, so a damaged prior does not pass its self-test."""
    digests = set()
    shapes = config.shapes()
    for changed in shapes:
        tensors = random_tensors(config, 0)
        tensors[changed] = np.flip(tensors[changed])
        digests.add(Prior.from_tensors(config, tensors).digest())
    assert len(digests) == len(shapes)


def test_cost_is_that_of_the_true_neighbours():
    """Of the same symbols with and without memory, only the first steps differ."""
    prior = small_prior(UNEVEN)
    grids, previous = (random_grids(UNEVEN, (3, 2, 2), seed) for seed in (0, 1))
    alone, after = prior.cost(grids), prior.cost(grids, previous)
    for grid, left, right in zip(grids, alone, after, strict=True):
        assert left.dtype == np.float32
        assert left.shape == grid.shape
        assert (left >= 0).all()
        assert (left <= 48).all()
        different = (left != right).any((1, 2))
        assert different[0]
        assert not different[len(different) // 3 + 2 :].any()  # two steps back is the furthest


def test_cost_of_a_prefix_of_the_levels():
    prior, grids = small_prior(UNEVEN), random_grids(UNEVEN, (2, 1, 3), 0)
    whole = prior.cost(grids)
    for count in range(1, 5):
        for left, right in zip(prior.cost(grids[:count]), whole, strict=False):
            assert np.array_equal(left, right)


def test_grids_are_checked():
    prior, grids = small_prior(), random_grids(PAPER, (2, 2, 2), 0)
    other = random_grids(PAPER, (2, 2, 3), 0)
    for wrong in (
        [],
        [grids[0], other[1]],
        [*grids, grids[1]],
        [grids[0] + 64, grids[1]],
        [grids[0], -1 - grids[1]],
    ):
        with pytest.raises((ValueError, IndexError)):
            prior.cost(wrong)
    with pytest.raises(ValueError, match="picture size"):
        prior.cost(grids, other)


def test_config_is_kept(config):
    prior = Prior.from_tensors(config, random_tensors(config, 0))
    assert prior.levels == config.levels
    assert PriorConfig.from_json(prior.config.to_json()) == config
