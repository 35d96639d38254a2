"""Exact integer networks: the int64 definition, and a float32 path that gives the same numbers.

Float networks differ from machine to machine, and a range coder that is off by one count decodes
nonsense. Here every number on the way from codes to frequencies is an integer. A float32 holds
integers below 2^24 exactly, and the limits on a prior's tensors keep every partial sum of every
dot product below that. So any BLAS, any order of summation and any number of threads agrees with
:class:`Reference`. Scaling by a power of two is exact too, so the right shifts are folded into
the weights.

No exp, no softmax, no float division that could round to another integer (:func:`_weights`).
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isqrt
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from vqcodec.entropy.config import LevelPrior

Array: TypeAlias = npt.NDArray[Any]
Rows: TypeAlias = npt.NDArray[np.intp]

PRECISION = 24  # the range coder's: frequencies of a digit sum to 2^24
ACTIVE = 127  # activations lie in 0..127
WEIGHT_LIMIT = 127
BIAS_LIMIT = 1 << 21  # 768 · 127² and two biases and half a step are below 2^24
STEPS = 64  # of a logit, per bit


def _power(d: int) -> int:
    """floor(2^(24 - d/64)): the 64th root of a power of two, by six integer square roots."""
    value = 1 << PRECISION * STEPS - d
    for _ in range(6):
        value = isqrt(value)
    return value


# TABLE[d] for d in 0..1536; the last is 0 and stands for all beyond.
TABLE = np.array([_power(d) for d in range(PRECISION * STEPS)] + [0], np.int64)
_TABLE64 = TABLE.astype(np.float64)


class Network(Protocol):
    """The network of one level. N symbols are predicted at once."""

    def hidden(self, rows: Rows, places: Rows) -> Array:
        """State of each symbol, from its context.

        Args:
            rows: (N, n) rows of the level's embedding tables, laid end to end by source.
            places: (N,) rows of the table of positions: phase · passes + pass, a phase being
                ((t mod a_t) · a + y mod a) · a + x mod a in cells of the coarsest level.

        Returns:
            (N, H), values 0..127; opaque to the caller.
        """

    def high(self, hidden: Array) -> Array:
        """(N, high) frequencies minus 1 of the high digits, float64; rows sum to 2^24 - high."""

    def low(self, hidden: Array, high: Rows) -> Array:
        """(N, low) frequencies minus 1 of the low digits, given the high digits (N,)."""

    def bits(self, hidden: Array) -> Array:
        """(N, entries) float32: about what each index would cost, in bits. For encoders alone."""


class Reference:
    """The definition, in int64 (``docs/format.md``). Slow: integer products know no BLAS."""

    def __init__(self, level: LevelPrior, tensors: Mapping[str, Array]) -> None:
        wide = {name: tensor.astype(np.int64) for name, tensor in tensors.items()}
        self._level = level
        self._embedding = np.concatenate([wide[f"embedding.{source}"] for source in level.sources])
        self._places = (wide["phase"].reshape(-1, 1, level.hidden) + wide["parity"]).reshape(
            -1, level.hidden
        )
        wide["b_low"][-1, _last_digits(level) :] = -(1 << 40)  # cannot occur: weight 0
        self._tensors = wide

    def hidden(self, rows: Rows, places: Rows) -> Array:
        """See :class:`Network`."""
        t, (s1, s2, _) = self._tensors, self._level.shifts
        inputs = self._embedding[rows].reshape(len(rows), -1)
        first = _activate(inputs @ t["w1"] + self._places[places], s1)
        return _activate(first @ t["w2"] + t["b2"], s2)

    def high(self, hidden: Array) -> Array:
        """See :class:`Network`."""
        t = self._tensors
        return self._weights(hidden @ t["w_high"] + t["b_high"])

    def low(self, hidden: Array, high: Rows) -> Array:
        """See :class:`Network`."""
        t = self._tensors
        third = _activate(hidden @ t["w3"] + t["b3"][high], self._level.shifts[2])
        return self._weights((third[:, None] @ t["w_low"][high])[:, 0] + t["b_low"][high])

    def bits(self, hidden: Array) -> Array:
        """See :class:`Network`."""
        digits = [self.low(hidden, np.full(len(hidden), high)) for high in range(self._level.high)]
        costs = [PRECISION - np.log2(rows + 1) for rows in (self.high(hidden), np.stack(digits, 1))]
        bits = (costs[0][:, :, None] + costs[1]).reshape(len(hidden), -1)
        return np.asarray(bits[:, : self._level.entries], np.float32)

    def _weights(self, logits: Array) -> Array:
        below = (logits.max(1, keepdims=True) - logits) >> self._level.shift
        weights = TABLE[np.minimum(below, len(TABLE) - 1)]
        free = (1 << PRECISION) - logits.shape[1]
        shares: Array = weights * free // weights.sum(1, keepdims=True)
        shares[np.arange(len(shares)), weights.argmax(1)] += free - shares.sum(1)
        return shares.astype(np.float64)


def _activate(x: Array, shift: int) -> Array:
    activations: Array = np.clip((x + (1 << shift - 1)) >> shift, 0, ACTIVE)
    return activations


class Fast:
    """The same numbers by float32 matrix products."""

    def __init__(self, level: LevelPrior, tensors: Mapping[str, Array]) -> None:
        def scaled(name: str, shift: int, bias: int = 0) -> Array:
            return ((tensors[name].astype(np.float64) + bias) * 2.0**-shift).astype(np.float32)

        s1, s2, s3 = level.shifts
        self._entries = level.entries
        self._scale = np.float32(2.0**-level.shift)
        self._embedding = np.concatenate(
            [tensors[f"embedding.{source}"] for source in level.sources]
        ).astype(np.float32)
        # Half a step is added to a bias, so that rounding is no more than floor.
        phase, parity = scaled("phase", s1, 1 << s1 - 1), scaled("parity", s1)
        self._places = (phase.reshape(-1, 1, level.hidden) + parity).reshape(-1, level.hidden)
        self._w1 = scaled("w1", s1)
        self._w2, self._b2 = scaled("w2", s2), scaled("b2", s2, 1 << s2 - 1)
        self._w_high, self._b_high = scaled("w_high", 0), scaled("b_high", 0)
        self._w3, self._b3 = scaled("w3", s3), scaled("b3", s3, 1 << s3 - 1)
        self._w_low, self._b_low = scaled("w_low", 0), scaled("b_low", 0)
        self._b_low[-1, _last_digits(level) :] = -np.inf  # cannot occur: weight 0

    def hidden(self, rows: Rows, places: Rows) -> Array:
        """See :class:`Network`."""
        inputs = self._embedding.take(rows.ravel(), axis=0).reshape(len(rows), -1)
        first = _floor(inputs @ self._w1, self._places.take(places, axis=0))
        return _floor(first @ self._w2, self._b2)

    def high(self, hidden: Array) -> Array:
        """See :class:`Network`."""
        logits = hidden @ self._w_high
        logits += self._b_high
        return _weights(logits, self._scale)

    def low(self, hidden: Array, high: Rows) -> Array:
        """See :class:`Network`."""
        # Symbols of equal high digit share a matrix: sorted, each digit is one product.
        order = high.argsort(kind="stable")
        ends = np.bincount(high).cumsum().tolist()
        high = high[order]
        third = _floor(hidden.take(order, axis=0) @ self._w3, self._b3.take(high, axis=0))
        logits = self._b_low.take(high, axis=0)
        for matrix, start, end in zip(self._w_low, [0, *ends], ends, strict=False):
            if start < end:
                logits[start:end] += third[start:end] @ matrix
        weights = np.empty(logits.shape)
        weights[order] = _weights(logits, self._scale)
        return weights

    def bits(self, hidden: Array) -> Array:
        """See :class:`Network`."""
        high = hidden @ self._w_high
        high += self._b_high
        low = np.empty((len(hidden), len(self._w_low), self._b_low.shape[1]), np.float32)
        shared = hidden @ self._w3
        for digit, (bias, matrix) in enumerate(zip(self._b3, self._w_low, strict=True)):
            np.matmul(_floor(shared.copy(), bias), matrix, out=low[:, digit])
        low += self._b_low
        cost = _cost(high, self._scale)[:, :, None] + _cost(low, self._scale)
        return np.asarray(cost.reshape(len(hidden), -1)[:, : self._entries], np.float32)


def frequencies(logits: Array) -> Array:
    """Frequencies minus 1, float64 (N, D), of float32 integer logits, :data:`STEPS` a bit."""
    return _weights(logits, np.float32(1))


def _cost(logits: Array, scale: np.floating[Any]) -> Array:
    """Bits of each digit (…, D), of float32 integer logits."""
    below = logits.max(-1, keepdims=True) - logits
    below *= scale / STEPS
    np.minimum(below, PRECISION, out=below)  # no digit costs more, bar the impossible ones
    bits: Array = below + np.log2(np.exp2(-below).sum(-1, keepdims=True))
    return bits


def _floor(x: Array, bias: Array) -> Array:
    x += bias
    np.maximum(x, 0, out=x)
    np.minimum(x, ACTIVE, out=x)
    return np.floor(x, out=x)


def _weights(logits: Array, scale: np.float32) -> Array:
    """Frequencies minus 1, float64, of float32 integer logits (N, D).

    The division is exact to the integer: products stay below 2^48, so a quotient that is not an
    integer differs from the next one by more than 2^-48 of it, and float64 resolves 2^-53.
    """
    below = logits.max(1, keepdims=True) - logits
    below *= scale
    np.minimum(below, len(TABLE) - 1, out=below)
    weights = _TABLE64.take(below.astype(np.intp))
    free = float((1 << PRECISION) - logits.shape[1])
    shares: Array = weights * free
    shares /= weights.sum(1, keepdims=True)
    np.floor(shares, out=shares)
    shares[np.arange(len(shares)), weights.argmax(1)] += free - shares.sum(1)
    return shares


def _last_digits(level: LevelPrior) -> int:
    """Low digits that can follow the greatest high digit: fewer if entries is no power of two."""
    return level.entries - (level.high - 1) * level.low


def scramble(count: int, seed: int) -> npt.NDArray[np.uint64]:
    """Pseudo-random numbers of 64 bits, the same for ever: SplitMix64 of seed · 2^32 + i."""
    with np.errstate(over="ignore"):
        z = np.arange(count, dtype=np.uint64) + np.uint64(seed << 32)
        z *= np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ z >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ z >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
        return np.asarray(z ^ z >> np.uint64(31))
