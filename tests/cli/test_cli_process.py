"""What only true processes show: pipes, signals, a terminal. Few, as each loads torch."""

import contextlib
import os
import pty
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vqcodec.video import read_frames

VQ = f"{shlex.quote(sys.executable)} -m vqcodec"


@pytest.fixture
def shell(tiny, tmp_path, video, coded):
    """Run a pipeline in ``tmp_path`` with ``$vq``, ``$m`` (the model) and the files as words."""
    names = {"m": f"-q --model {tiny}", "video": video, "coded": coded}

    def call(line):
        words = f"vq={shlex.quote(VQ)}; " + "".join(
            f"{k}={shlex.quote(str(v))}; " for k, v in names.items()
        )
        return subprocess.run(
            ["bash", "-c", words + line + '; echo "codes ${PIPESTATUS[*]}" >&2'],
            cwd=tmp_path,
            capture_output=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )

    return call


def test_a_chain_of_pipes(shell, tmp_path):
    done = shell("cat $video | $vq encode - - $m | $vq decode - - $m > out.y4m")
    assert done.stderr == b"codes 0 0 0\n"
    assert len(read_frames(tmp_path / "out.y4m")) == 100


def test_appending_to_a_file(shell, tmp_path):
    """After ``>>`` a file can seek, but not be written anywhere but at its end."""
    done = shell("echo first > a; $vq encode $video - $m >> a; tail -c +7 a > b; $vq verify b")
    assert (done.stdout, done.stderr) == (b"b: ok, 100 frames in 4 chunks\n", b"codes 0\n")
    done = shell("cp $coded a; $vq repair a - >> a; cmp a $coded && $vq repair - a -f < a")
    assert done.stderr.splitlines() == [
        b"vqcodec: standard output: is the input itself (see vqcodec repair --help)",
        b"vqcodec: a: is the input itself (see vqcodec repair --help)",
        b"codes 2",
    ]


def test_a_reader_that_leaves_is_no_error(shell):
    done = shell("$vq info --chunks $coded | head -c 0; $vq decode $coded - $m | head -c 10")
    assert done.stdout == b"YUV4MPEG2 "
    assert done.stderr == b"codes 141 0\n"
    done = shell("$vq repair $coded - -q | head -c 0; cat $video | $vq encode - - $m | head -c 4")
    assert done.stdout == b"\x89VQV"
    assert done.stderr in (b"codes 0 0 0\n", b"codes 0 141 0\n")  # all fits in the pipe


def test_full_standard_output(shell):
    done = shell("$vq info $coded > /dev/full")
    assert done.stderr == b"vqcodec: standard output: No space left on device\ncodes 10\n"
    done = shell("$vq decode $coded - $m > /dev/full")
    assert done.stderr.endswith(b"No space left on device\ncodes 10\n")
    assert done.stderr.startswith(b"vqcodec: standard output: ")


def test_closed_standard_streams(shell):
    done = shell("$vq info - <&-")
    assert done.stderr == b"vqcodec: standard input is closed (see vqcodec info --help)\ncodes 2\n"
    done = shell("$vq info $coded >&-; $vq --help >&-")
    assert done.stderr == b"codes 0\n"


def test_names_that_are_no_text(shell):
    done = shell("cp $coded $'caf\\xe9.vqv'; $vq verify *.vqv")
    assert done.stderr == b"codes 0\n"
    assert done.stdout.endswith(b".vqv: ok, 100 frames in 4 chunks\n")


def catches_sigterm(pid):
    """Whether the process has its handlers in place."""
    status = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
    )
    return int(status["SigCgt"], 16) >> (signal.SIGTERM - 1) & 1


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="no /proc to see that it is ready")
@pytest.mark.parametrize(
    ("number", "message"), [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated")]
)
@pytest.mark.parametrize("verb", ["encode", "decode"])
def test_signals_leave_nothing_behind(tmp_path, tiny, verb, number, message):
    """The process is stopped while it waits for its input."""
    target = tmp_path / ("out.vqv" if verb == "encode" else "out.mp4")
    process = subprocess.Popen(
        [sys.executable, "-m", "vqcodec", verb, "-", target, "--model", tiny],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    while not catches_sigterm(process.pid) or (verb == "encode" and not list(tmp_path.iterdir())):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    assert process.wait(60) == 128 + number
    assert process.stderr.read().decode() == f"vqcodec: {message}\n"
    process.stdin.close()
    assert list(tmp_path.iterdir()) == []


def test_progress_shows_on_a_terminal(tmp_path, tiny, video):
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "vqcodec", "encode", video, "out.vqv", "--model", tiny],
        cwd=tmp_path,
        stderr=theirs,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "100", "OMP_NUM_THREADS": "1"},
    )
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # the end of a terminal
        while piece := os.read(ours, 4096):
            shown += piece
    os.close(ours)
    assert process.wait(60) == 0
    assert b"100 frames" in shown
    assert b" fps" in shown
    assert b"0:00:00" in shown  # the time left
