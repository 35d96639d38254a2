"""Folders of files: which there are below one, and what each becomes below another."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from vqcodec.errors import OutputError, SourceError


@dataclass(frozen=True)
class Task:
    """A file and what it becomes."""

    source: Path
    target: Path

    @property
    def is_done(self) -> bool:
        """Whether the target exists: outputs appear whole or not at all."""
        if self.target.is_dir():
            return any(self.target.iterdir())
        return self.target.exists()


def plan(source: Path, target: Path, *, suffixes: Collection[str], becomes: str) -> list[Task]:
    """Mirror the files below one folder in another, in order of their paths.

    ``a/clip.mp4`` becomes ``a/clip`` with the suffix ``becomes``. Where two would become the same,
    as ``clip.mp4`` and ``clip.avi``, the new suffix is appended to their whole names instead.

    Args:
        source: searched with all that is below it, but for hidden files, hidden folders, links to
            folders, and ``target``.
        target: where the results are to be; need not exist.
        suffixes: of the files wanted, in lower case.
        becomes: suffix of what they become; may be empty.

    Raises:
        SourceError: there are none, or a folder cannot be read.
        OutputError: ``target`` is a file.
    """
    if target.exists() and not target.is_dir():
        raise OutputError(f"{target}: is a file")
    found = sorted(
        path.relative_to(source)
        for path in _files_below(source, target)
        if path.suffix.lower() in suffixes
    )
    if not found:
        raise SourceError(f"{source}: no files {' '.join(sorted(suffixes))} in this folder")
    whole: set[Path] = set()  # those whose whole names are kept
    while True:
        names = [path.with_name((path.name if path in whole else path.stem) + becomes)
                 for path in found]  # fmt: skip
        count = Counter(names)
        clashing = {path for path, name in zip(found, names, strict=True) if count[name] > 1}
        if clashing <= whole:
            break
        whole |= clashing  # may clash with a third, as a.mp4.vqv of a.mp4 and of a.mp4.avi
    return [Task(source / path, target / name) for path, name in zip(found, names, strict=True)]


def _files_below(folder: Path, but: Path) -> Iterator[Path]:
    avoided = but.resolve()

    def fail(error: OSError) -> None:
        raise SourceError(f"{error.filename}: {error.strerror}") from error

    for name, folders, files in os.walk(folder, onerror=fail):
        here = Path(name)
        folders[:] = [
            inner
            for inner in folders
            if not inner.startswith(".") and (here / inner).resolve() != avoided
        ]
        for file in files:
            if not file.startswith(".") and (here / file).is_file():
                yield here / file
