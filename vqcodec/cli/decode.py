"""``vqcodec decode``."""

from __future__ import annotations

import json
import sys
from fractions import Fraction
from pathlib import Path
from typing import Literal

import click

from vqcodec.cli import options
from vqcodec.cli.progress import FrameProgress, warn


@click.command()
@click.argument("source", metavar="IN.vqv")
@click.argument("target", metavar="OUT")
@click.option(
    "--format",
    "format_name",
    metavar="NAME",
    help="mp4, mov, mkv, webm, gif, png (a folder) or y4m; by the name of OUT unless given.",
)
@click.option("--codec", metavar="NAME", help="libx264, libx265, libvpx-vp9, libsvtav1, ffv1, ...")
@click.option("--crf", type=float, help="Quality of that codec; lower is better.")
@click.option(
    "--size",
    type=options.Size(word="display"),
    metavar="N|WxH|display",
    help="Scale to this size; display: to square pixels at the coded height.",
)
@click.option("--start", type=options.Seconds(), default="0", help="Begin here.")
@click.option("--duration", type=options.PositiveSeconds(), help="Decode only this much.")
@click.option(
    "--conceal", is_flag=True, help="Go on after damage; the last good frame fills what is lost."
)
@options.model
@options.device
@options.force
@options.quiet
@options.as_json
def decode(
    source: str,
    target: str,
    format_name: str | None,
    codec: str | None,
    crf: float | None,
    size: tuple[int, int] | Literal["display"] | None,
    start: Fraction,
    duration: Fraction | None,
    conceal: bool,
    model: str | None,
    device: str,
    force: bool,
    quiet: bool,
    as_json: bool,
) -> int:
    """Decode a .vqv file to a video.

    IN.vqv is a path, or - for standard input. OUT is a path whose suffix chooses the format, a
    folder for PNG pictures, or - for raw YUV4MPEG2 on standard output.

    Damage ends with an error and without OUT. With --conceal OUT is written, each loss is named
    with its time, and the exit code is 5 (7 if the file is only truncated).
    """
    from vqcodec.errors import TruncatedError
    from vqcodec.files import name_of
    from vqcodec.transcode import decode_file

    coded = options.source_of(source)
    output = options.target_of(target, source=source, as_json=as_json)
    with FrameProgress("decode", quiet=quiet) as progress:
        result = decode_file(
            coded,
            output,
            model=model,
            device=device,
            start=start,
            duration=duration,
            format=format_name,
            video_codec=codec,
            crf=crf,
            size=size,
            conceal=conceal,
            force=force,
            progress=progress,
        )
    for line in result.losses.lines() or [str(result.problem)] * (result.problem is not None):
        warn(f"{name_of(coded)}: {line}", quiet=quiet)
    if as_json:
        nbytes = Path(target).stat().st_size if Path(target).is_file() else None
        summary = {
            "source": source,
            "target": target,
            "frames": result.frames,
            "seconds": float(result.frames / result.header.rate),
            "bytes": nbytes,
            "model": result.header.model_id.hex(),
            "fps": progress.speed,
            "truncated": isinstance(result.problem, TruncatedError) or result.losses.cut,
            "lost_frames": result.losses.frames,
            "lost": result.losses.as_json(),
        }
        print(json.dumps(summary))
    elif not quiet:
        print(f"{result.frames} frames, {progress.speed:.0f} fps", file=sys.stderr)
    return 0 if result.problem is None else result.problem.exit_code
