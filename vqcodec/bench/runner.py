"""Measure codecs on clips: in worker processes, with every result cached as soon as it exists."""

from __future__ import annotations

import dataclasses
import functools
import multiprocessing.connection
import os
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from vqcodec import metrics
from vqcodec.bench.cache import ResultCache
from vqcodec.bench.clips import Clip, ClipRef, FrameCache
from vqcodec.bench.codecs import Codec, CodecMissingError, build, is_ours
from vqcodec.bench.schema import ClipResult, CodecInfo, LeftOut
from vqcodec.errors import VqcodecError


@dataclass(frozen=True)
class Folders:
    """Where a run keeps its state: decoded frames and finished results."""

    root: Path

    @property
    def frames(self) -> FrameCache:
        """Decoded videos."""
        return FrameCache(self.root / "frames")

    @property
    def results(self) -> ResultCache:
        """Results of single clips."""
        return ResultCache(self.root / "results")


@dataclass(frozen=True)
class Outcome:
    """What a run found: results of all codecs on the clips that every one of them managed."""

    results: list[ClipResult]
    codecs: list[CodecInfo]
    skipped: list[LeftOut]


Progress = Callable[[str, int], None]  # codec, clips done since the last call


def run(
    codecs: Sequence[str],
    refs: Sequence[ClipRef],
    folders: Folders,
    *,
    jobs: int = 1,
    fresh: bool = False,
    progress: Progress = lambda codec, clips: None,
) -> Outcome:
    """Measure each codec at each of its settings on each clip.

    Every codec gets new processes, so that peak memory is its own, and each process one thread.
    A codec that this installation lacks is left out and named; a clip that cannot be read, or
    that a codec fails on, is left out for all of them and listed.

    Args:
        codecs: names for :func:`vqcodec.bench.codecs.build`.
        refs: the clips.
        folders: frames and results are kept there.
        jobs: processes at a time.
        fresh: measure again what the cache has.
        progress: called after each clip.

    Raises:
        UnknownCodecError: a codec of that name does not exist.
        VqcodecError: a process died; what it had finished is cached.
        OutputError: the cache cannot be written.
    """
    infos: list[CodecInfo] = []
    found: dict[str, list[list[ClipResult]]] = {}
    bad: dict[str, LeftOut] = {}
    for name in codecs:
        try:
            codec = build(name)
        except CodecMissingError as error:
            infos.append(CodecInfo(name, name, "", is_ours(name), missing=str(error)))
            continue
        infos.append(CodecInfo(name, codec.title, codec.identity, is_ours(name)))
        found[name] = []
        for ref, answer in zip(refs, _measure_all(name, refs, folders, jobs, fresh), strict=True):
            if isinstance(answer, str):
                bad.setdefault(ref.id, LeftOut(ref.id, f"{name}: {answer}"))
            else:
                found[name].append(answer)
            progress(name, 1)
    results = [
        result
        for name in found
        for answer in found[name]
        for result in answer
        if result.clip not in bad
    ]
    return Outcome(results, infos, list(bad.values()))


def _measure_all(
    name: str, refs: Sequence[ClipRef], folders: Folders, jobs: int, fresh: bool
) -> Iterator[list[ClipResult] | str]:
    # spawn: a forked child would inherit the parent's memory and torch's threads
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_end_with_parent) as pool:
        work = functools.partial(_measure_clip, name, folders, fresh)
        try:
            yield from pool.map(work, refs)
        except BrokenProcessPool as error:
            raise VqcodecError(f"{name}: a process died (out of memory, or a crash)") from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _end_with_parent() -> None:
    """Let a worker not outlive a parent that was killed: the pool would have it wait for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _measure_clip(name: str, folders: Folders, fresh: bool, ref: ClipRef) -> list[ClipResult] | str:
    """All settings of a codec on one clip, or one line that says why there are none."""
    try:
        clip = ref.load(folders.frames)
        sha256 = clip.sha256
        codec, perceptual = _codec(name), _perceptual()
        extras = "lpips dists" if perceptual else ""
        results = []
        for setting in codec.ladder:
            cached = folders.results.get(codec.identity, setting, sha256, extras)
            if cached is None or fresh:
                cached = measure(_warm(name), clip, setting, sha256, perceptual)
                folders.results.put(codec.identity, cached, extras)
            # the same pixels and bytes may have been measured under other names
            results.append(dataclasses.replace(cached, codec=name, clip=clip.id))
        return results
    except (VqcodecError, ValueError, RuntimeError, OSError) as error:
        return str(error).splitlines()[0] if str(error) else type(error).__name__


def measure(
    codec: Codec,
    clip: Clip,
    setting: str,
    sha256: str,
    perceptual: metrics.PerceptualMetrics | None = None,
) -> ClipResult:
    """Code one clip once and compare what comes back.

    Raises:
        ValueError: the codec gave back another number or size of frames.
    """
    start = time.perf_counter()
    encoded = codec.encode(clip.frames, clip.rate, setting)
    middle = time.perf_counter()
    decoded = codec.decode(encoded.payload)
    end = time.perf_counter()
    flicker = metrics.flicker(clip.frames, decoded)
    lpips, dists = perceptual(clip.frames, decoded) if perceptual else (None, None)
    frames, height, width = clip.frames.shape[:3]
    return ClipResult(
        codec=codec.name,
        setting=setting,
        clip=clip.id,
        clip_sha256=sha256,
        frames=frames,
        width=width,
        height=height,
        rate=str(clip.rate),
        stream_bytes=encoded.stream_bytes,
        file_bytes=encoded.file_bytes,
        fixed_bits=encoded.fixed_bits,
        deflate_bytes=encoded.deflate_bytes,
        psnr=metrics.psnr(clip.frames, decoded),
        ssim=metrics.ssim(clip.frames, decoded),
        pooled_psnr=metrics.pooled_psnr(clip.frames, decoded),
        ms_ssim=metrics.ms_ssim(clip.frames, decoded),
        flicker_inside=flicker.inside,
        flicker_border=flicker.border,
        lpips=lpips,
        dists=dists,
        encode_seconds=middle - start,
        decode_seconds=end - middle,
        peak_rss_bytes=_peak_rss(),
    )


def _peak_rss() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts KiB


@functools.cache
def _codec(name: str) -> Codec:
    if is_ours(name):
        from vqcodec.threads import compute_in_one_thread

        compute_in_one_thread()
    return build(name)


@functools.cache
def _warm(name: str) -> Codec:
    """The codec after a first use, which loads libraries and is no part of its speed."""
    codec = _codec(name)
    grey = np.full((32, 64, 64, 3), 128, np.uint8)
    codec.decode(codec.encode(grey, Fraction(16), codec.ladder[0]).payload)
    return codec


@functools.cache
def _perceptual() -> metrics.PerceptualMetrics | None:
    return None if metrics.perceptual_unavailable() else metrics.PerceptualMetrics()
