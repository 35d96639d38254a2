"""Tables as rich text, Markdown, HTML; results as CSV."""

from __future__ import annotations

import csv
import dataclasses
import html
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from vqcodec.bench.schema import Bench, ClipResult
from vqcodec.bench.tables import Table
from vqcodec.files import replacing

if TYPE_CHECKING:
    from rich.table import Table as RichTable


def to_rich(table: Table) -> RichTable:
    """For the terminal."""
    from rich.table import Table as RichTable

    rich = RichTable(title=table.title, title_justify="left")
    for number, name in enumerate(table.header):
        side: Literal["left", "right"] = "left" if number < table.labels else "right"
        rich.add_column(name, justify=side)
    for row in table.rows:
        rich.add_row(*row)
    return rich


def to_markdown(table: Table) -> str:
    """A GitHub table, without its title."""
    rule = ["---" if k < table.labels else "---:" for k in range(len(table.header))]
    lines = [table.header, rule, *table.rows]
    cells = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in cells) + "\n"


def to_html(table: Table) -> str:
    """A ``<table>`` with its title as caption."""

    def row(cells: object, tag: str) -> str:
        assert isinstance(cells, (list, tuple))
        inner = (
            f"<{tag}{' class=label' if k < table.labels else ''}>{html.escape(cell)}</{tag}>"
            for k, cell in enumerate(cells)
        )
        return f"<tr>{''.join(inner)}</tr>\n"

    body = "".join(row(list(cells), "td") for cells in table.rows)
    caption = f"<caption>{html.escape(table.title)}</caption>"
    return f"<table>{caption}\n<thead>{row(list(table.header), 'th')}</thead>\n{body}</table>\n"


def write_csv(bench: Bench, path: Path) -> None:
    """One line for each clip, codec and setting; columns as in :class:`ClipResult`, and bpp.

    Raises:
        OutputError: the file cannot be written.
    """
    names = [field.name for field in dataclasses.fields(ClipResult)]
    with replacing(path, force=True) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*names, "stream_bpp", "file_bpp"])
        for result in bench.results:
            values = [getattr(result, name) for name in names]
            writer.writerow([*values, result.bpp("stream"), result.bpp("file")])
