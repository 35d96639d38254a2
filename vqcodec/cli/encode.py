"""``vqcodec encode``."""

from __future__ import annotations

import json
import sys
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vqcodec.cli import options
from vqcodec.cli.progress import FrameProgress, warn
from vqcodec.limits import DEFAULT_EFFORT
from vqcodec.memory import DEFAULT_MEMORY

if TYPE_CHECKING:
    from vqcodec.transcode import Encoded


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
    "--quality",
    type=options.QUALITY,
    help="How many levels of the model are in the file.  [default: the paper's, top and bottom]",
)
@click.option(
    "--effort",
    type=options.EFFORT,
    default=DEFAULT_EFFORT,
    show_default=True,
    help="0 takes the nearest codes; up to 9, the encoder searches longer for better ones.",
)
@click.option(
    "--trade",
    type=options.Number(),
    help="What the search is after: one per cent of the bits is worth this many per cent of the "
    "distortion.  [default: 1.0]",
)
@click.option(
    "--bitrate",
    type=options.Number(min_open=True),
    metavar="KBPS",
    help="Kilobits (1000) a second of the whole file, audio included: chooses --trade and, unless "
    "given, --quality; effort 2 or more. Reads the source twice.",
)
@click.option(
    "--target-size",
    type=options.Bytes(),
    metavar="BYTES",
    help="The same by the size of the file: 200000, 200k or 0.2M.",
)
@click.option(
    "--packer",
    type=click.Choice(["auto", "raw", "deflate", "zstd", "range"]),
    default="auto",
    show_default=True,
    help="How indices become bytes; auto keeps the smallest for each chunk.",
)
@click.option(
    "--independent", is_flag=True, help="Let no chunk need the one before it; costs bytes."
)
@click.option(
    "--audio",
    type=click.Choice(["opus", "copy", "none"]),
    default="opus",
    show_default=True,
    help="Opus at 16 kbit/s, mono; the source's own packets; or none.",
)
@options.jobs
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
    quality: int | None,
    effort: int,
    trade: float | None,
    bitrate: float | None,
    target_size: int | None,
    packer: str,
    independent: bool,
    audio: str,
    jobs: int | None,
    model: str | None,
    device: str,
    force: bool,
    quiet: bool,
    as_json: bool,
) -> int:
    """Encode a video to a .vqv file, or a folder of them.

    IN is any video that FFmpeg reads, a pattern of numbered pictures (frames/%04d.png), or - for
    standard input. OUT.vqv is a path, or - for standard output.

    If IN is a folder, so is OUT: every video below IN becomes a .vqv file in the same place below
    OUT. What is there already is skipped, so the same command goes on after an interruption. The
    exit code is that of the files that failed, or 12 if they failed in several ways.
    """
    from vqcodec.cli.folder import Verb, concerns_folders, do_folder
    from vqcodec.files import name_of
    from vqcodec.folder import plan
    from vqcodec.transcode import encode_file
    from vqcodec.video import VIDEO_SUFFIXES

    options.exclude({"--bitrate": bitrate, "--target-size": target_size, "--trade": trade})
    settings: dict[str, Any] = {
        "model": model,
        "device": device,
        "width": size[0],
        "height": size[1],
        "rate": fps,
        "fit": fit,
        "start": start,
        "duration": duration,
        "quality": quality,
        "effort": effort,
        "trade": 1.0 if trade is None else trade,
        "bitrate": bitrate,
        "target_size": target_size,
        "packer": packer,
        "independent": independent,
        "audio": audio,
    }
    if concerns_folders(source, target, jobs):
        return do_folder(
            Verb("encode", encode_file, _record, _warnings),
            plan(Path(source), Path(target), suffixes=VIDEO_SUFFIXES, becomes=".vqv"),
            settings,
            jobs=jobs,
            force=force,
            quiet=quiet,
            as_json=as_json,
        )

    video = options.source_of(source)
    output = options.target_of(target, source=source, as_json=as_json)
    with FrameProgress("encode", quiet=quiet) as progress:
        result = encode_file(video, output, **settings, force=force, progress=progress)
    for line in _warnings(result):
        warn(f"{name_of(video)}: {line}", quiet=quiet)
    header = result.header
    if as_json:
        print(json.dumps(_record(source, target, result, progress.speed)))
    elif not quiet:
        rates = f"{result.bpp:.4f} bpp, {result.kbps:.2f} kbit/s"
        if result.audio is not None:
            rates += f" without audio, {result.audio.name} audio {result.audio_kbps:.2f} kbit/s"
        print(
            f"{header.frames} frames of {header.width}x{header.height}, {result.nbytes} bytes, "
            f"{rates}, {progress.speed:.0f} fps",
            file=sys.stderr,
        )
    return 0


def _warnings(result: Encoded) -> list[str]:
    missed = None if result.control is None else result.control.problem
    large = None
    if result.decode_memory > DEFAULT_MEMORY:
        large = f"decoding needs --memory {result.decode_memory}: its pictures are large"
    problems = (result.damage, result.audio_problem, missed, large)
    return [str(problem) for problem in problems if problem]


def _record(source: str, target: str, result: Encoded, speed: float) -> dict[str, Any]:
    """What --json tells of a file."""
    header = result.header
    return {
        "source": source,
        "target": target,
        "frames": header.frames,
        "seconds": float(header.frames / header.rate),
        "width": header.width,
        "height": header.height,
        "rate": str(header.rate),
        "aspect": str(header.aspect),
        "quality": len(header.levels),
        "effort": result.effort,
        "chunks": result.chunks,
        "bytes": result.nbytes,
        "target_bytes": None if result.control is None else result.control.target,
        "target_problem": None if result.control is None else result.control.problem,
        "source_bytes": result.source_bytes,
        "bpp": result.bpp,
        "kbps": result.kbps,
        "rates_include_audio": False,
        "audio": None if result.audio is None else result.audio.name,
        "audio_bytes": result.audio_bytes,
        "audio_kbps": result.audio_kbps,
        "model": header.model_id.hex(),
        "fps": speed,
        "damaged": result.damage.count,
    }
