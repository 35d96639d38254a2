"""Frames to payloads, chunk after chunk of a video: each may lean on what is known of the last."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vqcodec.container.packing import Packed, Packing

if TYPE_CHECKING:
    from vqcodec.codec import Codec, Frames, Grids


class ChunkCoder:
    """Codes the chunks of a video in order.

    Args:
        codec: the model.
        packing: of the file that they are for, which has all levels of its header.
        effort: of the search for codes, see :meth:`Codec.encode_batch`.
    """

    def __init__(self, codec: Codec, packing: Packing, *, effort: int) -> None:
        self._codec, self._packing, self._effort = codec, packing, effort
        self._carry = codec.carry()

    def code(
        self, batch: Sequence[Frames], *, trade: float = 1.0, freedom: float = 1.0
    ) -> tuple[list[Grids], list[Packed]]:
        """Encode and pack the next chunks, of one shape.

        Args:
            batch: uint8 (T, H, W, 3) each.
            trade, freedom: see :meth:`Codec.encode_batch`.

        Raises:
            ValueError: frames that the model or the header has no room for.
        """
        grids = self._codec.encode_batch(
            batch,
            len(self._packing.header.levels),
            effort=self._effort,
            trade=trade,
            freedom=freedom,
            before=self._packing.memory,
            follows=self._packing.follows(len(batch)),
            carry=self._carry,
        )
        return grids, self._packing.pack(list(zip(map(len, batch), grids, strict=True)))
