"""``vqcodec cut``, and levels and the range packer in the other verbs."""

import io
import json
import sys

import numpy as np
import pytest

import vqcodec
from vqcodec.container.file import open as open_vqv
from vqcodec.seam import joined
from vqcodec.video import read_frames

LOSSLESS = ("--codec", "ffv1", "-q", "-f")


@pytest.fixture
def vq(vq, foresight, monkeypatch):
    """As the others have it, but with a model that has a prior."""
    monkeypatch.setattr("vqcodec.model.registry.weights_folder", lambda: foresight.parent)
    return vq


def levels_of(path):
    with open_vqv(path) as file:
        return len(file.header.levels)


def test_cut(vq, ranged, tmp_path):
    out = tmp_path / "out.vqv"
    done = vq("cut", ranged, out, "--quality", 2)
    size = out.stat().st_size
    assert (done.code, done.out) == (0, "")
    assert done.err == f"2 of 4 levels kept: 100 frames in {size} bytes\n"
    assert size < ranged.stat().st_size
    assert vq("verify", out).out == f"{out}: ok, 100 frames in 4 chunks\n"
    assert vq("cut", ranged, out, "--quality", 1).code == 10
    assert vq("cut", ranged, out, "--quality", 1, "-f", "-q").err == ""
    told = json.loads(vq("cut", ranged, out, "--quality", 3, "-f", "--json").out)
    assert told == {
        "source": str(ranged),
        "target": str(out),
        "quality": 3,
        "source_quality": 4,
        "chunks": 4,
        "frames": 100,
        "bytes": out.stat().st_size,
    }


@pytest.mark.parametrize("quality", [1, 2, 3, 4])
def test_a_cut_file_decodes_at_its_quality(vq, ranged, foreseeing, tmp_path, quality):
    cut = tmp_path / "cut.vqv"
    vq("cut", ranged, cut, "--quality", quality)
    assert levels_of(cut) == quality
    assert vq("decode", cut, tmp_path / "cut.mkv", "--size", 64, *LOSSLESS).code == 0
    with vqcodec.open(ranged) as file:
        clips = [foreseeing.decode(chunk.grids()[:quality], chunk.frames) for chunk in file]
    whole = np.concatenate(list(joined(clips, foreseeing.seams(quality))))
    difference = read_frames(tmp_path / "cut.mkv").astype(int) - whole
    assert np.abs(difference).max() <= 2  # batches round otherwise, and so does RGB in ffv1


def test_cut_through_pipes(vq, ranged, pipe_in, tmp_path, monkeypatch):
    vq("cut", ranged, tmp_path / "out.vqv", "--quality", 2)
    pipe_in(ranged.read_bytes())
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO()))
    monkeypatch.setattr(sys.stdout.buffer, "fileno", lambda: 1, raising=False)
    from vqcodec.container.cut import cut_file

    file = io.BytesIO()
    cut_file(sys.stdin.buffer, file, quality=2)
    assert file.getvalue() == (tmp_path / "out.vqv").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (("--quality", 3), 2, "has quality levels 1 to 2, not 3"),
        (("--quality", 17), 2, "17 is not in the range 1<=x<=16"),
        (("--quality", 0), 2, "0 is not in the range 1<=x<=16"),
        ((), 2, "Missing option '--quality'"),
    ],
)
def test_qualities_that_are_not_there(vq, coded, tmp_path, arguments, code, line):
    done = vq("cut", coded, tmp_path / "out.vqv", *arguments)
    assert done.code == code
    assert line in done.line
    assert list(tmp_path.iterdir()) == []


def test_damage_is_refused(vq, ranged, tmp_path):
    data = bytearray(ranged.read_bytes())
    data[-60] ^= 1
    path = tmp_path / "bad.vqv"
    path.write_bytes(data)
    done = vq("cut", path, tmp_path / "out.vqv", "--quality", 1)
    assert done.code == 5
    assert done.line.startswith(f"{path}: chunk ")
    path.write_bytes(data[:-40])
    assert vq("cut", path, tmp_path / "out.vqv", "--quality", 1).code in (5, 7)
    assert list(tmp_path.iterdir()) == [path]


def test_encode_at_a_quality(vq, video, tmp_path):
    out = tmp_path / "out.vqv"
    told = json.loads(vq("encode", video, out, "--quality", 3, "--json").out)
    assert told["quality"] == levels_of(out) == 3
    done = vq("encode", video, tmp_path / "more.vqv", "--quality", 5)
    assert (done.code, done.line) == (2, "the model has quality levels 1 to 4, not 5")
    assert "17 is not in the range" in vq("encode", video, out, "-f", "--quality", 17).line


def test_encode_without_memory(vq, video, tmp_path):
    out = tmp_path / "out.vqv"
    for option, memory in (((), [False, True, True, True]), (("--independent",), [False] * 4)):
        vq("encode", video, out, "-f", "-q", *option)
        chunks = json.loads(vq("info", out, "--json").out)["chunks"]
        assert [chunk["memory"] for chunk in chunks] == memory
        assert {chunk["packer"] for chunk in chunks} == {"range"}
    vq("encode", video, out, "-f", "-q")
    first, *others = vq("info", out, "--chunks").out.splitlines()[-4:]
    assert first.endswith(", range")
    assert all(line.endswith(", range, needs the one before") for line in others)


def test_the_range_packer_needs_a_prior(vq, video, tiny, tmp_path):
    out = tmp_path / "out.vqv"
    done = vq("encode", video, out, "--packer", "range", "--model", tiny)
    assert (done.code, done.line) == (9, "the model has no prior, which the range packer needs")
    assert vq("encode", video, out, "--packer", "range").code == 0


def test_verify_says_what_it_did_not_look_at(vq, ranged, tmp_path, monkeypatch):
    assert json.loads(vq("verify", ranged, "--json").out)["unread_chunks"] == 0
    monkeypatch.setattr("vqcodec.model.registry.weights_folder", lambda: tmp_path)
    done = vq("verify", ranged)
    assert done.code == 0
    assert done.out == (
        f"{ranged}: ok, 100 frames in 4 chunks; "
        "the model is not here, so the indices of 4 were not looked at\n"
    )
    assert json.loads(vq("verify", ranged, "--json").out)["unread_chunks"] == 4


def test_lost_with_the_chunk_before(vq, ranged, tmp_path):
    with open_vqv(ranged) as file:
        second = file.table.entries[1]
    data = bytearray(ranged.read_bytes())
    data[second.offset + 8] ^= 1
    path, out = tmp_path / "bad.vqv", tmp_path / "out.vqv"
    path.write_bytes(data)
    done = vq("repair", path, out)
    *warnings, summary = done.err.splitlines()
    assert (done.code, summary) == (0, "32 frames in 1 chunks saved")
    assert [line.partition("; ")[2] for line in warnings] == [
        "32 frames lost, 2.00 to 4.00 s",
        "32 frames lost, 4.00 to 6.00 s",
        "4 frames lost, 6.00 to 6.25 s",
    ]
    assert all("needs the chunk before it, which is lost" in line for line in warnings[1:])
    done = vq("decode", path, tmp_path / "out.mkv", "--conceal", "--codec", "ffv1")
    assert done.code == 5
    assert done.err.count("frames lost") == 3
    frames = read_frames(tmp_path / "out.mkv")
    assert len(frames) == 100
    assert (frames[32:] == frames[31]).all()
