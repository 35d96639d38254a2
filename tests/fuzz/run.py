"""Feed mutated files to everything that reads ``.vqv``, and hold it to its promises.

    PYTHONPATH=.:tests python tests/fuzz/run.py [--inputs 200000] [--seed 0] [--skip 0]

Each input goes through ``Reader``, ``verify``, ``repair``, ``cut`` and ``decode`` with and without
concealment (a stub stands in for the network). It must give the right result or a documented error,
in ``MAX_SECONDS`` of processor time (a busy machine is no hang). An input that breaks a promise is
saved beside its traceback. The same seed gives the same inputs.
"""

from __future__ import annotations

import argparse
import io
import resource
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
from mutate import LEVELS, PRIOR, Mutator, grids_of

from vqcodec.container import Level, Reader, verify
from vqcodec.container.cut import cut_file
from vqcodec.container.repair import repair_file
from vqcodec.errors import UnsupportedError, VqcodecError
from vqcodec.seam import Seams, rule
from vqcodec.transcode import decode_file

MAX_SECONDS = 5.0
MAX_RSS = 1 << 30


class StubCodec:
    """Decodes any grids to grey."""

    model_id, levels, prior = b"stubstub", LEVELS, PRIOR

    def seams(self, _quality):
        return Seams(rule(self.levels))

    def decode_batch(self, chunks, frames):
        return [
            np.full((count, 8 * grids[0].shape[1], 8 * grids[0].shape[2], 3), 99, np.uint8)
            for grids, count in zip(chunks, frames, strict=True)
        ]


def check(data: bytes) -> str:
    """What became of an input: in a few words; an exception if a promise is broken."""
    report = verified(data)
    sound = not report.problems
    _read(data, sound)
    repaired = _repair(data, report)
    _cut(data, report)
    decoded = [_decode(data, report, conceal) for conceal in (False, True)]
    if sound:
        return "sound"
    return f"{type(report.problems[0]).__name__}: {repaired}; {decoded[0]}; conceal {decoded[1]}"


def _read(data: bytes, sound: bool) -> None:
    try:
        reader = Reader(io.BytesIO(data), find_prior)
        assert len(reader.table.entries) <= len(data)
        for chunk in reader:
            chunk.grids()
    except VqcodecError:
        assert not sound


def _repair(data: bytes, report) -> str:
    target = io.BytesIO()
    try:
        result = repair_file(io.BytesIO(data), target)
    except VqcodecError:
        assert not report.chunks
        return "lost"
    after = verify(io.BytesIO(target.getvalue()))  # without the prior, as repair is
    assert all(isinstance(problem, UnsupportedError) for problem in after.problems)
    # What a chunk needs may be gone without a trace but in the index, and repair is careful.
    assert after.chunks >= report.chunks or "index" in str(report.problems)
    if not report.problems:
        assert (result.losses.count, after.chunks) == (0, report.chunks)
    if not after.problems and not report.problems:
        assert grids_of(target.getvalue()) == grids_of(data)
    return "repaired"


def _cut(data: bytes, report) -> None:
    target = io.BytesIO()
    try:
        cut_file(io.BytesIO(data), target, quality=1)
    except VqcodecError:
        assert report.problems or not _in_order(report.header)
        return
    shorter = verified(target.getvalue())
    assert bool(shorter.problems) <= bool(report.problems)
    if not report.problems:
        assert (shorter.chunks, shorter.frames) == (report.chunks, report.frames)


def _in_order(header) -> bool:
    return header.levels[0].stride_t == max(level.stride_t for level in header.levels)


def verified(data: bytes):
    return verify(io.BytesIO(data), find_prior)


def find_prior(_header):
    return PRIOR


def _decode(data: bytes, report, conceal: bool) -> str:
    target = io.BytesIO()
    try:
        result = decode_file(io.BytesIO(data), target, codec=StubCodec(), conceal=conceal)
    except VqcodecError as error:
        other_model = report.header is not None and _model(report.header) != _model(StubCodec)
        if not (report.problems or not report.frames or other_model):
            raise AssertionError("a sound file does not decode") from error
        return "error"
    assert target.getvalue().count(b"FRAME\n") == result.frames
    if not report.problems:
        assert result.problem is None
        assert result.frames == report.frames
    return "whole" if result.problem is None else "warned"


def _model(owner) -> tuple[bytes, tuple[Level, ...]]:
    return owner.model_id, owner.levels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--skip", type=int, default=0, help="inputs at the beginning")
    options = parser.parse_args()
    mutator, outcomes, slowest = Mutator(options.seed), Counter(), 0.0
    began = time.monotonic()
    for number in range(options.inputs):
        data = mutator.next()
        if number < options.skip:
            continue
        before = time.process_time()
        try:
            outcomes[check(data)] += 1
        except Exception:
            Path("fuzz-found.vqv").write_bytes(data)
            print(f"input {number} of seed {options.seed}: saved as fuzz-found.vqv")
            raise
        seconds = time.process_time() - before
        slowest = max(slowest, seconds)
        if seconds > MAX_SECONDS:
            sys.exit(f"input {number} of seed {options.seed} took {seconds:.1f} s")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    for outcome, count in outcomes.most_common():
        print(f"{count:8}  {outcome}")
    tried = options.inputs - options.skip
    print(
        f"{tried} inputs, seed {options.seed}: {time.monotonic() - began:.0f} s, "
        f"slowest {slowest:.3f} s, peak RSS {peak / 2**20:.0f} MiB"
    )
    if peak > MAX_RSS:
        sys.exit("too much memory")


if __name__ == "__main__":
    main()
