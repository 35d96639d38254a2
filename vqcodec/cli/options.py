"""Options and argument types that verbs share."""

from __future__ import annotations

import contextlib
import io
import math
import os
import re
import stat
import sys
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, TextIO, cast

import click

from vqcodec.limits import MAX_EFFORT, MAX_LEVELS

STEP = 8  # coded sides are multiples of it
MAX_SECONDS = 10**9  # more than any video lasts
MOST = 10**9  # of any other number

QUALITY = click.IntRange(1, MAX_LEVELS)
EFFORT = click.IntRange(0, MAX_EFFORT)

quiet = click.option("-q", "--quiet", is_flag=True, help="No progress, no summary, no warnings.")
force = click.option("-f", "--force", is_flag=True, help="Overwrite the output.")
as_json = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
device = click.option(
    "--device", default="cpu", show_default=True, metavar="NAME", help="cpu, cuda, cuda:1, ..."
)
jobs = click.option(
    "--jobs", type=click.IntRange(1), help="Worker processes for a folder; as many as cores."
)
model = click.option(
    "--model", metavar="NAME|FILE", help="A shipped model by name, or a checkpoint."
)


class Size(click.ParamType):  # type: ignore[type-arg]
    """``N`` or ``WxH``, in pixels."""

    name = "size"

    def __init__(self, *, word: str | None = None, step: int = 1) -> None:
        self.word, self.step = word, step

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int] | str:
        if isinstance(value, tuple) or value == self.word:
            return value  # type: ignore[no-any-return]
        parts = str(value).lower().split("x")
        if len(parts) == 1:
            parts *= 2
        try:
            width, height = map(int, parts)
        except ValueError:
            self.fail(f"{value!r} is not N or WxH", param, ctx)
        if (
            not (0 < width <= 4096 and 0 < height <= 4096)
            or width % self.step
            or height % self.step
        ):
            rule = f"multiples of {self.step} up to 4096" if self.step > 1 else "from 1 to 4096"
            self.fail(f"{value!r}: sides must be {rule}", param, ctx)
        return width, height


class Ratio(click.ParamType):  # type: ignore[type-arg]
    """A positive number such as ``16``, ``29.97`` or ``30000/1001``."""

    name = "number"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Fraction:
        try:
            ratio = Fraction(value)
        except (ValueError, ZeroDivisionError):
            self.fail(f"{value!r} is not a number or a fraction", param, ctx)
        if not Fraction(1, 1000) <= ratio <= 1000:
            self.fail(f"{value!r} is not from 1/1000 to 1000", param, ctx)
        return ratio


class Seconds(click.ParamType):  # type: ignore[type-arg]
    """Seconds, or ``[HH:]MM:SS[.sss]``; never negative."""

    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Fraction:
        try:
            parts = [Fraction(part) for part in str(value).split(":")]
        except (ValueError, ZeroDivisionError):
            self.fail(f"{value!r} is not SECONDS or HH:MM:SS", param, ctx)
        if len(parts) > 3 or any(part < 0 for part in parts):
            self.fail(f"{value!r} is not SECONDS or HH:MM:SS", param, ctx)
        seconds = Fraction(0)
        for part in parts:
            seconds = 60 * seconds + part
        if seconds > MAX_SECONDS:
            self.fail(f"{value!r} is longer than any video", param, ctx)
        return seconds


class PositiveSeconds(Seconds):
    """As :class:`Seconds`, but not zero."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Fraction:
        seconds = super().convert(value, param, ctx)
        if not seconds:
            self.fail("must not be zero", param, ctx)
        return seconds


class Number(click.FloatRange):
    """A number up to ``most`` that is not negative, or positive if ``min_open``."""

    def __init__(self, *, min_open: bool = False, most: float = MOST) -> None:
        super().__init__(0, most, min_open=min_open)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        number = float(super().convert(value, param, ctx))
        if math.isnan(number):  # which no comparison finds
            self.fail(f"{value!r} is not a number", param, ctx)
        return number


class Bytes(click.ParamType):  # type: ignore[type-arg]
    """A number of bytes, such as ``200000``, ``200k`` or ``0.2M``."""

    name = "bytes"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([kM]?)", str(value), re.ASCII)
        if match is None:
            self.fail(f"{value!r} is not BYTES, such as 200000, 200k or 0.2M", param, ctx)
        number = round(Fraction(match[1]) * {"": 1, "k": 10**3, "M": 10**6}[match[2]])
        if not 0 < number < 1 << 63:
            self.fail(f"{value!r} is no size of a file", param, ctx)
        return number


def exclude(given: Mapping[str, object]) -> None:
    """Check that at most one of the options, by name, is given.

    Raises:
        click.UsageError: there are more.
    """
    names = [name for name, value in given.items() if value is not None]
    if len(names) > 1:
        raise click.UsageError(f"{' and '.join(names)} exclude each other")


def source_of(argument: str) -> str | BinaryIO:
    """The input that an argument names; ``-`` is standard input.

    Raises:
        click.UsageError: standard input is closed.
    """
    if argument != "-":
        return argument
    if sys.stdin is None:
        raise click.UsageError("standard input is closed")
    return sys.stdin.buffer


def target_of(argument: str, *, source: str, as_json: bool) -> str | BinaryIO:
    """The output that an argument names; ``-`` is standard output.

    Raises:
        click.UsageError: it is ``source`` itself, or standard output is not to be had.
    """
    ours, theirs = _status(argument, sys.stdout), _status(source, sys.stdin)
    if ours and theirs and os.path.samestat(ours, theirs) and not _is_stream(ours):
        name = "standard output" if argument == "-" else argument
        raise click.UsageError(f"{name}: is the input itself")
    if argument != "-":
        return argument
    if as_json:
        raise click.UsageError("--json and - both want standard output")
    if sys.stdout is None or sys.stdout.isatty():
        raise click.UsageError("standard output is closed or a terminal: no place for binary data")
    if _appends(sys.stdout):
        return cast("BinaryIO", _Appending(sys.stdout.buffer))
    return sys.stdout.buffer


def _status(argument: str, standard: TextIO | None) -> os.stat_result | None:
    """Of the file that an argument names; None if there is none."""
    with contextlib.suppress(OSError, ValueError):
        if argument != "-":
            return Path(argument).stat()
        if standard is not None:
            return os.fstat(standard.fileno())
    return None


def _is_stream(status: os.stat_result) -> bool:
    return not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode))


def _appends(standard: TextIO) -> bool:
    if sys.platform != "win32":
        import fcntl

        with contextlib.suppress(OSError, ValueError):
            return bool(fcntl.fcntl(standard.fileno(), fcntl.F_GETFL) & os.O_APPEND)
    return False


class _Appending(io.RawIOBase):
    """Standard output after ``>>``: it can seek, but all is written at its end, as in a pipe."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.name = file.name

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()
