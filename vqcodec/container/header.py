"""The header: what all chunks of a file have in common.

Most numbers take as many bytes as they need: the smallest files are hardly larger than it is.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from math import prod

from vqcodec.container import header1, number
from vqcodec.container.layout import MAGIC, MAX_FRAMES, MAX_PAYLOAD, VERSION
from vqcodec.entropy.details import COLOURS, ENTRIES
from vqcodec.errors import ChecksumError, FormatError, TruncatedError, UnsupportedError
from vqcodec.limits import MAX_ENTRIES, MAX_LEVELS, MAX_PLANES

MAX_SIDE = 4096
MAX_STRIDE_T = 64
MAX_STRIDE = 128
MODEL_ID_BYTES = 8
MAX_DETAIL_PIXELS = 1 << 23  # of a chunk with details

LONGEST_PREFIX = header1.PREFIX_BYTES  # what :meth:`Header.measure` needs of any version

_PREFIX = struct.Struct("<4sBB")  # magic, version, length of the body
_FIXED = struct.Struct("<I8sB")  # frames, model identity, number of levels
_CRC = struct.Struct("<I")
_SIDE = 8  # sides are counted in pixels times this
_RATIO_BYTES = _LEVEL_BYTES = 3  # of the longest numbers
_DETAILS = 0x08  # in a level's strides
_POWERS = 16  # sizes of codebooks: below it the logarithms of powers of two, from it all others

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Level:
    """One grid of indices.

    Attributes:
        stride_t: frames per index, a power of two in 1–64.
        stride: pixels per index in height and in width, a power of two in 1–128.
        entries: size of the codebook, 2–32768; indices are below it.
        details: a plane of details; its grid has a coefficient for each pixel and colour, so both
            strides are 1.

    Raises:
        FormatError: a value outside its range.
    """

    stride_t: int
    stride: int
    entries: int = 1024
    details: bool = False

    def __post_init__(self) -> None:
        _require(not self.details or self.stride_t == self.stride == 1, "strides of details")
        _require(_is_power_of_two(self.stride_t, MAX_STRIDE_T), f"temporal stride {self.stride_t}")
        _require(_is_power_of_two(self.stride, MAX_STRIDE), f"spatial stride {self.stride}")
        _require(2 <= self.entries <= MAX_ENTRIES, f"codebook of {self.entries} entries")

    @property
    def bits(self) -> int:
        """Bits an index takes in the raw packer: ceil(log2 entries), 1–15."""
        return (self.entries - 1).bit_length()


@dataclass(frozen=True)
class Header:
    """What all chunks of a file have in common.

    Attributes:
        width, height: of the coded pictures, 8–4096, multiples of 8 and of every spatial stride.
        aspect: aspect ratio of the picture as displayed, such as 16/9, whatever was coded.
        rate: frames per second. Of both ratios, numerator and denominator are 1–65535.
        frames: of the whole file; 0 if not known when the header was written.
        model_id: 8 bytes that name the model (a hash of its configuration and weights).
        levels: 1–16 levels in the order of the payload, coarsest first; up to 4 planes of details
            are the last of them.

    Raises:
        FormatError: a value outside its range.
    """

    width: int
    height: int
    aspect: Fraction
    rate: Fraction
    frames: int
    model_id: bytes
    levels: tuple[Level, ...]

    def __post_init__(self) -> None:
        _require(1 <= len(self.levels) <= MAX_LEVELS, f"{len(self.levels)} levels")
        planes = [level for level in self.levels if level.details]
        codes = len(self.levels) - len(planes)
        _require(codes > 0, "details of nothing")
        _require(planes == list(self.levels[codes:]), "a level behind details")
        _require(len(planes) <= MAX_PLANES, f"{len(planes)} planes of details")
        first, further = ENTRIES
        due = [first, *[further] * MAX_PLANES][: len(planes)]
        _require([plane.entries for plane in planes] == due, "entries of details")
        step = max(8, *(level.stride for level in self.levels))
        for side in (self.width, self.height):
            _require(8 <= side <= MAX_SIDE and side % step == 0, f"picture side of {side}")
        for ratio in (self.aspect, self.rate):
            _require(
                0 < ratio.numerator < 1 << 16 and ratio.denominator < 1 << 16, f"ratio {ratio}"
            )
        _require(0 <= self.frames < 1 << 32, f"{self.frames} frames")
        _require(len(self.model_id) == MODEL_ID_BYTES, f"model id of {len(self.model_id)} bytes")
        hint = "; without details it may fit" * bool(planes)
        _require(self.max_frames > 0, f"one chunk too large for the format{hint}")

    def pad_frames(self, frames: int) -> int:
        """Round up to a multiple of the largest temporal stride: what a chunk's grids cover."""
        step = max(level.stride_t for level in self.levels)
        return -(-frames // step) * step

    def grid_shapes(self, frames: int) -> tuple[Shape, ...]:
        """Shape (T', H', W') of each level's grid in a chunk of ``frames`` frames."""
        padded, shapes, pages = self.pad_frames(frames), [], 1
        for level in self.levels:
            steps = padded // level.stride_t
            if level.details:  # the first such plane also has a page
                steps, pages = COLOURS * steps + pages, 0
            shapes.append((steps, self.height // level.stride, self.width // level.stride))
        return tuple(shapes)

    def raw_bytes(self, frames: int) -> int:
        """Size of a raw payload of ``frames`` frames: the most that any packer needs."""
        return -(-self._raw_bits(frames) // 8)

    def most_bytes(self, frames: int) -> int:
        """Size of the largest payload of ``frames`` frames that need be searched for.

        Twice ``raw`` and a little: levels that were cut off may have been those that range made
        smaller than raw.
        """
        return min(MAX_PAYLOAD, 2 * self.raw_bytes(frames) + 16)

    @cached_property
    def max_frames(self) -> int:
        """Most frames a chunk may hold, 1–64: as many as fit a payload when stored raw.

        Details do not count: they are nearly all zeros, and a writer leaves out what does not fit.
        But they take memory, so where there are any, the pixels of a chunk are limited.
        """
        step = self.pad_frames(1)
        steps = MAX_PAYLOAD * 8 // self._raw_bits(step, details=False)
        if any(level.details for level in self.levels):
            steps = min(steps, MAX_DETAIL_PIXELS // (self.width * self.height * step))
        return min(MAX_FRAMES, steps * step)

    def _raw_bits(self, frames: int, details: bool = True) -> int:
        shapes = self.grid_shapes(frames)
        return sum(
            prod(shape) * level.bits
            for shape, level in zip(shapes, self.levels, strict=True)
            if details or not level.details
        )

    def to_bytes(self) -> bytes:
        """Return the header as the format stores it, magic to CRC."""
        numbers = (
            *(self.width // _SIDE, self.height // _SIDE),
            *(*self.aspect.as_integer_ratio(), *self.rate.as_integer_ratio()),
        )
        body = b"".join(map(number.to_bytes, numbers))
        body += _FIXED.pack(self.frames, self.model_id, len(self.levels))
        for level in self.levels:
            strides = (level.stride_t.bit_length() - 1) << 4 | level.stride.bit_length() - 1
            body += bytes([strides | _DETAILS * level.details])
            power = _is_power_of_two(level.entries, MAX_ENTRIES)
            body += number.to_bytes(level.bits if power else level.entries + _POWERS)
        data = _PREFIX.pack(MAGIC, VERSION, len(body)) + body
        return data + _CRC.pack(zlib.crc32(data))

    @staticmethod
    def measure(prefix: bytes) -> int:
        """Return the length of the whole header, given (at least) its first 12 bytes.

        Raises:
            FormatError: not a ``.vqv`` file.
            TruncatedError: fewer bytes than that, though they look right.
            UnsupportedError: another version, whose header this code cannot judge.
        """
        magic = prefix[: len(MAGIC)]
        if magic != MAGIC[: len(magic)]:
            raise FormatError("not a .vqv file")
        if header1.begins(prefix):
            return header1.measure(prefix)
        if len(prefix) < _PREFIX.size:
            raise TruncatedError(f"the file ends at byte {len(prefix)}, inside the header")
        _, version, length = _PREFIX.unpack_from(prefix)
        if version != VERSION:
            raise UnsupportedError(
                f"the file has format version {version}, this program reads 1 to {VERSION}"
            )
        return _PREFIX.size + int(length) + _CRC.size

    @classmethod
    def from_bytes(cls, data: bytes) -> Header:
        """Parse a header of any version; bytes behind it, and fields it does not know, are ignored.

        Raises:
            FormatError, TruncatedError, UnsupportedError: as :meth:`measure`, and for values
                outside their ranges.
            ChecksumError: the header is damaged.
        """
        size = cls.measure(data)
        if len(data) < size:
            raise TruncatedError(f"the file ends at byte {len(data)}, inside the header")
        end = size - _CRC.size
        if _CRC.unpack_from(data, end)[0] != zlib.crc32(data[:end]):
            raise ChecksumError("the header is damaged: its CRC does not match")
        try:
            if header1.begins(data):
                fields = header1.parse(data[:end])
            else:
                fields = _parse(data[_PREFIX.size : end])
        except FormatError as error:
            raise FormatError(f"invalid header: {error}") from error
        for part in (*fields.aspect, *fields.rate):  # before a fraction is reduced
            _require(0 < part < 1 << 16, f"{part} in a ratio")
        levels = []
        for strides, entries in fields.levels:
            details = bool(strides & _DETAILS)
            levels.append(Level(1 << (strides >> 4), 1 << (strides & 7), entries, details))
        return cls(
            width=fields.width,
            height=fields.height,
            aspect=Fraction(*fields.aspect),
            rate=Fraction(*fields.rate),
            frames=fields.frames,
            model_id=fields.model_id,
            levels=tuple(levels),
        )


def _parse(body: bytes) -> header1.Fields:
    """What the body of a header of the present version holds.

    Raises:
        FormatError: it ends too early.
    """
    values, offset = [], 0
    for _ in range(6):
        value, offset = number.parse(body, offset, _RATIO_BYTES)
        values.append(value)
    if len(body) < offset + _FIXED.size:
        raise FormatError(f"body of {len(body)} bytes")
    frames, model_id, count = _FIXED.unpack_from(body, offset)
    offset, levels = offset + _FIXED.size, []
    for _ in range(count):
        if offset >= len(body):
            raise FormatError(f"no room for {count} levels")
        strides = body[offset]
        entries, offset = number.parse(body, offset + 1, _LEVEL_BYTES)
        levels.append((strides, 1 << entries if entries < _POWERS else entries - _POWERS))
    width, height, *ratios = values
    return header1.Fields(
        width=width * _SIDE,
        height=height * _SIDE,
        aspect=(ratios[0], ratios[1]),
        rate=(ratios[2], ratios[3]),
        frames=frames,
        model_id=model_id,
        levels=tuple(levels),
    )


def nearest_ratio(value: Fraction) -> Fraction:
    """Return the fraction nearest to ``value`` that a header can store: 1/65535 to 65535."""
    limit = (1 << 16) - 1
    value = min(max(value, Fraction(1, limit)), Fraction(limit))
    if value > 1:  # then the numerator is the larger part, and limits the precision
        return 1 / (1 / value).limit_denominator(limit)
    return value.limit_denominator(limit)


def _require(condition: bool, what: str) -> None:
    if not condition:
        raise FormatError(f"invalid header: {what}")


def _is_power_of_two(value: int, limit: int) -> bool:
    return 1 <= value <= limit and value & (value - 1) == 0
