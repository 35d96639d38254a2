"""Writing: every format read back, and what is refused."""

import errno
import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from video_builders import FullDisk, noise, psnr, scene

from vqcodec.errors import OutputError, SettingError
from vqcodec.files import replacing
from vqcodec.video import format_of, open_sink, probe, read_frames

WIDE = Fraction(4, 3)


def save(target, frames, *, rate=Fraction(16), aspect=Fraction(1), **options):
    height, width = frames.shape[1:3]
    with open_sink(target, width=width, height=height, rate=rate, aspect=aspect, **options) as sink:
        sink.write(frames[:5])
        sink.write(frames[5:])
    return target


@pytest.mark.parametrize(
    ("name", "codec", "quality"),
    [
        ("a.mp4", None, 36),
        ("a.mp4", "libx265", 36),
        ("a.mp4", "libsvtav1", 35),
        ("a.mov", None, 36),
        ("a.mkv", None, 36),
        ("a.mkv", "ffv1", float("inf")),
        ("a.webm", None, 35),
        ("a.webm", "libsvtav1", 35),
        ("a.gif", None, 29),
        ("a.y4m", None, 50),
        ("folder", None, float("inf")),
    ],
)
def test_round_trip(tmp_path, name, codec, quality):
    frames = scene(40)
    path = save(tmp_path / name, frames, codec=codec)
    source = path / "%06d.png" if path.is_dir() else path
    back = read_frames(source)
    assert back.shape == frames.shape
    assert psnr(back, frames) >= quality
    info = probe(source)
    assert abs(info.duration - Fraction(40, 16)) <= Fraction(1, 1000)
    assert info.display_aspect == 1


@pytest.mark.parametrize(
    ("name", "codec", "size"),
    [
        ("a.mp4", None, (64, 64)),
        ("a.mp4", "libsvtav1", (64, 64)),
        ("a.mkv", None, (64, 64)),
        ("a.gif", None, (64, 64)),
        ("a.y4m", None, (64, 64)),
        ("a.webm", None, (86, 64)),  # cannot store the shape of a pixel
        ("a.mkv", "ffv1", (86, 64)),
    ],
)
def test_display_aspect(tmp_path, name, codec, size):
    info = probe(save(tmp_path / name, scene(4), aspect=WIDE, codec=codec))
    assert (info.width, info.height) == size
    assert abs(info.display_aspect / WIDE - 1) < 0.02


@pytest.mark.parametrize("name", ["a.mp4", "a.gif", "a.y4m", "folder"])
@pytest.mark.parametrize(
    ("size", "odd"), [((101, 33), True), ((128, 96), False), ("display", False)]
)
def test_size(tmp_path, name, size, odd):
    path = save(tmp_path / name, scene(4), aspect=WIDE, size=size)
    info = probe(path / "%06d.png" if path.is_dir() else path)
    expected = (86, 64) if size == "display" else size
    if odd and name == "a.mp4":
        expected = (100, 32)  # 4:2:0 comes in pairs
    assert (info.width, info.height) == expected


@pytest.mark.parametrize("rate", [Fraction(16), Fraction(30000, 1001), Fraction(5, 2)])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.y4m"])
def test_rate(tmp_path, name, rate):
    path = save(tmp_path / name, scene(12), rate=rate)
    assert len(read_frames(path, rate=rate)) == 12
    info = probe(path)
    assert abs(info.rate / rate - 1) < 1e-3
    assert abs(info.duration - 12 / rate) <= Fraction(2, 1000)


def test_mp4_plays_everywhere(tmp_path):
    path = save(tmp_path / "a.mp4", scene(12))
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        assert (context.profile, context.pix_fmt) == ("High", "yuv420p")
        assert (context.colorspace, context.color_range) == (6, 1)


def test_crf_trades_quality_for_size(tmp_path):
    fine = save(tmp_path / "a.mp4", noise(8), crf=4)
    coarse = save(tmp_path / "b.mp4", noise(8), crf=40.5)
    assert coarse.stat().st_size < fine.stat().st_size / 4


def test_gif_has_a_palette_for_each_frame(tmp_path):
    frames = np.zeros((3, 64, 64, 3), np.uint8)
    for channel in range(3):
        frames[channel, :, :, channel] = np.arange(64)[:, None] * 4 + np.arange(64) % 4
    assert psnr(read_frames(save(tmp_path / "a.gif", frames)), frames) > 45


def test_y4m_stream():
    target = io.BytesIO()
    save(target, scene(3), aspect=WIDE)
    header, _, rest = target.getvalue().partition(b"\n")
    assert header == b"YUV4MPEG2 W64 H64 F16:1 Ip A4:3 C444 XCOLORRANGE=LIMITED"
    assert len(rest) == 3 * (len(b"FRAME\n") + 3 * 64 * 64)
    target.seek(0)
    assert psnr(read_frames(target), scene(3)) > 50


class OneWay(io.BytesIO):
    def seekable(self):
        return False


@pytest.mark.parametrize("format", ["mkv", "webm", "gif", "y4m"])
def test_pipes(format):
    target = OneWay()
    save(target, scene(10), format=format)
    assert len(read_frames(io.BytesIO(target.getvalue()))) == 10


def test_what_cannot_be_piped():
    for format in ("mp4", "png"):
        with pytest.raises(SettingError, match=r"cannot be piped|needs a folder"):
            save(OneWay(), scene(2), format=format)
    seekable = io.BytesIO()
    save(seekable, scene(10), format="mp4")
    assert len(read_frames(io.BytesIO(seekable.getvalue()))) == 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"codec": "h999"}, "unknown codec h999"),
        ({"codec": "ffv1"}, "mp4 cannot hold ffv1"),
        ({"crf": 99}, "crf of libx264 must be from 0 to 51, not 99"),
        ({"format": "gif", "crf": 3}, "gif has no crf"),
        ({"format": "bmp"}, "unknown format bmp"),
    ],
)
def test_refusals(tmp_path, options, message):
    with pytest.raises(SettingError, match=message):
        save(tmp_path / "a.mp4", scene(2), **options)
    assert list(tmp_path.iterdir()) == []


def test_format_of(tmp_path):
    assert [format_of(name) for name in ("a.MP4", "b.webm", "out/", "out", tmp_path)] == [
        "mp4",
        "webm",
        "png",
        "png",
        "png",
    ]
    with pytest.raises(SettingError, match=r"unknown format \.xyz"):
        format_of("a.xyz")


@pytest.mark.parametrize("format", ["mkv", "y4m"])
def test_a_stream_that_is_full(format):
    with pytest.raises(OutputError, match="No space left on device"):
        save(FullDisk(), scene(2), format=format)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("format", ["mkv", "y4m"])
def test_a_disk_that_is_full(format):
    with pytest.raises(OutputError, match=r"/dev/full: cannot write: .*[Nn]o space"):
        save(Path("/dev/full"), scene(40), format=format)


@pytest.mark.parametrize("name", ["a.mp4", "a.y4m", "folder"])
def test_a_folder_that_is_a_file(tmp_path, name):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"cannot open: (Not a directory|File exists)"):
        save(tmp_path / "file" / name, scene(2))


def test_wrong_frames_are_a_mistake_of_the_caller(tmp_path):
    with open_sink(
        tmp_path / "a.mkv", width=64, height=64, rate=Fraction(16), aspect=Fraction(1)
    ) as sink:
        for bad in (scene(2, 32, 64), scene(2)[0], scene(2).astype(np.float32)):
            with pytest.raises(ValueError, match="frames must be uint8"):
                sink.write(bad)
        sink.write(scene(2))
    assert len(read_frames(tmp_path / "a.mkv")) == 2


def test_no_frames_is_an_error(tmp_path):
    for name in ("a.mp4", "a.y4m", "folder"):
        with pytest.raises(OutputError, match="no frame to write"):
            save(tmp_path / name, scene(1)[:0])


@pytest.mark.parametrize("name", ["a.mp4", "a.gif", "a.y4m", "folder"])
def test_an_exception_leaves_nothing_behind_with_replacing(tmp_path, name):
    target = tmp_path / name
    folder = format_of(target) == "png"

    def attempt(count, force):
        with replacing(target, force=force, folder=folder) as temporary:
            save(temporary, scene(2), format=format_of(target))
            if count < 2:
                raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OutputError, match="No space left"):
        attempt(1, force=False)
    assert list(tmp_path.iterdir()) == []
    attempt(2, force=False)
    with pytest.raises(OutputError, match="already exists"):
        attempt(2, force=False)
    attempt(2, force=True)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_encoders_are_silent(tmp_path, capfd):
    for codec in ("libx264", "libx265", "libsvtav1", "libvpx-vp9"):
        save(tmp_path / "a.mp4", scene(4), codec=codec)
    captured = capfd.readouterr()
    assert captured.err == ""
    assert captured.out == ""
