"""Sound from a source to ``.vqv`` and on: beeps stay with their flashes to within 20 ms."""

import io
import json
import sys
from fractions import Fraction

import numpy as np
import pytest
from audio_builders import measure, write_av
from video_builders import Pipe, scene, write_video

from vqcodec.container import Level, Reader, verify
from vqcodec.container.layout import Tag
from vqcodec.container.repair import repair_file
from vqcodec.errors import ChecksumError, SourceError
from vqcodec.seam import Seams, rule
from vqcodec.transcode import decode_file, encode_file
from vqcodec.video.audio_source import AudioSource

SYNC = 0.020


class GreyCodec:
    """Keeps the grey of 8×8 blocks of each frame, so that flashes stay where they are."""

    model_id, levels, default_quality, prior = b"greygrey", (Level(1, 8, 256),), 1, None

    @classmethod
    def load(cls, *_args, **_settings):
        return cls()

    load_for = load

    def levels_at(self, _quality):
        return self.levels

    def seams(self, _quality):
        return Seams(rule(self.levels))

    def carry(self):
        return None

    def encode_batch(self, clips, *_settings, **_more):
        return [[c.reshape(len(c), 8, 8, 8, 8, 3).mean((2, 4, 5)).astype(np.int16)] for c in clips]

    def decode_batch(self, grids, frames, *_settings, **_more):
        clips = [grid[0][:n].astype(np.uint8) for grid, n in zip(grids, frames, strict=True)]
        blocks = [clip.repeat(8, 1).repeat(8, 2) for clip in clips]
        return [np.repeat(block[..., None], 3, 3) for block in blocks]


GREY = GreyCodec()


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    path = tmp_path_factory.mktemp("source") / "in.mp4"
    write_av(path)
    return path


@pytest.fixture(scope="module")
def coded(source, tmp_path_factory):
    path = tmp_path_factory.mktemp("coded") / "in.vqv"
    encode_file(source, path, codec=GREY)
    return path


@pytest.fixture
def grey_cli(monkeypatch, capsys):
    """Run the command line with the grey codec; (code, out, err)."""
    from vqcodec.cli.dispatch import run

    monkeypatch.setattr("vqcodec.transcode._codecs", lambda: GreyCodec)

    def call(*arguments):
        code = run([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return call


def trip(tmp_path, source, suffix="mp4", encode=None, decode=None):
    coded, target = tmp_path / "x.vqv", tmp_path / f"x.{suffix}"
    encode_file(source, coded, codec=GREY, force=True, **encode or {})
    assert verify(io.BytesIO(coded.read_bytes())).problems == ()
    decode_file(coded, target, codec=GREY, force=True, **decode or {})
    return measure(target)


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "webm"])
def test_in_sync_in_every_container(coded, tmp_path, suffix):
    target = tmp_path / f"out.{suffix}"
    result = decode_file(coded, target, codec=GREY)
    found = measure(target)
    assert result.audio.name == "opus"
    assert len(found.flashes) == 2
    assert found.error() < SYNC
    assert abs(found.end - 4) < 0.05


@pytest.mark.parametrize(
    ("suffix", "codec", "into"),
    [("mp4", "aac", "mp4"), ("mkv", "libopus", "mkv"), ("mkv", "libmp3lame", "mp4"),
     ("mkv", "flac", "mov"), ("mp4", "aac", "webm")],
)  # fmt: skip
def test_copies_stay_in_sync(tmp_path, suffix, codec, into):
    source = tmp_path / f"in.{suffix}"
    write_av(source, codec=codec)
    found = trip(tmp_path, source, into, {"audio": "copy"})
    assert len(found.flashes) == 2
    assert found.error() < SYNC


def test_a_copy_keeps_the_packets(tmp_path):
    import av

    source, coded, target = (tmp_path / name for name in ("in.mkv", "x.vqv", "out.mkv"))
    write_av(source, codec="libopus")
    encode_file(source, coded, codec=GREY, audio="copy")
    decode_file(coded, target, codec=GREY)
    packets = []
    for path in (source, target):
        with av.open(str(path)) as container:
            packets.append([bytes(p) for p in container.demux(audio=0) if p.size])
    assert len(packets[1]) >= 199
    assert packets[0][: len(packets[1])] == packets[1]


@pytest.mark.parametrize(
    ("suffix", "made"),
    [
        ("mp4", {"begin": 0.7}),  # the sound begins late
        ("mkv", {"begin": 0.7}),
        ("mp4", {"end": 3.0}),
        ("mp4", {"end": 6.0}),
        ("ts", {"offset": 5}),
    ],
)
def test_streams_that_begin_and_end_apart(tmp_path, suffix, made):
    source = tmp_path / f"in.{suffix}"
    write_av(source, **made)
    found = trip(tmp_path, source)
    assert len(found.flashes) == 2
    assert found.error() < SYNC
    assert abs(found.end - min(4, made.get("end", 4))) < 0.06


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_a_part_of_the_source(tmp_path, suffix):
    source = tmp_path / f"in.{suffix}"
    write_av(source, seconds=14, at=(8.0, 9.5, 12.0))
    found = trip(tmp_path, source, encode={"start": 7.5, "duration": 3})
    assert found.flashes == [0.5, 2.0]
    assert found.error() < SYNC
    assert found.end < 3.05


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv"])
def test_a_part_of_the_file(coded, tmp_path, suffix):
    target = tmp_path / f"out.{suffix}"
    decode_file(coded, target, codec=GREY, start=2, duration=1.5)
    found = measure(target)
    assert found.flashes == [0.5]
    assert found.error() < SYNC
    assert found.end < 1.55


def test_through_pipes(tmp_path):
    file, coded, target = io.BytesIO(), io.BytesIO(), io.BytesIO()
    write_av(file, format="matroska", codec="libopus")
    encode_file(Pipe(file.getvalue()), coded, codec=GREY)
    decode_file(Pipe(coded.getvalue()), target, codec=GREY, format="mkv")
    found = measure(io.BytesIO(target.getvalue()))
    assert len(found.flashes) == 2
    assert found.error() < SYNC


def test_audio_comes_right_before_its_pictures(coded):
    with coded.open("rb") as file:
        tags = [entry.tag for entry in Reader(file).scan()]
    shape = ["A" if tag == Tag.AUDIO else "P" for tag in tags[1:5]]
    assert (tags[0], "".join(shape)) == (Tag.AUDIO_FORMAT, "APAP")


def test_no_audio_changes_no_byte(tmp_path):
    silent = tmp_path / "in.mkv"
    write_video(silent, scene(40))
    files = []
    for mode in ("opus", "copy", "none"):
        out = io.BytesIO()
        result = encode_file(silent, out, codec=GREY, audio=mode)
        assert (result.audio, result.audio_bytes) == (None, 0)
        files.append(out.getvalue())
    assert files[0] == files[1] == files[2]


def test_what_cannot_be_copied(tmp_path):
    source = tmp_path / "in.mkv"
    write_av(source, codec="pcm_s16le")
    with pytest.raises(SourceError, match=r"pcm_s16le\) cannot be copied"):
        encode_file(source, tmp_path / "x.vqv", codec=GREY, audio="copy")
    assert not (tmp_path / "x.vqv").exists()


# Damage


def damaged(coded, number):
    """The file with a byte of its audio chunk of that number changed."""
    data = bytearray(coded.read_bytes())
    audio = [e for e in Reader(io.BytesIO(bytes(data))).scan() if e.tag == Tag.AUDIO]
    data[audio[number].offset + 100] ^= 1
    return bytes(data)


def test_damaged_audio_stops_unless_concealed(coded, tmp_path):
    data = damaged(coded, 0)
    with pytest.raises(ChecksumError):
        decode_file(io.BytesIO(data), tmp_path / "x.mp4", codec=GREY)
    decode_file(io.BytesIO(data), tmp_path / "silent.mp4", codec=GREY, audio=False)
    for suffix in ("mp4", "mkv", "mov"):
        target = tmp_path / f"x.{suffix}"
        result = decode_file(io.BytesIO(data), target, codec=GREY, conceal=True)
        assert isinstance(result.problem, ChecksumError)
        assert any("audio is missing from 0.00 to 2.0" in line for line in result.losses.lines())
        found = measure(target)
        assert len(found.flashes) == 2
        assert len(found.beeps) == 1  # the first is lost, the second in place
        assert abs(found.beeps[0] - found.flashes[1]) < SYNC


def test_repair_keeps_pictures_and_sound_together(coded, tmp_path):
    data = bytearray(coded.read_bytes())
    first = next(iter(Reader(io.BytesIO(bytes(data)))))
    data[first.offset + 12] ^= 1
    target, shown = io.BytesIO(), tmp_path / "x.mkv"
    repair_file(io.BytesIO(bytes(data)), target)
    decode_file(io.BytesIO(target.getvalue()), shown, codec=GREY)
    found = measure(shown)
    assert len(found.flashes) == 1
    assert found.error() < SYNC


# The command line


def test_cli_tells_pictures_and_audio_apart(source, tmp_path, grey_cli):
    coded = tmp_path / "x.vqv"
    code, _, err = grey_cli("encode", source, coded)
    assert code == 0
    assert "kbit/s without audio, opus audio " in err
    _, out, _ = grey_cli("info", coded, "--json")
    told = json.loads(out)
    audio = told["audio"]
    assert (audio["codec"], audio["rate"], audio["channels"]) == ("opus", 48000, 1)
    assert told["bytes"] == coded.stat().st_size
    assert told["bpp"] == 8 * (told["bytes"] - audio["bytes"]) / (64 * 64 * 64)
    assert told["rates_include_audio"] is False
    _, out, _ = grey_cli("info", coded)
    assert "bpp" in out
    assert "without audio" in out
    assert "audio     opus, 1 channel at 48000 Hz, " in out
    assert grey_cli("verify", coded)[0] == 0
    _, out, _ = grey_cli("encode", source, tmp_path / "none.vqv", "--audio", "none", "--json")
    assert (json.loads(out)["audio"], json.loads(out)["audio_bytes"]) == (None, 0)


def test_cli_decodes_in_sync(coded, tmp_path, grey_cli):
    target = tmp_path / "x.mp4"
    assert grey_cli("decode", coded, target, "--start", "0.5", "-q") == (0, "", "")
    assert measure(target).error() < SYNC
    assert grey_cli("decode", coded, target, "--no-audio", "-f", "-q") == (0, "", "")
    assert measure(target).beeps is None


def test_cli_warns_once_of_formats_without_audio(coded, tmp_path, grey_cli):
    code, _, err = grey_cli("decode", coded, tmp_path / "x.y4m")
    assert code == 0
    assert "audio is left out: y4m cannot hold any" in err
    assert len(err.splitlines()) == 2
    assert grey_cli("decode", coded, tmp_path / "q.gif", "-q") == (0, "", "")
    _, _, err = grey_cli("decode", coded, tmp_path / "n.y4m", "--no-audio")
    assert len(err.splitlines()) == 1


def test_cli_takes_standard_input(tmp_path, grey_cli, monkeypatch):
    file = io.BytesIO()
    write_av(file, format="mpegts", codec="mp2")
    pipe = Pipe(file.getvalue())
    pipe.name = "<stdin>"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(pipe)))
    assert grey_cli("encode", "-", tmp_path / "x.vqv", "-q")[0] == 0
    assert grey_cli("decode", tmp_path / "x.vqv", tmp_path / "x.mp4", "-q")[0] == 0
    found = measure(tmp_path / "x.mp4")
    assert len(found.flashes) == 2
    assert found.error() < SYNC


def test_what_comes_before_the_first_picture_is_held_once(source, monkeypatch):
    import av

    with av.open(str(source)) as container:
        audio = AudioSource("copy", Fraction(0))
        audio.open(container, "in.mp4")
        packets = [packet for packet in container.demux(audio.stream) if packet.size]
        room = sum(packet.size for packet in packets)
        monkeypatch.setattr("vqcodec.video.audio_source.MAX_HELD", room)
        for packet in packets:
            audio.push(packet)
        audio.begin(Fraction(0))
        assert audio.problem is None
        assert len(list(audio.pull(Fraction(99)))) == len(packets)
        for packet in packets:  # and there is as much room again
            audio.push(packet)
        assert audio.problem is None
        audio.push(packets[0])
        assert "1 packets of its audio are left out" in audio.problem
