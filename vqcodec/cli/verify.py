"""``vqcodec verify``."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack

import click

from vqcodec.cli import options
from vqcodec.errors import SourceError, VqcodecError


@click.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@options.quiet
@options.as_json
def verify(files: tuple[str, ...], quiet: bool, as_json: bool) -> int:
    """Check every byte of .vqv files without decoding pictures.

    Header, all CRCs, that every index is in its codebook, index, frame count. Indices that the
    range packer coded are looked at if the model is shipped here. Exits with the code of the first
    problem.
    """
    from vqcodec.container import verify as check
    from vqcodec.container.file import open_binary
    from vqcodec.files import name_of
    from vqcodec.indices import find_prior

    code = 0
    for file in files:
        problems: list[VqcodecError] = []
        chunks = frames = unread = 0
        source = options.source_of(file)
        with ExitStack() as stack:
            try:
                if isinstance(source, str):
                    report = check(stack.enter_context(open_binary(source)), find_prior)
                else:
                    report = check(source, find_prior)
                chunks, frames, unread = report.chunks, report.frames, report.unread
                problems.extend(report.problems)
            except SourceError as error:
                problems.append(error)
        if problems and not code:
            code = problems[0].exit_code
        if as_json:
            found = [str(problem) for problem in problems]
            told = {"file": file, "chunks": chunks, "frames": frames, "unread_chunks": unread}
            print(json.dumps({**told, "problems": found}))
            continue
        for problem in problems:
            print(f"vqcodec: {name_of(source)}: {problem}", file=sys.stderr)
        if not problems and not quiet:
            but = f"; the model is not here, so the indices of {unread} were not looked at"
            print(f"{name_of(source)}: ok, {frames} frames in {chunks} chunks{but * bool(unread)}")
    return code
