"""Many files at once: worker processes that load the model once and then take file after file.

This side hands out the tasks and never imports torch; :mod:`vqcodec.worker` is the other side.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from vqcodec.errors import CheckpointError, CrashError, VqcodecError
from vqcodec.files import remove_leftovers
from vqcodec.folder import Task

Work = Callable[..., Any]  # encode_file or decode_file
SECONDS_TO_STOP = 10


@dataclass(frozen=True)
class Outcome:
    """What became of a task.

    Attributes:
        task: the file.
        result: what the work returned; None if it failed.
        error: why it failed; None if it did not.
        speed: frames a second from the first to the last, on this file alone.
    """

    task: Task
    result: Any
    error: VqcodecError | None
    speed: float


def usable_cores() -> int:
    """How many processor cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def run(
    work: Work,
    tasks: Sequence[Task],
    options: Mapping[str, Any],
    *,
    jobs: int | None = None,
    progress: Callable[[int], None] = lambda _frames: None,
) -> Generator[Outcome, None, None]:
    """Yield the outcome of ``work(source, target, **options)`` for each task as soon as it is done.

    One that fails, or whose worker is killed, does not keep the others from being done. To close
    the generator, or to raise in it (as a signal's handler does), stops the workers; what they were
    at leaves no trace.

    Args:
        work: :func:`vqcodec.encode_file` or :func:`vqcodec.decode_file`.
        tasks: see :func:`vqcodec.folder.plan`; folders are made as needed.
        options: of ``work``, the same for all.
        jobs: worker processes, with one thread for the network each; None: one a usable core.
        progress: called with the number of frames done since the last call.

    Raises:
        CheckpointError: the model cannot be loaded, so no file can be done.
        CrashError: a worker could not even start.
    """
    jobs = jobs or usable_cores()
    waiting = deque(tasks)
    crew: list[_Worker] = []
    try:
        while True:
            left = len(waiting) + sum(worker.task is not None for worker in crew)
            if not left:
                return
            while len(crew) < min(jobs, left):
                crew.append(_Worker(work, options))
            for worker in _speaking(crew):
                try:
                    message = worker.connection.recv()
                except (EOFError, OSError):
                    crew.remove(worker)
                    yield worker.crashed()
                    continue
                if isinstance(message, int):
                    progress(message)
                    continue
                outcome = None if worker.task is None else Outcome(worker.task, *message)
                if outcome is not None and isinstance(outcome.error, CheckpointError):
                    raise outcome.error
                if waiting:
                    worker.take(waiting.popleft())
                else:
                    crew.remove(worker)
                    worker.dismiss()
                if outcome is not None:
                    yield outcome
    finally:
        for worker in crew:
            worker.stop()
        for worker in crew:
            worker.bury()


class _Worker:
    """A worker process, seen from here.

    Attributes:
        connection: it sends None when ready, the number of frames now and then, and at last
            (result, error, speed).
        task: what it is at; None while it starts.
    """

    def __init__(self, work: Work, options: Mapping[str, Any]) -> None:
        context = multiprocessing.get_context("spawn")
        self.task: Task | None = None
        self.connection, other = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(other, work, dict(options)), daemon=True
        )
        with _signals_held():
            self._process.start()
        other.close()

    def take(self, task: Task) -> None:
        self.task = task
        with contextlib.suppress(BrokenPipeError):  # it has died, which is seen next
            self.connection.send(task)

    def dismiss(self) -> None:
        """End it, as there is nothing left to do."""
        self.task = None
        self.stop()
        self.bury()

    def crashed(self) -> Outcome:
        """The outcome of a task whose worker is no more.

        Raises:
            CrashError: there was no task yet.
        """
        self.bury()
        code = self._process.exitcode or 0
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"
        if code == -9:
            how += ", which the system sends when out of memory"
        if self.task is None:
            raise CrashError(f"a worker process {how} before it could begin")
        return Outcome(
            self.task, None, CrashError(f"{self.task.source}: its worker process {how}"), 0.0
        )

    def stop(self) -> None:
        """Tell it to stop: at once if it is idle, else when it has removed what it wrote."""
        if self.task is None:
            self._process.kill()
        else:
            self._process.terminate()

    def bury(self) -> None:
        """Wait until it has ended, which is to be soon, and clean up after it."""
        self._process.join(SECONDS_TO_STOP)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self.connection.close()
        if self.task is not None and self._process.pid is not None:
            remove_leftovers(self.task.target, self._process.pid)


def _speaking(crew: Sequence[_Worker]) -> list[_Worker]:
    """Wait until workers have something to say, or have died."""
    heard = wait([worker.connection for worker in crew])
    return [worker for worker in crew if worker.connection in heard]


def _serve(connection: Connection, work: Work, options: Mapping[str, Any]) -> None:
    from vqcodec.worker import serve

    serve(connection, work, options)


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """Keep a process that is started inside from being stopped by a signal before it is ready.

    It inherits that signals wait, and lets them come once it has handlers. Ctrl-C is sent to all
    processes of a terminal, and would have each of them print a traceback.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # starting it lets signals come again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
