"""The command line: arguments in, lines out. Nothing in the library imports it.

Each verb lives in a module of its own and is imported only when it runs. The overview that
``vqcodec --help`` prints is made from the table below without importing Click at all: it takes
about as long as starting Python does.
"""

from __future__ import annotations

import os
import sys

from vqcodec import __version__

COMMANDS = {
    "encode": "Encode a video to a .vqv file, or a folder of them.",
    "decode": "Decode a .vqv file to a video, or a folder of them.",
    "info": "Show what a .vqv file holds.",
    "verify": "Check every byte of .vqv files without decoding pictures.",
    "repair": "Make a sound file of a truncated or damaged .vqv file.",
    "cut": "Make a smaller file of lower quality of a .vqv file, at once.",
    "models": "List the models that are shipped.",
    "bench": "Measure rate, distortion and speed beside x264, x265 and SVT-AV1.",
    "train": "Train a model on a folder of videos.",
}

EXIT_CODES = """\
  0 done                            7 truncated (decode writes what is whole)
  1 internal error                  8 encoded with another model
  2 wrong usage                     9 model or device missing
  3 source unreadable              10 output cannot be written
  4 not a .vqv file, or invalid    11 data set missing or empty
  5 damaged: a CRC does not match  12 files of a folder failed in several ways
  6 needs a newer program          13 would take more than --memory allows"""


def overview() -> str:
    """The text of ``vqcodec --help``."""
    verbs = "\n".join(f"  {name:8}{line}" for name, line in COMMANDS.items())
    return f"""\
Usage: vqcodec COMMAND [OPTIONS] ...

A learned codec for small videos.

Commands:
{verbs}

Options:
  --version  Show the version.
  --help     Show this text; vqcodec COMMAND --help tells more.

Exit codes:
{EXIT_CODES}
"""


def main() -> None:
    """Entry point of the ``vqcodec`` command."""
    arguments = sys.argv[1:]
    code = 0
    try:
        if not arguments or arguments in (["--help"], ["-h"]):
            print(overview(), end="")
        elif arguments == ["--version"]:
            print(f"vqcodec {__version__}")
        else:
            from vqcodec.cli.dispatch import run

            code = run(arguments)
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        # Python would complain of it once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = code or 10
    sys.exit(code)
