"""Progress bars with frames a second and time left, on a terminal; nothing when piped."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress


class FrameProgress:
    """Shows how far work on frames has come; called with (done, total or None).

    Args:
        label: what is being done.
        quiet: show nothing.

    Attributes:
        speed: frames a second from the first call to the latest.
    """

    def __init__(self, label: str, *, quiet: bool) -> None:
        self._label = label
        self._shown = not quiet and sys.stderr.isatty()
        self._bar: Progress | None = None
        self._began: float | None = None
        self.speed = 0.0

    def __enter__(self) -> FrameProgress:
        if self._shown:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.completed:.0f} frames"),
                TextColumn("{task.fields[speed]:.0f} fps"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task(self._label, total=None, speed=0.0)
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, done: int, total: int | None) -> None:
        now = time.monotonic()
        if self._began is None:  # the model is loaded, the work begins
            self._began = now
        self.speed = done / max(1e-9, now - self._began)
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=total, speed=self.speed)


class FilesProgress:
    """Shows how many of ``total`` files are done, and the speed of all workers together."""

    def __init__(self, label: str, total: int, *, quiet: bool) -> None:
        self._label, self._total = label, total
        self._shown = not quiet and sys.stderr.isatty()
        self._bar: Progress | None = None
        self._began: float | None = None

    def __enter__(self) -> FilesProgress:
        if self._shown:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.completed:.0f} of {task.total:.0f} files"),
                TextColumn("{task.fields[speed]:.0f} fps"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task(self._label, total=self._total, speed=0.0)
            self._bar.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def files(self, done: int) -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=done)

    def frames(self, done: int) -> None:
        if self._began is None:  # the first model is loaded
            self._began = time.monotonic()
        if self._bar is not None:
            speed = done / max(1e-9, time.monotonic() - self._began)
            self._bar.update(self._task, speed=speed)


def warn(message: str, *, quiet: bool = False) -> None:
    """One line on stderr that does not end the work."""
    if not quiet:
        print(f"vqcodec: warning: {message}", file=sys.stderr)
