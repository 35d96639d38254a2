"""``vqcodec info``."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import click

from vqcodec.cli import options
from vqcodec.cli.progress import warn


@click.command()
@click.argument("file", metavar="FILE")
@options.as_json
@click.option("--chunks", is_flag=True, help="List every chunk.")
def info(file: str, as_json: bool, chunks: bool) -> int:
    """Show what a .vqv file holds: header, chunks, rate, model.

    Reads the heads of the chunks only, unless these do not lead to the end: then the chunks before
    that are shown, and what is damaged in all of the file is named with its time. Damage inside of
    chunks shows in verify.
    """
    from vqcodec.container import Losses, Lost, Salvage
    from vqcodec.container.file import reading
    from vqcodec.files import name_of
    from vqcodec.model.registry import shipped

    source = options.source_of(file)
    with reading(source) as reader:
        header, table, losses = reader.header, reader.table, Losses()
        if table.problem is not None and reader.source.size is not None:
            for piece in Salvage(reader):
                if isinstance(piece, Lost):
                    losses.add(piece)
    entries, nbytes = table.entries, table.nbytes
    pixels = table.frames * header.width * header.height
    seconds = float(table.frames / header.rate)
    model_id = header.model_id.hex()
    name = next((m.name for m in shipped() if m.model_id.startswith(model_id)), None)
    summary: dict[str, Any] = {
        "file": file,
        "bytes": nbytes,
        "width": header.width,
        "height": header.height,
        "aspect": str(header.aspect),
        "rate": str(header.rate),
        "frames": table.frames,
        "seconds": seconds,
        "bpp": 8 * nbytes / pixels if pixels else None,
        "kbps": 8 * nbytes / seconds / 1000 if seconds else None,
        "model": model_id,
        "model_name": name,
        "levels": [
            {"stride_t": level.stride_t, "stride": level.stride, "entries": level.entries}
            for level in header.levels
        ],
        "packers": dict(Counter(entry.packer or f"tag {entry.tag}" for entry in entries)),
        "indexed": table.indexed,
        "problem": None if table.problem is None else str(table.problem),
        "lost": losses.as_json(),
        "chunks": [
            {
                "start": entry.start,
                "frames": entry.frames,
                "packer": entry.packer,
                "offset": entry.offset,
                "bytes": entry.nbytes,
            }
            for entry in entries
        ],
    }
    if as_json:
        print(json.dumps(summary))
    else:
        _print(summary, chunks)
        if table.problem is not None:
            for line in losses.lines() or [str(table.problem)]:
                warn(f"{name_of(source)}: {line}")
    return 0 if table.problem is None else table.problem.exit_code


def _print(summary: dict[str, Any], chunks: bool) -> None:
    levels = ", ".join(
        f"{x['entries']} at {x['stride_t']}x{x['stride']}x{x['stride']}" for x in summary["levels"]
    )
    packers = ", ".join(f"{count} {name}" for name, count in summary["packers"].items())
    size = f"{summary['bytes']} bytes"
    if summary["frames"]:
        size += f", {summary['bpp']:.4f} bpp, {summary['kbps']:.2f} kbit/s"
    lines = {
        "file": summary["file"],
        "size": size,
        "pictures": f"{summary['width']}x{summary['height']}, shown at {summary['aspect']}",
        "time": f"{summary['frames']} frames at {summary['rate']} fps, {summary['seconds']:.3f} s",
        "model": f"{summary['model']} ({summary['model_name'] or 'not shipped here'})",
        "levels": levels,
        "chunks": f"{len(summary['chunks'])} ({packers}), "
        + ("indexed" if summary["indexed"] else "no index"),
    }
    for name, text in lines.items():
        print(f"{name:9} {text}")
    if chunks:
        for number, chunk in enumerate(summary["chunks"]):
            print(
                f"{number:6}  frames {chunk['start']}-{chunk['start'] + chunk['frames'] - 1}, "
                f"{chunk['bytes']} bytes at {chunk['offset']}, {chunk['packer']}"
            )
