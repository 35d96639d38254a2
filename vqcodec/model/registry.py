"""Which models there are: the checkpoints that are shipped, and how one is found by name.

Reads only the headers of checkpoints; no torch here, so listing them is quick.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vqcodec.errors import CheckpointError, ModelMismatchError
from vqcodec.model.header import read_header

DEFAULT = "base"


@dataclass(frozen=True)
class Model:
    """A checkpoint on disk.

    Attributes:
        name: file name without its suffix.
        path: the file.
        bytes: its size.
        model_id: hex SHA-256 of what decides decoded pictures.
        card: what it was trained on and how well it does.
    """

    name: str
    path: Path
    bytes: int
    model_id: str
    card: dict[str, Any]


def weights_folder() -> Path:
    """Where checkpoints lie: inside an installed package, beside it in a source tree."""
    package = Path(__file__).parents[1]
    installed = package / "weights"
    return installed if installed.is_dir() else package.parent / "weights"


def shipped() -> list[Model]:
    """All shipped checkpoints that can be read, by name."""
    models = []
    for path in sorted(weights_folder().glob("*.safetensors")):
        with contextlib.suppress(CheckpointError):
            models.append(describe(path))
    return models


def describe(path: Path) -> Model:
    """Read what a checkpoint says of itself.

    Raises:
        CheckpointError: missing or not a vqcodec checkpoint.
    """
    metadata = read_header(path).metadata
    try:
        card, model_id = json.loads(metadata["card"]), metadata["model_id"]
        if not isinstance(card, dict) or len(bytes.fromhex(model_id)) != 32:
            raise ValueError("card or model_id malformed")
    except (ValueError, KeyError, RecursionError) as error:
        raise CheckpointError(f"{path}: not a vqcodec checkpoint") from error
    return Model(path.stem, path, path.stat().st_size, model_id, card)


def find(model: Path | str | None) -> Path:
    """The checkpoint called ``model``: a path, the name of a shipped one, or None for the default.

    Raises:
        CheckpointError: there is no such model.
    """
    name = str(model or DEFAULT)
    inside = weights_folder() / f"{name}.safetensors"
    if "/" not in name and "\\" not in name and inside.is_file():
        return inside
    if Path(name).is_file():
        return Path(name)
    known = ", ".join(entry.name for entry in shipped()) or "none"
    raise CheckpointError(f"no model {name}: neither a file nor one of those shipped ({known})")


def find_by_id(model_id: bytes) -> Path:
    """The shipped checkpoint whose identity begins with ``model_id``, as a file's header has it.

    Raises:
        ModelMismatchError: none of them.
    """
    models = shipped()
    for model in models:
        if model.model_id.startswith(model_id.hex()):
            return model.path
    known = ", ".join(f"{model.name} {model.model_id[:16]}" for model in models) or "none"
    raise ModelMismatchError(
        f"the file needs model {model_id.hex()}, which is not shipped here ({known}); "
        "name its checkpoint with --model"
    )
