"""``vqcodec encode`` and ``vqcodec decode``: options, messages, exit codes, nothing left behind."""

import json
from fractions import Fraction
from pathlib import Path

import pytest
from faults import largest_file
from video_builders import write_audio

from vqcodec.container.file import open as open_vqv
from vqcodec.video import probe, read_frames


def listing(folder):
    return sorted(path.name for path in folder.iterdir())


def test_there_and_back(vq, video, tmp_path):
    done = vq("encode", video, tmp_path / "a.vqv")
    assert (done.code, done.out) == (0, "")
    assert done.err.startswith("100 frames of 64x64, ")
    done = vq("decode", tmp_path / "a.vqv", tmp_path / "a.mp4")
    assert (done.code, done.out) == (0, "")
    assert done.err.startswith("100 frames, ")
    info = probe(tmp_path / "a.mp4")
    assert (info.codec, info.rate, info.duration) == ("h264", 16, Fraction(100, 16))
    assert info.display_aspect == Fraction(3, 2)
    assert listing(tmp_path) == ["a.mp4", "a.vqv"]


def test_quiet(vq, video, tmp_path):
    for arguments in (("encode", video, tmp_path / "a.vqv"),
                      ("decode", tmp_path / "a.vqv", tmp_path / "a.mp4"),
                      ("verify", tmp_path / "a.vqv")):  # fmt: skip
        done = vq(*arguments, "-q")
        assert (done.code, done.out, done.err) == (0, "", "")


def test_json_of_encode(vq, video, tmp_path):
    done = vq("encode", video, tmp_path / "a.vqv", "--json", "--duration", "2")
    assert done.err == ""
    told = json.loads(done.out)
    assert set(told) == {
        "source", "target", "frames", "seconds", "width", "height", "rate", "aspect", "chunks",
        "bytes", "source_bytes", "bpp", "kbps", "model", "fps", "damaged", "quality",
        "effort", "target_bytes", "target_problem", "rates_include_audio", "audio", "audio_bytes",
        "audio_kbps",
    }  # fmt: skip
    assert (told["frames"], told["seconds"], told["chunks"]) == (32, 2.0, 1)
    assert (told["rate"], told["aspect"], told["damaged"]) == ("16", "3/2", 0)
    assert told["bytes"] == (tmp_path / "a.vqv").stat().st_size
    assert told["bpp"] == 8 * told["bytes"] / (32 * 64 * 64)


def test_a_size_to_meet(vq, video, tmp_path):
    path = tmp_path / "a.vqv"
    options = ("--size", "16", "--duration", "2", "--json")
    told = json.loads(vq("encode", video, path, "--target-size", "0.03k", *options).out)
    assert (told["effort"], told["target_bytes"]) == (2, 30)
    assert "more than the 30 asked for: all but the pictures takes" in told["target_problem"]
    size = told["bytes"]
    done = vq("encode", video, path, "-f", "--target-size", str(size), *options, "--effort", "3")
    told = json.loads(done.out)
    assert (told["effort"], told["target_bytes"], told["bytes"]) == (3, size, size)
    assert (told["target_problem"], done.err) == (None, "")
    done = vq("encode", video, path, "-f", "--bitrate", "1000", "--quality", "1", *options[:-1])
    assert done.code == 0
    warning, _ = done.err.splitlines()
    assert warning.startswith(f"vqcodec: warning: {video}: {path.stat().st_size} bytes, 10")
    assert "less than the 250000 asked for: quality 1 takes at most" in warning


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ("--bitrate 5 --target-size 5k", "--bitrate and --target-size exclude each other"),
        ("--bitrate 5 --trade 1", "--bitrate and --trade exclude each other"),
        ("--bitrate 0", "0.0 is not in the range"),
        ("--bitrate nan", "'nan' is not a number"),
        ("--target-size 5G", "'5G' is not BYTES"),
        ("--target-size 0", "'0' is no size of a file"),
        ("--target-size -5k", "'-5k' is not BYTES"),
        ("--effort 10", "10 is not in the range 0<=x<=9"),
        ("--trade -1", "-1.0 is not in the range"),
    ],
)
def test_sizes_and_efforts_that_make_no_sense(vq, video, tmp_path, options, reason):
    done = vq("encode", video, tmp_path / "a.vqv", *options.split())
    assert (done.code, listing(tmp_path)) == (2, [])
    assert reason in done.err


def test_json_of_decode(vq, coded, tmp_path):
    done = vq("decode", coded, tmp_path / "a.mp4", "--json")
    assert done.err == ""
    told = json.loads(done.out)
    assert set(told) == {
        "source", "target", "frames", "seconds", "bytes", "model", "fps", "truncated",
        "lost_frames", "lost", "audio",
    }  # fmt: skip
    assert (told["frames"], told["seconds"], told["truncated"]) == (100, 6.25, False)
    assert told["bytes"] == (tmp_path / "a.mp4").stat().st_size


def test_options_of_encode(vq, video, tmp_path):
    path = tmp_path / "a.vqv"
    options = "--fps 30000/1001 --size 128x64 --fit pad --start 0:01 --duration 0.5 --packer raw"
    assert vq("encode", video, path, *options.split()).code == 0
    with open_vqv(path) as file:
        header = file.header
        (chunk,) = file
    assert (header.width, header.height, header.aspect) == (128, 64, 2)
    assert (header.rate, header.frames) == (Fraction(30000, 1001), 15)
    assert chunk.packer == "raw"


def test_options_of_decode(vq, coded, tmp_path):
    path = tmp_path / "a.mkv"
    options = "--codec ffv1 --size 32x48 --start 2 --duration 1.5"
    assert vq("decode", coded, path, *options.split()).code == 0
    assert read_frames(path).shape == (24, 64, 64, 3)
    info = probe(path)
    assert (info.codec, info.width, info.height) == ("ffv1", 32, 48)
    assert vq("decode", coded, tmp_path / "b.mp4", "--crf", "40", "--size", "display").code == 0
    assert probe(tmp_path / "b.mp4").width == 96


def test_standard_input(vq, video, coded, pipe_in, tmp_path):
    pipe_in(video.read_bytes())
    assert vq("encode", "-", tmp_path / "a.vqv", "-q").code == 0
    with open_vqv(tmp_path / "a.vqv") as file, open_vqv(coded) as direct:
        assert [chunk.payload for chunk in file] == [chunk.payload for chunk in direct]
    pipe_in(coded.read_bytes())
    assert vq("decode", "-", tmp_path / "a.mp4").code == 0
    assert len(read_frames(tmp_path / "a.mp4")) == 100


def test_folders_of_pictures(vq, coded, tmp_path):
    folder = tmp_path / "frames"
    assert vq("decode", coded, folder, "--duration", "0.25").code == 0
    assert listing(folder) == [f"{number:06d}.png" for number in range(1, 5)]
    assert vq("decode", coded, folder).line == f"{folder}: already exists (use -f to overwrite)"
    assert vq("decode", coded, folder, "-f", "--duration", "0.1").code == 0
    assert len(listing(folder)) == 2
    assert vq("encode", f"{folder}/%06d.png", tmp_path / "a.vqv").code == 0
    (folder / "notes.txt").touch()
    done = vq("decode", coded, folder, "-f")
    assert (done.code, len(listing(folder))) == (10, 3)
    assert "other files than numbered pictures" in done.line
    assert listing(tmp_path) == ["a.vqv", "frames"]


def test_a_truncated_file(vq, coded, tmp_path):
    with open_vqv(coded) as file:
        last = list(file)[-1]
    path, out = tmp_path / "cut.vqv", tmp_path / "out.mp4"
    path.write_bytes(coded.read_bytes()[: last.offset + 9])
    done = vq("decode", path, out)
    assert done.code == 7
    warning, summary = done.err.splitlines()
    assert warning.startswith(f"vqcodec: warning: {path}: the file is cut off in the chunk at byte")
    assert summary.startswith("96 frames, ")
    assert len(read_frames(out)) == 96
    assert json.loads(vq("decode", path, out, "-f", "--json", "-q").out)["truncated"]
    out.unlink()
    path.write_bytes(coded.read_bytes()[:60])
    done = vq("decode", path, out)
    assert (done.code, listing(tmp_path)) == (7, ["cut.vqv"])
    assert done.line.startswith(f"{path}: the file is cut off in the chunk at byte 33")


@pytest.fixture
def bad(video, coded, tmp_path_factory):
    """Inputs that cannot work, by name."""
    folder = tmp_path_factory.mktemp("bad")
    data = coded.read_bytes()
    (folder / "empty").touch()
    (folder / "text.mp4").write_text("not a video")
    (folder / "cut.mkv").write_bytes(video.read_bytes()[:300])
    write_audio(folder / "sound.wav")
    (folder / "corrupt.vqv").write_bytes(data[:100] + b"?" + data[101:])
    (folder / "header.vqv").write_bytes(data[:30] + b"?" + data[31:])
    (folder / "newer.vqv").write_bytes(data[:4] + b"\x03" + data[5:])
    (folder / "cut.vqv").write_bytes(data[:30])
    return folder


@pytest.mark.parametrize(
    ("verb", "name", "code", "reason"),
    [
        ("encode", "nothing", 3, "no such file"),
        ("encode", "empty", 3, "is empty"),
        ("encode", "text.mp4", 3, "not a video that FFmpeg can read"),
        ("encode", "cut.mkv", 3, ""),
        ("encode", "sound.wav", 3, "no video stream"),
        ("encode", ".", 3, "is a folder"),
        ("decode", "nothing", 3, "No such file or directory"),
        ("decode", ".", 3, "Is a directory"),
        ("decode", "empty", 7, "the file ends at byte 0, inside the header"),
        ("decode", "cut.vqv", 7, "the file ends at byte 30, inside the header"),
        ("decode", "text.mp4", 4, "not a .vqv file"),
        ("decode", "header.vqv", 5, "the header is damaged: its CRC does not match"),
        ("decode", "corrupt.vqv", 5, "chunk at byte 33 (0.00 to 2.00 s) is damaged"),
        ("decode", "newer.vqv", 6, "the file has format version 3, this program reads 1 to 2"),
    ],
)
def test_bad_inputs(vq, bad, tmp_path, verb, name, code, reason):
    done = vq(verb, bad / name, tmp_path / ("out.vqv" if verb == "encode" else "out.mp4"))
    assert (done.code, done.out, listing(tmp_path)) == (code, "", [])
    assert done.line.startswith(f"{bad / name}: {reason}")


def test_the_name_of_a_bad_pipe(vq, pipe_in, tmp_path):
    pipe_in(b"rubbish")
    done = vq("decode", "-", tmp_path / "a.mp4")
    assert (done.code, done.line) == (4, "standard input: not a .vqv file")
    pipe_in(b"rubbish")
    done = vq("encode", "-", tmp_path / "a.vqv")
    assert done.code == 3
    assert done.line.startswith("standard input: not a video that FFmpeg can read")
    assert listing(tmp_path) == []


def test_models(vq, video, coded, stranger, tmp_path):
    done = vq("decode", coded, tmp_path / "a.mp4", "--model", stranger)
    assert done.code == 8
    assert done.line.startswith(f"{coded}: needs model ")
    foreign = tmp_path / "foreign.vqv"
    assert vq("encode", video, foreign, "--model", stranger, "--duration", "1").code == 0
    done = vq("decode", foreign, tmp_path / "a.mp4")
    assert done.code == 8
    assert done.line.startswith(f"{foreign}: ")
    assert "which is not shipped here (base " in done.line
    assert vq("decode", foreign, tmp_path / "a.mp4", "--model", stranger).code == 0


@pytest.mark.parametrize(
    ("option", "value", "reason"),
    [
        ("--model", "nothing", "no model nothing: neither a file nor one of those shipped (base)"),
        ("--device", "cuda:99", "device cuda:99: "),
        ("--device", "nonsense", "device nonsense: "),
    ],
)
def test_missing_models_and_devices(vq, video, coded, tmp_path, option, value, reason):
    for arguments in (("encode", video, tmp_path / "a.vqv"), ("decode", coded, tmp_path / "a.mp4")):
        done = vq(*arguments, option, value)
        assert (done.code, listing(tmp_path)) == (9, [])
        assert done.line.startswith(reason)


def test_a_damaged_checkpoint(vq, video, tiny, tmp_path):
    path = tmp_path / "bad.safetensors"
    path.write_bytes(tiny.read_bytes()[:-100])
    done = vq("encode", video, tmp_path / "a.vqv", "--model", path)
    assert (done.code, listing(tmp_path)) == (9, ["bad.safetensors"])
    assert done.line.startswith(f"{path}: ")


def test_a_checkpoint_with_the_wrong_hash(vq, video, tiny, tmp_path):
    path = tmp_path / "bad.safetensors"
    data = bytearray(tiny.read_bytes())
    data[-100] ^= 1  # a weight
    path.write_bytes(data)
    done = vq("encode", video, tmp_path / "a.vqv", "--model", path)
    assert (done.code, done.line) == (9, f"{path}: damaged: its digest does not match")
    assert listing(tmp_path) == ["bad.safetensors"]


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="no folder that is read-only even for root")
def test_a_read_only_folder(vq, video, coded):
    for verb, source, target in (
        ("encode", video, "/proc/a.vqv"),
        ("decode", coded, "/proc/a.mp4"),
        ("decode", coded, "/proc/folder"),
        ("repair", coded, "/proc/a.vqv"),
    ):
        done = vq(verb, source, target)
        assert (done.code, done.line) == (10, f"{target}: No such file or directory")


def test_existing_outputs(vq, video, coded, tmp_path):
    path = tmp_path / "a.vqv"
    path.write_bytes(b"precious")
    done = vq("encode", video, path)
    assert (done.code, done.line) == (10, f"{path}: already exists (use -f to overwrite)")
    assert path.read_bytes() == b"precious"
    assert vq("encode", video, path, "-f").code == 0
    assert path.read_bytes() == coded.read_bytes()
    movie = tmp_path / "a.mp4"
    movie.touch()
    assert vq("decode", coded, movie).code == 10
    assert vq("decode", coded, movie, "-f").code == 0
    assert vq("encode", video, tmp_path).line == f"{tmp_path}: is a folder"
    assert vq("decode", coded, tmp_path / "no" / "a.mp4").line.endswith(f"{tmp_path / 'no'}")


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.gif", "a.y4m", "folder"])
def test_a_full_disk(vq, video, coded, tmp_path, name):
    with largest_file(500):
        done = vq("decode", coded, tmp_path / name)
    assert done.code == 10
    assert done.line.startswith(f"{tmp_path / name}: ")
    with largest_file(500):
        done = vq("encode", video, tmp_path / "a.vqv")
    assert (done.code, done.line) == (10, f"{tmp_path / 'a.vqv'}: File too large")
    with largest_file(500):
        done = vq("repair", coded, tmp_path / "a.vqv")
    assert (done.code, done.line) == (10, f"{tmp_path / 'a.vqv'}: File too large")
    assert listing(tmp_path) == []


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ("encode {video}", "Missing argument 'OUT.vqv'"),
        ("encode {video} {tmp}/a.vqv --size 60", "multiples of 8"),
        ("encode {video} {tmp}/a.vqv --size 8x8x8", "is not N or WxH"),
        ("encode {video} {tmp}/a.vqv --fps 0", "from 1/1000 to 1000"),
        ("encode {video} {tmp}/a.vqv --fps fast", "is not a number"),
        ("encode {video} {tmp}/a.vqv --duration 0", "must not be zero"),
        ("encode {video} {tmp}/a.vqv --start=-1", "is not SECONDS or HH:MM:SS"),
        ("encode {video} {tmp}/a.vqv --start 1e99", "longer than any video"),
        ("encode {video} {tmp}/a.vqv --fit squash", "'squash' is not one of"),
        ("encode {video} {video} -f", "is the input itself"),
        ("encode {video} {tmp}/../{name}/link.mkv -f", "is the input itself"),
        ("decode {coded} {coded} -f", "is the input itself"),
        ("decode {coded} - --json", "--json and - both want standard output"),
        ("encode {video} - --json", "--json and - both want standard output"),
        ("nonsense", "No such command 'nonsense'"),
        ("--nonsense", "No such option"),
        ("verify", "Missing argument 'FILE...'"),
    ],
)
def test_wrong_usage(vq, video, coded, tmp_path, arguments, reason):
    (tmp_path / "link.mkv").symlink_to(video)
    before = video.read_bytes(), coded.read_bytes()
    words = arguments.format(video=video, coded=coded, tmp=tmp_path, name=tmp_path.name).split()
    done = vq(*words)
    assert done.code == 2
    assert reason in done.line
    assert "--help)" in done.line
    assert (video.read_bytes(), coded.read_bytes()) == before
    assert listing(tmp_path) == ["link.mkv"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("a.xyz",), "unknown format .xyz"),
        (("a.mp4", "--codec", "nonsense"), "unknown codec nonsense"),
        (("a.webm", "--codec", "libx264"), "webm cannot hold libx264"),
        (("a.mp4", "--crf", "99"), "crf of libx264 must be from 0 to 51"),
        (("a.gif", "--crf", "9"), "gif has no crf"),
        (("-", "--format", "png"), "png needs a folder"),
    ],
)
def test_outputs_that_cannot_be(vq, coded, tmp_path, monkeypatch, arguments, reason):
    monkeypatch.chdir(tmp_path)
    done = vq("decode", coded, *arguments)
    assert (done.code, listing(tmp_path)) == (2, [])
    assert reason in done.line


def test_without_memory(vq, video, tmp_path, monkeypatch):
    def fail(*_arguments, **_options):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 9 bytes")

    monkeypatch.setattr("vqcodec.codec.Codec.encode_batch", fail)
    done = vq("encode", video, tmp_path / "a.vqv")
    assert (done.code, done.line, listing(tmp_path)) == (1, "out of memory", [])


def test_pictures_too_large_for_the_memory(vq, video, tmp_path):
    vq("encode", video, tmp_path / "a.vqv")
    done = vq("decode", tmp_path / "a.vqv", tmp_path / "a.mp4", "--memory", "700")
    assert done.code == 13
    assert done.line.startswith(f"{tmp_path / 'a.vqv'}: a chunk of 32 frames of 64x64 takes about ")
    assert listing(tmp_path) == ["a.vqv"]
    needed = done.line.split()[-1]
    done = vq("decode", tmp_path / "a.vqv", tmp_path / "a.mp4", "-q", "--memory", needed)
    assert (done.code, done.err) == (0, "")


def test_encode_says_when_decoding_takes_more_memory(vq, video, tmp_path):
    done = vq("encode", video, tmp_path / "a.vqv", "--size", "1024", "--duration", "0.1")
    assert done.code == 0
    assert "decoding needs --memory 1" in done.err
