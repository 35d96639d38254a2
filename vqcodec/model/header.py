"""The header of a safetensors file: its metadata and what tensors it holds, read without torch.

A file is an 8-byte little-endian length, that many bytes of JSON, then the tensors' bytes.
"""

from __future__ import annotations

import json
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vqcodec.errors import CheckpointError

MAX_BYTES = 1 << 30  # of a whole file
MAX_HEADER = 1 << 20
DTYPES = frozenset({"BOOL", "U8", "I8", "I16", "I32", "I64", "F16", "BF16", "F32", "F64"})


@dataclass(frozen=True)
class Header:
    """What a file says of itself; nothing is known yet of the bytes that follow.

    Attributes:
        metadata: free text by key.
        tensors: dtype (as safetensors calls it) and shape by name.
    """

    metadata: dict[str, str]
    tensors: dict[str, tuple[str, tuple[int, ...]]]


def read_header(path: Path) -> Header:
    """Read the header of a safetensors file, with sizes checked before anything is read.

    Raises:
        CheckpointError: missing, unreadable, too large, or not a safetensors file.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > MAX_BYTES:
                raise CheckpointError(f"{path}: {size} bytes are more than a checkpoint may have")
            (length,) = struct.unpack("<Q", file.read(8).ljust(8, b"\xff"))
            if length > min(MAX_HEADER, size - 8):
                raise CheckpointError(f"{path}: not a safetensors file")
            text = file.read(length)
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from error
    try:
        return _parse(json.loads(text.decode()))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path}: damaged header: {error}") from error


def _parse(fields: dict[str, Any]) -> Header:
    metadata = fields.pop("__metadata__", {})
    if not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("metadata must be text")
    tensors = {}
    for name, entry in fields.items():
        dtype, shape = entry["dtype"], entry["shape"]
        if dtype not in DTYPES:
            raise ValueError(f"{name}: unknown dtype {dtype}")
        if len(shape) > 8 or not all(type(side) is int and side > 0 for side in shape):
            raise ValueError(f"{name}: impossible shape {shape}")
        tensors[name] = (dtype, tuple(shape))
    return Header(metadata, tensors)
