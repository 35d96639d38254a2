"""The payload of a range chunk: where each level ends in the stream, then the stream.

Knows nothing of what is in the stream, so levels can be dropped without the prior that it was coded
with. For each level but the last comes the number of bytes of the stream that it and those before
it need, less the same number of the level before; in LEB128, as short as can be.
"""

from __future__ import annotations

from collections.abc import Sequence

from vqcodec.container import number
from vqcodec.container.layout import MAX_PAYLOAD
from vqcodec.errors import FormatError

MAX_NUMBER_BYTES = 3  # enough for any payload


def join(stream: bytes, ends: Sequence[int]) -> bytes:
    """Return the payload; ``ends`` never decrease, and are of all levels but the last."""
    lengths = [number.to_bytes(end - before) for before, end in zip((0, *ends), ends, strict=False)]
    return b"".join(lengths) + stream


def split(payload: bytes, levels: int) -> tuple[tuple[int, ...], bytes]:
    """Return where the levels but the last end in the stream, and the stream.

    The payload may be cut off within the stream; ends then lie beyond it.

    Raises:
        FormatError: the payload does not begin with ``levels`` - 1 such numbers.
    """
    ends, end, offset = [], 0, 0
    for _ in range(levels - 1):
        length, offset = _number(payload, offset)
        end += length
        ends.append(end)
    if ends and (ends[0] == 0 or end > MAX_PAYLOAD):
        raise FormatError("levels end outside of the stream")
    return tuple(ends), payload[offset:]


def check(payload: bytes, levels: int) -> None:
    """Do nothing if a whole payload is in order as far as that can be told without the prior.

    Raises:
        FormatError: it is not.
    """
    ends, stream = split(payload, levels)
    if not stream or ends[-1:] > (len(stream),):
        raise FormatError("levels end outside of the stream")


def keep(payload: bytes, levels: int, kept: int) -> bytes:
    """Return the payload with only the first ``kept`` of its ``levels``.

    Raises:
        FormatError: see :func:`check`.
    """
    check(payload, levels)
    ends, stream = split(payload, levels)
    if kept == levels:
        return payload
    return join(stream[: ends[kept - 1]], ends[: kept - 1])


def _number(payload: bytes, offset: int) -> tuple[int, int]:
    """The number at ``offset``, and the offset behind it."""
    value, end = number.parse(payload, offset, MAX_NUMBER_BYTES)
    if end - offset != len(number.to_bytes(value)):
        raise FormatError("a number is longer than need be")
    return value, end
