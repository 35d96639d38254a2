"""Options and argument types that verbs share."""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import click

STEP = 8  # coded sides are multiples of it
MAX_SECONDS = 10**9  # more than any video lasts

quiet = click.option("-q", "--quiet", is_flag=True, help="No progress, no summary, no warnings.")
force = click.option("-f", "--force", is_flag=True, help="Overwrite the output.")
as_json = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
device = click.option(
    "--device", default="cpu", show_default=True, metavar="NAME", help="cpu, cuda, cuda:1, ..."
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
    if argument != "-":
        if Path(argument).exists() and Path(source).exists() and Path(argument).samefile(source):
            raise click.UsageError(f"{argument}: is the input itself")
        return argument
    if as_json:
        raise click.UsageError("--json and - both want standard output")
    if sys.stdout is None or sys.stdout.isatty():
        raise click.UsageError("standard output is closed or a terminal: no place for binary data")
    return sys.stdout.buffer
