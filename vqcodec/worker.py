"""The other side of :mod:`vqcodec.batch`: a process that takes file after file."""

from __future__ import annotations

import functools
import signal
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType
from typing import Any

from vqcodec.codec import Codec
from vqcodec.errors import CheckpointError, CrashError, VqcodecError
from vqcodec.files import make_folder
from vqcodec.folder import Task
from vqcodec.memory import give_back_what_is_freed
from vqcodec.threads import compute_in_one_thread

_load, _load_for = functools.cache(Codec.load), functools.cache(Codec.load_for)


class KeptCodec(Codec):
    """A :class:`Codec` that is loaded once, however often it is asked for."""

    @classmethod
    def load(cls, model: Path | str | None = None, *, device: str = "cpu") -> Codec:
        return _load(model, device=device)

    @classmethod
    def load_for(cls, model_id: bytes, *, device: str = "cpu") -> Codec:
        return _load_for(model_id, device=device)


class _Stopped(Exception):
    """SIGTERM came. No BaseException, see :mod:`vqcodec.cli.dispatch`."""


def serve(connection: Connection, work: Callable[..., Any], options: Mapping[str, Any]) -> None:
    """Do what comes through ``connection`` until it closes or SIGTERM comes."""
    try:
        _listen()
        give_back_what_is_freed()
        compute_in_one_thread()
        connection.send(None)
        while True:
            task = connection.recv()
            connection.send(_carry_out(work, task, options, connection.send))
    except (_Stopped, EOFError, BrokenPipeError):
        pass


def _listen() -> None:
    """Leave Ctrl-C to the process that started this one, and stop when that says so."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise _Stopped

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, stop)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})


def _carry_out(
    work: Callable[..., Any],
    task: Task,
    options: Mapping[str, Any],
    tell: Callable[[int], None],
) -> tuple[Any, VqcodecError | None, float]:
    """(what ``work`` returned or None, why it failed or None, frames a second)."""
    meter = _Meter(tell)
    try:
        make_folder(task.target.parent)
        result = work(task.source, task.target, codecs=KeptCodec, progress=meter, **options)
    except VqcodecError as error:
        about = (task.source, task.target.parent)
        if not isinstance(error, CheckpointError) and all(str(p) not in str(error) for p in about):
            error = type(error)(f"{task.source}: {error}")
        return None, error, 0.0
    except _Stopped:
        raise
    except Exception as error:
        # torch says "memory" in a RuntimeError.
        full = isinstance(error, MemoryError | RuntimeError) and "memory" in repr(error).lower()
        reason = "out of memory" if full else f"internal error: {error!r}"
        return None, CrashError(f"{task.source}: {reason}"), 0.0
    return result, None, meter.speed


class _Meter:
    """Takes (frames done, in all) and tells how many came since the last time."""

    def __init__(self, tell: Callable[[int], None]) -> None:
        self._tell = tell
        self._done = 0
        self._began: float | None = None

    def __call__(self, done: int, _total: int | None) -> None:
        if self._began is None:  # the model is loaded, the work begins
            self._began = time.monotonic()
        self._tell(done - self._done)
        self._done = done

    @property
    def speed(self) -> float:
        if self._began is None:
            return 0.0
        return self._done / max(1e-9, time.monotonic() - self._began)
