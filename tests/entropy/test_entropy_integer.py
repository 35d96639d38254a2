"""The float32 path gives exactly the integers of the int64 definition."""

import numpy as np
import pytest
import torch
from entropy_builders import PAPER, UNEVEN
from synthetic import random_config, random_tensors

from vqcodec.entropy.config import LevelPrior, PriorConfig
from vqcodec.entropy.integer import ACTIVE, PRECISION, TABLE, Fast, Reference, scramble

LARGEST = LevelPrior(
    stride_t=4,
    stride=4,
    entries=1000,
    hidden=256,
    embedding=32,
    neighbours=((0, -1, 0, 0),) * 24,
    shifts=(16, 1, 16),
    shift=0,
)


def test_table_is_the_power_rounded_down():
    assert TABLE[0] == 1 << PRECISION
    assert TABLE[1536] == 0
    for d, value in enumerate(TABLE[:-1].tolist()):
        assert value**64 <= 1 << 24 * 64 - d < (value + 1) ** 64


def test_scramble_never_changes():
    assert scramble(3, 1).tolist() == [
        13757203745513168481,
        5046631899840037604,
        16717222514326610955,
    ]


def _tensors(level, seed, saturating):
    tensors = random_tensors(PriorConfig((level,)), seed, saturating)
    return {name.removeprefix("0."): tensor for name, tensor in tensors.items()}


def _compare(level, tensors, count=97, seed=0):
    fast, reference = Fast(level, tensors), Reference(level, tensors)
    rows = sum(tensors[f"embedding.{source}"].shape[0] for source in level.sources)
    random = np.random.default_rng(seed)
    rows = random.integers(0, rows, (count, len(level.neighbours)))
    places = random.integers(0, tensors["phase"].size // level.hidden * 2, count)
    high = random.integers(0, level.high, count)
    high[-1] = level.high - 1
    hidden = reference.hidden(rows, places)
    assert np.array_equal(fast.hidden(rows, places), hidden)
    assert np.array_equal(fast.high(hidden.astype(np.float32)), reference.high(hidden))
    low = reference.low(hidden, high)
    assert np.array_equal(fast.low(hidden.astype(np.float32), high), low)
    for digits in (reference.high(hidden), low):
        assert (digits >= 0).all()
        assert (digits.sum(1) == (1 << PRECISION) - digits.shape[1]).all()
    return hidden, low


@pytest.mark.parametrize("levels", [PAPER, UNEVEN])
@pytest.mark.parametrize("saturating", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_fast_equals_reference(levels, saturating, seed):
    config = random_config(levels, hidden=24, embedding=8)
    tensors = random_tensors(config, seed, saturating)
    for number, level in enumerate(config.levels):
        prefix = f"{number}."
        own = {
            name.removeprefix(prefix): tensor
            for name, tensor in tensors.items()
            if name.startswith(prefix)
        }
        _compare(level, own, seed=seed)


@pytest.mark.parametrize("saturating", [False, True])
def test_fast_equals_reference_at_the_limits_of_size(saturating):
    _compare(LARGEST, _tensors(LARGEST, 1, saturating))


@pytest.mark.parametrize("sign", [-1, 1])
def test_fast_equals_reference_where_all_terms_add_up(sign):
    """Every product and bias at its end and of one sign: the largest sums there can be."""
    tensors = _tensors(LARGEST, 0, True)
    for name, tensor in tensors.items():
        np.copyto(tensor, abs(tensor) * (1 if name.startswith("embedding") else sign))
    hidden, _ = _compare(LARGEST, tensors)
    assert (hidden == (ACTIVE if sign > 0 else 0)).all()


def test_digits_that_cannot_occur_get_the_least_frequency():
    tensors = _tensors(LARGEST, 0, False)
    _, low = _compare(LARGEST, tensors)
    assert (low[-1, LARGEST.entries - (LARGEST.high - 1) * LARGEST.low :] == 0).all()


@pytest.mark.parametrize("threads", [1, 2])
def test_another_blas_and_its_threads_agree(threads):
    """float32 products by torch, of terms in another order, against int64."""
    tensors = _tensors(LARGEST, 2, True)
    random = np.random.default_rng(3)
    inputs = random.choice([-127, 127], (300, 768))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for order in (np.arange(768), random.permutation(768)):
            product = (
                torch.from_numpy(inputs[:, order]).float()
                @ torch.from_numpy(tensors["w1"][order]).float()
            )
            exact = inputs @ tensors["w1"].astype(np.int64)
            assert np.array_equal(product.numpy(), exact)
    finally:
        torch.set_num_threads(before)
