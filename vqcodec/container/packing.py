"""Grids to payloads, each by whichever packer makes it smallest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from vqcodec.container import range_payload
from vqcodec.container.header import Header
from vqcodec.container.layout import MAX_PAYLOAD, Tag
from vqcodec.container.packers import PACKERS, Grid, fits, pack_smallest, quick_bytes
from vqcodec.entropy.details import is_page

if TYPE_CHECKING:
    from vqcodec.entropy.prior import Prior

Indices: TypeAlias = npt.NDArray[np.integer[Any]]

PACKER_NAMES = ("auto", *PACKERS, "range")
RUN_CHUNKS = 8  # that range lets depend on each other
CLEARLY_SMALLER = 0.85  # of a quick deflate's size: then no slower packer is tried


class Packed(NamedTuple):
    """A picture chunk on its way to the file."""

    tag: int
    frames: int
    payload: bytes


class Packing:
    """Packs the picture chunks of a file, in order.

    Args:
        header: of the file.
        packer: one of :data:`PACKER_NAMES`; ``auto`` keeps the smallest payload of each chunk.
        prior: for ``range``; without one ``auto`` leaves that out.
        independent: let no chunk depend on the one before.

    Attributes:
        header: of the file.

    Raises:
        ValueError: no such packer, no prior for it, or a prior of other levels.
    """

    def __init__(
        self,
        header: Header,
        packer: str = "auto",
        prior: Prior | None = None,
        independent: bool = False,
    ) -> None:
        if packer not in PACKER_NAMES:
            raise ValueError(f"no packer {packer!r}")
        if packer == "range" and prior is None:
            raise ValueError("the range packer needs a prior")
        if prior is not None and not fits(prior, header.levels):
            raise ValueError("the prior is of other levels than the header")
        self.header = header
        self._prior = prior if packer in ("auto", "range") else None
        names = {"auto": tuple(PACKERS), "range": ("raw",)}
        self._others = names.get(packer, (packer,))
        self._run = 1 if independent else RUN_CHUNKS
        self._count = 0
        self._last: Sequence[Grid] = ()

    @property
    def memory(self) -> Sequence[Grid] | None:
        """Grids that the next chunk may depend on; None if it is to stand alone."""
        return self._last if self.may_follow(self._count) else None

    def may_follow(self, number: int) -> bool:
        """Whether the chunk of this number in the file, from 0, may depend on the one before."""
        return self._prior is not None and number % self._run > 0

    def follows(self, count: int) -> list[bool]:
        """For each of the next chunks whether it may depend on the one before."""
        return [self.may_follow(number) for number in range(self._count, self._count + count)]

    def pack(self, chunks: Sequence[tuple[int, Sequence[Indices]]]) -> list[Packed]:
        """Pack the next chunks of the file, (frames, grids) each; several at once are faster.

        Args:
            chunks: 1 to ``header.max_frames`` frames, and one grid for each level, of the shapes
                ``header.grid_shapes(frames)``, any integer dtype, values 0 to entries - 1.

        Raises:
            ValueError: anything else; nothing is packed then.
        """
        checked = [(frames, self._checked(frames, grids)) for frames, grids in chunks]
        if not checked:
            return []
        before = self._count, self._last
        coded = self._by_range([grids for _, grids in checked])
        packed = [
            self._smallest(frames, grids, candidate)
            for (frames, grids), candidate in zip(checked, coded, strict=True)
        ]
        fitting = [
            grids if len(chunk.payload) <= MAX_PAYLOAD else self._with_less(grids)
            for (_, grids), chunk in zip(checked, packed, strict=True)
        ]
        if all(less is grids for less, (_, grids) in zip(fitting, checked, strict=True)):
            return packed
        self._count, self._last = before
        return self.pack(
            [(frames, less) for (frames, _), less in zip(checked, fitting, strict=True)]
        )

    def _with_less(self, grids: Sequence[Grid]) -> Sequence[Grid]:
        """Without the last plane of details that holds anything: a payload has its limits."""
        for number in reversed(range(len(grids))):
            if self.header.levels[number].details and grids[number].any():
                return [*grids[:number], np.zeros_like(grids[number]), *grids[number + 1 :]]
        raise AssertionError("codes fit as they are")

    def _by_range(self, chunks: Sequence[Sequence[Grid]]) -> Sequence[tuple[Tag, bytes] | None]:
        """Tag and payload of each by the range packer, if there is a prior."""
        previous = []
        for grids in chunks:
            previous.append(self.memory)
            self._count, self._last = self._count + 1, grids
        if self._prior is None:
            return [None] * len(chunks)
        from vqcodec.entropy.coder import encode_many

        coded = encode_many(self._prior, chunks, previous)
        return [
            (Tag.RANGE if before is None else Tag.RANGE_MEMORY, range_payload.join(*made))
            for before, made in zip(previous, coded, strict=True)
        ]

    def _smallest(
        self, frames: int, grids: Sequence[Grid], coded: tuple[Tag, bytes] | None
    ) -> Packed:
        levels = self.header.levels
        packed = [] if coded is None else [coded]
        if coded is None or len(coded[1]) > CLEARLY_SMALLER * quick_bytes(grids, levels):
            packed.append(pack_smallest(self._others, grids, levels))
        tag, payload = min(packed, key=lambda pair: len(pair[1]))
        if len(payload) > self.header.raw_bytes(frames):
            # A packer chosen by name must not break the bound on the size of a chunk either.
            tag, payload = pack_smallest(("raw",), grids, levels)
        return Packed(tag, frames, payload)

    def _checked(self, frames: int, grids: Sequence[Indices]) -> list[Grid]:
        if not 1 <= frames <= self.header.max_frames:
            raise ValueError(f"{frames} frames in a chunk, at most {self.header.max_frames} fit")
        shapes = self.header.grid_shapes(frames)
        if [grid.shape for grid in grids] != list(shapes):
            raise ValueError(f"grids of shapes {[g.shape for g in grids]}, expected {shapes}")
        for grid, level in zip(grids, self.header.levels, strict=True):
            if not np.issubdtype(grid.dtype, np.integer):
                raise ValueError(f"grid of dtype {grid.dtype}")
            if grid.min() < 0 or grid.max() >= level.entries:
                raise ValueError(f"index outside 0 to {level.entries - 1}")
        checked = [np.ascontiguousarray(grid, np.int16) for grid in grids]
        details = [grid for grid, of in zip(checked, self.header.levels, strict=True) if of.details]
        if details and self._prior is not None and not is_page(details[0][-1:]):
            raise ValueError("no such ways to split blocks of details")
        return checked
