"""What is left of a damaged file: its intact chunks, and what is lost between them, in time.

Chunks are followed by their lengths, and where that fails they are searched for, so that each
intact one is found. How many frames are lost between two of them is told, best first, by the index,
by the damaged heads if these lead from one to the other, and by the header's frame count.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import accumulate

from vqcodec.container.chunk import Chunk, Entry
from vqcodec.container.layout import (
    CHUNK_OVERHEAD,
    MAX_FRAMES,
    MAX_PAYLOAD,
    PICTURE_TAGS,
    Head,
    Tag,
    indexed_words,
)
from vqcodec.container.loss import Lost
from vqcodec.container.reader import Reader
from vqcodec.container.search import Search
from vqcodec.errors import FormatError

_UNKNOWN = -1  # frames


class Salvage:
    """Goes through a seekable file. Iterating yields chunks and losses in order of time.

    The chunks are intact, pictures or ancillary; whether their payload is valid shows in
    :meth:`Chunk.grids`. A sound file yields no losses.

    Args:
        reader: of the file; its source must be seekable.

    Attributes:
        kept, lost: frames in the chunks, and between them (without the end that is cut off).
        cut: the picture chunk in which the file ends, known once that has been reached; its head
            is sensible, but neither that nor the payload has been checked.
        doubt: None, unless index or header contradict the chunks, so that times may be wrong.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._walk = walk = _walk(reader)
        count = reader.header.frames
        lost = _by_index(walk) if count in (0, _frames(walk.index)) else None
        self._exact = lost is not None
        if lost is None:
            lost, self._exact = _by_estimate(walk, count)
        self._lost = lost
        self.kept = _frames(walk.words)
        self.lost = sum(lost) if walk.ended else sum(lost[:-1])
        self.cut: Chunk | None = None
        self.doubt: FormatError | None = None
        if count not in (0, self.kept + sum(lost)):
            self.doubt = FormatError("the chunks have not as many frames as the header says")
        elif walk.index is not None and not self._exact:
            self.doubt = FormatError("the index does not agree with the chunks")

    def __iter__(self) -> Iterator[Chunk | Lost]:
        walk = self._walk
        number = start = 0
        offset = self._reader.begin
        before: Chunk | None = None
        for place, frames in enumerate(self._lost):
            last = place == len(walk.offsets)
            until = walk.stop if last else walk.offsets[place]
            if last and not walk.ended:
                self.cut = self._cut_off(Entry(number, start, 0, 0, offset, 0), before)
            if frames or until > offset or (last and not walk.ended):
                yield self._loss(start, frames, offset, until, last and not walk.ended)
                start += frames
                if frames or not self._exact:
                    before = None
            if not last:
                head = Head.from_word(walk.words[place])
                entry = Entry(number, start, head.frames, head.tag, until, head.length)
                if head.tag != Tag.INDEX:
                    chunk = self._reader.load(entry, before)
                    before = chunk if head.tag in PICTURE_TAGS else before
                    yield chunk
                number += head.tag in PICTURE_TAGS
                start, offset = entry.stop, until + entry.nbytes

    def _cut_off(self, place: Entry, before: Chunk | None) -> Chunk | None:
        """The chunk at a place, if it is one that goes on where the file ends."""
        head = _head(self._reader, place.offset)
        if head is None or head.tag not in PICTURE_TAGS:
            return None
        if head.length > self._reader.header.most_bytes(head.frames):
            return None
        entry = replace(place, tag=head.tag, frames=head.frames, length=head.length)
        chunk = self._reader.load(entry, before)
        return chunk if len(chunk.payload) < chunk.length else None

    def _loss(self, start: int, frames: int, offset: int, until: int, cut: bool) -> Lost:
        reason = f"{until - offset} bytes at byte {offset} are damaged"
        if until == offset:
            reason = f"chunks are missing at byte {offset}"
        if cut:
            reason = f"the file is cut off in the chunk at byte {offset}"
        rate = self._reader.header.rate
        return Lost(start, frames, rate, offset, until - offset, reason, self._exact, cut)


@dataclass
class _Walk:
    """What :func:`_walk` met, in arrays, as a hostile file has millions of chunks.

    Attributes:
        offsets, words: of the intact chunks, without the end.
        claims: frames lost before each of them and before the end: 0 where nothing is amiss,
            ``_UNKNOWN`` where the damaged heads do not lead from one to the next.
        gaps: bytes between each of them, or the end, and the one before.
        index: heads in the last intact index, or None.
        index_offset: where that is.
        ended: the end was found, or as many bytes in its place, or none is due.
        stop: offset of the end, or of the end of the file.
    """

    offsets: array[int] = field(default_factory=lambda: array("Q"))
    words: array[int] = field(default_factory=lambda: array("I"))
    claims: array[int] = field(default_factory=lambda: array("q"))
    gaps: array[int] = field(default_factory=lambda: array("Q"))
    index: array[int] | None = None
    index_offset: int = 0
    ended: bool = False
    stop: int = 0


def _walk(reader: Reader) -> _Walk:
    """Find all intact chunks up to the end."""
    size = reader.source.size
    if size is None:
        raise ValueError("a pipe cannot be searched")
    walk, search, offset = _Walk(), Search(reader.source, reader.header), reader.begin
    # Bytes that damaged heads claimed, and were read in vain. Beyond as many as the file has, heads
    # are no longer followed, so that all of this takes linear time: chunks are then searched for.
    in_vain = 0
    while not walk.ended:
        place: int | None = offset
        head = _head(reader, offset) if in_vain < size else None
        chunk = _intact(reader, offset, head)
        if chunk is None:
            in_vain += 0 if head is None else head.length
            place = search.next(offset)
            chunk = None if place is None else _intact(reader, place, _head(reader, place))
        if place is None or chunk is None:
            break
        walk.claims.append(_claim(reader, offset, place))
        walk.gaps.append(place - offset)
        walk.stop, walk.ended = place, chunk.tag == Tag.END
        if not walk.ended:
            walk.offsets.append(place)
            walk.words.append(_word(chunk))
        if chunk.tag == Tag.INDEX and (words := indexed_words(chunk.payload)) is not None:
            walk.index, walk.index_offset = words, place
        offset = place + chunk.nbytes
        if reader.is_all(place, Head.from_word(_word(chunk))):
            break
    if not walk.ended:
        # A file of one chunk has no end to be found, whether that chunk is intact or not.
        head = _head(reader, reader.begin)
        walk.ended = head is not None and reader.is_all(reader.begin, head)
        # Behind the index nothing else is due.
        indexed = bool(walk.words) and Head.from_word(walk.words[-1]).tag == Tag.INDEX
        walk.ended |= indexed and size - offset == CHUNK_OVERHEAD
        walk.stop = size
        walk.gaps.append(walk.stop - offset)
        walk.claims.append(_claim(reader, offset, walk.stop) if walk.ended else _UNKNOWN)
    return walk


def _head(reader: Reader, offset: int) -> Head | None:
    data = reader.source.read(offset, CHUNK_OVERHEAD)
    if len(data) < CHUNK_OVERHEAD:
        return None
    head = Head.from_word(*struct.unpack_from("<I", data))
    valid = head.tag > 0 and (head.length > 0) != (head.tag == Tag.END)
    return head if valid and head.frames <= reader.header.max_frames else None


def _intact(reader: Reader, offset: int, head: Head | None) -> Chunk | None:
    if head is None:
        return None
    chunk = reader.load(Entry(0, 0, head.frames, head.tag, offset, head.length))
    return chunk if chunk.intact else None


def _claim(reader: Reader, offset: int, until: int) -> int:
    """Frames in damaged chunks whose heads lead from one offset exactly to the other."""
    frames = 0
    while offset < until:
        head = _head(reader, offset)
        if head is None or head.tag == Tag.END:
            return _UNKNOWN
        frames += head.frames
        offset += CHUNK_OVERHEAD + head.length
    return frames if offset == until else _UNKNOWN


def _word(entry: Entry) -> int:
    return Head(entry.tag, entry.frames, entry.length).word


def _frames(words: array[int] | None) -> int:
    return sum(Head.from_word(word).frames for word in words or ())


def _by_index(walk: _Walk) -> list[int] | None:
    """Frames lost before each chunk and before the end; None if the index is of no help.

    Chunks of equal heads are told apart by where they are, counted from the file's end and from the
    chunk before.
    """
    words = walk.index
    if words is None:
        return None
    sizes = [CHUNK_OVERHEAD + (word & MAX_PAYLOAD) for word in words]
    begins = list(accumulate(sizes, initial=0))  # offsets when the file was sound
    frames = list(accumulate((Head.from_word(word).frames for word in words), initial=0))
    by_word: dict[int, list[int]] = {}
    for place, word in enumerate(words):
        by_word.setdefault(word, []).append(place)
    found = [n for n, word in enumerate(walk.words) if word >> 27 != Tag.INDEX]
    moved = walk.index_offset - begins[-1]  # of what follows the last damage
    lost, due = [0] * (len(walk.words) + 1), 0
    for number in found:
        word, begin = walk.words[number], walk.offsets[number] - moved
        place = bisect_left(begins, begin, due)
        if place >= len(words) or (begins[place], words[place]) != (begin, word):
            same = by_word.get(word, [])
            after = max(due, bisect_left(begins, begins[due] + walk.gaps[number]))
            choice = bisect_left(same, after)
            if choice == len(same):  # bytes were added
                choice = bisect_left(same, due)
            if choice == len(same):
                return None
            place = same[choice]
        lost[number] = frames[place] - frames[due]
        due = place + 1
    lost[found[-1] + 1 if found else 0] += frames[-1] - frames[due]
    return lost


def _by_estimate(walk: _Walk, count: int) -> tuple[list[int], bool]:
    """As :func:`_by_index` without one, and whether the figures are certain."""
    heads = [Head.from_word(word) for word in walk.words]
    pictures = [head for head in heads if head.frames]
    kept = sum(head.frames for head in pictures)
    if count > MAX_FRAMES * (walk.stop // CHUNK_OVERHEAD):
        count = 0  # more than even a much longer file could hold
    lost = [max(0, claim) for claim in walk.claims]
    unknown = [place for place, claim in enumerate(walk.claims[:-1]) if claim == _UNKNOWN]
    missing = count - kept - sum(lost) if count else 0
    exact = bool(count) and missing >= 0 and (len(unknown) + (not walk.ended)) <= 1
    exact &= missing == 0 or bool(unknown) or not walk.ended
    missing = max(0, missing)
    nbytes = sum(CHUNK_OVERHEAD + head.length for head in pictures)
    usual = Counter(head.frames for head in pictures).most_common(1)[0][0] if pictures else 0
    for place in unknown:
        guess = max(1, round(walk.gaps[place] * len(pictures) / max(1, nbytes))) * usual
        lost[place] = min(guess, missing) if count else guess
        missing -= lost[place] if count else 0
    lost[unknown[-1] if unknown and walk.ended else -1] += missing
    return lost, exact
