"""Audio chunks: packets and their times to bytes and back, and what a hostile file may claim."""

import io
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqcodec.audio import AudioFormat, AudioPacket
from vqcodec.container import Reader, Writer, verify
from vqcodec.container.audio import (
    MAX_PACKETS,
    find_format,
    pack_format,
    pack_packets,
    parse_format,
    parse_packets,
)
from vqcodec.container.layout import Tag
from vqcodec.container.repair import repair_file
from vqcodec.errors import FormatError

RATE = 48000
OPUS = AudioFormat("A_OPUS", RATE, 1, b"OpusHead")


def packets(times, duration=960):
    return [AudioPacket(time, duration, bytes([n % 256])) for n, time in enumerate(times)]


def round_trip(given_packets):
    payloads = list(pack_packets(given_packets, RATE))
    return payloads, [p for payload in payloads for p in parse_packets(payload, RATE)]


def test_a_run_of_packets_is_one_chunk():
    run = packets(range(-312, 96000, 960))
    payloads, back = round_trip(run)
    assert back == run
    assert len(payloads) == 1
    assert len(payloads[0]) == 6 + 2 + 2 * len(run)  # time; one duration; a size and a byte each


def test_a_gap_begins_a_chunk_and_rounding_does_not():
    payloads, back = round_trip(packets([0, 983, 1900, 48000]))
    assert [packet.time for packet in back] == [0, 983, 1900, 48000]
    assert len(payloads) == 2


def test_long_runs_are_split():
    payloads, back = round_trip(packets(range(0, 960 * 1200, 960)))
    assert [len(parse_packets(payload, RATE)) for payload in payloads] == [500, 500, 200]
    assert len(back) == 1200
    assert len(list(pack_packets(packets(range(9000), 1), RATE))) == 3


@pytest.mark.parametrize("late", [1, 48, 95])
def test_a_chunk_of_ten_seconds_does_not_grow_over_them(late):
    """As it would if its last packet had to close the gap behind it."""
    times = [*range(0, 960 * 250, 1920), *range(960 * 250, 960 * 500, 1920)]
    payloads, back = round_trip(packets([*times, 960 * 500 + late], 1920))
    assert [packet.time for packet in back] == [*times, 960 * 500 + late]
    assert len(payloads) == 2


def test_packets_that_do_not_advance_are_left_out():
    _, back = round_trip(packets([0, 960, 960, 500, 1920]))
    assert [packet.time for packet in back] == [0, 960, 1920]


@given(
    st.lists(st.tuples(st.integers(1, 9600), st.integers(0, 9600), st.binary(min_size=1))),
    st.integers(-10000, 1 << 40),
)
def test_packets_keep_their_times_and_bytes(steps, time):
    run = []
    for duration, gap, data in steps:
        run.append(AudioPacket(time, duration, data))
        time += duration + gap
    _, back = round_trip(run)
    assert [(p.time, p.data) for p in back] == [(p.time, p.data) for p in run]


@given(st.binary(min_size=1, max_size=200))
def test_any_bytes_are_packets_or_an_error(payload):
    try:
        parsed = parse_packets(payload, RATE)
    except FormatError:
        return
    assert 1 <= len(parsed) <= MAX_PACKETS
    assert sum(len(packet.data) for packet in parsed) < len(payload)
    assert all(after.time == before.end for before, after in pairwise(parsed))


@given(st.binary(min_size=1, max_size=80))
def test_any_bytes_are_a_format_or_an_error(payload):
    try:
        track = parse_format(payload)
    except FormatError:
        return
    assert pack_format(track) == payload


@pytest.mark.parametrize(
    "track",
    [
        AudioFormat("", RATE, 1),
        AudioFormat("A_" + "X" * 31, RATE, 1),
        AudioFormat("A OPUS", RATE, 1),
        AudioFormat("A_OPUS", 0, 1),
        AudioFormat("A_OPUS", RATE, 0),
        AudioFormat("A_OPUS", RATE, 1, bytes(65536)),
    ],
)
def test_a_format_out_of_range(track):
    with pytest.raises(ValueError, match="invalid audio"):
        pack_format(track)


@pytest.mark.parametrize(
    "tail",
    [b"", b"\x02a", b"\x03\x00a", b"\x00", b"\x01\x01", b"\x05\x01a", b"\xff\xff\xff\xff\x01a",
     b"\x03\x01a" * 4097, b"\x03\xff\xff\x7fa"],
)  # fmt: skip
def test_malformed_packets(tail):
    with pytest.raises(FormatError, match="invalid audio"):
        parse_packets(bytes(6) + tail, RATE)


# In a file: chunks of 0.5 and 0.25 s at 16 fps


def with_audio(header, contents, *, audio=None, order=(16, 17)):
    """A file whose chunks each come after their audio, 20 ms packets from -312 ticks on."""
    run = packets(range(-312, 36000, 960)) if audio is None else audio
    file = io.BytesIO()
    with Writer(file, header, packer="raw") as writer:
        if 16 in order:
            writer.write_chunk(Tag.AUDIO_FORMAT, pack_format(OPUS))
        for frames, grids in contents:
            begin, end = (n * RATE / 16 for n in (writer.frames, writer.frames + frames))
            part = [p for p in run if (begin <= p.time < end) or (p.time < 0 and not begin)]
            for payload in pack_packets(part, RATE):
                writer.write_chunk(Tag.AUDIO, payload)
            writer.write(frames, grids)
    return file.getvalue()


def audio_of(data):
    reader = Reader(io.BytesIO(data))
    found = []
    for entry in reader.scan():
        if entry.tag == Tag.AUDIO:
            found += parse_packets(reader.load(entry).payload, RATE)
    return found


def test_readers_without_audio_see_the_same_pictures(header, contents, small):
    data = with_audio(header, contents)
    assert verify(io.BytesIO(data)).problems == ()
    plain, rich = Reader(io.BytesIO(small)), Reader(io.BytesIO(data))
    for a, b in zip(plain, rich, strict=True):
        assert (a.start, a.frames, a.payload) == (b.start, b.frames, b.payload)
    assert find_format(rich) == OPUS
    assert find_format(plain) is None
    assert rich.table.audio_bytes == len(data) - len(small) - 4 * 3  # heads in the index


def test_a_pipe_can_be_read_after_a_look_at_the_format(header, contents, pipe):
    reader = Reader(pipe(with_audio(header, contents)))
    assert find_format(reader) == OPUS
    assert [chunk.frames for chunk in reader] == [8, 4]


@pytest.mark.parametrize(
    ("tag", "payload", "message"),
    [
        (Tag.AUDIO, b"short", "no packets"),
        (Tag.AUDIO, bytes(6) + b"\x03\x01a", "out of order"),
        (Tag.AUDIO_FORMAT, pack_format(OPUS), "not the first chunk"),
    ],
)
def test_verify_names_invalid_audio_and_repair_leaves_it_out(
    header, contents, tag, payload, message
):
    file = io.BytesIO()
    with Writer(file, header, packer="raw") as writer:
        writer.write_chunk(Tag.AUDIO_FORMAT, pack_format(OPUS))
        for chunk in pack_packets(packets(range(0, 24000, 960)), RATE):
            writer.write_chunk(Tag.AUDIO, chunk)
        writer.write(*contents[0])
        writer.write_chunk(tag, payload)
        writer.write(*contents[1])
    (problem,) = verify(io.BytesIO(file.getvalue())).problems
    assert message in str(problem)
    target = io.BytesIO()
    result = repair_file(io.BytesIO(file.getvalue()), target)
    assert (result.chunks, result.losses.count) == (2, 1)
    assert verify(io.BytesIO(target.getvalue())).problems == ()
    assert len(audio_of(target.getvalue())) == 25


def test_repair_of_a_sound_file_changes_no_byte(header, contents):
    data = with_audio(header, contents)
    target = io.BytesIO()
    repair_file(io.BytesIO(data), target)
    assert target.getvalue() == data


def test_repair_moves_audio_with_the_pictures(header, contents):
    data = bytearray(with_audio(header, contents))
    first = next(iter(Reader(io.BytesIO(bytes(data)))))
    data[first.offset + 12] ^= 1  # loses frames 0 to 8, which is 0.5 s
    target = io.BytesIO()
    result = repair_file(io.BytesIO(bytes(data)), target)
    assert result.frames == 4
    kept = audio_of(target.getvalue())
    whole = audio_of(with_audio(header, contents))
    moved = [(p.time - 24000, p.data) for p in whole if p.time >= 24000]
    assert [(p.time, p.data) for p in kept if p.time >= 0] == moved
    assert verify(io.BytesIO(target.getvalue())).problems == ()


def test_repair_moves_audio_that_runs_ahead_of_its_pictures(header, contents):
    """One chunk of audio for the whole file, before all pictures, of which the middle is lost."""
    run = packets(range(0, 36000, 960))
    file = io.BytesIO()
    with Writer(file, header, packer="raw") as writer:
        writer.write_chunk(Tag.AUDIO_FORMAT, pack_format(OPUS))
        for part in (run[:20], run[20:]):
            for payload in pack_packets(part, RATE):
                writer.write_chunk(Tag.AUDIO, payload)
        for frames, grids in [*contents[:1], *contents]:
            writer.write(frames, grids)
    data = bytearray(file.getvalue())
    second = list(Reader(io.BytesIO(file.getvalue())))[1]
    data[second.offset + 12] ^= 1
    target = io.BytesIO()
    assert repair_file(io.BytesIO(bytes(data)), target).losses.count == 1
    begin, end = (round(frame * RATE / 16) for frame in (second.start, second.stop))
    moved = [p.time for p in run if p.time < begin]
    moved += [p.time - (end - begin) for p in run if p.time >= end]
    assert [p.time for p in audio_of(target.getvalue())] == moved
    assert verify(io.BytesIO(target.getvalue())).problems == ()


def test_repair_without_the_format_leaves_the_audio_out(header, contents):
    data = bytearray(with_audio(header, contents))
    data[Reader(io.BytesIO(bytes(data))).begin + 10] ^= 1
    target = io.BytesIO()
    result = repair_file(io.BytesIO(bytes(data)), target)
    assert (result.chunks, result.losses.count) == (2, 1)
    assert audio_of(target.getvalue()) == []
    assert verify(io.BytesIO(target.getvalue())).problems == ()


def test_damaged_audio_is_named_as_such(header, contents):
    data = bytearray(with_audio(header, contents))
    opened = Reader(io.BytesIO(data))
    entry = next(entry for entry in opened.scan() if entry.tag == Tag.AUDIO)
    data[entry.offset + 9] ^= 1
    (problem,) = verify(io.BytesIO(data)).problems
    assert str(problem).startswith(f"chunk at byte {entry.offset} (audio) is damaged")
