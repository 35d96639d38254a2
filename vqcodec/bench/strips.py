"""Pictures of single clips, original above and codecs below. For reports that are not published:
the footage belongs to others."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vqcodec.bench.clips import Clip, ClipRef
from vqcodec.bench.codecs import build
from vqcodec.bench.runner import Folders
from vqcodec.bench.schema import Bench, ClipResult
from vqcodec.bench.tables import measured

_SHOWN = 6  # frames of a clip, at even distances
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
    ranked = sorted(
        (r for r in bench.results if r.codec == lead and r.setting == setting),
        key=lambda r: r.psnr,
        reverse=True,
    )
    chosen = {"best": ranked[0], "median": ranked[len(ranked) // 2], "worst": ranked[-1]}
    clips = {ref.id: ref for ref in refs}
    found = []
    for kind, result in chosen.items():
        clip = clips[result.clip].load(folders.frames)
        same = [r for r in bench.results if r.clip == result.clip]
        shown = [_nearest([r for r in same if r.codec == c.name], result) for c in codecs]
        rows = [clip.frames, *(_decode(r, clip) for r in shown)]
        labels = ["original", *(f"{bench.title(r.codec)}, {_caption(r)}" for r in shown)]
        found.append(Strip(f"{kind} clip: {result.clip}", _png(rows), labels))
    return found


def _nearest(candidates: list[ClipResult], target: ClipResult) -> ClipResult:
    return min(candidates, key=lambda r: abs(np.log(r.stream_bytes / target.stream_bytes)))


def _decode(result: ClipResult, clip: Clip) -> NDArray[np.uint8]:
    codec = build(result.codec)
    return codec.decode(codec.encode(clip.frames, clip.rate, result.setting).payload)


def _caption(r: ClipResult) -> str:
    return f"{r.setting}: {r.bpp():.4f} bpp, {r.psnr:.2f} dB, SSIM {r.ssim:.4f}"


def _png(rows: Sequence[NDArray[np.uint8]]) -> bytes:
    """Rows of clips, each uint8 (T, H, W, 3), as one enlarged picture."""
    from PIL import Image

    count, height, width = rows[0].shape[:3]
    times = np.unique(np.linspace(0, count - 1, _SHOWN).round().astype(int))
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
