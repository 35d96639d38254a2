"""A chunk as it was read, and how many of them become grids at once.

Most picture chunks stand alone. One with memory needs the grids of the picture chunk before it, and
so on, back to one that stands alone; those that do not wait for each other are unpacked together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from vqcodec.container import range_payload
from vqcodec.container.header import Header, Shape
from vqcodec.container.layout import AUDIO_TAGS, CHUNK_OVERHEAD, PICTURE_TAGS, Tag
from vqcodec.container.packers import (
    RANGE_TAGS,
    Grid,
    fits,
    packer_name,
    unpack,
    unpack_prefix,
)
from vqcodec.errors import ChecksumError, FormatError, ModelMismatchError, UnsupportedError

if TYPE_CHECKING:
    from vqcodec.entropy.prior import Prior

T = TypeVar("T")
Grids: TypeAlias = tuple[Grid, ...]
FindPrior: TypeAlias = "Callable[[], Prior | None]"

# Of chunks unpacked together, by up to 8 levels: 130 MiB and a chunk.
AHEAD_PIXELS = 64 * 32 * 64 * 64
AHEAD_BYTES = 1 << 23
LEAST_PIXELS = 64 * 64  # as many count for the smallest chunk, which takes some KiB here


@dataclass(frozen=True)
class Entry:
    """Where a chunk is, in the file and in time.

    Attributes:
        number: of the chunk among the picture chunks, from 0.
        start: number of its first frame in the file.
        frames: 1–64; 0 for a chunk without pictures.
        tag: 0–31.
        offset: of its first byte in the file.
        length: of its payload in bytes.
    """

    number: int
    start: int
    frames: int
    tag: int
    offset: int
    length: int

    @property
    def stop(self) -> int:
        """Number of the frame after its last."""
        return self.start + self.frames

    @property
    def nbytes(self) -> int:
        """Size in the file, with head and CRC."""
        return CHUNK_OVERHEAD + self.length

    @property
    def packer(self) -> str | None:
        """Name of the packer, None if unknown here."""
        return packer_name(self.tag)

    @property
    def has_memory(self) -> bool:
        """Whether it can be unpacked only after the picture chunk before it."""
        return self.tag == Tag.RANGE_MEMORY


class _State(Enum):
    NEW = 0
    SOUND = 1  # as far as can be told without the prior


@dataclass
class Outcome:
    """What became of unpacking a chunk.

    Attributes:
        before: the chunk to be unpacked first, or something damaged that may have been one; None
            without such. It is let go of once there are grids, or all those of a video would stay.
        value: the grids, or why there are none.
    """

    before: Chunk | None
    value: Grids | FormatError | _State = _State.NEW

    def succeed(self, grids: Grids) -> None:
        """These are the grids."""
        self.value, self.before = grids, None


@dataclass(frozen=True)
class Chunk(Entry):
    """One chunk with its bytes.

    Attributes:
        header: of the file.
        payload: ``length`` bytes, damaged or not; fewer if the file ends in it.
        intact: the CRC matches, and the index agrees.
        distance: how many chunks must be unpacked before it.
        find_prior: gives the prior for range payloads, or None.
        outcome: how far that has come.
    """

    header: Header = field(repr=False)
    payload: bytes = field(repr=False)
    intact: bool
    distance: int
    find_prior: FindPrior = field(repr=False, compare=False)
    outcome: Outcome = field(repr=False, compare=False)

    @property
    def pixels(self) -> int:
        """What its grids cover."""
        return self.header.pad_frames(self.frames) * self.header.width * self.header.height

    def check(self) -> None:
        """Do nothing if the bytes are as they were written.

        Raises:
            ChecksumError: they are not; the message says where in the file and in time.
        """
        if not self.intact:
            raise ChecksumError(f"{self.where()} is damaged: its CRC does not match")

    def grids(self) -> Grids:
        """Unpack the indices: a grid (T', H', W') int16 for each level, values below its entries.

        Raises:
            ChecksumError: the chunk is damaged, or one before it that it needs is lost.
            UnsupportedError: it uses a packer that is unknown here.
            FormatError: the payload is not what its packer would have made.
            ModelMismatchError: it needs a prior that is not at hand.
        """
        outcome = self._resolve()
        if isinstance(outcome, _State):
            raise ModelMismatchError(
                f"{self.where()} needs the prior of model {self.header.model_id.hex()}"
            )
        return outcome

    def validate(self) -> bool:
        """Check all that can be checked with or without the prior.

        Returns:
            Whether that is all there is; false if the indices need a prior that is not at hand.

        Raises:
            ChecksumError, UnsupportedError, FormatError: as :meth:`grids`.
        """
        return not isinstance(self._resolve(), _State)

    def whole_levels(self) -> Grids:
        """Grids of the levels that are whole in a payload that is cut off, CRC or not.

        Raises:
            FormatError: it is no beginning of a payload, or a chunk that it needs is lost.
            ModelMismatchError: a prior that it needs is not at hand.
        """
        before = self.outcome.before
        previous = None if before is None else before.grids()
        prior = self.find_prior() if self.tag in RANGE_TAGS else None
        shapes = self._shapes()
        return unpack_prefix(self.tag, self.payload, shapes, self.header.levels, prior, previous)

    def where(self) -> str:
        """Name the chunk by its place in the file and in time, for messages."""
        about = "audio" if self.tag in AUDIO_TAGS else "no pictures"
        if self.frames:
            first, last = (float(frame / self.header.rate) for frame in (self.start, self.stop))
            about = f"{first:.2f} to {last:.2f} s"
        return f"chunk at byte {self.offset} ({about})"

    def _resolve(self) -> Grids | _State:
        if self.outcome.value is _State.NEW:
            unpack_chunks([self])
        if isinstance(self.outcome.value, FormatError):
            raise self.outcome.value
        return self.outcome.value

    def _shapes(self) -> tuple[Shape, ...]:
        if self.frames > self.header.max_frames:
            raise FormatError("more frames than the format allows")
        return self.header.grid_shapes(self.frames)

    def _prepare(self) -> None:
        """Unpack what needs no prior, and check the rest.

        Raises:
            FormatError: as :meth:`grids`.
        """
        self.check()
        if self.packer is None:
            raise UnsupportedError(f"{self.where()} needs a packer unknown here (tag {self.tag})")
        if self.has_memory:
            self._check_before()
        try:
            shapes, levels = self._shapes(), self.header.levels
            if self.tag not in RANGE_TAGS:
                self.outcome.succeed(unpack(self.packer, self.payload, shapes, levels))
                return
            range_payload.check(self.payload, len(levels))
        except FormatError as error:
            raise FormatError(f"{self.where()}: {error}") from error
        self.outcome.value = _State.SOUND

    def _check_before(self) -> None:
        before = self.outcome.before
        error = None if before is None else before.outcome.value
        if isinstance(error, UnsupportedError):
            raise UnsupportedError(f"{self.where()} needs one that cannot be unpacked: {error}")
        if before is None or isinstance(error, FormatError):
            raise ChecksumError(f"{self.where()} needs the chunk before it, which is lost")


def unpack_chunks(chunks: Iterable[Chunk]) -> None:
    """Unpack picture chunks, and those before that they need, as far as they are not yet.

    Their :meth:`Chunk.grids` then return, or raise, without further work.
    """
    new: dict[int, Chunk] = {}
    for chunk in chunks:
        link: Chunk | None = chunk
        while link is not None and link.outcome.value is _State.NEW and id(link) not in new:
            new[id(link)] = link
            link = link.outcome.before
    while new:
        ready = [chunk for chunk in new.values() if id(chunk.outcome.before) not in new]
        _unpack_ready(ready)
        for chunk in ready:
            del new[id(chunk)]


def unpacked_ahead(
    items: Iterable[T], wanted: Callable[[Chunk], bool] = lambda _chunk: True
) -> Iterator[T]:
    """Yield ``items``, of which the wanted picture chunks have been unpacked together.

    So many are gathered for it as memory allows. What ``items`` raises comes in its place.
    """
    rest = iter(items)
    ended = False
    failure: Exception | None = None
    while not ended:
        gathered: list[T] = []
        chunks: list[Chunk] = []
        pixels = nbytes = 0
        while pixels < AHEAD_PIXELS and nbytes < AHEAD_BYTES and not ended:
            try:
                item = next(rest)
            except StopIteration:
                ended = True
            except Exception as error:
                ended, failure = True, error
            else:
                gathered.append(item)
                if isinstance(item, Chunk):
                    levels = item.header.levels
                    details = sum(level.details for level in levels)
                    eighths = max(8, len(levels)) + 8 * details  # 6 bytes a pixel each
                    pixels += max(LEAST_PIXELS, item.pixels * eighths // 8)
                    nbytes += len(item.payload)
                    if item.tag in PICTURE_TAGS and wanted(item):
                        chunks.append(item)
        unpack_chunks(chunks)
        yield from gathered
    if failure is not None:
        raise failure


def _unpack_ready(chunks: Sequence[Chunk]) -> None:
    """Unpack chunks none of which needs another of them."""
    coded = []
    for chunk in chunks:
        try:
            chunk._prepare()
        except FormatError as error:
            chunk.outcome.value = error
        if chunk.outcome.value is _State.SOUND:
            coded.append(chunk)
    prior = coded[0].find_prior() if coded else None
    if prior is not None:
        _decode(coded, prior)


def _decode(chunks: Sequence[Chunk], prior: Prior) -> None:
    from vqcodec.entropy.coder import decode_many

    header = chunks[0].header
    if not fits(prior, header.levels):
        for chunk in chunks:
            chunk.outcome.value = FormatError("the header's levels are not those of the prior")
        return
    before = [chunk.outcome.before for chunk in chunks]
    previous = [None if chunk is None else chunk.grids() for chunk in before]
    parts = [range_payload.split(chunk.payload, len(header.levels)) for chunk in chunks]
    decoded = decode_many(
        prior,
        [stream for _, stream in parts],
        [chunk._shapes() for chunk in chunks],
        previous,
        ends=[ends for ends, _ in parts],
    )
    for chunk, grids in zip(chunks, decoded, strict=True):
        if isinstance(grids, FormatError):
            chunk.outcome.value = FormatError(f"{chunk.where()}: {grids}")
        else:
            chunk.outcome.succeed(tuple(grids))
