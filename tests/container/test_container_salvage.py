"""Damage in a file of 60 chunks: what is intact is found, what is lost is named with its time."""

from __future__ import annotations

import io

import numpy as np
import pytest

from vqcodec.container import Lost, Reader, Salvage, Writer, verify
from vqcodec.container.reader import Chunk
from vqcodec.container.repair import repair_file
from vqcodec.errors import ChecksumError

CHUNKS, FRAMES = 60, 8


@pytest.fixture(scope="module", params=["raw", "deflate"])
def sixty(request, header):
    file = io.BytesIO()
    generator = np.random.default_rng(0)
    with Writer(file, header, packer=request.param) as writer:
        for _ in range(CHUNKS):
            writer.write(FRAMES, [generator.integers(0, 9, s) for s in header.grid_shapes(FRAMES)])
    return file.getvalue()


def payloads(data):
    return [chunk.payload for chunk in Reader(io.BytesIO(data))]


def salvaged(data):
    """(start, payload) of the chunks, and the losses."""
    pieces = list(Salvage(Reader(io.BytesIO(data))))
    chunks = [(piece.start, piece.payload) for piece in pieces if isinstance(piece, Chunk)]
    losses = [piece for piece in pieces if isinstance(piece, Lost)]
    return chunks, losses


def expected(data, *missing):
    return [(FRAMES * n, p) for n, p in enumerate(payloads(data)) if n not in missing]


def offset(data, number):
    return Reader(io.BytesIO(data)).table.entries[number].offset


@pytest.mark.parametrize("place", range(12))
def test_a_flipped_byte_loses_one_chunk(sixty, place):
    changed = bytearray(sixty)
    changed[offset(sixty, 20) + place] ^= 0x15
    chunks, (lost,) = salvaged(bytes(changed))
    assert chunks == expected(sixty, 20)
    assert (lost.start, lost.frames, lost.exact) == (160, 8, True)
    assert "8 frames lost, 10.00 to 10.50 s" in str(verify(io.BytesIO(changed)).problems[0]) or (
        "10.00 to 10.50 s" in str(verify(io.BytesIO(changed)).problems[0])
    )


@pytest.mark.parametrize("place", range(1, 9))
def test_a_damaged_end_is_no_cut(sixty, place):
    changed = bytearray(sixty)
    changed[-place] ^= 0x15
    chunks, (lost,) = salvaged(bytes(changed))
    assert chunks == expected(sixty)
    assert (lost.frames, lost.exact, lost.cut) == (0, True, False)
    assert str(lost) == f"8 bytes at byte {len(sixty) - 8} are damaged; no frames are lost"
    target = io.BytesIO()
    repair_file(io.BytesIO(changed), target)
    assert target.getvalue() == sixty


@pytest.mark.parametrize("count", [1, 5, 15])
def test_dropped_bytes_lose_one_chunk(sixty, count):
    begin = offset(sixty, 20) + 3
    chunks, (lost,) = salvaged(sixty[:begin] + sixty[begin + count :])
    assert chunks == expected(sixty, 20)
    assert (lost.start, lost.frames, lost.exact) == (160, 8, True)


def test_a_truncated_file_keeps_its_whole_chunks(sixty):
    chunks, (lost,) = salvaged(sixty[: offset(sixty, 50) + 5])
    assert chunks == expected(sixty, *range(50, 60))
    assert (lost.start, lost.frames, lost.exact, lost.cut) == (400, 80, True, True)


def test_repair_makes_a_sound_file(sixty, pipe):
    changed = bytearray(sixty[: offset(sixty, 50) + 5])
    changed[offset(sixty, 3) + 2] ^= 0xFF
    kept = [payload for _, payload in expected(sixty, 3, *range(50, 60))]
    for source in (io.BytesIO(changed), pipe(bytes(changed))):
        target = io.BytesIO()
        result = repair_file(source, target)
        assert (result.chunks, result.losses.count, result.losses.cut) == (49, 2, True)
        assert verify(io.BytesIO(target.getvalue())).problems == ()
        assert payloads(target.getvalue()) == kept
        assert Reader(io.BytesIO(target.getvalue())).table.indexed


def test_repair_of_a_sound_file_changes_nothing(sixty):
    target = io.BytesIO()
    assert not repair_file(io.BytesIO(sixty), target).losses.count
    assert target.getvalue() == sixty


def test_repair_of_rubble_is_an_error(sixty):
    with pytest.raises(ChecksumError, match="nothing can be saved"):
        repair_file(io.BytesIO(sixty[:33] + bytes(999)), io.BytesIO())
