"""What ``encode`` and ``decode`` do with a folder: one display, one summary, one exit code."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from vqcodec.batch import Outcome, Work, run
from vqcodec.cli.progress import FilesProgress, warn
from vqcodec.errors import BatchError, VqcodecError
from vqcodec.folder import Task
from vqcodec.video import VIDEO_SUFFIXES


@dataclass(frozen=True)
class Verb:
    """What the verbs differ in.

    Attributes:
        name: of the command.
        work: what does it to a file.
        record: (source, target, result, frames a second) to what ``--json`` prints.
        warnings: what is to be told of a result, without the name of the file.
        problem: why a result, though written, is not all that it should be.
    """

    name: str
    work: Work
    record: Callable[[str, str, Any, float], dict[str, Any]]
    warnings: Callable[[Any], Sequence[str]]
    problem: Callable[[Any], VqcodecError | None] = lambda _result: None


def concerns_folders(source: str, target: str, jobs: int | None) -> bool:
    """Whether a command line is about all files of a folder.

    ``-``, and a name that a file would have, is no place for many.

    Raises:
        click.UsageError: it is not, but there are ``jobs``.
    """
    out = Path(target)
    is_name = target == "-" or out.suffix.lower() in VIDEO_SUFFIXES | {".vqv"}
    if source != "-" and Path(source).is_dir() and (out.is_dir() or not is_name):
        return True
    if jobs is not None:
        raise click.UsageError("--jobs is for a folder of files, into a folder")
    return False


def do_folder(
    verb: Verb,
    tasks: Sequence[Task],
    settings: Mapping[str, Any],
    *,
    jobs: int | None,
    force: bool,
    quiet: bool,
    as_json: bool,
) -> int:
    """Do what is not done yet, tell how it went, and return the exit code."""
    todo = [task for task in tasks if force or not task.is_done]
    tally = _Tally(verb, len(todo), len(tasks) - len(todo))
    if as_json:
        for task in sorted(set(tasks) - set(todo), key=lambda task: task.source):
            print(json.dumps({**_names(task), "skipped": True}))
    try:
        with FilesProgress(verb.name, len(todo), quiet=quiet) as progress:
            # Closed by the with, so that signals end the workers before the summary is told.
            outcomes = run(
                verb.work,
                todo,
                {**settings, "force": force},
                jobs=jobs,
                progress=lambda frames: progress.frames(tally.count(frames)),
            )
            with closing(outcomes):
                for outcome in outcomes:
                    record = tally.add(outcome)
                    if as_json:
                        print(json.dumps(record), flush=True)
                    progress.files(tally.ended)
    finally:
        tally.tell(quiet=quiet, as_json=as_json)
    return tally.exit_code


@dataclass
class _Tally:
    """The outcomes so far."""

    verb: Verb
    todo: int
    skipped: int
    done: int = 0
    frames: int = 0
    failures: list[tuple[Task, VqcodecError]] = field(default_factory=list)
    warnings: list[tuple[Task, str]] = field(default_factory=list)
    codes: set[int] = field(default_factory=set)
    began: float = field(default_factory=time.monotonic)

    @property
    def ended(self) -> int:
        return self.done + len(self.failures)

    @property
    def exit_code(self) -> int:
        """That of the failures, if they are of one kind."""
        return BatchError.exit_code if len(self.codes) > 1 else max(self.codes, default=0)

    def count(self, frames: int) -> int:
        self.frames += frames
        return self.frames

    def add(self, outcome: Outcome) -> dict[str, Any]:
        """Take note of an outcome, and return the record of it."""
        task, result = outcome.task, outcome.result
        problem = outcome.error or self.verb.problem(result)
        if problem is not None:
            self.codes.add(problem.exit_code)
        if outcome.error is not None:
            self.failures.append((task, outcome.error))
            error = {"error": str(outcome.error), "exit_code": outcome.error.exit_code}
            return _names(task) | error
        self.done += 1
        self.warnings += [(task, line) for line in self.verb.warnings(result)]
        return self.verb.record(str(task.source), str(task.target), result, outcome.speed)

    def tell(self, *, quiet: bool, as_json: bool) -> None:
        """The end: warnings, failures and the summary."""
        for task, line in sorted(self.warnings, key=lambda warning: warning[0].source):
            warn(f"{task.source}: {line}", quiet=quiet)
        for _, error in sorted(self.failures, key=lambda failure: failure[0].source):
            print(f"vqcodec: {' '.join(str(error).splitlines())}", file=sys.stderr)
        seconds = time.monotonic() - self.began
        counts = {
            f"{self.verb.name}d": self.done,
            "skipped": self.skipped,
            "failed": len(self.failures),
            "left": self.todo - self.ended,
        }
        speed = self.frames / max(1e-9, seconds)
        if as_json:
            rest = {"frames": self.frames, "seconds": seconds, "fps": speed}
            print(json.dumps({"summary": counts | rest}), flush=True)
        elif not quiet:
            told = ", ".join(f"{number} {what}" for what, number in counts.items() if number)
            rate = f"; {self.frames} frames in {seconds:.1f} s, {speed:.0f} fps"
            print(told + rate * (self.frames > 0), file=sys.stderr)


def _names(task: Task) -> dict[str, Any]:
    return {"source": str(task.source), "target": str(task.target)}
