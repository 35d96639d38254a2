"""From results of single clips to means, and from those to comparisons of codecs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from vqcodec.bench.bdrate import (
    ClipPoints,
    Curve,
    bd_quality,
    bd_rate,
    bootstrap_bd_rate,
    win_rate,
)
from vqcodec.bench.schema import ClipResult, Comparison, Point

Metric = Literal["psnr", "ssim", "ms_ssim"]
Size = Literal["stream", "file"]
METRICS: tuple[Metric, ...] = ("psnr", "ssim", "ms_ssim")
SIZES: tuple[Size, ...] = ("stream", "file")
RATE_WINDOW = (0.02, 0.3)  # bpp; where this project aims
FILE_WINDOW = (0.03, 0.25)  # the same for our whole files against bare streams


def aggregate(results: Sequence[ClipResult]) -> list[Point]:
    """Means over clips, one :class:`Point` for each codec and setting, in order of appearance."""
    groups: dict[tuple[str, str], list[ClipResult]] = {}
    for result in results:
        groups.setdefault((result.codec, result.setting), []).append(result)
    return [_point(group) for group in groups.values()]


def _point(group: list[ClipResult]) -> Point:
    def mean(value: Callable[[ClipResult], float | None]) -> float | None:
        """Over the clips to which the value applies."""
        values = [v for r in group if (v := value(r)) is not None]
        return float(np.mean(values)) if values else None

    def mean_of_all(value: Callable[[ClipResult], float]) -> float:
        return float(np.mean([value(r) for r in group]))

    frames, seconds = sum(r.frames for r in group), sum(r.seconds for r in group)
    encoding, decoding = sum(r.encode_seconds for r in group), sum(r.decode_seconds for r in group)
    pooled = mean_of_all(lambda r: 10 ** (-r.pooled_psnr / 10))
    return Point(
        codec=group[0].codec,
        setting=group[0].setting,
        clips=len(group),
        stream_bpp=mean_of_all(lambda r: r.bpp("stream") or 0.0),
        file_bpp=mean_of_all(lambda r: r.bpp("file") or 0.0),
        fixed_bpp=mean(lambda r: r.bpp("fixed")),
        deflate_bpp=mean(lambda r: r.bpp("deflate")),
        stream_kbps=mean_of_all(lambda r: 8 * r.stream_bytes / r.seconds / 1000),
        file_kbps=mean_of_all(lambda r: 8 * r.file_bytes / r.seconds / 1000),
        psnr=mean_of_all(lambda r: r.psnr),
        ssim=mean_of_all(lambda r: r.ssim),
        pooled_psnr=float(-10 * np.log10(pooled)),
        ms_ssim=mean_of_all(lambda r: r.ms_ssim),
        flicker_inside=mean(lambda r: r.flicker_inside),
        flicker_border=mean(lambda r: r.flicker_border),
        lpips=mean(lambda r: r.lpips),
        dists=mean(lambda r: r.dists),
        encode_fps=frames / encoding,
        decode_fps=frames / decoding,
        encode_realtime=seconds / encoding,
        decode_realtime=seconds / decoding,
        peak_rss_bytes=max(r.peak_rss_bytes for r in group),
    )


def clip_points(
    results: Sequence[ClipResult], codec: str, metric: Metric = "psnr", size: Size = "stream"
) -> ClipPoints:
    """A codec's bpp and quality as arrays (settings, clips).

    Raises:
        ValueError: some clip lacks some setting.
    """
    mine = [r for r in results if r.codec == codec]
    settings = list(dict.fromkeys(r.setting for r in mine))
    clips = list(dict.fromkeys(r.clip for r in mine))
    shape = len(settings), len(clips)
    if len(mine) != shape[0] * shape[1]:
        raise ValueError(f"{codec}: {len(mine)} results for {shape[0]} settings, {shape[1]} clips")
    table = {(r.setting, r.clip): r for r in mine}
    ordered = [table[setting, clip] for setting in settings for clip in clips]
    rate = np.array([r.bpp(size) for r in ordered], np.float64).reshape(shape)
    quality = np.array([getattr(r, metric) for r in ordered], np.float64).reshape(shape)
    return ClipPoints(rate, quality)


def mean_curve(
    points: Sequence[Point], codec: str, metric: Metric = "psnr", size: Size = "stream"
) -> Curve:
    """A codec's reported curve: mean quality over mean bpp."""
    mine = [p for p in points if p.codec == codec]
    return Curve.of([getattr(p, f"{size}_bpp") for p in mine], [getattr(p, metric) for p in mine])


def compare(
    results: Sequence[ClipResult],
    ours: Sequence[str],
    peers: Sequence[str],
    *,
    resamples: int = 500,
) -> list[Comparison]:
    """Each of ``ours`` against each of ``peers``, by every metric and both ways to count bytes."""
    return [
        _compare_one(results, own, peer, metric, size, resamples)
        for own in ours
        for peer in peers
        if own != peer
        for metric in METRICS
        for size in SIZES
    ]


def _compare_one(
    results: Sequence[ClipResult], own: str, peer: str, metric: Metric, size: Size, resamples: int
) -> Comparison:
    test = clip_points(results, own, metric, size)
    anchor = clip_points(results, peer, metric, size)
    rate = bd_rate(anchor.curve(), test.curve())
    window = bd_rate(anchor.curve(), test.curve(), RATE_WINDOW)
    quality = bd_quality(anchor.curve(), test.curve())
    interval = None
    if rate.value is not None:
        interval = bootstrap_bd_rate(anchor, test, resamples=resamples)
    wins = win_rate(anchor, test)
    return Comparison(
        ours=own,
        peer=peer,
        metric=metric,
        size=size,
        bd_rate=rate.value,
        ci_low=interval[0] if interval else None,
        ci_high=interval[1] if interval else None,
        quality_low=rate.low,
        quality_high=rate.high,
        reason=rate.reason,
        window_bd_rate=window.value,
        bd_quality=quality.value,
        rate_low=quality.low,
        rate_high=quality.high,
        wins=wins.wins,
        compared=wins.compared,
        below=wins.below,
    )
