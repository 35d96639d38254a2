"""The audio that goes with a stretch of frames, gathered while the chunks of a file pass by."""

from __future__ import annotations

from fractions import Fraction

from vqcodec.audio import AudioFormat, AudioPacket
from vqcodec.container.audio import MAX_SECONDS, AudioTrack, time_of
from vqcodec.container.chunk import Chunk, Entry
from vqcodec.container.layout import Tag
from vqcodec.container.loss import Lost
from vqcodec.container.reader import Reader

GAP = Fraction(1, 100)  # of a second: silence that is named if it follows damage


class AudioSpan:
    """Gathers the packets from one frame up to another.

    Args:
        reader: of the file.
        track: the format of its audio.
        first, stop: frames; to the end if ``stop`` is None.

    Attributes:
        over: audio has been met that begins after the stretch, so no more of it will come.
    """

    def __init__(self, reader: Reader, track: AudioFormat, first: int, stop: int | None) -> None:
        self._reader, self._track = reader, AudioTrack(track)
        self._rate = track.rate
        self._ticks = track.rate / reader.header.rate  # in a frame
        self._begin = round(first * self._ticks)
        self._stop = None if stop is None else round(stop * self._ticks)
        self._passed: list[AudioPacket] = []
        self._end = max(0, self._begin)  # of the latest packet
        self._hurt = False
        self.over = False

    def wants(self, entry: Entry) -> bool:
        """Whether the chunk may have audio of the stretch, or end the search for it."""
        if entry.tag != Tag.AUDIO or self._reader.source.size is None:
            return entry.tag == Tag.AUDIO  # in a pipe a look at the time would be the only one
        return time_of(self._reader, entry) >= self._begin - (MAX_SECONDS + 1) * self._rate

    def take(self, chunk: Chunk) -> Lost | None:
        """The next chunk; tells of audio that is missing before it, if :meth:`hurt` was called.

        Raises:
            ChecksumError, FormatError: see :meth:`AudioTrack.take`.
        """
        packets = self._track.take(chunk)
        if not packets:
            return None
        if self._stop is not None and packets[0].time >= self._stop:
            self.over = True
            return None
        lost = self._gap(packets[0].time, chunk.offset)
        self._passed.extend(packets)
        self._end = max(self._end, packets[-1].end)
        return lost

    def passed(self) -> list[AudioPacket]:
        """What came since the last call."""
        passed, self._passed = self._passed, []
        return passed

    def hurt(self) -> None:
        """The file is damaged here."""
        self._hurt = True

    def finish(self, stop: int) -> Lost | None:
        """No more comes, and the last frame is the one before ``stop``: is audio missing there?"""
        return self._gap(round(stop * self._ticks), 0)

    def _gap(self, until: int, offset: int) -> Lost | None:
        hurt, self._hurt = self._hurt, False
        if not hurt or until - self._end <= GAP * self._rate:
            return None
        first, last = self._end / self._rate, until / self._rate
        reason = f"audio is missing from {first:.2f} to {last:.2f} s"
        frame = int(self._end / self._ticks)
        return Lost(frame, 0, self._reader.header.rate, offset, 0, reason)
