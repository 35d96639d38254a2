"""``vqcodec encode``."""

from __future__ import annotations

import json
import sys
from fractions import Fraction

import click

from vqcodec.cli import options
from vqcodec.cli.progress import FrameProgress, warn


@click.command()
@click.argument("source", metavar="IN")
@click.argument("target", metavar="OUT.vqv")
@click.option(
    "--size",
    type=options.Size(step=options.STEP),
    default="64",
    show_default=True,
    metavar="N|WxH",
    help="Size of the coded pictures, multiples of 8.",
)
@click.option(
    "--fps", type=options.Ratio(), default="16", show_default=True, help="Coded frames a second."
)
@click.option(
    "--fit",
    type=click.Choice(["stretch", "crop", "pad"]),
    default="stretch",
    show_default=True,
    help="How the picture fills that size. The display aspect is kept in the file.",
)
@click.option("--start", type=options.Seconds(), default="0", help="Skip this much of the source.")
@click.option("--duration", type=options.PositiveSeconds(), help="Encode only this much.")
@click.option(
    "--packer",
    type=click.Choice(["auto", "raw", "deflate", "zstd"]),
    default="auto",
    show_default=True,
    help="How indices become bytes; auto keeps the smallest for each chunk.",
)
@options.model
@options.device
@options.force
@options.quiet
@options.as_json
def encode(
    source: str,
    target: str,
    size: tuple[int, int],
    fps: Fraction,
    fit: str,
    start: Fraction,
    duration: Fraction | None,
    packer: str,
    model: str | None,
    device: str,
    force: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Encode a video to a .vqv file.

    IN is any video that FFmpeg reads, a pattern of numbered pictures (frames/%04d.png), or - for
    standard input. OUT.vqv is a path, or - for standard output.
    """
    from vqcodec.files import name_of
    from vqcodec.transcode import encode_file

    video = options.source_of(source)
    output = options.target_of(target, source=source, as_json=as_json)
    with FrameProgress("encode", quiet=quiet) as progress:
        result = encode_file(
            video,
            output,
            model=model,
            device=device,
            width=size[0],
            height=size[1],
            rate=fps,
            fit=fit,  # type: ignore[arg-type]
            start=start,
            duration=duration,
            packer=packer,
            force=force,
            progress=progress,
        )
    if result.damage:
        warn(f"{name_of(video)}: {result.damage}", quiet=quiet)
    header = result.header
    summary = {
        "source": source,
        "target": target,
        "frames": header.frames,
        "seconds": float(header.frames / header.rate),
        "width": header.width,
        "height": header.height,
        "rate": str(header.rate),
        "aspect": str(header.aspect),
        "chunks": result.chunks,
        "bytes": result.nbytes,
        "source_bytes": result.source_bytes,
        "bpp": result.bpp,
        "kbps": result.kbps,
        "model": header.model_id.hex(),
        "fps": progress.speed,
        "damaged": result.damage.count,
    }
    if as_json:
        print(json.dumps(summary))
    elif not quiet:
        print(
            f"{header.frames} frames of {header.width}x{header.height}, {result.nbytes} bytes, "
            f"{result.bpp:.4f} bpp, {result.kbps:.2f} kbit/s, {progress.speed:.0f} fps",
            file=sys.stderr,
        )
