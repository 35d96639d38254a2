"""Outputs that appear whole or not at all: write beside the destination, then rename."""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from vqcodec.errors import OutputError

_STANDARD = {"<stdin>": "standard input", "<stdout>": "standard output"}


def name_of(file: Path | str | BinaryIO) -> str:
    """What to call a source or a target in a message."""
    if isinstance(file, (str, Path)):
        return str(file)
    name = str(getattr(file, "name", "stream"))
    return _STANDARD.get(name, name)


@contextlib.contextmanager
def replacing(path: Path, *, force: bool = False, folder: bool = False) -> Iterator[Path]:
    """Yield a temporary path in the folder of ``path`` with the same suffix; rename it on success.

    It is an empty file, or an empty folder if ``folder``. On any exception it is removed and the
    destination is left as it was. A link stays, and what it leads to is replaced. A folder takes
    the place of another only if that holds nothing but numbered pictures: nobody's other files are
    ever deleted. A device or named pipe is yielded itself, to be written to.

    Raises:
        OutputError: ``path`` exists and ``force`` is false; its folder does not exist or is
            read-only; the disk is full; and whatever :class:`OutputError` or :class:`OSError` is
            raised inside, with the name of ``path``.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        yield path
        return
    _check(path, force=force, folder=folder)
    target = Path(os.path.realpath(path))
    temporary = target
    try:
        temporary = _make_beside(target, folder)
        yield temporary
        temporary.chmod((0o777 if folder else 0o666) & ~_umask())
        if folder and target.is_dir():  # a folder that is not empty cannot be renamed over
            aside = target.rename(target.with_name(f"{temporary.name}.old"))
            temporary.replace(target)
            temporary = aside
        else:
            temporary.replace(target)
    except OutputError as error:
        raise OutputError(str(error).replace(str(temporary), str(path))) from error
    except OSError as error:
        raise OutputError(f"{path}: {error.strerror or error}") from error
    finally:
        if temporary != target:
            _remove(temporary)


def make_folder(path: Path) -> None:
    """Make a folder, and those that it is to lie in, if they are not there.

    Raises:
        OutputError: that cannot be.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{path}: {error.strerror or error}") from error


@contextlib.contextmanager
def writing(target: Path | str | BinaryIO, *, force: bool = False) -> Iterator[BinaryIO]:
    """Yield the stream itself, or a file that takes the place of ``target`` at the end.

    Raises:
        OutputError: see :func:`replacing`.
    """
    if isinstance(target, (str, Path)):
        with replacing(Path(target), force=force) as temporary, temporary.open("wb") as file:
            yield file
    else:
        yield target
        target.flush()


def remove_leftovers(path: Path, process: int) -> None:
    """Remove what a process that was killed has left of its writing to ``path``."""
    target = Path(os.path.realpath(path))
    prefix = glob.escape(_prefix(target, process))
    for leftover in target.parent.glob(f"{prefix}*.part{glob.escape(target.suffix)}"):
        _remove(leftover)


def _check(path: Path, *, force: bool, folder: bool) -> None:
    """Refuse early what would fail late."""
    if not path.absolute().parent.is_dir():
        raise OutputError(f"{path}: no such folder: {path.absolute().parent}")
    if path.exists() and path.is_dir() != folder:
        raise OutputError(f"{path}: is a {'file' if folder else 'folder'}")
    content = list(path.iterdir()) if path.is_dir() else []
    if path.exists() and not force and (content or not folder):
        raise OutputError(f"{path}: already exists (use -f to overwrite)")
    if not all(map(_is_numbered_picture, content)):
        raise OutputError(f"{path}: holds other files than numbered pictures; will not replace it")


def _make_beside(target: Path, folder: bool) -> Path:
    prefix, suffix = _prefix(target, os.getpid()), ".part" + target.suffix
    if folder:
        return Path(tempfile.mkdtemp(prefix=prefix, suffix=suffix, dir=target.parent))
    handle, name = tempfile.mkstemp(prefix=prefix, suffix=suffix, dir=target.parent)
    os.close(handle)
    return Path(name)


def _prefix(target: Path, process: int) -> str:
    return f".{target.stem[:40]}.{process}-"


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _is_numbered_picture(path: Path) -> bool:
    return path.suffix == ".png" and path.stem.isdigit() and path.is_file()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
