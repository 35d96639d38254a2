"""Numbers of the format that take as many bytes as they need: LEB128.

Seven bits a byte, lowest first; the top bit says that another byte follows.
"""

from __future__ import annotations

from vqcodec.errors import FormatError


def to_bytes(value: int) -> bytes:
    """``value``, at least 0, in the fewest bytes."""
    data = bytearray()
    while value > 0x7F:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    data.append(value)
    return bytes(data)


def parse(data: bytes, offset: int, most: int) -> tuple[int, int]:
    """The number at ``offset``, of up to ``most`` bytes, and the offset behind it.

    Raises:
        FormatError: it does not end there.
    """
    value = 0
    for place, byte in enumerate(data[offset : offset + most]):
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return value, offset + place + 1
    raise FormatError("a number does not end")
