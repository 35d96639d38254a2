"""vqcodec.bench.operating: the paper's level, coded in several ways"""

from __future__ import annotations

import json
from fractions import Fraction

import pytest
from video_builders import scene, write_video

from vqcodec.bench import operating
from vqcodec.bench.clips import Clip
from vqcodec.codec import Codec
from vqcodec.errors import DataError
from vqcodec.model.checkpoint import load
from vqcodec.model.registry import find

CLIPS = [Clip(str(n), scene(16 * (n + 1), 32, 32)[-16:], Fraction(16)) for n in range(2)]


@pytest.fixture(scope="module")
def checkpoint():
    return load(find(None))


@pytest.fixture(scope="module")
def found(checkpoint):
    return {(way.codes, way.packer): way for way in operating.measure(checkpoint, CLIPS)}


def test_indices_of_fixed_length_are_the_paper_s_rate(found) -> None:
    raw = found[operating.NEAREST, "raw"]
    assert raw.bpp * 16 * 32 * 32 / 8 == pytest.approx(2304 / 8 * 10 / 8 + 9, abs=1)
    assert raw.saved == pytest.approx(1 - raw.bpp / 0.17578125)


def test_packers_change_the_rate_alone(found) -> None:
    for codes in (operating.NEAREST, operating.PLAIN):
        raw, zstd, best = (found[codes, packer] for packer in ("raw", "zstd", "range"))
        assert best.bpp < zstd.bpp
        assert best.bpp < raw.bpp
        for other in (zstd, best):
            assert (other.psnr, other.ssim) == (raw.psnr, raw.ssim)


def test_what_bits_are_worth_decides_what_they_buy(found) -> None:
    dear, free = found["effort 5, trade 1.4", "range"], found[operating.CLOSEST, "range"]
    assert dear.bpp < free.bpp
    assert dear.psnr < free.psnr
    assert found[operating.PLAIN, "range"] != found[operating.NEAREST, "range"]


def test_without_thresholds_more_is_coded(checkpoint) -> None:
    shares = []
    for each in (checkpoint, operating._without_thresholds(checkpoint)):
        _, _, odd = Codec(each).encode(CLIPS[0].frames, 3)
        shares.append((odd == 0).mean())
    assert shares[0] > shares[1] + 0.05


def test_command(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(operating, "WAYS", operating.WAYS[1:2])
    (tmp_path / "videos").mkdir()
    write_video(tmp_path / "videos" / "a.mkv", scene(40, 64, 64))
    write_video(tmp_path / "videos" / "b.mkv", scene(40, 64, 64))
    options = ["--root", str(tmp_path / "videos"), "--cache", str(tmp_path / "cache")]
    assert operating.main([*options, "--limit", "1"]) == 0
    page = capsys.readouterr().out
    assert page.startswith("# The paper's level, coded in several ways: mean over 1 clips\n")
    assert page.count("| effort 0 |") == 3
    assert operating.main([*options, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["clips"] == 2
    assert [way["packer"] for way in shown["ways"]] == ["raw", "zstd", "range"]


def test_one_line_says_what_is_missing(tmp_path, capsys) -> None:
    assert operating.main(["--root", str(tmp_path)]) == DataError.exit_code
    (line,) = capsys.readouterr().err.splitlines()
    assert "no video files" in line
