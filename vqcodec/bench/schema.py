"""The benchmark's results as data: what ``--json`` writes and every report reads.

One file is one :class:`Bench`. Fields are only ever added; a change of meaning changes
:data:`SCHEMA`. Units are in the names or the docstrings; ``None`` means "does not apply" or "not
measured here".
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from vqcodec.errors import DataError
from vqcodec.files import replacing

SCHEMA = "vqcodec-bench/1"


@dataclass(frozen=True)
class ClipResult:
    """One clip, coded once.

    Attributes:
        codec: name of the codec.
        setting: label on its ladder.
        clip: id of the clip in the data set.
        clip_sha256: over pixels, shape and rate.
        frames: T.
        width: pixels.
        height: pixels.
        rate: frames a second, as a fraction such as ``16`` or ``30000/1001``.
        stream_bytes: coded pictures, without file structure and version banners.
        file_bytes: whole file.
        fixed_bits: indices at fixed length (the paper's rate).
        deflate_bytes: indices after DEFLATE (the paper's second rate).
        psnr: dB, mean over frames (the paper's).
        ssim: mean over frames (the paper's).
        pooled_psnr: dB, of the squared error pooled over the clip.
        ms_ssim: see :func:`vqcodec.metrics.ms_ssim`.
        flicker_inside: grey levels, see :class:`vqcodec.metrics.Flicker`.
        flicker_border: the same across borders of 32 frames; None for clips of 32 frames.
        lpips: LPIPS (VGG-16), mean over frames.
        dists: DISTS, mean over frames.
        encode_seconds: wall time from RGB frames to the file's bytes, one thread.
        decode_seconds: wall time from the file's bytes to RGB frames, one thread.
        peak_rss_bytes: most resident memory so far of the process that measured, interpreter
            and libraries included.
    """

    codec: str
    setting: str
    clip: str
    clip_sha256: str
    frames: int
    width: int
    height: int
    rate: str
    stream_bytes: int
    file_bytes: int
    fixed_bits: int | None
    deflate_bytes: int | None
    psnr: float
    ssim: float
    pooled_psnr: float
    ms_ssim: float
    flicker_inside: float | None
    flicker_border: float | None
    lpips: float | None
    dists: float | None
    encode_seconds: float
    decode_seconds: float
    peak_rss_bytes: int

    def bpp(self, size: str = "stream") -> float | None:
        """Bits a pixel by ``stream``, ``file``, ``deflate`` or ``fixed`` size."""
        bits = {
            "stream": 8 * self.stream_bytes,
            "file": 8 * self.file_bytes,
            "deflate": None if self.deflate_bytes is None else 8 * self.deflate_bytes,
            "fixed": self.fixed_bits,
        }[size]
        return None if bits is None else bits / (self.frames * self.width * self.height)

    @property
    def seconds(self) -> float:
        """Duration of the clip."""
        return float(self.frames / Fraction(self.rate))


@dataclass(frozen=True)
class Point:
    """One setting of one codec over all clips; names and units as in :class:`ClipResult`.

    Rates (bpp, kbit/s) and qualities are means over clips, each clip counting once;
    ``pooled_psnr`` pools the squared error over clips too. Speeds are frames by total time,
    ``*_realtime`` seconds of video by seconds of work, memory the highest.
    """

    codec: str
    setting: str
    clips: int
    stream_bpp: float
    file_bpp: float
    fixed_bpp: float | None
    deflate_bpp: float | None
    stream_kbps: float
    file_kbps: float
    psnr: float
    ssim: float
    pooled_psnr: float
    ms_ssim: float
    flicker_inside: float | None
    flicker_border: float | None
    lpips: float | None
    dists: float | None
    encode_fps: float
    decode_fps: float
    encode_realtime: float
    decode_realtime: float
    peak_rss_bytes: int


@dataclass(frozen=True)
class Comparison:
    """One of our codecs against one peer, by one metric and one way to count bytes.

    Attributes:
        ours: codec under test.
        peer: codec compared against.
        metric: ``psnr``, ``ssim`` or ``ms_ssim``.
        size: ``stream`` or ``file``.
        bd_rate: percent of the peer's rate at equal quality; negative: we need fewer bits.
        ci_low: 95 % bootstrap interval over clips.
        ci_high: its other end.
        quality_low: common range of quality in which that holds.
        quality_high: its other end.
        reason: why ``bd_rate`` is None.
        window_bd_rate: ``bd_rate`` over qualities that both reach at 0.02 to 0.3 bpp only.
        bd_quality: mean gain in the metric at equal rate, over ``rate_low`` to ``rate_high``.
        rate_low: bpp.
        rate_high: bpp.
        wins: points of single clips better than the peer at equal rate.
        compared: such points within the peer's range of rates.
        below: points cheaper than the peer's cheapest, not among ``compared``.
    """

    ours: str
    peer: str
    metric: str
    size: str
    bd_rate: float | None
    ci_low: float | None
    ci_high: float | None
    quality_low: float | None
    quality_high: float | None
    reason: str | None
    window_bd_rate: float | None
    bd_quality: float | None
    rate_low: float | None
    rate_high: float | None
    wins: int
    compared: int
    below: int


@dataclass(frozen=True)
class CodecInfo:
    """A codec measured, or one left out (``missing`` says why)."""

    name: str
    title: str
    identity: str
    ours: bool
    missing: str | None = None


@dataclass(frozen=True)
class LeftOut:
    """A video or clip that was not measured, and why."""

    id: str
    reason: str


@dataclass(frozen=True)
class Bench:
    """A whole run.

    Attributes:
        schema: :data:`SCHEMA`.
        created: UTC, ISO 8601.
        command: the command line.
        machine: system, processor, cores, Python.
        versions: of vqcodec and the libraries that matter.
        dataset: ``folder``, ``ucf101`` or ``authors``.
        options: those of the run that decide its results, such as ``limit`` and ``split``.
        mode: ``clips`` (each clip alone) or ``videos`` (whole files, one group of pictures).
        codecs: measured and left out.
        skipped: videos and clips left out, for all codecs.
        notes: further lines for the report.
        points: aggregates.
        comparisons: ours against each peer.
        results: every clip at every setting.
    """

    schema: str
    created: str
    command: str
    machine: dict[str, str]
    versions: dict[str, str]
    dataset: str
    options: dict[str, Any]
    mode: str
    codecs: list[CodecInfo]
    skipped: list[LeftOut]
    notes: list[str]
    points: list[Point]
    comparisons: list[Comparison]
    results: list[ClipResult]

    def clip_ids(self) -> list[str]:
        """The clips measured, in the data set's order."""
        return list(dict.fromkeys(result.clip for result in self.results))

    def title(self, codec: str) -> str:
        """A codec's one-line title."""
        return next(info.title for info in self.codecs if info.name == codec)


def save(bench: Bench, path: Path) -> None:
    """Write a run as JSON, whole or not at all.

    Raises:
        OutputError: the file cannot be written.
    """
    with replacing(path, force=True) as temporary:
        text = json.dumps(dataclasses.asdict(bench), indent=1, ensure_ascii=False, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def load(path: Path) -> Bench:
    """Read what :func:`save` wrote.

    Raises:
        DataError: missing, not JSON, or of another schema.
    """
    lists = {
        "codecs": CodecInfo,
        "skipped": LeftOut,
        "points": Point,
        "comparisons": Comparison,
        "results": ClipResult,
    }
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data.get("schema") != SCHEMA:
            raise DataError(f"{path}: schema {data.get('schema')!r} instead of {SCHEMA}")
        for name, kind in lists.items():
            data[name] = [kind(**item) for item in data[name]]
        return Bench(**data)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(f"{path}: not a benchmark result: {error}") from error
