"""What the benchmark says, as tables of text: for the terminal, Markdown and HTML alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from vqcodec.bench.bdrate import Curve, bd_rate
from vqcodec.bench.compare import (
    FILE_WINDOW,
    METRICS,
    RATE_WINDOW,
    Metric,
    Size,
    clip_points,
    mean_curve,
)
from vqcodec.bench.published import PAPER_BPP, PAPER_TABLE, SAME_CLIPS
from vqcodec.bench.schema import Bench, ClipResult, CodecInfo, Comparison, Point

METRIC_NAMES: dict[Metric, str] = {"psnr": "PSNR", "ssim": "SSIM", "ms_ssim": "MS-SSIM"}


@dataclass(frozen=True)
class Table:
    """A table of ready text; the first ``labels`` columns are names, the others numbers."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    labels: int = 1


def measured(bench: Bench, *, ours: bool | None = None) -> list[CodecInfo]:
    """Codecs that were measured: all, ours, or the peers."""
    return [c for c in bench.codecs if c.missing is None and ours in (None, c.ours)]


def number(value: float | None, digits: int) -> str:
    """A number with so many digits after the point; a dash for None."""
    return "-" if value is None else f"{value:.{digits}f}"


def summary_table(bench: Bench) -> Table:
    """What fits a terminal of 80 columns."""
    header = ["codec", "setting", "bpp", "file bpp", "PSNR", "SSIM", "enc fps", "dec fps"]
    rows = []
    for p in bench.points:
        cells = (p.stream_bpp, 4), (p.file_bpp, 4), (p.psnr, 2), (p.ssim, 4)
        speeds = (p.encode_fps, 0), (p.decode_fps, 0)
        rows.append([p.codec, p.setting, *(number(v, d) for v, d in (*cells, *speeds))])
    title = f"Mean over {len(bench.clip_ids())} {bench.mode}; bpp of the stream"
    return Table(title, header, rows, 2)


def rate_table(bench: Bench) -> Table:
    """Every codec at every setting: rates and qualities."""
    header = [
        *("codec", "setting", "stream bpp", "file bpp", "kbit/s stream", "kbit/s file"),
        *("fixed bpp", "DEFLATE bpp", "PSNR dB", "SSIM", "pooled PSNR", "MS-SSIM"),
        *("flicker", "at borders", "LPIPS", "DISTS"),
    ]
    rows = []
    for p in bench.points:
        rates = (p.stream_bpp, 4), (p.file_bpp, 4), (p.stream_kbps, 2), (p.file_kbps, 2)
        more = (p.fixed_bpp, 4), (p.deflate_bpp, 4), (p.psnr, 2), (p.ssim, 4)
        last = (p.pooled_psnr, 2), (p.ms_ssim, 4), (p.flicker_inside, 2), (p.flicker_border, 2)
        cells = [*rates, *more, *last, (p.lpips, 4), (p.dists, 4)]
        rows.append([p.codec, p.setting, *(number(v, d) for v, d in cells)])
    return _without_empty_columns(
        Table(f"Rate and quality, mean over {len(bench.clip_ids())} {bench.mode}", header, rows, 2)
    )


def speed_table(bench: Bench) -> Table:
    """Every codec at every setting: speed on one thread, and memory."""
    header = ["codec", "setting", "encode fps", "x real time", "decode fps", "x real time", "MiB"]
    rows = [
        [
            p.codec,
            p.setting,
            number(p.encode_fps, 0),
            number(p.encode_realtime, 1),
            number(p.decode_fps, 0),
            number(p.decode_realtime, 1),
            number(p.peak_rss_bytes / 2**20, 0),
        ]
        for p in bench.points
    ]
    return Table("Speed of one thread, and peak memory of its process", header, rows, 2)


def comparison_table(bench: Bench, size: Size = "stream") -> Table:
    """BD-rates of ours against each peer, counting stream or file bytes."""
    low, high = RATE_WINDOW
    header = ["ours", "peer", "metric", "BD-rate", "95 % interval", "common range"]
    header += [f"{low} to {high} bpp", "wins"]
    rows = [_comparison_row(c) for c in bench.comparisons if c.size == size]
    return Table(f"Bits against the peer at equal quality, {size} bytes", header, rows, 3)


def files_table(bench: Bench) -> Table:
    """BD-rates of our whole files against the bare streams of each peer."""

    def curve(codec: CodecInfo, metric: Metric, size: Size) -> Curve:
        return clip_points(bench.results, codec.name, metric, size).curve()

    rows = []
    for own in measured(bench, ours=True):
        for peer in measured(bench, ours=False):
            rates = [
                bd_rate(curve(peer, metric, "stream"), curve(own, metric, "file"), FILE_WINDOW)
                for metric in METRICS
            ]
            cells = ["-" if rate.value is None else f"{rate.value:+.1f} %" for rate in rates]
            rows.append([own.name, peer.name, *cells])
    low, high = FILE_WINDOW
    return Table(
        f"BD-rate of our whole files against bare streams, {low} to {high} bpp",
        ["ours", "peer", "PSNR", "SSIM", "MS-SSIM"],
        rows,
        2,
    )


def effort_table(bench: Bench) -> Table:
    """What each of ours buys over the first of them, and what it costs in time."""
    first, *_ = mine = measured(bench, ours=True)
    header = ["ours", "BD-rate PSNR", "BD-rate SSIM", "encode fps", "decode fps"]
    rows = []
    for codec in mine:
        points = [p for p in bench.points if p.codec == codec.name]
        rates = [
            bd_rate(
                clip_points(bench.results, first.name, metric).curve(),
                clip_points(bench.results, codec.name, metric).curve(),
            ).value
            for metric in ("psnr", "ssim")
        ]
        speeds = (
            len(points) / sum(1 / p.encode_fps for p in points),
            len(points) / sum(1 / p.decode_fps for p in points),
        )
        cells = ["-" if rate is None else f"{rate:+.1f} %" for rate in rates]
        rows.append([codec.name, *cells, *(number(speed, 0) for speed in speeds)])
    return Table(
        f"Ours against {first.name}, stream bytes; mean speeds of one thread", header, rows
    )


def rising_table(bench: Bench) -> Table:
    """On how many clips each of ours gets better from one setting to the next."""
    rows = []
    for codec in measured(bench, ours=True):
        names = sorted(
            (p for p in bench.points if p.codec == codec.name), key=lambda p: p.stream_bpp
        )
        found = [clip_points(bench.results, codec.name, m) for m in ("psnr", "ssim")]
        order = found[0].rate.mean(1).argsort()
        rises = [np.diff(points.quality[order], axis=0) > 0 for points in found]
        for (lower, higher), *better in zip(pairwise(names), *rises, strict=True):
            shares = [f"{flags.sum()} of {flags.size}" for flags in better]
            rows.append([codec.name, f"{lower.setting} to {higher.setting}", *shares])
    title = f"On how many {bench.mode} quality rises with the setting"
    return Table(title, ["ours", "from and to", "PSNR", "SSIM"], rows, 2)


def _comparison_row(c: Comparison) -> list[str]:
    digits = 2 if c.metric == "psnr" else 4
    value = "-" if c.bd_rate is None else f"{c.bd_rate:+.1f} %"  # else see the verdicts
    interval = "-" if c.ci_low is None else f"{c.ci_low:+.1f} … {number(c.ci_high, 1)} %"
    common = "-"
    if c.quality_low is not None:
        common = f"{c.quality_low:.{digits}f} … {number(c.quality_high, digits)}"
    wins = f"{c.wins} of {c.compared}" + (f", {c.below} below" if c.below else "")
    metric = next(text for name, text in METRIC_NAMES.items() if name == c.metric)
    window = "-" if c.window_bd_rate is None else f"{c.window_bd_rate:+.1f} %"
    return [c.ours, c.peer, metric, value, interval, common, window, wins]


def paper_point(bench: Bench, codec: CodecInfo) -> Point:
    """One of ours at the setting whose fixed-length rate is nearest to the paper's."""
    points = [p for p in bench.points if p.codec == codec.name]
    return min(points, key=lambda p: abs((p.fixed_bpp or 0.0) - PAPER_BPP))


def paper_table(bench: Bench) -> Table:
    """The paper's rows, then ours on this data set: other footage, so not like for like."""
    header = ["model", "clips", "bpp, fixed length", "PSNR dB", "SSIM"]
    rows = [
        [row.model, row.data, number(PAPER_BPP, 4), number(row.psnr, 2), number(row.ssim, 4)]
        for row in PAPER_TABLE
    ]
    for codec in measured(bench, ours=True):
        p = paper_point(bench, codec)
        name = f"{codec.title}, {p.setting}"
        where = f"{bench.dataset}, {p.clips} {bench.mode}"
        quality = number(p.psnr, 2), number(p.ssim, 4)
        rows.append([name, where, number(p.fixed_bpp, 4), *quality])
    return Table("The paper's tables, and ours", header, rows, 2)


def same_clip_table(bench: Bench) -> Table:
    """The authors' own results on single UCF101 clips, with ours and the peers on those clips."""
    codecs = measured(bench)
    header = ["clip", "paper"]
    for codec in codecs:
        header += [f"{codec.name} (bpp)" if codec.ours else codec.name, "needs"]
    rows = []
    for row in SAME_CLIPS:
        if row.id in bench.clip_ids():
            cells = [row.id, f"{row.psnr:.2f} / {row.ssim:.4f}"]
            for codec in codecs:
                cells += _same_clip_cells(bench.results, codec, row.id, row.psnr)
            rows.append(cells)
    title = (
        f"The very clips with published results: dB / SSIM at {PAPER_BPP} bpp (ours at fixed "
        "length, stream bpp in brackets), and the bpp each codec needs for the paper's PSNR"
    )
    return Table(title, header, rows)


def _same_clip_cells(
    results: Sequence[ClipResult], codec: CodecInfo, clip: str, target: float
) -> list[str]:
    mine = [r for r in results if r.clip == clip and r.codec == codec.name]
    psnr = clip_points(mine, codec.name, "psnr").clip_curve(0)
    ssim = clip_points(mine, codec.name, "ssim").clip_curve(0)
    needed = psnr.rate_at(target)
    rate = number(needed, 3)
    if needed is None:
        rate = f"< {psnr.rate[0]:.3f}" if target < psnr.quality[0] else f"> {psnr.rate[-1]:.3f}"
    if codec.ours:  # as the paper counts, at fixed length
        near = min(mine, key=lambda r: abs((r.bpp("fixed") or 0.0) - PAPER_BPP))
        return [f"{near.psnr:.2f} / {near.ssim:.4f} ({number(near.bpp(), 4)})", rate]
    quality = number(psnr.quality_at(PAPER_BPP), 2), number(ssim.quality_at(PAPER_BPP), 3)
    return [" / ".join(quality), rate]


def verdicts(bench: Bench, size: Size = "stream") -> list[str]:
    """Where each of ours wins and loses against each peer, one plain sentence or two for each."""
    return [
        _verdict(bench, own, peer, size)
        for own in measured(bench, ours=True)
        for peer in measured(bench, ours=False)
    ]


def _verdict(bench: Bench, own: CodecInfo, peer: CodecInfo, size: Size) -> str:
    curve = mean_curve(bench.points, peer.name, "psnr", size)
    parts = []
    for point in (p for p in bench.points if p.codec == own.name):
        rate: float = getattr(point, f"{size}_bpp")
        other, needed = curve.quality_at(rate), curve.rate_at(point.psnr)
        at = f"at {rate:.4f} bpp ({point.setting}, {point.psnr:.2f} dB)"
        if other is None:
            edge = "below" if rate < curve.rate[0] else "above"
            words = f"{at} we are {edge} the peer's range of rates"
        else:
            words = f"{at} we {'win' if point.psnr > other else 'lose'} by "
            words += f"{abs(point.psnr - other):.2f} dB"
        if needed is not None:
            words += f", with {rate / needed:.2f} times its bits for the same PSNR"
        parts.append(words)
    found = next(
        c
        for c in bench.comparisons
        if (c.ours, c.peer, c.metric, c.size) == (own.name, peer.name, "psnr", size)
    )
    if found.bd_rate is None:
        total = f"no BD-rate ({found.reason})"
    else:
        total = f"BD-rate {found.bd_rate:+.1f} % over {found.quality_low:.2f} to "
        total += f"{found.quality_high:.2f} dB"
    return f"{own.title} against {peer.title}, {size} bytes: {total}; " + "; ".join(parts) + "."


def _without_empty_columns(table: Table) -> Table:
    keep = [
        k
        for k in range(len(table.header))
        if k < table.labels or any(row[k] != "-" for row in table.rows)
    ]
    rows = [[row[k] for k in keep] for row in table.rows]
    return Table(table.title, [table.header[k] for k in keep], rows, table.labels)
