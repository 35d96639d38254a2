"""Audio chunks: what a track is, its packets with their times, and how they become payloads."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from vqcodec.audio import AudioFormat, AudioPacket
from vqcodec.container import number
from vqcodec.container.chunk import Chunk, Entry
from vqcodec.container.layout import AUDIO_TAGS, CHUNK_OVERHEAD, MAX_PAYLOAD, Tag
from vqcodec.container.reader import Reader
from vqcodec.errors import FormatError

RATES = range(1000, 768001)
MAX_CODEC_BYTES = 32
MAX_SETUP = (1 << 16) - 1
MAX_PACKETS = 4096
MAX_SECONDS = 10  # of one chunk
TIME_BYTES = 6
MAX_NUMBER_BYTES = 4
CLOSED_GAP = 500  # of a second: rounded stamps of a source make gaps shorter than 2 ms, or overlaps

_FORMAT = struct.Struct("<IB")  # rate, channels; follows the codec


def pack_format(track: AudioFormat) -> bytes:
    """Return the payload of an audio format chunk.

    Raises:
        ValueError: the format cannot store such a track.
    """
    codec = track.codec.encode("ascii", "replace")
    payload = bytes([min(len(codec), 255)]) + codec
    payload += _FORMAT.pack(track.rate, track.channels) + track.setup
    try:
        parse_format(payload)
    except FormatError as error:
        raise ValueError(str(error)) from error
    return payload


def parse_format(payload: bytes) -> AudioFormat:
    """Return what :func:`pack_format` was given.

    Raises:
        FormatError: a value outside its range.
    """
    length = payload[0]
    codec, rest = payload[1 : 1 + length], payload[1 + length :]
    _require(1 <= length <= MAX_CODEC_BYTES and len(rest) >= _FORMAT.size, "its codec")
    _require(all(0x21 <= byte <= 0x7E for byte in codec), "its codec")
    rate, channels = _FORMAT.unpack_from(rest)
    setup = rest[_FORMAT.size :]
    _require(rate in RATES, f"{rate} samples a second")
    _require(channels > 0, "no channels")
    _require(len(setup) <= MAX_SETUP, f"setup of {len(setup)} bytes")
    return AudioFormat(codec.decode("ascii"), rate, channels, setup)


def pack_packets(packets: Iterable[AudioPacket], rate: int) -> Iterator[bytes]:
    """Yield the payloads of audio chunks for packets in order of time.

    Gaps and overlaps of less than 2 ms are closed by the duration of the packet before, others
    begin a chunk. A packet that does not begin after the one before is left out.

    Raises:
        ValueError: a packet is empty or too large for any chunk.
    """
    run: list[AudioPacket] = []
    nbytes = 0
    for packet in packets:
        cost = len(packet.data) + 2 * MAX_NUMBER_BYTES
        if not packet.data or TIME_BYTES + cost > MAX_PAYLOAD:
            raise ValueError(f"audio packet of {len(packet.data)} bytes")
        packet = replace(packet, duration=min(max(1, packet.duration), MAX_SECONDS * rate))
        if run:
            last = run[-1]
            if packet.time <= last.time:
                continue
            lasts = packet.time - run[0].time  # with the gap closed
            if abs(packet.time - last.end) * CLOSED_GAP < rate and lasts <= MAX_SECONDS * rate:
                last = run[-1] = replace(last, duration=packet.time - last.time)
            full = (
                len(run) == MAX_PACKETS
                or nbytes + cost > MAX_PAYLOAD
                or packet.end - run[0].time > MAX_SECONDS * rate
            )
            if full or packet.time != last.end:
                yield _pack(run)
                run, nbytes = [], 0
        nbytes = nbytes + cost if run else TIME_BYTES + cost
        run.append(packet)
    if run:
        yield _pack(run)


def parse_packets(payload: bytes, rate: int) -> list[AudioPacket]:
    """Return the packets of an audio chunk, 1 to ``MAX_PACKETS``.

    Raises:
        FormatError: the payload is not as the format has it.
    """
    _require(len(payload) > TIME_BYTES, "no packets")
    begin = time = int.from_bytes(payload[:TIME_BYTES], "little", signed=True)
    packets: list[AudioPacket] = []
    offset, duration = TIME_BYTES, 0
    while offset < len(payload):
        head, offset = _number(payload, offset)
        size = head >> 1
        if head & 1:
            duration, offset = _number(payload, offset)
        _require(0 < size <= len(payload) - offset, "a packet's size")
        _require(duration > 0, "a packet without duration")
        _require(len(packets) < MAX_PACKETS, "too many packets")
        packets.append(AudioPacket(time, duration, payload[offset : offset + size]))
        offset += size
        time += duration
        _require(time - begin <= MAX_SECONDS * rate, "too long")
    return packets


def find_format(reader: Reader) -> AudioFormat | None:
    """The format of a file's audio, which is in its first chunk; None if it has none.

    A pipe can still be read from its start afterwards.

    Raises:
        ChecksumError, FormatError: the chunk is damaged or invalid.
    """
    try:
        entry = next(reader.scan(), None)
    except FormatError:
        return None  # whoever reads on meets it too
    if entry is None or entry.tag != Tag.AUDIO_FORMAT:
        return None
    chunk = reader.load(entry)
    AudioTrack().take(chunk)
    return parse_format(chunk.payload)


def time_of(reader: Reader, entry: Entry) -> int:
    """When an audio chunk begins, in ticks, without reading or checking the rest of it."""
    data = reader.source.read(entry.offset + CHUNK_OVERHEAD, TIME_BYTES)
    return int.from_bytes(data, "little", signed=True)


class AudioTrack:
    """Takes a file's chunks in order, and gives the packets in those of audio.

    Args:
        track: the format, if its chunk has been read; it may come again.

    Attributes:
        format: None as long as none was met.
    """

    def __init__(self, track: AudioFormat | None = None) -> None:
        self.format = track
        self._known = track is not None
        self._first = True
        self._last: int | None = None  # time of the latest packet

    def take(self, chunk: Chunk) -> Sequence[AudioPacket]:
        """The packets of ``chunk``; none if it is of another kind, or the file has no format.

        Raises:
            ChecksumError: it is an audio chunk, and damaged.
            FormatError: it is an audio chunk, and invalid or out of order.
        """
        first, self._first = self._first, False
        if chunk.tag not in AUDIO_TAGS:
            return ()
        chunk.check()
        try:
            if chunk.tag == Tag.AUDIO_FORMAT:
                _require(first or self._known, "not the first chunk")
                self.format = parse_format(chunk.payload)
                return ()
            if self.format is None:
                return ()
            packets = parse_packets(chunk.payload, self.format.rate)
            _require(self._last is None or packets[0].time > self._last, "out of order")
            self._last = packets[-1].time
            return packets
        except FormatError as error:
            raise FormatError(f"audio chunk at byte {chunk.offset}: {error}") from error


def _pack(run: Sequence[AudioPacket]) -> bytes:
    payload = bytearray(run[0].time.to_bytes(TIME_BYTES, "little", signed=True))
    duration = 0
    for packet in run:
        changed = packet.duration != duration
        payload += number.to_bytes(len(packet.data) << 1 | changed)
        if changed:
            duration = packet.duration
            payload += number.to_bytes(duration)
        payload += packet.data
    return bytes(payload)


def _number(payload: bytes, offset: int) -> tuple[int, int]:
    try:
        return number.parse(payload, offset, MAX_NUMBER_BYTES)
    except FormatError as error:
        raise FormatError(f"invalid audio: {error}") from error


def _require(condition: bool, what: str) -> None:
    if not condition:
        raise FormatError(f"invalid audio: {what}")
