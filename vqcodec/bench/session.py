"""A whole run from options to a :class:`~vqcodec.bench.schema.Bench`: what the CLI calls."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

from vqcodec import metrics
from vqcodec.bench import datasets
from vqcodec.bench.clips import ClipRef, Mode, Skipped, Video, cut_clips, spread
from vqcodec.bench.compare import aggregate, compare
from vqcodec.bench.runner import Folders, Progress, run
from vqcodec.bench.schema import SCHEMA, Bench, LeftOut
from vqcodec.errors import DataError

DatasetName = Literal["folder", "ucf101", "authors"]
_LIBRARIES = ("vqcodec", "av", "numpy", "scikit-image", "scipy", "torch")


@dataclass(frozen=True)
class Options:
    """What to measure.

    Attributes:
        dataset: ``folder`` (any videos), ``ucf101`` (as distributed) or ``authors`` (the UCF101
            clips with published per-clip results).
        root: the data set's folder.
        folders: where decoded frames and results are kept.
        codecs: names for :func:`vqcodec.bench.codecs.build`.
        mode: each clip of 32 frames alone, or whole videos.
        limit: a spread sample of so many clips (or videos).
        split: of UCF101.
        seed: of UCF101's split.
        jobs: processes at a time.
        fresh: measure again what the cache has.

    Raises:
        ValueError: whole videos of the authors' clips.
    """

    dataset: DatasetName
    root: Path
    folders: Folders
    codecs: Sequence[str] = ()
    mode: Mode = "clips"
    limit: int | None = None
    split: datasets.Split = "test"
    seed: int = 0
    jobs: int = 1
    fresh: bool = False

    def __post_init__(self) -> None:
        if self.dataset == "authors" and self.mode != "clips":
            raise ValueError("the authors' data set is made of clips: no --mode videos")


def find_clips(
    options: Options, progress: Callable[[Iterable[Video]], Iterable[Video]] = iter
) -> tuple[list[ClipRef], list[Skipped]]:
    """The clips to measure; decodes what the cache does not have yet (``--prepare``).

    Raises:
        DataError: the data set is missing, or none of its files gives a clip.
    """
    if options.dataset == "authors":
        refs = datasets.authors_clips(options.root)
        return (spread(refs, options.limit) if options.limit else refs), []
    if options.dataset == "ucf101":
        videos = datasets.ucf101_videos(options.root, options.split, options.seed)
    else:
        videos = datasets.folder_videos(options.root)
    refs, skipped = cut_clips(
        videos, options.folders.frames, mode=options.mode, limit=options.limit, progress=progress
    )
    if not refs:
        why = f", such as {skipped[0].id}: {skipped[0].reason}" if skipped else ""
        raise DataError(f"{options.root}: no clips ({len(skipped)} files skipped{why})")
    return refs, skipped


def measure(
    options: Options,
    refs: Sequence[ClipRef],
    skipped: Sequence[Skipped],
    progress: Progress = lambda codec, clips: None,
) -> Bench:
    """Measure every codec on the clips and compare ours with the peers.

    Raises:
        UnknownCodecError: no codec has a name that was given.
        OutputError: the cache cannot be written.
    """
    outcome = run(
        options.codecs,
        refs,
        options.folders,
        jobs=options.jobs,
        fresh=options.fresh,
        progress=progress,
    )
    present = [c for c in outcome.codecs if c.missing is None] if outcome.results else []
    left_out = [LeftOut(item.id, item.reason) for item in skipped]
    perceptual = metrics.perceptual_unavailable()
    return Bench(
        schema=SCHEMA,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        command=_command(),
        machine=_machine(),
        versions=_versions(),
        dataset=options.dataset,
        options=_options(options),
        mode=options.mode,
        codecs=outcome.codecs,
        skipped=left_out + outcome.skipped,
        notes=[perceptual + "."] if perceptual else [],
        points=aggregate(outcome.results),
        comparisons=compare(
            outcome.results,
            [c.name for c in present if c.ours],
            [c.name for c in present if not c.ours],
        ),
        results=outcome.results,
    )


def _options(options: Options) -> dict[str, Any]:
    shown: dict[str, Any] = {"limit": options.limit, "fresh": options.fresh or None}
    if options.dataset == "ucf101":
        shown |= {"split": options.split, "seed": options.seed}
    return shown


def _command() -> str:
    """The command line with the program's bare name: paths of this machine say nothing."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def _machine() -> dict[str, str]:
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "Python": platform.python_version(),
    }


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or "unknown"
    names = [line.split(":", 1)[1].strip() for line in text.splitlines() if "model name" in line]
    return names[0] if names else platform.processor() or "unknown"


def _versions() -> dict[str, str]:
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    import av

    for name, version in av.library_versions.items():
        if name in ("libavcodec", "libswscale"):
            found[name] = ".".join(map(str, version))
    return found
