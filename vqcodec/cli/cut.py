"""``vqcodec cut``."""

from __future__ import annotations

import json
import sys

import click

from vqcodec.cli import options


@click.command()
@click.argument("source", metavar="IN.vqv")
@click.argument("target", metavar="OUT.vqv")
@click.option(
    "--quality",
    type=options.QUALITY,
    required=True,
    help="How many levels to keep, from the coarsest on.",
)
@options.force
@options.quiet
@options.as_json
def cut(source: str, target: str, quality: int, force: bool, quiet: bool, as_json: bool) -> None:
    """Make a smaller file of lower quality of a .vqv file, at once.

    Drops the finer levels of every chunk, and copies the audio. Runs no network and needs no model.
    IN.vqv may be - for standard input, OUT.vqv - for standard output. A damaged or truncated file
    is refused: repair it first.
    """
    from vqcodec.container.cut import cut_file

    coded = options.source_of(source)
    output = options.target_of(target, source=source, as_json=as_json)
    result = cut_file(coded, output, quality=quality, force=force)
    if as_json:
        summary = {
            "source": source,
            "target": target,
            "quality": quality,
            "source_quality": result.source_levels,
            "chunks": result.chunks,
            "frames": result.header.frames,
            "bytes": result.nbytes,
        }
        print(json.dumps(summary))
    elif not quiet:
        print(
            f"{quality} of {result.source_levels} levels kept: {result.header.frames} frames "
            f"in {result.nbytes} bytes",
            file=sys.stderr,
        )
