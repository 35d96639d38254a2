"""``vqcodec repair``."""

from __future__ import annotations

import json
import sys

import click

from vqcodec.cli import options
from vqcodec.cli.progress import warn


@click.command()
@click.argument("source", metavar="IN.vqv")
@click.argument("target", metavar="OUT.vqv")
@options.force
@options.quiet
@options.as_json
def repair(source: str, target: str, force: bool, quiet: bool, as_json: bool) -> None:
    """Make a sound file of a truncated or damaged .vqv file.

    Keeps every undamaged chunk as it is and writes index, frame count and end anew. Lost frames are
    left out, and named with their time in IN; to keep the timeline, use decode --conceal on IN.
    Needs no model. Exits with 0 if anything could be saved.
    """
    from vqcodec.container.repair import repair_file
    from vqcodec.files import name_of

    damaged = options.source_of(source)
    output = options.target_of(target, source=source, as_json=as_json)
    result = repair_file(damaged, output, force=force)
    for line in result.losses.lines():
        warn(f"{name_of(damaged)}: {line}", quiet=quiet)
    if as_json:
        summary = {
            "source": source,
            "target": target,
            "chunks": result.chunks,
            "frames": result.frames,
            "bytes": result.nbytes,
            "lost_frames": result.losses.frames,
            "lost": result.losses.as_json(),
        }
        print(json.dumps(summary))
    elif not quiet:
        print(f"{result.frames} frames in {result.chunks} chunks saved", file=sys.stderr)
