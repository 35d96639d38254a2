"""One self-contained HTML page about a run, with the plots as PNG files beside it."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from pathlib import Path

from vqcodec.bench import plots, tables
from vqcodec.bench.render import to_html
from vqcodec.bench.results import method_lines
from vqcodec.bench.schema import Bench
from vqcodec.bench.strips import Strip
from vqcodec.files import make_folder, replacing

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 75em; padding: 0 1em }
table { border-collapse: collapse; margin: 1.5em 0; font-size: 13px }
caption { text-align: left; font-weight: 600; margin-bottom: .4em }
th, td { border-bottom: 1px solid #ddd; padding: .2em .7em; text-align: right }
th.label, td.label { text-align: left }
img { max-width: 100% } figure { margin: 1em 0 } .plots { display: flex; flex-wrap: wrap }
.plots img { width: 36em }
.sheet { display: grid; grid-template-columns: repeat(auto-fill, minmax(34em, 1fr)); gap: 1em }
.sheet figcaption { font-size: 12px }
"""

_FOOTAGE = "<p>Third-party footage: not for publication.</p>"


def write_report(
    bench: Bench, folder: Path, strips: Sequence[Strip] = (), worst: Sequence[Strip] = ()
) -> Path:
    """Write ``index.html`` and the plots into ``folder``; returns the page's path.

    ``strips`` and ``worst`` are from :mod:`vqcodec.bench.strips`: large pictures of a few clips,
    and the contact sheet of the worst ones.

    Raises:
        OutputError: the folder or a file cannot be written.
    """
    pictures = {} if plots.unavailable() else plots.rate_distortion_plots(bench)
    write_plots(pictures, folder)
    page = folder / "index.html"
    with replacing(page, force=True) as temporary:
        temporary.write_text(_page(bench, pictures, strips, worst), encoding="utf-8")
    return page


def write_plots(pictures: Mapping[str, bytes], folder: Path) -> None:
    """Write PNG files by name.

    Raises:
        OutputError: the folder or a file cannot be written.
    """
    make_folder(folder)
    for name, data in pictures.items():
        with replacing(folder / f"{name}.png", force=True) as temporary:
            temporary.write_bytes(data)


def _page(
    bench: Bench,
    pictures: Mapping[str, bytes],
    strips: Sequence[Strip],
    worst: Sequence[Strip],
) -> str:
    parts = [
        f"<h1>vqcodec bench: {html.escape(bench.dataset)}, {bench.mode}</h1>",
        _list(method_lines(bench)),
        "<h2>Where we stand</h2>",
        _list([line for size in ("stream", "file") for line in tables.verdicts(bench, size)]),
        to_html(tables.comparison_table(bench, "stream")),
        to_html(tables.comparison_table(bench, "file")),
        "<h2>Rate and distortion</h2>",
        f"<div class=plots>{''.join(_image(p, n) for n, p in pictures.items())}</div>",
        f"<p>{plots.unavailable() or ''}</p>",
        to_html(tables.rate_table(bench)),
        to_html(tables.paper_table(bench)),
        to_html(tables.speed_table(bench)) if bench.options.get("fresh") else "",
    ]
    if bench.dataset == "authors":
        parts.append(to_html(tables.same_clip_table(bench)))
    if strips:
        parts += ["<h2>Best, median and worst clip</h2>", _FOOTAGE, *map(_figure, strips)]
    if worst:
        parts += [f"<h2>The worst clips: {len(worst)}, at the paper's rate</h2>", _FOOTAGE]
        parts.append(f"<div class=sheet>{''.join(map(_figure, worst))}</div>")
    if bench.skipped:
        parts.append(f"<h2>Left out: {len(bench.skipped)}</h2>")
        parts.append(_list([f"{item.id}: {item.reason}" for item in bench.skipped]))
    body = "\n".join(parts)
    head = f"<meta charset=utf-8><title>vqcodec bench</title><style>{_STYLE}</style>"
    return f"<!doctype html>\n<html lang=en><head>{head}</head>\n<body>\n{body}\n</body></html>\n"


def _figure(strip: Strip) -> str:
    caption = f"<figcaption>{html.escape(strip.title)}{_list(strip.rows)}</figcaption>"
    return f"<figure>{_image(strip.png, strip.title)}{caption}</figure>"


def _image(png: bytes, alt: str) -> str:
    data = base64.b64encode(png).decode("ascii")
    return f'<img alt="{html.escape(alt)}" src="data:image/png;base64,{data}">'


def _list(lines: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{html.escape(line)}</li>" for line in lines) + "</ul>"
