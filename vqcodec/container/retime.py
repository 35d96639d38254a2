"""Audio of a damaged file on its way to a repaired one, where lost frames leave no gap."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

from vqcodec.audio import AudioPacket
from vqcodec.container.audio import AudioTrack, pack_packets
from vqcodec.container.chunk import Chunk
from vqcodec.container.layout import Tag
from vqcodec.container.writer import Writer

MAX_HELD = 1 << 26  # bytes of audio that runs ahead of its pictures


class Retimer:
    """Holds audio until it is known whether the frames that it goes with are lost.

    What goes with lost frames is left out; what follows them is moved by their duration. Audio
    that neither concerns is written byte for byte.

    Args:
        writer: of the repaired file.
        rate: frames per second.
    """

    def __init__(self, writer: Writer, rate: Fraction) -> None:
        self._writer, self._rate = writer, rate
        self._track = AudioTrack()
        self._held: deque[tuple[bytes, Sequence[AudioPacket]]] = deque()
        self._nbytes = 0
        self._last = -math.inf  # time of the latest packet written
        # Lost time, in ticks: where each stretch begins and ends, and how much is lost up to there.
        self._begins: list[int] = []
        self._ends: list[int] = []
        self._sums: list[int] = [0]

    def take(self, chunk: Chunk) -> None:
        """The next chunk of the damaged file, of any tag.

        Raises:
            FormatError: it is an audio chunk, and invalid; it is left out.
        """
        packets = self._track.take(chunk)
        if chunk.tag == Tag.AUDIO_FORMAT:
            self._writer.write_chunk(chunk.tag, chunk.payload)
        elif packets:
            self._held.append((chunk.payload, packets))
            self._nbytes += len(chunk.payload)
            while self._nbytes > MAX_HELD:
                self._write()

    def kept(self, stop: int) -> None:
        """Frames up to, not with, ``stop`` of the damaged file are about to be written."""
        # As long as its last packet comes later, a chunk may yet lose some of its packets.
        while self._held and self._held[0][1][-1].time < self._ticks(stop):
            self._write()

    def lost(self, start: int, stop: int) -> None:
        """Frames from ``start`` up to, not with, ``stop`` of the damaged file are lost."""
        begin, end = self._ticks(start), self._ticks(stop)
        if end > begin:
            self._begins.append(begin)
            self._ends.append(end)
            self._sums.append(self._sums[-1] + end - begin)

    def finish(self) -> None:
        """No more is to come."""
        while self._held:
            self._write()

    def _ticks(self, frame: int) -> int:
        return round(frame * (self._track.format.rate if self._track.format else 0) / self._rate)

    def _write(self) -> None:
        payload, packets = self._held.popleft()
        self._nbytes -= len(payload)
        moved = [
            packet
            for packet in map(self._moved, packets)
            if packet is not None and packet.time > self._last
        ]
        self._last = moved[-1].time if moved else self._last
        if moved == list(packets):
            self._writer.write_chunk(Tag.AUDIO, payload)
        elif self._track.format is not None:
            for part in pack_packets(moved, self._track.format.rate):
                self._writer.write_chunk(Tag.AUDIO, part)

    def _moved(self, packet: AudioPacket) -> AudioPacket | None:
        before = bisect_right(self._ends, packet.time)
        if before < len(self._begins) and packet.time >= self._begins[before]:
            return None
        return replace(packet, time=packet.time - self._sums[before])
