"""The prior out of a checkpoint, without torch: what it takes to read the indices of a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vqcodec.entropy.config import PriorConfig
from vqcodec.entropy.prior import Prior
from vqcodec.errors import CheckpointError
from vqcodec.model.digest import Stored, file_digest
from vqcodec.model.header import read_header

_PREFIX = "prior."
_DTYPES = {"I8": np.int8, "I32": np.int32}


def load_prior(path: Path) -> Prior | None:
    """The prior of a checkpoint; None if it has none.

    Raises:
        CheckpointError: missing, unreadable, too large, damaged, or not a vqcodec checkpoint.
    """
    metadata = read_header(path).metadata
    if "prior" not in metadata:
        return None
    from safetensors import SafetensorError, deserialize

    try:
        found = deserialize(path.read_bytes())  # type: ignore[no-untyped-call]
        tensors = {
            name: Stored(tensor["dtype"], tuple(tensor["shape"]), tensor["data"])
            for name, tensor in found
        }
        if file_digest(metadata, tensors) != metadata["digest"]:
            raise CheckpointError("damaged: its digest does not match")
        arrays = {
            name.removeprefix(_PREFIX): np.frombuffer(tensor.data, _DTYPES[tensor.dtype]).reshape(
                tensor.shape
            )
            for name, tensor in tensors.items()
            if name.startswith(_PREFIX)
        }
        prior = Prior.from_tensors(PriorConfig.from_json(metadata["prior"]), arrays)
        if prior.digest().hex() != metadata["prior_digest"]:
            raise CheckpointError("its prior computes other numbers here than where it was trained")
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from error
    except (SafetensorError, KeyError, ValueError, CheckpointError) as error:
        raise CheckpointError(f"{path}: {error}") from error
    return prior
