"""``vqcodec info``, ``verify`` and ``models``."""

import json

import pytest

from vqcodec.container.file import open as open_vqv


def test_info(vq, coded, codec):
    done = vq("info", coded)
    size = coded.stat().st_size
    assert (done.code, done.err) == (0, "")
    lines = dict(line.split(None, 1) for line in done.out.splitlines())
    assert lines["file"] == str(coded)
    assert lines["size"].startswith(f"{size} bytes, {8 * size / (100 * 64 * 64):.4f} bpp, ")
    assert lines["pictures"] == "64x64, shown at 3/2"
    assert lines["time"] == "100 frames at 16 fps, 6.250 s"
    assert lines["model"] == f"{codec.model_id.hex()} (base)"
    assert lines["levels"] == "2: 1024 at 8x8x8, 1024 at 4x4x4"
    assert lines["chunks"].startswith("4 (")
    assert lines["chunks"].endswith("), indexed")
    table = vq("info", coded, "--chunks").out.splitlines()[-4:]
    assert [line.split(",")[0].split()[-1] for line in table] == ["0-31", "32-63", "64-95", "96-99"]


def test_info_as_json(vq, coded, codec):
    done = vq("info", coded, "--json")
    told = json.loads(done.out)
    with open_vqv(coded) as file:
        chunks = [
            {"start": chunk.start, "frames": chunk.frames, "packer": chunk.packer, "memory": False,
             "offset": chunk.offset, "bytes": chunk.nbytes}
            for chunk in file
        ]  # fmt: skip
    size = coded.stat().st_size
    packers = {chunk["packer"] for chunk in chunks}
    assert told.pop("packers") == {
        name: sum(chunk["packer"] == name for chunk in chunks) for name in packers
    }
    assert told == {
        "file": str(coded),
        "bytes": size,
        "width": 64,
        "height": 64,
        "aspect": "3/2",
        "rate": "16",
        "frames": 100,
        "seconds": 6.25,
        "bpp": 8 * size / (100 * 64 * 64),
        "kbps": 8 * size / 6.25 / 1000,
        "rates_include_audio": False,
        "audio": None,
        "model": codec.model_id.hex(),
        "model_name": "base",
        "levels": [
            {"stride_t": 8, "stride": 8, "entries": 1024, "details": False},
            {"stride_t": 4, "stride": 4, "entries": 1024, "details": False},
        ],
        "indexed": True,
        "problem": None,
        "lost": [],
        "chunks": chunks,
    }


def test_info_of_a_pipe_tells_the_same(vq, coded, pipe_in):
    direct = json.loads(vq("info", coded, "--json").out)
    pipe_in(coded.read_bytes())
    piped = json.loads(vq("info", "-", "--json").out)
    assert (piped["file"], piped["indexed"]) == ("-", False)
    for name in direct.keys() - {"file", "indexed"}:
        assert piped[name] == direct[name]


def test_info_of_a_truncated_file(vq, coded, tmp_path):
    path = tmp_path / "cut.vqv"
    path.write_bytes(coded.read_bytes()[:-200])
    done = vq("info", path)
    assert done.code == 7
    assert done.err.startswith(f"vqcodec: warning: {path}: the file is cut off in the chunk at")
    told = json.loads(vq("info", path, "--json").out)
    assert told["problem"].startswith("the file is cut off")
    assert told["frames"] == sum(chunk["frames"] for chunk in told["chunks"]) < 100


def test_info_of_a_file_without_frames(vq, coded, tmp_path):
    path = tmp_path / "cut.vqv"
    path.write_bytes(coded.read_bytes()[:33])
    done = vq("info", path)
    assert done.code == 7
    assert "size      33 bytes\n" in done.out
    assert json.loads(vq("info", path, "--json").out)["bpp"] is None


def test_verify(vq, coded):
    done = vq("verify", coded)
    assert (done.code, done.out) == (0, f"{coded}: ok, 100 frames in 4 chunks\n")
    assert json.loads(vq("verify", coded, "--json").out) == {
        "file": str(coded),
        "chunks": 4,
        "frames": 100,
        "unread_chunks": 0,
        "problems": [],
    }


@pytest.mark.parametrize("quiet", [(), ("-q",)])
def test_verify_goes_on_after_a_problem(vq, coded, tmp_path, quiet):
    bad, missing = tmp_path / "bad.vqv", tmp_path / "missing.vqv"
    data = bytearray(coded.read_bytes())
    data[100] ^= 1
    bad.write_bytes(data)
    done = vq("verify", bad, missing, coded, tmp_path, *quiet)
    assert done.code == 5
    first, second, third = done.err.splitlines()
    assert first.startswith(f"vqcodec: {bad}: chunk at byte 33 (0.00 to 2.00 s) is damaged")
    assert second == f"vqcodec: {missing}: No such file or directory"
    assert third == f"vqcodec: {tmp_path}: Is a directory"
    assert done.out == ("" if quiet else f"{coded}: ok, 100 frames in 4 chunks\n")
    lines = vq("verify", bad, missing, "--json").out.splitlines()
    assert [len(json.loads(line)["problems"]) for line in lines] == [1, 1]
    assert json.loads(lines[0])["frames"] == 68


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda data: b"", 7),
        (lambda data: b"rubbish", 4),
        (lambda data: data[:-9], 7),
        (lambda data: data + b"?", 4),
        (lambda data: data[:4] + b"\x03" + data[5:], 6),
        (lambda data: data[:20] + b"\x02" + data[21:], 5),
    ],
)
def test_codes_of_verify(vq, coded, pipe_in, tmp_path, change, code):
    path = tmp_path / "x.vqv"
    path.write_bytes(change(coded.read_bytes()))
    assert vq("verify", path).code == code
    pipe_in(path.read_bytes())
    done = vq("verify", "-")
    assert done.code == code
    assert done.line.startswith("standard input: ")


def test_models(vq, tiny, codec):
    done = vq("models")
    assert done.code == 0
    words = done.out.split()
    assert words[:4] == ["*", "base", codec.model_id.hex(), str(tiny.stat().st_size)]
    (model,) = json.loads(vq("models", "--json").out)
    assert model.pop("model").startswith(codec.model_id.hex())
    assert model == {
        "name": "base",
        "path": str(tiny),
        "bytes": tiny.stat().st_size,
        "default": True,
        "card": {"note": "random"},
    }


@pytest.mark.parametrize(
    ("card", "told"),
    [
        ({"validation": {"psnr": [25.678]}}, "bytes  25.68 dB"),
        ({"validation": {"psnr": [20.0, 25.0, 26.0]}}, "bytes  20.00, 25.00, 26.00 dB"),
        (
            {
                "validation": {"psnr": [20.0, 25.0]},
                "restoration": {"validation": {"before": [20.0, 25.0], "after": [21.0, 26.5]}},
            },
            "bytes  21.00, 26.50 dB",
        ),
        ({"validation": None}, "bytes"),
        ({"validation": {"psnr": None}}, "bytes"),
        ({"validation": "good"}, "bytes"),
        ({"validation": {"psnr": [20.0]}, "restoration": {}}, "bytes"),
    ],
)
def test_quality_of_models(vq, tiny, tmp_path, monkeypatch, card, told):
    import dataclasses

    from vqcodec.model.checkpoint import load, save

    save(dataclasses.replace(load(tiny), card=card), tmp_path / "base.safetensors")
    monkeypatch.setattr("vqcodec.model.registry.weights_folder", lambda: tmp_path)
    assert vq("models").out.rstrip().endswith(told)
