"""What an encoder's elementary stream holds, unit by unit, and the stream without its banner.

x264 and x265 write their name, version and options into an SEI message of type
*user data unregistered* (x264: 0.66 KB, a quarter of a small clip). It carries no picture, so
rates are also reported without it. The streams left are complete: any decoder plays them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_START_CODE = re.compile(rb"\x00\x00\x01")
_USER_DATA_UNREGISTERED = 5


@dataclass(frozen=True)
class NalSyntax:
    """Where a standard puts the type of a NAL unit, and which types are SEI.

    Attributes:
        header: bytes of the unit's header.
        shift: the type is ``(first byte >> shift) & mask``.
        mask: see ``shift``.
        sei: types of SEI units.
    """

    header: int
    shift: int
    mask: int
    sei: frozenset[int]

    def is_sei(self, unit: bytes) -> bool:
        """Whether a NAL unit (without start code) holds SEI messages."""
        return bool(unit) and (unit[0] >> self.shift) & self.mask in self.sei


H264 = NalSyntax(header=1, shift=0, mask=0x1F, sei=frozenset({6}))
HEVC = NalSyntax(header=2, shift=1, mask=0x3F, sei=frozenset({39, 40}))


def nal_units(stream: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Split an Annex B stream into (start code, NAL unit); joined again they give the stream.

    Emulation prevention keeps 00 00 01 out of the units, so the search is exact.

    Raises:
        ValueError: bytes before the first start code.
    """
    starts = [match.start() for match in _START_CODE.finditer(stream)]
    if not starts:
        if stream:
            raise ValueError("not an Annex B stream: no start code")
        return
    # A zero byte before 00 00 01 belongs to a four-byte start code (a unit never ends in zero).
    opens = [s - 1 if s and stream[s - 1] == 0 else s for s in starts]
    if opens[0] != 0:
        raise ValueError("not an Annex B stream: bytes before the first start code")
    for begin, start, end in zip(opens, starts, [*opens[1:], len(stream)], strict=True):
        yield stream[begin : start + 3], stream[start + 3 : end]


def strip_banner(stream: bytes, syntax: NalSyntax) -> bytes:
    """Annex B stream without SEI messages of type user data unregistered; the rest unchanged.

    Raises:
        ValueError: not an Annex B stream, or a damaged SEI unit.
    """
    kept = bytearray()
    for start_code, unit in nal_units(stream):
        if syntax.is_sei(unit):
            messages = list(_sei_messages(_unescape(unit[syntax.header :])))
            others = [raw for kind, raw in messages if kind != _USER_DATA_UNREGISTERED]
            if not others:
                continue
            if len(others) < len(messages):
                unit = unit[: syntax.header] + _escape(b"".join(others) + b"\x80")
        kept += start_code + unit
    return bytes(kept)


def _sei_messages(payload: bytes) -> Iterator[tuple[int, bytes]]:
    """(type, whole message) of each SEI message in an unescaped payload."""
    at = 0
    while at < len(payload) and payload[at:].rstrip(b"\x00") != b"\x80":  # else trailing bits
        begin = at
        kind, at = _sei_number(payload, at)
        size, at = _sei_number(payload, at)
        at += size
        if at > len(payload):
            raise ValueError("damaged SEI unit: a message runs past its end")
        yield kind, payload[begin:at]


def _sei_number(payload: bytes, at: int) -> tuple[int, int]:
    """A number coded as bytes of 255 and one below, and the position after it."""
    value = 0
    while at < len(payload):
        byte = payload[at]
        value, at = value + byte, at + 1
        if byte != 255:
            return value, at
    raise ValueError("damaged SEI unit: it ends inside a number")


def _unescape(unit: bytes) -> bytes:
    """Drop the 03 of every 00 00 03."""
    return re.sub(rb"\x00\x00\x03", b"\x00\x00", unit)


def _escape(payload: bytes) -> bytes:
    """Put 03 between 00 00 and a byte of 3 or less."""
    return re.sub(rb"\x00\x00(?=[\x00-\x03])", b"\x00\x00\x03", payload)
