"""Pictures of single clips, original above and codecs below. For reports that are not published:
the footage belongs to others."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vqcodec.bench.clips import Clip, ClipRef
from vqcodec.bench.codecs import Codec, build
from vqcodec.bench.compare import mean_curve
from vqcodec.bench.runner import Folders
from vqcodec.bench.schema import Bench, ClipResult, CodecInfo, Point
from vqcodec.bench.tables import measured, paper_point

_WORST = 10  # clips on the contact sheet
_SHOWN, _SHOWN_WORST = 6, 4  # frames of a clip, at even distances
_ZOOM = 2
_GAP = 4  # pixels


@dataclass(frozen=True)
class Strip:
    """One clip: a PNG with a row for the original and each codec, and what each row is."""

    title: str
    png: bytes
    rows: Sequence[str]


def strips(bench: Bench, refs: Sequence[ClipRef], folders: Folders) -> list[Strip]:
    """The best, median and worst clip, by PSNR of our first codec (or the first) mid-ladder.

    Each peer is shown at its setting with the stream size nearest to that of the first codec.
    """
    codecs = measured(bench, ours=True) + measured(bench, ours=False)
    if not codecs or not bench.results:
        return []
    lead = codecs[0].name
    settings = [p.setting for p in bench.points if p.codec == lead]
    setting = settings[len(settings) // 2]
    ranked = _ranked(bench, lead, setting)
    middle = ranked[(len(ranked) - 1) // 2]
    titled = {"best clip": ranked[-1], "median clip": middle, "worst clip": ranked[0]}
    return _draw(bench, titled, codecs, refs, folders, _SHOWN)


def worst_clips(bench: Bench, refs: Sequence[ClipRef], folders: Folders) -> list[Strip]:
    """A contact sheet of the ten worst clips, the worst first; empty if none of ours was measured.

    Worst by PSNR of our first codec at the paper's rate. Below it stands the strongest peer, the
    one of the best mean PSNR at the same mean rate, at its setting of the nearest stream size.
    """
    ours = measured(bench, ours=True)
    if not ours or not bench.results:
        return []
    point = paper_point(bench, ours[0])
    worst = _ranked(bench, point.codec, point.setting)[:_WORST]
    titled = {f"{place} of {len(worst)}": r for place, r in enumerate(worst, start=1)}
    shown = [ours[0], *_strongest_peer(bench, point)]
    return _draw(bench, titled, shown, refs, folders, _SHOWN_WORST)


def _ranked(bench: Bench, codec: str, setting: str) -> list[ClipResult]:
    """Results of a codec at a setting, the worst PSNR first."""
    mine = [r for r in bench.results if r.codec == codec and r.setting == setting]
    return sorted(mine, key=lambda r: r.psnr)


def _strongest_peer(bench: Bench, point: Point) -> list[CodecInfo]:
    """The peer of the best mean PSNR at a point's rate; none if no peer's rates reach there."""
    peers = []
    for peer in measured(bench, ours=False):
        psnr = mean_curve(bench.points, peer.name).quality_at(point.stream_bpp)
        if psnr is not None:
            peers.append((psnr, peer))
    return [max(peers, key=lambda pair: pair[0])[1]] if peers else []


def _draw(
    bench: Bench,
    titled: Mapping[str, ClipResult],
    codecs: Sequence[CodecInfo],
    refs: Sequence[ClipRef],
    folders: Folders,
    count: int,
) -> list[Strip]:
    """``count`` frames of the clip of each result, with codecs at the nearest stream size."""
    coders = {codec.name: build(codec.name) for codec in codecs}
    clips = {ref.id: ref for ref in refs}
    found = []
    for title, result in titled.items():
        clip = clips[result.clip].load(folders.frames)
        same = [r for r in bench.results if r.clip == result.clip]
        shown = [_nearest([r for r in same if r.codec == name], result) for name in coders]
        rows = [clip.frames, *(_decode(coders[r.codec], r, clip) for r in shown)]
        labels = ["original", *(f"{bench.title(r.codec)}, {_caption(r)}" for r in shown)]
        found.append(Strip(f"{title}: {result.clip}", _png(rows, count), labels))
    return found


def _nearest(candidates: list[ClipResult], target: ClipResult) -> ClipResult:
    return min(candidates, key=lambda r: abs(np.log(r.stream_bytes / target.stream_bytes)))


def _decode(codec: Codec, result: ClipResult, clip: Clip) -> NDArray[np.uint8]:
    return codec.decode(codec.encode(clip.frames, clip.rate, result.setting).payload)


def _caption(r: ClipResult) -> str:
    return f"{r.setting}: {r.bpp():.4f} bpp, {r.psnr:.2f} dB, SSIM {r.ssim:.4f}"


def _png(rows: Sequence[NDArray[np.uint8]], shown: int) -> bytes:
    """Rows of ``shown`` frames of clips, each uint8 (T, H, W, 3), as one enlarged picture."""
    from PIL import Image

    count, height, width = rows[0].shape[:3]
    times = np.unique(np.linspace(0, count - 1, shown).round().astype(int))
    shape = (len(rows) * (height + _GAP) - _GAP, len(times) * (width + _GAP) - _GAP, 3)
    sheet = np.full(shape, 255, np.uint8)
    for i, row in enumerate(rows):
        for j, time in enumerate(times):
            y, x = i * (height + _GAP), j * (width + _GAP)
            sheet[y : y + height, x : x + width] = row[time]
    picture = Image.fromarray(sheet)
    size = (picture.width * _ZOOM, picture.height * _ZOOM)
    buffer = io.BytesIO()
    picture.resize(size, Image.Resampling.NEAREST).save(buffer, format="PNG")
    return buffer.getvalue()
