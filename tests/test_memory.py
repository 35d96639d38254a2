"""The estimate of what decoding takes, and what refuses files that take too much."""

import io
from fractions import Fraction

import numpy as np
import pytest

from vqcodec.container import Header, Level, Writer
from vqcodec.errors import MemoryLimitError
from vqcodec.memory import DEFAULT_MEMORY, Allowance, output_bytes
from vqcodec.transcode import decode_file, encode_file

LEVELS = (Level(8, 8), Level(4, 4))


def allowance(width, height, memory=DEFAULT_MEMORY):
    header = Header(width, height, Fraction(1), Fraction(16), 0, b"12345678", LEVELS)
    return Allowance(header, output_bytes(width, height), memory)


def test_the_usual_pictures_fit_many_times():
    assert allowance(64, 64).frames > 8 * 64
    assert allowance(128, 128).frames >= 64


def test_how_large_pictures_are_decoded_by_default():
    """As README.md has it."""
    planes = (Level(1, 1, 31, details=True), Level(1, 1, 3, details=True))
    for levels, largest in ((LEVELS, 720), ((*LEVELS, *planes), 352)):
        for side, enough in ((largest, True), (largest + 8, False)):
            header = Header(side, side, Fraction(1), Fraction(16), 0, b"12345678", levels)
            assert (Allowance(header, output_bytes(side, side)).frames >= 8) is enough


@pytest.mark.parametrize("side", [64, 256, 512, 2048])
def test_what_is_needed_is_what_is_allowed(side):
    for frames in (1, 8, 9, 64):
        needed = allowance(side, side).needed(frames)
        allowance(side, side, needed).check(frames)
        with pytest.raises(MemoryLimitError, match=f"--memory {needed}$"):
            allowance(side, side, needed - 1).check(frames)


def test_part_of_a_step_counts_as_a_whole():
    assert allowance(512, 512).needed(1) == allowance(512, 512).needed(8)


def test_output_counts():
    assert output_bytes(64, 64, "libsvtav1") > output_bytes(64, 64)


def test_a_small_file_of_large_pictures_is_refused(codec, tmp_path):
    header = Header(4096, 4096, Fraction(1), Fraction(16), 0, codec.model_id, codec.levels_at(1))
    data = io.BytesIO()
    with Writer(data, header) as writer:
        writer.write(32, [np.zeros(shape, np.int16) for shape in header.grid_shapes(32)])
    assert len(data.getvalue()) < 2000
    for conceal in (False, True):
        with pytest.raises(MemoryLimitError, match="32 frames of 4096x4096 takes about"):
            decode_file(
                io.BytesIO(data.getvalue()), tmp_path / "out.mp4", codec=codec, conceal=conceal
            )
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("conceal", [False, True])
def test_it_is_refused_before_it_takes_any(conceal, codec, tmp_path, monkeypatch):
    header = Header(1024, 1024, Fraction(1), Fraction(16), 0, codec.model_id, codec.levels)
    data = io.BytesIO()
    with Writer(data, header, packer="zstd") as writer:
        writer.write(8, [np.zeros(shape, np.int16) for shape in header.grid_shapes(8)])
    unpacked = []
    monkeypatch.setattr("vqcodec.container.chunk.unpack_chunks", unpacked.extend)
    data.seek(0)
    with pytest.raises(MemoryLimitError, match="8 frames of 1024x1024 takes about"):
        decode_file(data, tmp_path / "out.mp4", codec=codec, conceal=conceal)
    assert not unpacked


def test_a_chunk_that_another_needs_counts(foreseeing, tmp_path, monkeypatch):
    """It has to be unpacked, too."""
    codec = foreseeing
    header = Header(64, 64, Fraction(1), Fraction(16), 0, codec.model_id, codec.levels)
    data = io.BytesIO()
    with Writer(data, header, packer="range", prior=codec.prior) as writer:
        for frames in (64, 8):
            writer.write(frames, [np.zeros(s, np.int16) for s in header.grid_shapes(frames)])
    asked = []
    monkeypatch.setattr(Allowance, "check", lambda _self, frames: asked.append(frames))
    data.seek(0)
    decode_file(data, tmp_path / "out.mp4", codec=codec, start=4.0)
    assert asked == [8, 64]


def test_more_memory_decodes_more(codec, video, tmp_path):
    coded = tmp_path / "in.vqv"
    encode_file(video, coded, codec=codec)
    with pytest.raises(MemoryLimitError, match=r"in\.vqv: a chunk of 32 frames of 64x64 takes"):
        decode_file(coded, tmp_path / "out.mp4", codec=codec, memory=500)
    assert decode_file(coded, tmp_path / "out.mp4", codec=codec, memory=2000).frames == 100


def test_large_pictures_are_encoded_to_be_decoded_by_default(codec, video, tmp_path):
    coded = tmp_path / "in.vqv"
    result = encode_file(video, coded, codec=codec, width=640, height=640, duration=Fraction(1))
    assert result.header.frames == 16
    assert result.chunks == 2
    assert result.decode_memory <= DEFAULT_MEMORY
    assert decode_file(coded, tmp_path / "out.mkv", codec=codec).frames == 16
