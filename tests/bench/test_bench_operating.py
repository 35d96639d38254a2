"""vqcodec.bench.operating: the paper's level, coded in several ways"""

from __future__ import annotations

import dataclasses
import json
from fractions import Fraction

import pytest
from video_builders import scene, write_video

from vqcodec.bench import operating
from vqcodec.bench.clips import Clip
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


def test_each_way_gives_up_quality_for_bits_or_finds_better_codes(found) -> None:
    ways = [way for (codes, packer), way in found.items() if packer == "range"]
    *falling, closest = ways
    rates = [way.bpp for way in falling]
    assert rates == sorted(rates, reverse=True)
    assert len(set(rates)) == len(falling)
    assert closest.psnr > max(way.psnr for way in falling)


def test_without_thresholds_nearest_codes_are_taken(checkpoint) -> None:
    config = operating._without_thresholds(checkpoint).config
    assert [level.worth for level in config.levels] == [0, 0]
    assert [level.worth for level in checkpoint.config.levels] == [0, 0.25]
    assert dataclasses.replace(config, levels=checkpoint.config.levels) == checkpoint.config


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
