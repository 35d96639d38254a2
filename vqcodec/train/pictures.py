"""Photographs on disk: found in folders and tar files, read one at a time, never unpacked."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vqcodec.errors import DataError

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})


@dataclass(frozen=True)
class Picture:
    """One encoded picture: a file, or a stretch of a tar file.

    Attributes:
        file: where its bytes are.
        name: what to call it.
        offset, size: which of the bytes; a size of -1 is all.
    """

    file: Path
    name: str
    offset: int = 0
    size: int = -1

    def decode(self, side: int) -> Tensor:
        """uint8 (3, H, W), scaled down until the shorter side is ``side``, never up.

        Raises:
            DataError: it cannot be read.
        """
        from PIL import Image, ImageOps

        try:
            with self.file.open("rb") as file:
                file.seek(self.offset)
                data = BytesIO(file.read(self.size))
            with Image.open(data) as opened:
                opened.draft("RGB", (side, side))  # a large JPEG is not decoded in full
                image = ImageOps.exif_transpose(opened).convert("RGB")
            scale = side / min(image.size)
            if scale < 1:
                width, height = (round(length * scale) for length in image.size)
                image = image.resize((width, height), Image.Resampling.BICUBIC)
        except Exception as error:  # Pillow lets the errors of many parsers through
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise DataError(f"{self.name}: {reason}") from error
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def find_pictures(
    roots: Sequence[Path], *, report: Callable[[str], None] = lambda _problem: None
) -> list[Picture]:
    """All pictures below ``roots``, in folders and in uncompressed tar files, in a fixed order.

    Args:
        roots: folders, tar files or pictures.
        report: called with what is wrong with a tar file; what it holds before that counts.

    Raises:
        DataError: a root does not exist, or there is no picture.
    """
    paths: set[Path] = set()
    for root in roots:
        if not root.exists():
            raise DataError(f"{root}: no such file or folder")
        paths.update(root.rglob("*") if root.is_dir() else [root])
    found: list[Picture] = []
    for path in sorted(paths):
        suffix = path.suffix.lower()
        if suffix in PICTURE_SUFFIXES and path.is_file():
            found.append(Picture(path, str(path)))
        elif suffix == ".tar" and path.is_file():
            found += _members(path, report)
    if not found:
        raise DataError(f"{', '.join(map(str, roots))}: no pictures found")
    return found


def _members(path: Path, report: Callable[[str], None]) -> list[Picture]:
    """The pictures of a tar file: where they lie, not what they hold."""
    found = []
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                plain = member.isreg() and not member.issparse()
                if plain and Path(member.name).suffix.lower() in PICTURE_SUFFIXES:
                    name = f"{path}/{member.name}"
                    found.append(Picture(path, name, member.offset_data, member.size))
    except (OSError, tarfile.TarError) as error:
        report(f"{path}: {error}")
    return found
