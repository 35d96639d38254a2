"""The command as a user runs it: on a folder with good and bad files, twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from bench_builders import write_video
from click.testing import CliRunner

from vqcodec.bench import peers, schema
from vqcodec.bench.codecs import CodecMissingError, build
from vqcodec.cli.bench import bench


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("videos")
    write_video(root / "a.mp4")
    write_video(root / "b.mp4", rate=25, frames=90)
    (root / "broken.mp4").write_bytes(b"nothing")
    return root


def _without_x264() -> bool:
    try:
        build("x264")
    except CodecMissingError:
        return True
    return False


@pytest.mark.skipif(_without_x264(), reason="this FFmpeg has no libx264")
def test_measures_skips_and_resumes(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = peers.PeerConfig("nope", "nope", "libnope", {}, (1,))
    monkeypatch.setattr(peers, "PEERS", {**peers.PEERS, "nope": absent})
    cache, out = tmp_path / "cache", tmp_path / "r.json"
    arguments = ["--root", str(root), "--cache", str(cache), "--json", str(out)]
    arguments += ["--codec", "x264", "--codec", "nope"]
    outputs = ["--csv", "r.csv", "--report", "report", "--markdown", "r.md"]
    monkeypatch.chdir(tmp_path)
    first = CliRunner().invoke(bench, [*arguments, *outputs], catch_exceptions=False)
    assert first.exit_code == 0, first.output
    assert "skipped: broken" in first.output
    assert "left out: nope: this FFmpeg has no encoder libnope" in first.output
    found = schema.load(out)
    assert found.clip_ids() == ["a#0", "b#0"]
    assert [item.id for item in found.skipped] == ["broken"]
    assert len(found.results) == 2 * len(peers.PEERS["x264"].crf)
    assert (tmp_path / "report" / "index.html").read_text().count("best clip") == 2
    assert (tmp_path / "r.md").is_file()

    # An interrupted run has some of the results: what is there is taken, the rest measured.
    files = sorted((cache / "results").rglob("*.json"))
    files[0].unlink()
    files[1].write_text("{cut off")
    kept = {file: file.read_text() for file in files[2:]}
    second = CliRunner().invoke(bench, arguments, catch_exceptions=False)
    assert second.exit_code == 0
    assert {file: file.read_text() for file in kept} == kept
    assert json.loads(files[1].read_text())["codec"] == "x264"
    again = schema.load(out)
    assert [(r.setting, r.clip) for r in again.results] == [
        (r.setting, r.clip) for r in found.results
    ]
    assert sum(a == b for a, b in zip(again.results, found.results, strict=True)) >= len(kept)


def test_prepare_only_decodes(root: Path, tmp_path: Path) -> None:
    arguments = ["--root", str(root), "--cache", str(tmp_path / "c"), "--prepare", "--limit", "1"]
    ran = CliRunner().invoke(bench, arguments, catch_exceptions=False)
    assert ran.exit_code == 0
    assert len(list((tmp_path / "c" / "frames").iterdir())) == 1
    assert not (tmp_path / "c" / "results").exists()


def test_wrong_codec_is_a_usage_error(root: Path, tmp_path: Path) -> None:
    arguments = ["--root", str(root), "--cache", str(tmp_path / "c"), "--codec", "h263"]
    ran = CliRunner().invoke(bench, arguments)
    assert ran.exit_code == 2
    assert "x264-444" in ran.output
    arguments = ["--root", str(root), "--dataset", "authors", "--mode", "videos"]
    ran = CliRunner().invoke(bench, arguments)
    assert ran.exit_code == 2
    assert "made of clips" in ran.output


@pytest.mark.skipif(
    not Path("/proc/self/task").exists() or _without_x264(),
    reason="looks for processes in /proc; codes with libx264",
)
def test_workers_end_with_a_killed_parent(root: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "vqcodec", "bench", "--codec", "x264"]
    paths = ["--root", str(root), "--cache", str(tmp_path), "--json", str(tmp_path / "r.json")]
    deadline = time.monotonic() + 120
    workers: list[int] = []
    with subprocess.Popen([*command, *paths]) as process:
        try:
            # With a first result there, a worker is at work on the next.
            while not any(tmp_path.glob("results/**/*.json")) and time.monotonic() < deadline:
                time.sleep(0.01)
            workers = [pid for pid in _processes() if _is_worker(pid, process.pid)]
        finally:
            process.kill()
    try:
        assert workers
        while any(map(_is_worker, workers)) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not any(map(_is_worker, workers))
    finally:
        for pid in filter(_is_worker, workers):
            os.kill(pid, signal.SIGKILL)


def _processes() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _is_worker(pid: int, parent: int | None = None) -> bool:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return b"spawn_main" in command and parent in (None, int(fields[1]))
