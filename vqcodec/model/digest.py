"""Hashes over tensors: of a whole checkpoint, to find damage, and of the parts that identify it.

No torch here: whoever reads only the prior checks the whole file too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import NamedTuple


class Stored(NamedTuple):
    """A tensor as a safetensors file holds it.

    Attributes:
        dtype: as safetensors calls it.
        shape: its sides.
        data: its bytes.
    """

    dtype: str
    shape: tuple[int, ...]
    data: bytes | memoryview


def hash_of(preamble: str, tensors: Mapping[str, Stored]) -> bytes:
    """SHA-256 of ``preamble`` and the name, dtype, shape and bytes of each tensor, by name."""
    digest = hashlib.sha256(preamble.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.data)
    return digest.digest()


def file_digest(metadata: Mapping[str, str], tensors: Mapping[str, Stored]) -> str:
    """Hex of the hash of all that a checkpoint holds.

    Raises:
        KeyError: it has no configuration, or no card.
    """
    optional = [key for key in ("prior", "prior_digest") if key in metadata]
    preamble = "".join(f"{metadata[key]}\n" for key in ("config", "card", *optional))
    return hash_of(preamble, tensors).hex()
