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
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from vqcodec.container import range_payload
from vqcodec.container.header import Level, Shape
from vqcodec.container.layout import Tag
from vqcodec.errors import FormatError

if TYPE_CHECKING:
    from vqcodec.entropy.prior import Prior

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

    def unpack_prefix(
        self, payload: bytes, shapes: Sequence[Shape], levels: Sequence[Level]
    ) -> list[Grid]:
        """Return the grids that are whole in the beginning of a payload, values not checked.

        Raises:
            FormatError: it is no such beginning.
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
        return [
            _from_bits(plane, shape, level)
            for plane, shape, level in zip(planes, shapes, levels, strict=True)
        ]

    def unpack_prefix(
        self, payload: bytes, shapes: Sequence[Shape], levels: Sequence[Level]
    ) -> list[Grid]:
        """See :class:`Packer`."""
        bits = np.unpackbits(np.frombuffer(payload, np.uint8))
        grids, begin = [], 0
        for shape, level in zip(shapes, levels, strict=True):
            end = begin + prod(shape) * level.bits
            if end > len(bits):
                break
            grids.append(_from_bits(bits[begin:end], shape, level))
            begin = end
        return grids


def _from_bits(bits: npt.NDArray[np.uint8], shape: Shape, level: Level) -> Grid:
    grid = np.zeros(prod(shape), np.int16)
    for column in bits.reshape(-1, level.bits).T:
        grid = grid << 1 | column
    return grid.reshape(shape)


class BytePacker:
    """A general compressor over the indices as integers: u8 up to 256 entries, else u16.

    Args:
        compress: bytes to bytes.
        decompress: bytes and the expected size to bytes; never inflates (much) beyond that size,
            and raises :class:`FormatError` for a stream that is invalid or does not end exactly
            where the payload ends.
        begin: the same for the beginning of a stream, as far as that leads.
    """

    def __init__(
        self,
        compress: Callable[[bytes], bytes],
        decompress: Callable[[bytes, int], bytes],
        begin: Callable[[bytes, int], bytes],
    ) -> None:
        self._compress = compress
        self._decompress = decompress
        self._begin = begin

    def pack(self, grids: Sequence[Grid], levels: Sequence[Level]) -> bytes:
        """See :class:`Packer`."""
        return self._compress(_to_integers(grids, levels))

    def unpack(
        self, payload: bytes, shapes: Sequence[Shape], levels: Sequence[Level]
    ) -> list[Grid]:
        """See :class:`Packer`."""
        due = _integer_bytes(shapes, levels)
        data = self._decompress(payload, due)
        if len(data) != due:
            raise FormatError(f"inflates to another size than the {due} bytes that are due")
        return _from_integers(data, shapes, levels)

    def unpack_prefix(
        self, payload: bytes, shapes: Sequence[Shape], levels: Sequence[Level]
    ) -> list[Grid]:
        """See :class:`Packer`."""
        data = self._begin(payload, _integer_bytes(shapes, levels))
        return _from_integers(data, shapes, levels)


def _integer(level: Level) -> np.dtype[np.unsignedinteger]:
    return np.dtype("u1" if level.entries <= 256 else "<u2")


def _to_integers(grids: Sequence[Grid], levels: Sequence[Level]) -> bytes:
    parts = zip(grids, levels, strict=True)
    return b"".join(grid.astype(_integer(level)).tobytes() for grid, level in parts)


def _integer_bytes(shapes: Sequence[Shape], levels: Sequence[Level]) -> int:
    parts = zip(shapes, levels, strict=True)
    return sum(prod(shape) * _integer(level).itemsize for shape, level in parts)


def _from_integers(data: bytes, shapes: Sequence[Shape], levels: Sequence[Level]) -> list[Grid]:
    """The grids that are whole in ``data``."""
    grids, offset = [], 0
    for shape, level in zip(shapes, levels, strict=True):
        dtype = _integer(level)
        if offset + prod(shape) * dtype.itemsize > len(data):
            break
        values = np.frombuffer(data, dtype, prod(shape), offset).reshape(shape)
        # A u16 beyond int16 turns negative, and so stays out of range.
        grids.append(values.astype(np.int16))
        offset += values.nbytes
    return grids


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


def _begin_inflate(payload: bytes, size: int) -> bytes:
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(payload, size)
    except zlib.error as error:
        raise FormatError(f"invalid deflate stream ({error})") from error


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

    _check_zstd(payload)
    decompressor = zstandard.ZstdDecompressor(format=zstandard.FORMAT_ZSTD1_MAGICLESS)
    try:
        return decompressor.decompress(payload, max_output_size=size, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise FormatError(f"invalid zstd frame ({error})") from error


def _begin_zstd(payload: bytes, size: int) -> bytes:
    import zstandard

    _check_zstd(payload)
    decompressor = zstandard.ZstdDecompressor(format=zstandard.FORMAT_ZSTD1_MAGICLESS)
    try:
        return decompressor.stream_reader(payload).read(size)
    except zstandard.ZstdError as error:
        raise FormatError(f"invalid zstd frame ({error})") from error


def _check_zstd(payload: bytes) -> None:
    if len(payload) < 2 or payload[0] != _ZSTD_DESCRIPTOR or payload[1] > _ZSTD_WINDOW_8_MIB:
        raise FormatError("zstd frame header outside the format")


# Those that need no prior. Cheapest to decode first: of equally small payloads the first is kept.
PACKERS: dict[str, Packer] = {
    "raw": BitPacker(),
    "deflate": BytePacker(_deflate, _inflate, _begin_inflate),
    "zstd": BytePacker(_zstd_compress, _zstd_decompress, _begin_zstd),
}
RANGE_TAGS = (Tag.RANGE, Tag.RANGE_MEMORY)


def packer_name(tag: int) -> str | None:
    """Return the name of the packer behind a picture chunk's tag, None if it is unknown here."""
    if tag in RANGE_TAGS:
        return "range"
    return Tag(tag).name.lower() if tag in (Tag.RAW, Tag.DEFLATE, Tag.ZSTD) else None


def fits(prior: Prior, levels: Sequence[Level]) -> bool:
    """Whether these are the first levels of ``prior``."""
    grids = [(level.stride_t, level.stride, level.entries, level.details) for level in levels]
    return list(prior.grids[: len(levels)]) == grids


def pack_smallest(
    names: Sequence[str], grids: Sequence[Grid], levels: Sequence[Level]
) -> tuple[Tag, bytes]:
    """Return tag and payload of whichever of the named packers makes the smallest payload."""
    packed = [(Tag[name.upper()], PACKERS[name].pack(grids, levels)) for name in names]
    return min(packed, key=lambda pair: len(pair[1]))


def quick_bytes(grids: Sequence[Grid], levels: Sequence[Level]) -> int:
    """About what the better of the general compressors makes of it, in a fraction of their time."""
    return len(zlib.compress(_to_integers(grids, levels), 1))


def unpack(
    name: str, payload: bytes, shapes: Sequence[Shape], levels: Sequence[Level]
) -> tuple[Grid, ...]:
    """Return the grids in a payload of a packer that needs no prior.

    Raises:
        FormatError: the payload does not hold exactly grids of these shapes, or an index is not
            below its level's entries.
    """
    return _checked(PACKERS[name].unpack(payload, shapes, levels), levels)


def unpack_prefix(
    tag: int,
    payload: bytes,
    shapes: Sequence[Shape],
    levels: Sequence[Level],
    prior: Prior | None = None,
    previous: Sequence[Grid] | None = None,
) -> tuple[Grid, ...]:
    """Return the grids of the levels that are whole in the beginning of a payload.

    That is all that is known of them: a beginning has no CRC. The last level of a range payload
    cannot be told from a beginning of it, and so is never among them.

    Args:
        tag: of the chunk.
        payload: its first bytes.
        shapes, levels: of all its grids.
        prior: for range payloads.
        previous: grids of the picture chunk before, if the tag is ``RANGE_MEMORY``.

    Raises:
        FormatError: it is no beginning of a payload, or of an unknown packer, or what it needs is
            not given.
    """
    name = packer_name(tag)
    if name is None:
        raise FormatError(f"unknown packer (tag {tag})")
    if name != "range":
        return _checked(PACKERS[name].unpack_prefix(payload, shapes, levels), levels)
    known = prior is not None and fits(prior, levels)
    if prior is None or not known or (tag == Tag.RANGE_MEMORY) != (previous is not None):
        raise FormatError("what the payload was coded with is not at hand")
    from vqcodec.entropy.coder import decode

    ends, stream = range_payload.split(payload, len(levels))
    whole = sum(end <= len(stream) for end in ends)
    if not whole:
        return ()
    # Further bytes could make a decoder see more of the stream than the level's end.
    grids = decode(prior, stream[: ends[whole - 1]], shapes[:whole], previous)
    return _checked(grids, levels)


def _checked(grids: Sequence[Grid], levels: Sequence[Level]) -> tuple[Grid, ...]:
    for number, (grid, level) in enumerate(zip(grids, levels, strict=False)):
        if grid.min() < 0 or grid.max() >= level.entries:
            raise FormatError(f"index out of range in level {number}")
    return tuple(grids)
