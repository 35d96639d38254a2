"""Results as data and as text: means, comparisons, JSON, tables, pages."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from bench_builders import result

from vqcodec.bench import plots, render, results, schema, tables
from vqcodec.bench.compare import aggregate, clip_points, compare
from vqcodec.bench.report import write_report
from vqcodec.bench.schema import Bench, CodecInfo, LeftOut
from vqcodec.bench.strips import Strip
from vqcodec.errors import DataError

LADDER = {"crf 22": (8000, 36.0), "crf 34": (2000, 28.0), "crf 46": (800, 22.0)}


def made_up(ours: bool = True, dataset: str = "folder", clips: int = 6) -> Bench:
    names = [f"clip{k}#0" for k in range(clips)]
    if dataset == "authors":
        names = ["v_Fencing_g01_c06 #1", "v_Fencing_g01_c06 #3"]
    found = [
        result("x264", setting, clip, size + 10 * k, psnr + 0.3 * k)
        for setting, (size, psnr) in LADDER.items()
        for k, clip in enumerate(names)
    ]
    if ours:  # half of x264's bytes for the same quality
        found += [
            result("vqcodec:base", f"q{number}", clip, (size + 10 * k) // 2, psnr + 0.3 * k)
            for number, (size, psnr) in enumerate(LADDER.values())
            for k, clip in enumerate(names)
        ]
    codecs = [
        CodecInfo("vqcodec:base", "vqcodec base", "model 0", True),
        CodecInfo("x264", "x264 veryslow, 4:2:0", "x264 | options", False),
        CodecInfo("svtav1", "svtav1", "", False, missing="this FFmpeg has no encoder libsvtav1"),
    ]
    return Bench(
        schema=schema.SCHEMA,
        created="2026-01-01T00:00:00+00:00",
        command="vqcodec bench",
        machine={"system": "Linux"},
        versions={"av": "18"},
        dataset=dataset,
        options={"limit": None},
        mode="clips",
        codecs=codecs if ours else codecs[1:],
        skipped=[LeftOut("broken", "no <video> stream")],
        notes=["LPIPS and DISTS left out: no weights."],
        points=aggregate(found),
        comparisons=compare(found, ["vqcodec:base"], ["x264"], resamples=20) if ours else [],
        results=found,
    )


def test_means_are_over_clips() -> None:
    low, high = result("a", "s", "1", 1000, 20.0), result("a", "s", "2", 3000, 30.0)
    (point,) = aggregate([low, high])
    assert point.stream_bpp == pytest.approx(2000 * 8 / 131072)
    assert point.stream_kbps == pytest.approx(2000 * 8 / 2 / 1000)
    assert (point.psnr, point.clips) == (25.0, 2)
    assert point.pooled_psnr == pytest.approx(
        -10 * np.log10((10**-1.97 + 10**-2.97) / 2)  # mean of squared errors, not of decibels
    )
    assert point.flicker_border is None
    assert point.encode_fps == pytest.approx(320)
    assert point.encode_realtime == pytest.approx(20)


def test_half_the_bytes_is_found() -> None:
    bench = made_up()
    found = {(c.metric, c.size): c for c in bench.comparisons}
    assert len(found) == 6
    assert found["psnr", "stream"].bd_rate == pytest.approx(-50, abs=0.1)
    file = found["psnr", "file"].bd_rate
    assert file is not None
    assert -50 < file < -20  # the same 900 bytes around both
    assert found["psnr", "stream"].wins == found["psnr", "stream"].compared > 0
    with pytest.raises(ValueError, match="results for"):
        clip_points(bench.results[:-1], "vqcodec:base")


def test_json_round_trip(tmp_path: Path) -> None:
    bench, path = made_up(), tmp_path / "r.json"
    schema.save(bench, path)
    assert schema.load(path) == bench
    data = json.loads(path.read_text())
    for change in ({"schema": "other/9"}, {"points": [{"nope": 1}]}, {"results": 3}):
        path.write_text(json.dumps({**data, **change}))
        with pytest.raises(DataError):
            schema.load(path)
    for missing in (tmp_path / "absent.json", Path(__file__)):
        with pytest.raises(DataError, match="not a benchmark result"):
            schema.load(missing)


def test_tables_speak_plainly() -> None:
    bench = made_up()
    text = "\n".join(" ".join(row) for row in tables.comparison_table(bench).rows)
    assert "-50.0 %" in text
    (line,) = tables.verdicts(bench)
    assert "BD-rate -50.0 %" in line
    assert "win by" in line
    assert "0.50 times its bits" in line
    header = tables.rate_table(bench).header
    assert "LPIPS" not in header  # nothing to show
    assert "fixed bpp" in header
    paper = tables.paper_table(bench).rows
    assert any("25.96" in row for row in paper)
    assert any("0.1758" in row and "vqcodec base" in row[0] for row in paper)


def test_our_files_are_compared_with_bare_streams() -> None:
    bench = made_up()
    (row,) = tables.files_table(bench).rows
    assert list(row[:2]) == ["vqcodec:base", "x264"]
    streams = [c.window_bd_rate for c in bench.comparisons if c.size == "stream"]
    for cell, stream in zip(row[2:], streams, strict=True):
        assert stream < float(cell.removesuffix(" %"))  # what surrounds the pictures counts


def test_on_how_many_clips_quality_rises() -> None:
    bench = made_up()
    assert [row[1:] for row in tables.rising_table(bench).rows] == [
        ["q2 to q1", "6 of 6", "6 of 6"],
        ["q1 to q0", "6 of 6", "6 of 6"],
    ]
    worse = [
        dataclasses.replace(r, ssim=0.0)
        if (r.setting, r.clip) == ("q1", "clip0#0")
        else dataclasses.replace(r, psnr=1.0)
        if (r.setting, r.clip) == ("q0", "clip3#0")
        else r
        for r in bench.results
    ]
    assert [
        row[1:] for row in tables.rising_table(dataclasses.replace(bench, results=worse)).rows
    ] == [
        ["q2 to q1", "6 of 6", "5 of 6"],
        ["q1 to q0", "5 of 6", "6 of 6"],
    ]


def test_one_setting_alone_is_still_compared() -> None:
    bench = made_up()
    kept = [r for r in bench.results if r.codec == "x264" or r.setting == "q1"]
    bench = dataclasses.replace(
        bench,
        points=aggregate(kept),
        comparisons=compare(kept, ["vqcodec:base"], ["x264"], resamples=5),
        results=kept,
    )
    (line,) = tables.verdicts(bench)
    assert "no BD-rate (a curve has fewer than two points)" in line
    assert "we win by" in line


def test_same_clip_table() -> None:
    table = tables.same_clip_table(made_up(dataset="authors"))
    assert [row[0] for row in table.rows] == ["v_Fencing_g01_c06 #1", "v_Fencing_g01_c06 #3"]
    assert all(len(row) == len(table.header) for row in table.rows)
    assert table.rows[0][1] == "25.89 / 0.8468"


def test_markdown_page(tmp_path: Path) -> None:
    paths = [tmp_path / "a.json", tmp_path / "b.json"]
    schema.save(made_up(), paths[0])
    schema.save(made_up(ours=False, dataset="authors"), paths[1])
    page = tmp_path / "results.md"
    assert results.main([str(p) for p in (*paths, page)]) == 0
    text = page.read_text()
    assert "## folder, clips" in text
    assert "## authors, clips" in text
    assert "svtav1 left out: this FFmpeg has no encoder libsvtav1" in text
    assert "1 left out" in text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert rows
    assert results.main([str(tmp_path / "no.json"), str(page)]) == DataError.exit_code
    assert results.main([]) == 2


def test_report_is_one_page_of_its_own(tmp_path: Path) -> None:
    page = write_report(made_up(), tmp_path / "report", [Strip("best clip: a", b"png", ["x <y>"])])
    text = page.read_text()
    assert 'src="data:image/png;base64,cG5n' in text
    assert "http" not in text.replace("https://www.crcv", "")
    assert "x &lt;y&gt;" in text
    assert "no &lt;video&gt; stream" in text
    if plots.unavailable() is None:
        assert (page.parent / "rd-psnr-stream.png").read_bytes().startswith(b"\x89PNG")
        again = plots.rate_distortion_plots(made_up())
        assert again["rd-psnr-stream"] == (page.parent / "rd-psnr-stream.png").read_bytes()


def test_csv_has_a_line_for_each_result(tmp_path: Path) -> None:
    bench = made_up()
    render.write_csv(bench, tmp_path / "r.csv")
    lines = (tmp_path / "r.csv").read_text().splitlines()
    assert len(lines) == 1 + len(bench.results)
    assert lines[0].startswith("codec,setting,clip,")
