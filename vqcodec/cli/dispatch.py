"""From arguments to a verb, and from exceptions to one line and an exit code."""

from __future__ import annotations

import errno
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import FrameType

import click

from vqcodec.cli import COMMANDS, overview
from vqcodec.errors import VqcodecError

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
BROKEN_PIPE = 141  # as a shell reports a process that SIGPIPE ended


class _Verbs(click.Group):
    """A group whose commands are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = getattr(import_module(f"vqcodec.cli.{cmd_name}"), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def get_help(self, ctx: click.Context) -> str:
        return overview().rstrip("\n")


vqcodec = _Verbs("vqcodec", context_settings=CONTEXT)


class _Stopped(Exception):
    """A signal came. No BaseException: PyAV would lose that while it reads from or writes to us."""

    def __init__(self, number: int) -> None:
        super().__init__("interrupted" if number == signal.SIGINT else "terminated")
        self.exit_code = 128 + number


def run(arguments: list[str]) -> int:
    """Carry out a command line and return its exit code; errors become one line on stderr."""
    try:
        # Not main(), which has its own idea of signals and closed pipes.
        with _stoppable(), vqcodec.make_context("vqcodec", list(arguments)) as context:
            result = vqcodec.invoke(context)
        if sys.stdout is not None:
            sys.stdout.flush()
    except (VqcodecError, _Stopped) as error:
        return _fail(str(error), error.exit_code)
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        return _fail(error.format_message() + _hint(error), error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        return _fail("interrupted", 128 + signal.SIGINT)
    except BrokenPipeError:
        return BROKEN_PIPE
    except OSError as error:
        # Files have names, and so what is full without one is standard output.
        where = error.filename or ("standard output" if error.errno == errno.ENOSPC else "system")
        return _fail(f"{where}: {error.strerror or error}", 10)
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "memory" not in str(error):
            raise
        return _fail("out of memory", 1)  # torch says so in a RuntimeError
    return result if isinstance(result, int) else 0


@contextmanager
def _stoppable() -> Iterator[None]:
    """Let SIGINT and SIGTERM end the work with an exception, so that it cleans up."""

    def stop(number: int, _frame: FrameType | None) -> None:
        raise _Stopped(number)

    numbers = [
        number
        for number in (signal.SIGINT, signal.SIGTERM)
        if signal.getsignal(number) != signal.SIG_IGN
    ]
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _hint(error: click.ClickException) -> str:
    context = error.ctx if isinstance(error, click.UsageError) else None
    return "" if context is None else f" (see {context.command_path} --help)"


def _fail(message: str, code: int) -> int:
    line = " ".join(message.splitlines())
    print(f"vqcodec: {line}", file=sys.stderr)
    return code
