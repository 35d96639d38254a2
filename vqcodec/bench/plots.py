"""Rate-distortion curves as PNG. Needs matplotlib (``pip install vqcodec[bench]``)."""

from __future__ import annotations

import importlib.util
import io
from typing import Any

from vqcodec.bench.compare import METRICS, SIZES, Metric, Size
from vqcodec.bench.schema import Bench
from vqcodec.bench.tables import METRIC_NAMES, measured

_UNITS: dict[Metric, str] = {"psnr": "dB", "ssim": "", "ms_ssim": ""}


def unavailable() -> str | None:
    """Why there can be no plots here, in one line; None if there can."""
    if importlib.util.find_spec("matplotlib") is None:
        return "plots left out: matplotlib is not installed (pip install vqcodec[bench])"
    return None


def rate_distortion_plots(bench: Bench) -> dict[str, bytes]:
    """PNG of each metric over each way to count bytes, by name such as ``rd-psnr-stream``.

    Both axes of rate are logarithmic: bits a pixel below, kbit/s above.

    Raises:
        ImportError: no matplotlib.
    """
    return {
        f"rd-{metric.replace('_', '-')}-{size}": _plot(bench, metric, size)
        for metric in METRICS
        for size in SIZES
    }


def _plot(bench: Bench, metric: Metric, size: Size) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for info in measured(bench):
        mine = [p for p in bench.points if p.codec == info.name]
        rates = [getattr(p, f"{size}_bpp") for p in mine]
        style = {"linewidth": 2.4, "marker": "o", "zorder": 3} if info.ours else {"marker": "."}
        axes.plot(rates, [getattr(p, metric) for p in mine], label=info.title, **style)
    axes.set_xscale("log")
    axes.set_xlabel(f"bits per pixel ({'whole file' if size == 'file' else 'stream'})")
    axes.set_ylabel(" ".join(filter(None, (METRIC_NAMES[metric], _UNITS[metric]))))
    axes.grid(which="both", linewidth=0.3)
    axes.legend(fontsize="small")
    _kbps_axis(bench, axes)
    buffer = io.BytesIO()
    # no date and no version: the same results give the same file
    figure.savefig(buffer, format="png", dpi=130, metadata={"Software": None})
    return buffer.getvalue()


def _kbps_axis(bench: Bench, axes: Any) -> None:
    """A second axis of rate on top; its scale is that of the first point."""
    if not bench.points:
        return
    scale = bench.points[0].stream_kbps / bench.points[0].stream_bpp
    above = axes.secondary_xaxis("top", functions=(lambda x: x * scale, lambda x: x / scale))
    above.set_xlabel("kbit/s")
    for axis in (axes.xaxis, above.xaxis):
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("{x:g}")
        axis.set_tick_params(which="minor", labelsize="xx-small")
