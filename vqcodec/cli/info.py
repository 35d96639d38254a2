"""``vqcodec info``."""

from __future__ import annotations

import dataclasses
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
    from vqcodec.container.audio import find_format
    from vqcodec.container.file import reading
    from vqcodec.errors import FormatError
    from vqcodec.files import name_of
    from vqcodec.model.registry import shipped

    source = options.source_of(file)
    with reading(source) as reader:
        try:
            audio = find_format(reader)
        except FormatError as error:
            audio = None
            warn(f"{name_of(source)}: {error}")
        header, table, losses = reader.header, reader.table, Losses()
        if table.problem is not None and reader.source.size is not None:
            for piece in Salvage(reader):
                if isinstance(piece, Lost):
                    losses.add(piece)
    entries, nbytes = table.entries, table.nbytes
    pixels = table.frames * header.width * header.height
    seconds = float(table.frames / header.rate)
    pictures = nbytes - table.audio_bytes
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
        "bpp": 8 * pictures / pixels if pixels else None,
        "kbps": 8 * pictures / seconds / 1000 if seconds else None,
        "rates_include_audio": False,
        "audio": None
        if audio is None
        else {
            "codec": audio.name,
            "rate": audio.rate,
            "channels": audio.channels,
            "bytes": table.audio_bytes,
            "kbps": 8 * table.audio_bytes / seconds / 1000 if seconds else None,
        },
        "model": model_id,
        "model_name": name,
        "levels": [dataclasses.asdict(level) for level in header.levels],
        "packers": dict(Counter(entry.packer or f"tag {entry.tag}" for entry in entries)),
        "indexed": table.indexed,
        "problem": None if table.problem is None else str(table.problem),
        "lost": losses.as_json(),
        "chunks": [
            {
                "start": entry.start,
                "frames": entry.frames,
                "packer": entry.packer,
                "memory": entry.has_memory,
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
    grids = Counter(
        "details"
        if x["details"]
        else f"{x['entries']} at {x['stride_t']}x{x['stride']}x{x['stride']}"
        for x in summary["levels"]
    )
    levels = ", ".join(name + f" ({count} of them)" * (count > 1) for name, count in grids.items())
    packers = ", ".join(f"{count} {name}" for name, count in summary["packers"].items())
    size = f"{summary['bytes']} bytes"
    if summary["frames"]:
        size += f", {summary['bpp']:.4f} bpp, {summary['kbps']:.2f} kbit/s"
        size += " without audio" * (summary["audio"] is not None)
    lines = {
        "file": summary["file"],
        "size": size,
        "pictures": f"{summary['width']}x{summary['height']}, shown at {summary['aspect']}",
        "time": f"{summary['frames']} frames at {summary['rate']} fps, {summary['seconds']:.3f} s",
        "model": f"{summary['model']} ({summary['model_name'] or 'not shipped here'})",
        "levels": f"{len(summary['levels'])}: {levels}",
        "chunks": f"{len(summary['chunks'])} ({packers}), "
        + ("indexed" if summary["indexed"] else "no index"),
    }
    if (audio := summary["audio"]) is not None:
        lines["audio"] = (
            f"{audio['codec']}, {audio['channels']} channel{'s' * (audio['channels'] > 1)} at "
            f"{audio['rate']} Hz, {audio['bytes']} bytes, {audio['kbps'] or 0:.2f} kbit/s"
        )
    for name, text in lines.items():
        print(f"{name:9} {text}")
    if chunks:
        for number, chunk in enumerate(summary["chunks"]):
            print(
                f"{number:6}  frames {chunk['start']}-{chunk['start'] + chunk['frames'] - 1}, "
                f"{chunk['bytes']} bytes at {chunk['offset']}, {chunk['packer']}"
                f"{', needs the one before' * chunk['memory']}"
            )
