"""Worker processes: what becomes of each file when some fail, and when all are stopped."""

import os
import signal
import time

import pytest

from vqcodec.batch import run
from vqcodec.errors import CheckpointError, CrashError, SourceError
from vqcodec.files import writing
from vqcodec.folder import Task


def work(source, target, *, codecs, progress, factor=1):
    """Do as the name of ``source`` says; what encode_file does, without a network."""
    progress(0, 3)
    with writing(target) as file:
        file.write(b"half")
        file.flush()
        match source.stem.rstrip("0123456789"):
            case "bad":
                raise SourceError("cannot be read")
            case "model":
                raise CheckpointError("no such model")
            case "bug":
                raise KeyError("surprise")
            case "big":
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
            case "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            case "slow":
                time.sleep(60)
        progress(3, 3)
    return factor * len(source.stem)


def tasks_in(folder, *names):
    return [Task(folder / name, folder / "out" / name) for name in names]


def files_in(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_one_that_fails_does_not_keep_the_others(tmp_path):
    names = ["good0", "bad", "killed0", "bug", "good/1", "big", "killed1", "good2"]
    frames = []
    outcomes = {
        str(outcome.task.source.relative_to(tmp_path)): outcome
        for outcome in run(
            work, tasks_in(tmp_path, *names), {"factor": 2}, jobs=2, progress=frames.append
        )
    }
    assert set(outcomes) == set(names)
    results = {name: outcome.result for name, outcome in outcomes.items() if not outcome.error}
    assert results == {"good0": 10, "good/1": 2, "good2": 10}
    errors = {name: str(o.error).removeprefix(str(tmp_path)) for name, o in outcomes.items()}
    assert errors["bad"] == "/bad: cannot be read"
    assert errors["bug"] == "/bug: internal error: KeyError('surprise')"
    assert errors["big"] == "/big: out of memory"
    killed = "its worker process was ended by SIGKILL, which the system sends when out of memory"
    assert errors["killed0"] == f"/killed0: {killed}"
    assert isinstance(outcomes["bad"].error, SourceError)
    assert isinstance(outcomes["killed1"].error, CrashError)
    assert sum(frames) == 9
    assert files_in(tmp_path) == ["1", "good0", "good2"]


def test_without_a_model_all_stop(tmp_path):
    outcomes = run(work, tasks_in(tmp_path, "model", "good"), {}, jobs=1)
    with pytest.raises(CheckpointError, match="no such model"):
        next(outcomes)
    assert files_in(tmp_path) == []


def test_stopping_leaves_no_partial_file(tmp_path):
    class Stopped(Exception):
        pass

    def stop(_frames):
        raise Stopped

    with pytest.raises(Stopped):  # as soon as the worker tells that it is at it
        list(run(work, tasks_in(tmp_path, "slow", "good"), {}, jobs=1, progress=stop))
    assert files_in(tmp_path) == []


def test_nothing_to_do():
    assert list(run(work, [], {})) == []


def test_a_model_is_loaded_once(tiny):
    from vqcodec.worker import KeptCodec

    first = KeptCodec.load(str(tiny))
    assert KeptCodec.load(str(tiny)) is first
