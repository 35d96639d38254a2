"""``vqcodec encode`` and ``vqcodec decode`` of folders."""

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import time

import pytest
from video_builders import scene, write_video

from vqcodec.container.file import open as open_vqv
from vqcodec.video import read_frames


@pytest.fixture
def videos(tmp_path):
    """Three sound videos, two of them with one name, and one that is none."""
    folder = tmp_path / "videos"
    (folder / "deep/er").mkdir(parents=True)
    for name, frames in (("a.mkv", 8), ("a.avi", 16), ("deep/er/b.mkv", 24)):
        write_video(folder / name, scene(frames))
    (folder / "bad.mp4").write_text("not a video")
    (folder / "notes.txt").write_text("not to be touched")
    return folder


@pytest.fixture
def folder(vq, tiny, videos, tmp_path):
    """Run a verb on ``videos`` or another folder, into ``out`` or another."""

    def call(verb, *arguments, source=videos, target=tmp_path / "out"):
        return vq(verb, source, target, "--model", tiny, *arguments)

    return call


def listing(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_encoding_resuming_and_decoding(folder, tmp_path, videos):
    out = tmp_path / "out"
    done = folder("encode", "--jobs", 2, "--fps", 8)
    assert (done.code, done.out) == (3, "")
    failure, summary = done.err.splitlines()
    assert failure == f"vqcodec: {videos / 'bad.mp4'}: not a video that FFmpeg can read"
    assert summary.startswith("3 encoded, 1 failed; 24 frames in ")
    assert listing(out) == ["a.avi.vqv", "a.mkv.vqv", "deep/er/b.vqv"]
    with open_vqv(out / "deep/er/b.vqv") as file:
        assert (file.header.rate, file.header.frames) == (8, 12)

    (out / "a.avi.vqv").unlink()
    old = (out / "a.mkv.vqv").stat()
    done = folder("encode", "--jobs", 1)
    assert done.code == 3
    assert done.err.splitlines()[1].startswith("1 encoded, 2 skipped, 1 failed; 16 frames in ")
    assert (out / "a.mkv.vqv").stat() == old

    (videos / "bad.mp4").unlink()
    done = folder("encode", "-q")
    assert (done.code, done.out, done.err) == (0, "", "")
    done = folder("encode")
    assert (done.code, done.err) == (0, "3 skipped\n")
    done = folder("encode", "-f", "--jobs", 1)
    assert done.err.startswith("3 encoded; 48 frames in ")
    assert (out / "a.mkv.vqv").stat() != old

    done = folder("decode", "--jobs", 1, source=out, target=out / "again")
    assert done.code == 0
    assert done.err.startswith("3 decoded; 48 frames in ")
    assert listing(out / "again") == ["a.avi.mp4", "a.mkv.mp4", "deep/er/b.mp4"]
    assert len(read_frames(out / "again/deep/er/b.mp4")) == 24
    done = folder("decode", source=out, target=out / "again")
    assert (done.code, done.err) == (0, "3 skipped\n")


def test_json(folder, tmp_path, videos):
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.avi.vqv").touch()
    done = folder("encode", "--jobs", 1, "--json")
    assert done.code == 3
    assert done.err == f"vqcodec: {videos / 'bad.mp4'}: not a video that FFmpeg can read\n"
    *records, last = map(json.loads, done.out.splitlines())
    told = {record["source"].removeprefix(f"{videos}/"): record for record in records}
    assert set(told) == {"a.avi", "a.mkv", "bad.mp4", "deep/er/b.mkv"}
    assert told["a.avi"]["skipped"]
    assert told["a.mkv"]["frames"] == 8
    assert told["a.mkv"]["bytes"] == (out / "a.mkv.vqv").stat().st_size
    assert told["bad.mp4"] == {
        "source": str(videos / "bad.mp4"),
        "target": str(out / "bad.vqv"),
        "error": f"{videos / 'bad.mp4'}: not a video that FFmpeg can read",
        "exit_code": 3,
    }
    summary = last["summary"]
    assert summary.pop("seconds") > 0
    assert summary.pop("fps") > 0
    assert summary == {"encoded": 2, "skipped": 1, "failed": 1, "left": 0, "frames": 32}


def test_failures_of_several_kinds(folder, coded, tmp_path):
    source = tmp_path / "coded"
    source.mkdir()
    data = coded.read_bytes()
    (source / "cut.vqv").write_bytes(data[:-50])
    (source / "none.vqv").write_text("not a .vqv file")
    (source / "whole.vqv").write_bytes(data)
    done = folder("decode", "--jobs", 1, "--format", "y4m", source=source)
    assert done.code == 12
    warning, failure, summary = done.err.splitlines()
    assert warning.startswith(f"vqcodec: warning: {source / 'cut.vqv'}: the file ")
    assert failure == f"vqcodec: {source / 'none.vqv'}: not a .vqv file"
    assert summary.startswith("2 decoded, 1 failed; ")
    assert listing(tmp_path / "out") == ["cut.y4m", "whole.y4m"]


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        ("encode {video} {out} --jobs 2", 2, "--jobs is for a folder of files, into a folder"),
        ("encode {videos} - --jobs 2", 2, "--jobs is for a folder of files, into a folder"),
        ("encode {videos} {out} --jobs 0", 2, "0 is not in the range x>=1"),
        ("encode {videos} {out}.vqv", 3, "is a folder"),
        ("decode {videos} {out}", 3, "videos: no files .vqv in this folder"),
        ("decode {videos} {out} --format nonsense", 2, "unknown format nonsense"),
        ("encode {videos} {videos}/notes.txt", 10, "notes.txt: is a file"),
    ],
)
def test_what_cannot_be(vq, video, videos, tmp_path, arguments, code, reason):
    words = arguments.format(video=video, videos=videos, out=tmp_path / "out").split()
    done = vq(*words)
    assert done.code == code
    assert reason in done.line
    assert listing(tmp_path) == [f"videos/{name}" for name in listing(videos)]


def test_a_missing_model_is_told_once(vq, videos, tmp_path):
    done = vq("encode", videos, tmp_path / "out", "--jobs", 1, "--model", "nothing")
    assert done.code == 9
    summary, error = done.err.splitlines()
    assert summary == "4 left"
    assert error.startswith("vqcodec: no model nothing: ")


def start(videos, out, tiny, *arguments, **options):
    words = ["-m", "vqcodec", "encode", videos, out, "--model", tiny, *arguments]
    return subprocess.Popen([sys.executable, *words], **options)


@pytest.mark.parametrize(
    ("number", "message"), [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated")]
)
def test_signals_leave_no_partial_file(videos, tiny, tmp_path, number, message):
    out = tmp_path / "out"
    write_video(videos / "0.mkv", scene(600))
    # Minutes of work: on one core, a loaded machine may not let this process look for seconds.
    slow = ("--jobs", "2", "--size", "256", "--effort", "9")
    process = start(videos, out, tiny, *slow, stderr=subprocess.PIPE, start_new_session=True)
    while not list(out.rglob(".*.part.vqv")):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.005)
    os.killpg(process.pid, number)  # as a terminal does
    assert process.wait(60) == 128 + number
    *_, summary, last = process.stderr.read().decode().splitlines()
    assert " left" in summary
    assert last == f"vqcodec: {message}"
    assert list(tmp_path.rglob(".*")) == []
    assert not (out / "0.vqv").exists()


def test_progress_shows_on_a_terminal(videos, tiny, tmp_path):
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    process = start(videos, tmp_path / "out", tiny, "--jobs", "1", stderr=theirs, env=environment)
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # the end of a terminal
        while piece := os.read(ours, 4096):
            shown += piece
    os.close(ours)
    assert process.wait(60) == 3
    for words in (b"of 4 files", b" fps", b"3 encoded, 1 failed"):
        assert words in shown
