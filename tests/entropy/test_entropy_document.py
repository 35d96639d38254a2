"""A decoder written from docs/format.md alone, symbol by symbol, in Python's integers."""

from __future__ import annotations

import subprocess
import sys
from bisect import bisect_right
from math import isqrt
from pathlib import Path

import numpy as np
import pytest
from entropy_builders import PAPER, UNEVEN, random_grids, same, shapes_of
from synthetic import random_config, random_tensors

from vqcodec.entropy.coder import encode
from vqcodec.entropy.prior import Prior

DOCUMENT = Path(__file__).parents[2] / "docs" / "format.md"


class RangeDecoder:
    def __init__(self, stream):
        self.stream, self.read = stream + bytes(16), 8
        self.low, self.range = 0, (1 << 64) - 1
        self.number = int.from_bytes(self.stream[:8], "big")

    def digit(self, frequencies):
        scale = self.range >> 24
        starts = [sum(frequencies[:digit]) for digit in range(len(frequencies) + 1)]
        digit = bisect_right(starts, (self.number - self.low) // scale) - 1
        frequency = frequencies[digit]
        self.low += scale * starts[digit]
        self.range = scale * frequency
        if self.range < 1 << 32:
            self.range <<= 32
            self.low <<= 32
            more = self.stream[self.read : self.read + 4].ljust(4, b"\0")
            self.number = self.number << 32 | int.from_bytes(more, "big")
            self.read += 4
        return digit


def activate(x, s):
    return [min(max((int(v) + (1 << s - 1)) >> s, 0), 127) for v in x]


def power(d):
    x = 1 << 1536 - d
    for _ in range(6):
        x = isqrt(x)
    return x


def frequencies(logits, shift, possible):
    logits = [int(z) for z in logits]
    top = max(logits[:possible])
    below = [(top - z) >> shift for z in logits]
    w = [power(d) if d < 1536 and j < possible else 0 for j, d in enumerate(below)]
    free = (1 << 24) - len(logits)
    g = [weight * free // sum(w) for weight in w]
    g[w.index(max(w))] += free - sum(g)
    return [count + 1 for count in g]


def slow_decode(config, tensors, stream, shapes, previous):
    wide = {name: tensor.astype(np.int64) for name, tensor in tensors.items()}
    coder, grids = RangeDecoder(stream), []
    for number, shape in enumerate(shapes):
        level, prefix = config.levels[number], f"{number}."
        own = {
            name.removeprefix(prefix): tensor
            for name, tensor in wide.items()
            if name.startswith(prefix)
        }
        grids.append(np.full(shape, level.entries))
        first = config.levels[0]
        a_t, a = first.stride_t // level.stride_t, first.stride // level.stride

        def look(c, t, y, x):
            if not (0 <= y < shapes[c][1] and 0 <= x < shapes[c][2] and t < shapes[c][0]):
                return config.levels[c].entries
            if t >= 0:
                return grids[c][t, y, x]
            if previous is None or t + len(previous[c]) < 0:
                return config.levels[c].entries
            return previous[c][t, y, x]

        for t in range(shape[0]):
            for turn in range(level.passes):
                waiting = []
                for y, x in np.ndindex(shape[1:]):
                    places = [(0, 0), (1, 1), (0, 1), (1, 0)]
                    own_turn = (y + x) % 2 if level.passes == 2 else places.index((y % 2, x % 2))
                    if own_turn != turn:
                        continue
                    v = []
                    for c, dt, dy, dx in level.neighbours:
                        r_t = config.levels[c].stride_t // level.stride_t
                        r = config.levels[c].stride // level.stride
                        code = look(c, t // r_t + dt, y // r + dy, x // r + dx)
                        v.extend(own[f"embedding.{c}"][code])
                    s1, s2, s3 = level.shifts
                    phase = own["phase"][t % a_t, y % a, x % a] + own["parity"][turn]
                    h1 = activate(v @ own["w1"] + phase, s1)
                    h2 = activate(h1 @ own["w2"] + own["b2"], s2)
                    logits = h2 @ own["w_high"] + own["b_high"]
                    h = coder.digit(frequencies(logits, level.shift, level.high))
                    h3 = activate(h2 @ own["w3"] + own["b3"][h], s3)
                    logits = h3 @ own["w_low"][h] + own["b_low"][h]
                    waiting.append((y, x, h, logits))
                assert len(waiting) <= 4096
                for y, x, h, logits in waiting:
                    low = 0
                    if level.low > 1:
                        possible = min(level.low, level.entries - h * level.low)
                        low = coder.digit(frequencies(logits, level.shift, possible))
                    grids[number][t, y, x] = h * level.low + low
    return grids


@pytest.mark.parametrize("memory", [None, 1, 3])
@pytest.mark.parametrize("passes", [2, 4])
@pytest.mark.parametrize(("levels", "size"), [(PAPER, (2, 2, 3)), (UNEVEN, (1, 1, 2))])
def test_the_document_decodes(levels, size, memory, passes):
    config = random_config(levels, hidden=16, embedding=8, passes=passes)
    grids = random_grids(levels, size, 0)
    previous = None if memory is None else random_grids(levels, (memory, *size[1:]), 1)
    tensors = random_tensors(config, 0)
    stream, _ = encode(Prior.from_tensors(config, tensors), grids, previous)
    assert same(slow_decode(config, tensors, stream, shapes_of(grids), previous), grids)


def test_the_example_of_the_document():
    counts = frequencies([100, 36, 0, -2000], 0, 4)
    text = " ".join(DOCUMENT.read_text(encoding="utf-8").split())
    assert "{}, {}, {} and {}. The digits 1, 0, 3".format(*counts) in text
    stream = bytes.fromhex(text.split("and the stream `")[1].split("`")[0])
    coder = RangeDecoder(stream)
    assert [coder.digit(counts) for _ in range(3)] == [1, 0, 3]
    assert f"*low* = {coder.low:#x} and *range* = {coder.range:#x}" in text


def test_no_torch():
    script = "import sys, vqcodec.entropy.coder; sys.exit(bool({'torch', 'av'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
