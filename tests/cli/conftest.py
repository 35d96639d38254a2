"""Running the command line in this process, with its standard streams replaced."""

from __future__ import annotations

import io
import sys
from dataclasses import dataclass

import pytest


@dataclass
class Done:
    code: int
    out: str
    err: str

    @property
    def line(self):
        """The one line on standard error."""
        (line,) = self.err.splitlines()
        assert line.startswith("vqcodec: ")
        assert "Traceback" not in line
        return line.removeprefix("vqcodec: ")


@pytest.fixture
def vq(shipped, capsys):
    """Run ``vqcodec`` with these arguments."""
    from vqcodec.cli.dispatch import run

    def call(*arguments):
        code = run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Done(code, captured.out, captured.err)

    return call


@pytest.fixture
def pipe_in(monkeypatch):
    """Let standard input be a pipe with these bytes in it."""
    from video_builders import Pipe

    def feed(data):
        pipe = Pipe(data)
        pipe.name = "<stdin>"
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(pipe)))

    return feed
