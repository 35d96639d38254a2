"""Outputs that appear whole or not at all: write beside the destination, then rename."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from vqcodec.errors import OutputError


def check_writable(path: Path, *, force: bool) -> None:
    """Refuse early what would fail late.

    Raises:
        OutputError: ``path`` exists and ``force`` is false, or its folder does not exist.
    """
    if path.exists() and not force and not _is_empty_folder(path):
        raise OutputError(f"{path}: already exists (use -f to overwrite)")
    if not path.absolute().parent.is_dir():
        raise OutputError(f"{path}: no such folder: {path.absolute().parent}")


@contextlib.contextmanager
def replacing(path: Path, *, force: bool = False, folder: bool = False) -> Iterator[Path]:
    """Yield a temporary path in the folder of ``path`` with the same suffix; rename it on success.

    It is an empty file, or an empty folder if ``folder``. On any exception it is removed and the
    destination is left as it was. A folder takes the place of another only if that holds nothing
    but numbered pictures: nobody's other files are ever deleted.

    Raises:
        OutputError: see :func:`check_writable`; also for a full disk or a read-only folder.
    """
    check_writable(path, force=force)
    if folder and path.is_dir() and not all(map(_is_numbered_picture, path.iterdir())):
        raise OutputError(f"{path}: holds other files than numbered pictures; will not replace it")
    target = path.absolute()
    prefix, suffix = f".{target.stem}.", ".part" + target.suffix
    try:
        if folder:
            name = tempfile.mkdtemp(prefix=prefix, suffix=suffix, dir=target.parent)
        else:
            handle, name = tempfile.mkstemp(prefix=prefix, suffix=suffix, dir=target.parent)
            os.close(handle)
    except OSError as error:
        raise OutputError(f"{path}: {error.strerror}") from error
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod((0o777 if folder else 0o666) & ~_umask())
        if folder and target.is_dir():  # a folder that is not empty cannot be renamed over
            shutil.rmtree(target)
        temporary.replace(target)
    except OSError as error:
        raise OutputError(f"{path}: {error.strerror or error}") from error
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)


def _is_empty_folder(path: Path) -> bool:
    return path.is_dir() and next(path.iterdir(), None) is None


def _is_numbered_picture(path: Path) -> bool:
    return path.suffix == ".png" and path.stem.isdigit()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
