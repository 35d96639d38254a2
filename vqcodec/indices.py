"""The indices in a ``.vqv`` file, read with the prior of its model but without the network."""

from __future__ import annotations

import contextlib
from pathlib import Path

from vqcodec.container import Header
from vqcodec.container.file import VqvFile
from vqcodec.container.file import open as open_file
from vqcodec.entropy.prior import Prior
from vqcodec.errors import ModelMismatchError
from vqcodec.model import registry
from vqcodec.model.prior import load_prior


def open(path: Path | str, model: Path | str | None = None) -> VqvFile:
    """Open a ``.vqv`` file; iterating yields its chunks, and ``chunk.grids()`` their indices.

    Each grid is int16 (T', H', W'), coarsest level first, as ``file.header.grid_shapes(frames)``
    tells: for 32 frames of 64×64 (4, 8, 8), (4, 16, 16), ... If the file needs the prior of its
    model, that is read from the checkpoint when it is first needed. No network is loaded.

    Args:
        path: of the file.
        model: a shipped model by name, or a checkpoint; None for the one that the file names.

    Raises:
        SourceError: the file cannot be opened.
        FormatError: it is not a ``.vqv`` file that can be read here.
    """
    if model is None:
        return open_file(path, find_prior)

    def find(_header: Header) -> Prior | None:
        return load_prior(registry.find(model))

    return open_file(path, find)


def find_prior(header: Header) -> Prior | None:
    """The prior of the shipped model that a file names; None if that is not shipped or has none.

    Raises:
        CheckpointError: the model is damaged.
    """
    with contextlib.suppress(ModelMismatchError):
        return load_prior(registry.find_by_id(header.model_id))
    return None
