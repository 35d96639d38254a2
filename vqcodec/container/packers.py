"""Packers: the grids of one chunk to payload bytes and back.

Each packer stores level after level, coarsest first, each grid in C order (t, h, w), so that
the beginning of a payload is a preview. A packer's :meth:`~Packer.unpack` survives any bytes: the
size of its result is known beforehand from the header, and it allocates nothing beyond that.

On VQ indices a plain sequence of integers compresses best, or within 2 % of the best: byte
planes, 10-bit strings and differences along time were all tried and lost (``docs/format.md``).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from math import prod
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from vqcodec.container.header import Level, Shape
from vqcodec.container.layout import Tag
from vqcodec.errors import FormatError

Grid: TypeAlias = npt.NDArray[np.int16]  # (T', H', W'), values 0 to entries - 1


class Packer(Protocol):
    """One way to store the grids of a chunk."""

    def pack(self, grids: Sequence[Grid], levels: Sequence[Level]) -> bytes:
        """Return the payload for ``grids``, one for each level, values below its entries."""

    def unpack(
        self, payload: bytes, shapes: Sequence[Shape], levels: Sequence[Level]
    ) -> list[Grid]:
        """Return the grids, of the given shapes, values not yet checked against the entries.

        Raises:
            FormatError: the payload does not hold exactly these grids.
        """


class BitPacker:
    """``raw``: ceil(log2 entries) bits an index, most significant bit first, zeros at the end."""

    def pack(self, grids: Sequence[Grid], levels: Sequence[Level]) -> bytes:
        """See :class:`Packer`."""
        planes = []
        for grid, level in zip(grids, levels, strict=True):
            bits = np.empty((grid.size, level.bits), np.uint8)
            for column in range(level.bits):
                bits[:, column] = grid.ravel() >> (level.bits - 1 - column) & 1
            planes.append(bits.ravel())
        return np.packbits(np.concatenate(planes)).tobytes()

    def unpack(
        self, payload: bytes, shapes: Sequence[Shape], levels: Sequence[Level]
    ) -> list[Grid]:
        """See :class:`Packer`."""
        sizes = [prod(shape) * level.bits for shape, level in zip(shapes, levels, strict=True)]
        if len(payload) != -(-sum(sizes) // 8):
            raise FormatError(f"{len(payload)} bytes where {-(-sum(sizes) // 8)} are due")
        *planes, padding = np.split(
            np.unpackbits(np.frombuffer(payload, np.uint8)), np.cumsum(sizes)
        )
        if padding.any():
            raise FormatError("padding bits are not zero")
        grids = []
        for plane, shape, level in zip(planes, shapes, levels, strict=True):
            grid = np.zeros(prod(shape), np.int16)
            for column in plane.reshape(-1, level.bits).T:
                grid = grid << 1 | column
            grids.append(grid.reshape(shape))
        return grids


class BytePacker:
    """A general compressor over the indices as integers: u8 up to 256 entries, else u16.

    Args:
        compress: bytes to bytes.
        decompress: bytes and the expected size to bytes; never inflates (much) beyond that size,
            and raises :class:`FormatError` for a stream that is invalid or does not end exactly
            where the payload ends.
    """

    def __init__(
        self, compress: Callable[[bytes], bytes], decompress: Callable[[bytes, int], bytes]
    ) -> None:
        self._compress = compress
        self._decompress = decompress

    def pack(self, grids: Sequence[Grid], levels: Sequence[Level]) -> bytes:
        """See :class:`Packer`."""
        parts = zip(grids, levels, strict=True)
        return self._compress(b"".join(g.astype(_integer(level)).tobytes() for g, level in parts))

    def unpack(
        self, payload: bytes, shapes: Sequence[Shape], levels: Sequence[Level]
    ) -> list[Grid]:
        """See :class:`Packer`."""
        parts = [(s, prod(s), _integer(level)) for s, level in zip(shapes, levels, strict=True)]
        due = sum(count * dtype.itemsize for _, count, dtype in parts)
        data = self._decompress(payload, due)
        if len(data) != due:
            raise FormatError(f"inflates to another size than the {due} bytes that are due")
        grids, offset = [], 0
        for shape, count, dtype in parts:
            values = np.frombuffer(data, dtype, count, offset).reshape(shape)
            # A u16 beyond int16 turns negative, and so stays out of range.
            grids.append(values.astype(np.int16))
            offset += values.nbytes
        return grids


def _integer(level: Level) -> np.dtype[np.unsignedinteger]:
    return np.dtype("u1" if level.entries <= 256 else "<u2")


def _deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS, 9)
    return compressor.compress(data) + compressor.flush()


def _inflate(payload: bytes, size: int) -> bytes:
    decompressor = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        data = decompressor.decompress(payload, size + 1)
    except zlib.error as error:
        raise FormatError(f"invalid deflate stream ({error})") from error
    if not decompressor.eof or decompressor.unused_data:
        raise FormatError("the deflate stream does not end with the payload")
    return data


# Frame_Header_Descriptor: no content size, single segment, checksum or dictionary. Anything else
# is not in the format, and a content size in particular could make the library allocate it.
_ZSTD_DESCRIPTOR = 0x00
_ZSTD_WINDOW_8_MIB = 0x68


def _zstd_compress(data: bytes) -> bytes:
    import zstandard  # here and below, so that importing the package stays quick

    parameters = zstandard.ZstdCompressionParameters.from_level(
        19,
        source_size=len(data),
        format=zstandard.FORMAT_ZSTD1_MAGICLESS,
        write_content_size=False,
        write_checksum=False,
        write_dict_id=False,
    )
    return zstandard.ZstdCompressor(compression_params=parameters).compress(data)


def _zstd_decompress(payload: bytes, size: int) -> bytes:
    import zstandard

    if len(payload) < 2 or payload[0] != _ZSTD_DESCRIPTOR or payload[1] > _ZSTD_WINDOW_8_MIB:
        raise FormatError("zstd frame header outside the format")
    decompressor = zstandard.ZstdDecompressor(format=zstandard.FORMAT_ZSTD1_MAGICLESS)
    try:
        return decompressor.decompress(payload, max_output_size=size, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise FormatError(f"invalid zstd frame ({error})") from error


# Cheapest to decode first: of equally small payloads the first is kept.
PACKERS: dict[str, Packer] = {
    "raw": BitPacker(),
    "deflate": BytePacker(_deflate, _inflate),
    "zstd": BytePacker(_zstd_compress, _zstd_decompress),
}


def packer_name(tag: int) -> str | None:
    """Return the name of the packer behind a picture chunk's tag, None if it is unknown here."""
    return Tag(tag).name.lower() if tag in (Tag.RAW, Tag.DEFLATE, Tag.ZSTD) else None


def pack_smallest(
    names: Sequence[str], grids: Sequence[Grid], levels: Sequence[Level]
) -> tuple[Tag, bytes]:
    """Return tag and payload of whichever of the named packers makes the smallest payload."""
    packed = [(Tag[name.upper()], PACKERS[name].pack(grids, levels)) for name in names]
    return min(packed, key=lambda pair: len(pair[1]))


def unpack(
    name: str, payload: bytes, shapes: Sequence[Shape], levels: Sequence[Level]
) -> tuple[Grid, ...]:
    """Return the grids in a payload.

    Raises:
        FormatError: the payload does not hold exactly grids of these shapes, or an index is not
            below its level's entries.
    """
    grids = PACKERS[name].unpack(payload, shapes, levels)
    for number, (grid, level) in enumerate(zip(grids, levels, strict=True)):
        if grid.min() < 0 or grid.max() >= level.entries:
            raise FormatError(f"index out of range in level {number}")
    return tuple(grids)
