"""``vqcodec decode``."""

from __future__ import annotations

import json
import sys
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from vqcodec.cli import options
from vqcodec.cli.progress import FrameProgress, warn
from vqcodec.memory import DEFAULT_MEMORY, give_back_what_is_freed

if TYPE_CHECKING:
    from vqcodec.transcode import Decoded


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
    help="Scale to this size, in even numbers for 4:2:0; display: to square pixels at the coded "
    "height.",
)
@click.option("--start", type=options.Seconds(), default="0", help="Begin here.")
@click.option("--duration", type=options.PositiveSeconds(), help="Decode only this much.")
@click.option(
    "--conceal", is_flag=True, help="Go on after damage; the last good frame fills what is lost."
)
@click.option("--no-audio", is_flag=True, help="Leave out the audio.")
@click.option(
    "--memory",
    type=click.IntRange(1, options.MOST),
    default=DEFAULT_MEMORY,
    show_default=True,
    metavar="MIB",
    help="Refuse a file whose pictures take more than this to decode, the program included.",
)
@options.jobs
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
    no_audio: bool,
    memory: int,
    jobs: int | None,
    model: str | None,
    device: str,
    force: bool,
    quiet: bool,
    as_json: bool,
) -> int:
    """Decode a .vqv file to a video, or a folder of them.

    IN.vqv is a path, or - for standard input. OUT is a path whose suffix chooses the format, a
    folder for PNG pictures, or - for raw YUV4MPEG2 on standard output.

    If IN is a folder, so is OUT: every .vqv file below IN becomes a video, MP4 unless --format is
    given, in the same place below OUT. What is there already is skipped. The exit code is that of
    the files that failed, or 12 if they failed in several ways.

    Damage ends with an error and without OUT. With --conceal OUT is written, each loss is named
    with its time, and the exit code is 5 (7 if the file is only truncated); nothing is written if
    no chunk of it can be decoded.
    """
    from vqcodec.cli.folder import Verb, concerns_folders, do_folder
    from vqcodec.files import name_of
    from vqcodec.folder import plan
    from vqcodec.transcode import decode_file
    from vqcodec.video.formats import choose

    give_back_what_is_freed()
    settings: dict[str, Any] = {
        "model": model,
        "device": device,
        "start": start,
        "duration": duration,
        "format": format_name,
        "video_codec": codec,
        "crf": crf,
        "size": size,
        "conceal": conceal,
        "audio": not no_audio,
        "memory": memory,
    }
    if concerns_folders(source, target, jobs):
        settings["format"] = format_name or "mp4"
        becomes = "".join(choose(settings["format"], codec, crf)[0].suffixes[:1])
        return do_folder(
            Verb("decode", decode_file, _record, _warnings, lambda result: result.problem),
            plan(Path(source), Path(target), suffixes={".vqv"}, becomes=becomes),
            settings,
            jobs=jobs,
            force=force,
            quiet=quiet,
            as_json=as_json,
        )
    coded = options.source_of(source)
    output = options.target_of(target, source=source, as_json=as_json)
    with FrameProgress("decode", quiet=quiet) as progress:
        result = decode_file(coded, output, **settings, force=force, progress=progress)
    for line in _warnings(result):
        warn(f"{name_of(coded)}: {line}", quiet=quiet)
    if as_json:
        print(json.dumps(_record(source, target, result, progress.speed)))
    elif not quiet:
        print(f"{result.frames} frames, {progress.speed:.0f} fps", file=sys.stderr)
    return 0 if result.problem is None else result.problem.exit_code


def _warnings(result: Decoded) -> list[str]:
    lines = result.losses.lines() or [str(result.problem)] * (result.problem is not None)
    return lines if result.audio_problem is None else [*lines, result.audio_problem]


def _record(source: str, target: str, result: Decoded, speed: float) -> dict[str, Any]:
    """What --json tells of a file."""
    from vqcodec.errors import TruncatedError

    return {
        "source": source,
        "target": target,
        "frames": result.frames,
        "seconds": float(result.frames / result.header.rate),
        "bytes": Path(target).stat().st_size if Path(target).is_file() else None,
        "model": result.header.model_id.hex(),
        "fps": speed,
        "audio": None if result.audio is None else result.audio.name,
        "truncated": isinstance(result.problem, TruncatedError) or result.losses.cut,
        "lost_frames": result.losses.frames,
        "lost": result.losses.as_json(),
    }
