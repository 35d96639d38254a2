"""Unpack a data set's archive: zip and tar here, RAR through a tool that knows it."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path

from vqcodec.errors import DataError
from vqcodec.files import make_folder

# RAR has no free library for Python; these read it. "{archive}" and "{folder}" are filled in.
_RAR_TOOLS = (
    ("unrar", "x", "-idq", "-o+", "{archive}", "{folder}/"),
    ("bsdtar", "-xf", "{archive}", "-C", "{folder}"),
    ("7z", "x", "-y", "-bd", "-o{folder}", "{archive}"),
    ("7zz", "x", "-y", "-bd", "-o{folder}", "{archive}"),
    ("unar", "-q", "-f", "-o", "{folder}", "{archive}"),
)


def unpack(archive: Path, folder: Path) -> None:
    """Unpack ``archive`` (.rar, .zip, .tar and its compressed kinds) into ``folder``.

    Members that would land outside ``folder`` are refused.

    Raises:
        DataError: missing or damaged archive, unknown kind, or no tool here that reads RAR.
        OutputError: the folder cannot be made.
    """
    if not archive.is_file():
        raise DataError(f"{archive}: no such file")
    make_folder(folder)
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as zipped:
                zipped.extractall(folder)  # drops "..", absolute paths and drive letters itself
        elif tarfile.is_tarfile(archive):
            with tarfile.open(archive) as tarred:
                tarred.extractall(folder, filter="data")
        elif archive.suffix.lower() == ".rar":
            _unpack_rar(archive, folder)
        else:
            raise DataError(f"{archive}: neither zip, tar nor rar")
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, OSError) as error:
        raise DataError(f"{archive}: cannot unpack: {error}") from error


def _unpack_rar(archive: Path, folder: Path) -> None:
    tool = next((tool for tool in _RAR_TOOLS if shutil.which(tool[0])), None)
    if tool is None:
        names = ", ".join(name for name, *_ in _RAR_TOOLS)
        raise DataError(
            f"{archive}: reading RAR needs one of {names} on the PATH "
            "(Debian and Ubuntu: apt install libarchive-tools)"
        )
    command = [part.format(archive=archive.absolute(), folder=folder.absolute()) for part in tool]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise DataError(f"{archive}: {tool[0]} failed: {lines[-1] if lines else done.returncode}")
