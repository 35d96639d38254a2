"""Headers of version 1, of files written before; every number there has its fixed size."""

from __future__ import annotations

import struct
from typing import NamedTuple

from vqcodec.container.layout import MAGIC
from vqcodec.errors import FormatError, TruncatedError, UnsupportedError

# As in PNG: CR LF, Ctrl-Z and LF, which a transfer in text mode would alter.
_MAGIC = MAGIC + b"\r\n\x1a\n"
_MAJOR = 1
_PREFIX = struct.Struct("<8sBBH")  # magic, major, minor, length of the body
_BODY = struct.Struct("<6HI8sB")
_LEVEL = struct.Struct("<BH")
_CRC_BYTES = 4

PREFIX_BYTES = _PREFIX.size


class Fields(NamedTuple):
    """What the header of any version holds, its values not checked yet.

    Attributes:
        width, height: in pixels.
        aspect, rate: numerator and denominator.
        frames, model_id: see :class:`vqcodec.container.header.Header`.
        levels: strides as the format has them, and entries.
    """

    width: int
    height: int
    aspect: tuple[int, int]
    rate: tuple[int, int]
    frames: int
    model_id: bytes
    levels: tuple[tuple[int, int], ...]


def begins(prefix: bytes) -> bool:
    """Whether a file that begins so is of version 1, or was before a transfer in text mode."""
    return prefix[len(MAGIC) : len(MAGIC) + 1] in (b"\r", b"\n")


def measure(prefix: bytes) -> int:
    """See :meth:`vqcodec.container.header.Header.measure`."""
    magic = prefix[: len(_MAGIC)]
    if magic != _MAGIC[: len(magic)]:
        raise FormatError("the file was altered by a transfer in text mode")
    if len(prefix) < _PREFIX.size:
        raise TruncatedError(f"the file ends at byte {len(prefix)}, inside the header")
    _, major, minor, length = _PREFIX.unpack_from(prefix)
    if major != _MAJOR:
        raise UnsupportedError(f"the file has format version {major}.{minor}")
    return _PREFIX.size + int(length) + _CRC_BYTES


def parse(data: bytes) -> Fields:
    """What a header without its CRC holds; fields of newer minor versions are ignored.

    Raises:
        FormatError: it ends too early.
    """
    body = data[_PREFIX.size :]
    if len(body) < _BODY.size:
        raise FormatError(f"body of {len(body)} bytes")
    width, height, *ratios, frames, model_id, count = _BODY.unpack_from(body)
    if len(body) < _BODY.size + count * _LEVEL.size:
        raise FormatError(f"no room for {count} levels")
    return Fields(
        width=width,
        height=height,
        aspect=(ratios[0], ratios[1]),
        rate=(ratios[2], ratios[3]),
        frames=frames,
        model_id=model_id,
        levels=tuple(
            _LEVEL.unpack_from(body, _BODY.size + place * _LEVEL.size) for place in range(count)
        ),
    )
