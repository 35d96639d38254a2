"""The names that ``import vqcodec`` offers, in processes that tell what gets imported."""

import json
import subprocess
import sys

import numpy as np
import pytest

import vqcodec
from vqcodec.cli import COMMANDS
from vqcodec.errors import ChecksumError, FormatError, ModelMismatchError, SourceError
from vqcodec.video import read_frames

HEAVY = ("torch", "av", "click", "rich", "numpy")


def imported_by(code, *arguments):
    """Which of the heavy packages a fresh interpreter has after ``code``, and what it printed."""
    code += f"\nprint(sorted(set({HEAVY!r}) & set(sys.modules)), file=sys.stderr)"
    result = subprocess.run(
        [sys.executable, "-c", "import sys\n" + code, *map(str, arguments)],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return result.stderr.splitlines()[-1], result.stdout


def test_importing_costs_nothing():
    assert imported_by("import vqcodec")[0] == "[]"


def test_indices_without_a_network(coded):
    code = """
import vqcodec
with vqcodec.open(sys.argv[1]) as file:
    for chunk in file:
        top, bottom = chunk.grids()
        print(chunk.frames, top.dtype, top.shape, bottom.dtype, bottom.shape)
"""
    modules, printed = imported_by(code, coded)
    assert modules == "['numpy']"
    full = "32 int16 (4, 8, 8) int16 (8, 16, 16)"
    assert printed.splitlines() == [full] * 3 + ["4 int16 (1, 8, 8) int16 (2, 16, 16)"]


def test_range_coded_indices_without_a_network(ranged, foresight, foreseeing, video):
    code = """
import vqcodec
with vqcodec.open(sys.argv[1], model=sys.argv[2]) as file:
    for chunk in file:
        print(chunk.packer, [int(grid.sum()) for grid in chunk.grids()])
"""
    modules, printed = imported_by(code, ranged, foresight)
    assert modules == "['numpy']"
    frames = read_frames(video)
    chunks = [foreseeing.encode(frames[start : start + 32]) for start in range(0, 100, 32)]
    told = [line.partition(" ") for line in printed.splitlines()]
    assert [packer for packer, _, _ in told] == ["range"] * 4
    for (_, _, sums), grids in zip(told, chunks, strict=True):
        # Batches round otherwise, and so choose now and then another code.
        exact = [int(grid.sum()) for grid in grids]
        np.testing.assert_allclose(json.loads(sums), exact, rtol=0.05)


def test_the_prior_is_found_by_the_file(ranged, foresight, monkeypatch):
    monkeypatch.setattr("vqcodec.model.registry.weights_folder", lambda: foresight.parent)
    with vqcodec.open(ranged) as file:
        assert all(len(chunk.grids()) == 4 for chunk in file)
    monkeypatch.setattr("vqcodec.model.registry.weights_folder", lambda: foresight / "no")
    with vqcodec.open(ranged) as file, pytest.raises(ModelMismatchError, match="needs the prior"):
        next(iter(file)).grids()


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["--version"]])
def test_the_overview_imports_nothing(arguments):
    code = """
from vqcodec.cli import main
try:
    main()
except SystemExit as done:
    assert not done.code
"""
    modules, printed = imported_by(code, *arguments)
    assert modules == "[]"
    assert vqcodec.__version__ in printed or "Usage: vqcodec COMMAND" in printed


def test_the_help_of_every_verb_is_light():
    code = """
from vqcodec.cli import COMMANDS
from vqcodec.cli.dispatch import run
for verb in COMMANDS:
    assert run([verb, "--help"]) == 0
"""
    modules, printed = imported_by(code)
    assert "torch" not in modules
    assert "av" not in modules
    assert printed.count("Usage: vqcodec ") == len(COMMANDS)


def test_everything_promised_is_there():
    for name in vqcodec.__all__:
        assert getattr(vqcodec, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        vqcodec.nonsense  # noqa: B018


def test_encode_and_decode(video, codec, tmp_path):
    encoded = vqcodec.encode_file(video, tmp_path / "x.vqv", codec=codec)
    assert encoded.header.frames == 100
    assert encoded.nbytes == (tmp_path / "x.vqv").stat().st_size
    assert encoded.bpp == pytest.approx(8 * encoded.nbytes / (100 * 64 * 64))
    assert encoded.kbps == pytest.approx(8 * encoded.nbytes / 6.25 / 1000)
    decoded = vqcodec.decode_file(tmp_path / "x.vqv", str(tmp_path / "x.mp4"), codec=codec)
    assert decoded.frames == 100
    assert decoded.problem is None


def test_arrays(codec):
    frames = np.zeros((32, 64, 64, 3), np.uint8)
    assert codec.decode(codec.encode(frames)).shape == frames.shape


def test_errors_name_the_file(coded, tmp_path):
    with pytest.raises(SourceError, match=r"nothing\.vqv: No such file"):
        vqcodec.open(tmp_path / "nothing.vqv")
    path = tmp_path / "x.vqv"
    path.write_bytes(b"something else")
    with pytest.raises(FormatError, match=r"x\.vqv: not a \.vqv file"):
        vqcodec.open(path)
    data = bytearray(coded.read_bytes())
    data[20] ^= 1
    path.write_bytes(data)
    with pytest.raises(ChecksumError, match=r"x\.vqv: the header is damaged"):
        vqcodec.open(path)
