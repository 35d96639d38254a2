"""``vqcodec repair`` and ``vqcodec decode --conceal``."""

import io
import json

import numpy as np
import pytest

from vqcodec.container import Reader
from vqcodec.container.file import open as open_vqv
from vqcodec.model.config import REACH
from vqcodec.video import read_frames

LOSSLESS = ("--codec", "ffv1", "-q")


@pytest.fixture
def damaged(coded, tmp_path):
    """``coded`` with a byte of its second chunk changed: frames 32 to 63 are lost."""
    with open_vqv(coded) as file:
        place = file.table.entries[1].offset
    data = bytearray(coded.read_bytes())
    data[place] ^= 1
    path = tmp_path / "damaged.vqv"
    path.write_bytes(data)
    return path


def test_repair(vq, damaged, tmp_path):
    out = tmp_path / "out.vqv"
    done = vq("repair", damaged, out)
    warning, summary = done.err.splitlines()
    assert (done.code, summary) == (0, "68 frames in 3 chunks saved")
    assert warning.startswith(f"vqcodec: warning: {damaged}: ")
    assert warning.endswith("32 frames lost, 2.00 to 4.00 s")
    assert vq("verify", out).code == 0
    assert vq("repair", damaged, out).code == 10
    told = json.loads(vq("repair", damaged, out, "-f", "-q", "--json").out)
    assert (told["frames"], told["lost_frames"], told["lost"][0]["stop"]) == (68, 32, 4.0)


def test_conceal_keeps_the_timeline(vq, coded, damaged, tmp_path):
    vq("decode", coded, tmp_path / "whole.mkv", *LOSSLESS)
    whole = read_frames(tmp_path / "whole.mkv")
    out = tmp_path / "out.mkv"
    assert vq("decode", damaged, out).code in (4, 5)
    assert not out.exists()
    done = vq("decode", damaged, out, "--conceal", "--codec", "ffv1")
    assert done.code == 5
    assert "32 frames lost, 2.00 to 4.00 s" in done.err
    frames = read_frames(out)
    assert len(frames) == 100
    assert (frames[32:64] == frames[31]).all()
    # What is near a border depends on both its sides.
    for part in (slice(32 - REACH), slice(64 + REACH, 100)):
        assert np.array_equal(frames[part], whole[part])
    told = json.loads(vq("decode", damaged, out, "--conceal", "--json", "-q", "-f").out)
    assert (told["frames"], told["lost_frames"], told["truncated"]) == (100, 32, False)


def test_conceal_of_a_part(vq, damaged, tmp_path):
    out = tmp_path / "out.mkv"
    assert vq("decode", damaged, out, "--conceal", "--start", 4, *LOSSLESS).code == 0
    assert len(read_frames(out)) == 36
    assert vq("decode", damaged, out, "-f", "--conceal", "--start", 3, *LOSSLESS).code == 5
    frames = read_frames(out)
    assert len(frames) == 52
    assert not frames[:16].max(initial=0) > 16  # black, as nothing precedes


def test_nothing_that_can_be_saved(vq, ranged, foresight, tmp_path):
    """All chunks need the first."""
    data = bytearray(ranged.read_bytes())
    data[Reader(io.BytesIO(data)).table.entries[0].offset + 9] ^= 1
    damaged, out = tmp_path / "damaged.vqv", tmp_path / "out.mkv"
    damaged.write_bytes(data)
    decode = "decode", damaged, out, "--conceal", "--model", foresight
    for arguments in (("repair", damaged, out), decode):
        done = vq(*arguments)
        assert (done.code, out.exists()) == (5, False)
        assert done.line.endswith("32 frames lost, 0.00 to 2.00 s; 100 frames lost in 4 places")
        assert "nothing can be" in done.line
