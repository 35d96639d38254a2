"""``vqcodec bench``: measure rate and distortion beside x264, x265 and SVT-AV1."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from vqcodec.bench.schema import Bench

_DATASETS = ("folder", "ucf101", "authors")
_FILE = click.Path(dir_okay=False, path_type=Path)
_FOLDER = click.Path(file_okay=False, path_type=Path)


@click.command()
@click.option("--dataset", type=click.Choice(_DATASETS), default="folder", show_default=True)
@click.option("--root", type=_FOLDER, required=True, help="The data set's folder.")
@click.option("--archive", type=_FILE, help="Unpack this .rar, .zip or .tar into ROOT first.")
@click.option(
    "--codec",
    "codecs",
    multiple=True,
    metavar="NAME",
    help="vqcodec[@EFFORT][:MODEL] (a shipped name or a path), x264, x264-medium, x264-444, x265, "
    "x265-444 or svtav1; may be repeated. Default: all.",
)
@click.option("--mode", type=click.Choice(("clips", "videos")), default="clips", show_default=True)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="A spread sample of N.")
@click.option(
    "--split",
    type=click.Choice(("train", "val", "test", "all")),
    default="test",
    show_default=True,
    help="Of UCF101.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of UCF101's split.")
@click.option("--jobs", type=click.IntRange(min=1), default=1, show_default=True)
@click.option(
    "--cache",
    type=_FOLDER,
    default=Path("cache/bench"),
    show_default=True,
    help="Decoded clips and finished results; an interrupted run goes on from there.",
)
@click.option("--fresh", is_flag=True, help="Measure again what the cache has.")
@click.option("--prepare", is_flag=True, help="Only decode the clips into the cache.")
@click.option("--json", "json_path", type=_FILE, help="Write all results.")
@click.option("--csv", "csv_path", type=_FILE, help="Write results of single clips.")
@click.option("--report", type=_FOLDER, help="Write one HTML page, with frames, into this folder.")
@click.option("--plots", type=_FOLDER, help="Write the plots as PNG, without frames.")
@click.option("--markdown", type=_FILE, help="Write a page such as docs/results.md.")
def bench(
    root: Path,
    archive: Path | None,
    codecs: tuple[str, ...],
    cache: Path,
    prepare: bool,
    json_path: Path | None,
    csv_path: Path | None,
    report: Path | None,
    plots: Path | None,
    markdown: Path | None,
    **choices: Any,
) -> None:
    """Measure rate, quality and speed by the paper's protocol.

    Codes each clip with this codec and with x264, x265 and SVT-AV1, each over its own ladder of
    settings, and compares the curves. Results of single clips are cached.
    """
    from vqcodec.bench import archive as archives
    from vqcodec.bench import codecs as available
    from vqcodec.bench import plots as drawing
    from vqcodec.bench import render, results, schema, session
    from vqcodec.bench import report as reports
    from vqcodec.bench.runner import Folders
    from vqcodec.bench.strips import strips, worst_clips

    if archive is not None:
        archives.unpack(archive, root)
    folders = Folders(cache)
    names = codecs or available.available_names()
    try:
        options = session.Options(root=root, folders=folders, codecs=names, **choices)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    refs, skipped = session.find_clips(options, _progress_over_videos)
    for item in skipped:
        click.echo(f"skipped: {item.id}: {item.reason}", err=True)
    click.echo(f"{len(refs)} {options.mode}, {len(skipped)} files skipped", err=True)
    if prepare:
        return
    with click.progressbar(length=len(refs) * len(names), file=sys.stderr) as bar:
        try:
            found = session.measure(options, refs, skipped, lambda codec, clips: bar.update(clips))
        except available.UnknownCodecError as error:
            raise click.UsageError(str(error)) from error
    _print(found)
    if json_path:
        schema.save(found, json_path)
    if csv_path:
        render.write_csv(found, csv_path)
    if report:
        chosen, worst = strips(found, refs, folders), worst_clips(found, refs, folders)
        page = reports.write_report(found, report, chosen, worst)
        click.echo(f"report: {page}", err=True)
    if plots:
        if reason := drawing.unavailable():
            click.echo(reason, err=True)
        else:
            reports.write_plots(drawing.rate_distortion_plots(found), plots)
    if markdown:
        results.write_page([found], markdown)


def _print(found: Bench) -> None:
    from rich.console import Console

    from vqcodec.bench import render, tables

    console = Console()
    shown = [tables.summary_table(found)]
    if found.comparisons:
        shown += [tables.comparison_table(found, size) for size in ("stream", "file")]
    if found.dataset == "authors":
        shown.append(tables.same_clip_table(found))
    for table in shown:
        console.print(render.to_rich(table))
    for line in tables.verdicts(found):
        console.print(line, highlight=False)
    for codec in found.codecs:
        if codec.missing:
            click.echo(f"left out: {codec.name}: {codec.missing}", err=True)
    for note in found.notes:
        click.echo(note, err=True)
    for item in found.skipped:
        click.echo(f"not measured: {item.id}: {item.reason}", err=True)


def _progress_over_videos(videos: Iterable[Any]) -> Iterator[Any]:
    with click.progressbar(list(videos), label="decoding", file=sys.stderr) as bar:
        yield from bar
