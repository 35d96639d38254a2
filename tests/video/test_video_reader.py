"""Reading: kinds of files, of pixels, of damage."""

import contextlib
import math
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from video_builders import (
    Pipe,
    noise,
    psnr,
    quadrants,
    ramp,
    scene,
    write_audio,
    write_raw_h264,
    write_video,
)

from vqcodec.errors import SourceError
from vqcodec.video import open_video, probe, read_frames

FOOTAGE = Path(__file__).parents[3] / "shared" / "data"
MILLISECOND = Fraction(1, 1000)


# Timing


@pytest.mark.parametrize("suffix", [".mkv", ".avi", ".nut"])
def test_sixteen_fps_passes_bit_for_bit(tmp_path, suffix):
    frames = noise(33)
    path = tmp_path / f"a{suffix}"
    write_video(path, frames)
    assert np.array_equal(read_frames(path), frames)
    with open_video(path) as reader:
        assert reader.expected_frames in (32, 33)  # NUT promises up to the last frame's start
        assert not reader.damage


@pytest.mark.parametrize("rate", [12, 25, Fraction(30000, 1001), 60, 120, 1000])
def test_other_rates_keep_the_duration(tmp_path, rate):
    path = tmp_path / "a.mp4"
    count = math.ceil(2 * rate)
    write_video(path, ramp(count), rate=rate, codec="libx264", pixel_format="yuv420p")
    frames = read_frames(path)
    assert len(frames) == 32
    levels = frames[:, 32, 32, 0].astype(int)
    expected = ramp(count)[[int((k + 0.5) / 16 * rate + 0.01) for k in range(32)], 0, 0, 0]
    assert np.abs(levels - expected).max() <= 10


def test_variable_rate(tmp_path):
    path = tmp_path / "a.mkv"
    frames = ramp(4)
    write_video(path, frames, pts=[0, 500, 625, 2000], tick=MILLISECOND)
    out = read_frames(path)
    shown = [int(np.argmin(abs(ramp(4)[:, 0, 0, 0].astype(int) - f[0, 0, 0]))) for f in out]
    assert [shown.count(i) for i in range(4)] == [8, 2, 22, 1]


def test_negative_stamps_count_from_the_first_frame(tmp_path):
    path = tmp_path / "a.nut"
    write_video(path, ramp(8), pts=[125 * k // 2 - 200 for k in range(8)], tick=MILLISECOND)
    assert np.array_equal(read_frames(path), ramp(8))


def test_a_bare_stream_without_stamps(tmp_path):
    path = tmp_path / "a.h264"
    write_raw_h264(path, [(64, 64)], 24)
    assert len(read_frames(path)) == 24


def test_a_stamp_gone_wild_does_not_fill_the_disk(tmp_path):
    path = tmp_path / "a.nut"
    pts = [125 * k // 2 for k in range(16)]
    pts[8:] = [t + 10**10 for t in pts[8:]]
    write_video(path, ramp(16), pts=pts, tick=MILLISECOND)
    assert np.array_equal(read_frames(path), ramp(16))


@pytest.mark.parametrize("options", [{"g": "16"}, {"g": "400"}])
def test_start_and_duration(tmp_path, options):
    path = tmp_path / "a.mkv"
    frames = scene(320, 16, 16)
    write_video(path, frames, options=options)
    window = read_frames(path, width=16, height=16, start=12.5, duration=Fraction(2))
    assert np.array_equal(window, frames[200:232])
    with open_video(path, start=19.5) as reader:
        assert reader.expected_frames == len(list(reader)) == 8
    with pytest.raises(SourceError, match="ends before the start, 30 s"):
        read_frames(path, start=30)


def test_start_with_b_frames_is_the_same_with_and_without_seeking(tmp_path):
    path = tmp_path / "a.mp4"
    options = {"bf": "3", "g": "50"}
    write_video(path, scene(240), codec="libx264", pixel_format="yuv420p", options=options)
    sought = read_frames(path, start=9.25, duration=1)
    piped = read_frames(Pipe(_as_mkv(path, tmp_path).read_bytes()), start=9.25, duration=1)
    assert np.array_equal(sought, piped)
    assert np.array_equal(sought, read_frames(path)[148:164])


def _as_mkv(path, folder):
    """The same packets in Matroska, which can be piped."""
    copy = folder / "copy.mkv"
    with av.open(str(path)) as source, av.open(str(copy), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    return copy


# Geometry


@pytest.mark.parametrize("clockwise", [0, 90, 180, 270])
def test_rotation(tmp_path, clockwise):
    one = 65536
    cos, sin = {0: (1, 0), 90: (0, 1), 180: (-1, 0), 270: (0, -1)}[clockwise]
    matrix = (cos * one, sin * one, 0, -sin * one, cos * one, 0, 0, 0, 2**30)
    path = tmp_path / "a.mp4"
    write_video(path, quadrants(64, 128), codec="libx264", pixel_format="yuv444p", matrix=matrix)
    info = probe(path)
    assert (info.rotation, info.mirrored) == (clockwise, False)
    assert info.display_aspect == (2 if clockwise % 180 == 0 else Fraction(1, 2))
    upright = np.rot90(quadrants()[0], -clockwise // 90)
    assert psnr(read_frames(path)[0, 4:28, 4:28], upright[4:28, 4:28]) > 30


def test_sample_aspect(tmp_path):
    path = tmp_path / "a.mp4"
    write_video(path, ramp(2), codec="libx264", pixel_format="yuv420p", aspect=Fraction(16, 11))
    for fit, aspect in (("stretch", Fraction(16, 11)), ("crop", 1), ("pad", 1)):
        with open_video(path, fit=fit) as reader:
            assert reader.display_aspect == aspect
    padded = read_frames(path, fit="pad")[1]
    assert padded[:10].max() == 0
    assert padded[11:53].min() > 200


def test_crop_takes_the_centre(tmp_path):
    path = tmp_path / "a.mkv"
    wide = np.concatenate([ramp(1) * 0, quadrants(), ramp(1) * 0], axis=2)
    write_video(path, wide)
    assert np.array_equal(read_frames(path, fit="crop"), quadrants())


@pytest.mark.parametrize("size", [(1, 1), (2, 1), (33, 35), (101, 7)])
def test_odd_sizes(tmp_path, size):
    path = tmp_path / "a.mov"
    write_video(path, ramp(2, *size), codec="png", pixel_format="rgb24")
    out = read_frames(path)
    assert out.shape == (2, 64, 64, 3)
    assert np.array_equal(out, ramp(2))


def test_resolution_change(tmp_path):
    path = tmp_path / "a.h264"
    write_raw_h264(path, [(64, 64), (96, 48)], 8)
    out = read_frames(path, fit="pad")
    assert len(out) == 16
    assert out[15, 0].max() == 0
    assert out[15, 32].min() > 200


def test_scaling_agrees_with_torch(tmp_path):
    import torch

    path = tmp_path / "a.mkv"
    frames = scene(4, 240, 320)
    write_video(path, frames)
    planes = torch.from_numpy(frames).permute(0, 3, 1, 2).float()
    small = torch.nn.functional.interpolate(planes, (64, 64), mode="bicubic", antialias=True)
    expected = small.round().clamp(0, 255).permute(0, 2, 3, 1).byte().numpy()
    assert psnr(read_frames(path), expected) > 50


# Pixels


@pytest.mark.parametrize(
    ("codec", "pixel_format"),
    [
        ("ffv1", "yuv420p10le"),
        ("ffv1", "yuv422p"),
        ("ffv1", "yuv444p"),
        ("ffv1", "gray"),
        ("ffv1", "gray10le"),
        ("mjpeg", "yuvj420p"),
        ("libx264", "yuv420p10le"),
        ("libvpx-vp9", "yuv444p"),
    ],
)
def test_pixel_formats(tmp_path, codec, pixel_format):
    path = tmp_path / "a.mkv"
    colour = {"color_range": 2} if pixel_format.startswith(("yuvj", "gray")) else {}
    write_video(path, ramp(4), codec=codec, pixel_format=pixel_format, colour=colour)
    assert np.abs(read_frames(path).astype(int) - ramp(4)).max() <= 3


@pytest.mark.parametrize("matrix", [1, 5])
@pytest.mark.parametrize("full", [False, True])
def test_matrix_and_range(tmp_path, matrix, full):
    path = tmp_path / "a.mkv"
    colour = {"colorspace": matrix, "color_range": 2 if full else 1}
    flat = np.full((2, 64, 64, 3), (200, 40, 90), np.uint8)
    write_video(path, flat, pixel_format="yuv444p", colour=colour)
    assert np.abs(read_frames(path).astype(int) - flat).max() <= 2


def test_an_untagged_video_is_bt601_if_small_and_bt709_if_hd(tmp_path):
    for name, height, width, matrix in (("a.y4m", 64, 64, 5), ("b.y4m", 720, 1280, 1)):
        flat = np.full((1, height, width, 3), (200, 40, 90), np.uint8)
        planes = av.VideoFrame.from_ndarray(flat[0], "rgb24").reformat(
            format="yuv444p", dst_colorspace=matrix, dst_color_range=1
        )
        header = f"YUV4MPEG2 W{width} H{height} F16:1 Ip C444\nFRAME\n".encode()
        (tmp_path / name).write_bytes(header + planes.to_ndarray().tobytes())
        assert np.abs(read_frames(tmp_path / name).astype(int) - flat[:, :64, :64]).max() <= 2


@pytest.mark.parametrize(
    ("codec", "suffix"), [("png", ".mov"), ("apng", ".png"), ("qtrle", ".mov")]
)
def test_alpha_is_put_on_black(tmp_path, codec, suffix):
    frames = np.full((3, 64, 64, 4), 200, np.uint8)
    frames[..., 3] = 128
    frames[:, :, 32:, 3] = 255
    if codec == "qtrle":
        frames, order = frames[..., [3, 0, 1, 2]], "argb"
    else:
        order = "rgba"
    path = tmp_path / f"a{suffix}"
    format = "apng" if codec == "apng" else None
    write_video(path, frames, codec=codec, pixel_format=order, format=format, source_format=order)
    out = read_frames(path)
    assert np.abs(out[:, :, :30].astype(int) - 100).max() <= 1
    assert np.abs(out[:, :, 34:].astype(int) - 200).max() <= 1


def test_palette_gif(tmp_path):
    path = tmp_path / "a.gif"
    flat = np.repeat(np.array([[[[255, 0, 0]]], [[[0, 0, 255]]]], np.uint8), 64, 1).repeat(64, 2)
    frames = flat[[0, 1, 0, 1]]
    write_video(
        path, frames, codec="gif", pixel_format="rgb8", pts=[0, 50, 75, 100], tick=Fraction(1, 100)
    )
    out = read_frames(path)
    is_red = (out[:, 32, 32, 0] > 200).tolist()
    assert is_red == [True] * 8 + [False] * 4 + [True] * 4 + [False] * (len(out) - 16)


def test_interlaced_is_deinterlaced(tmp_path):
    path = tmp_path / "a.mp4"
    t = np.arange(12)
    odd = scene(25, 64, 64)
    woven = odd[2 * t].copy()
    woven[:, 1::2] = odd[2 * t + 1, 1::2]
    woven[:, :, ::] = np.where(np.arange(64)[None, :, None, None] % 2, 255 - woven, woven)
    write_video(
        path,
        woven,
        codec="libx264",
        pixel_format="yuv420p",
        options={"flags": "+ildct+ilme", "crf": "1"},
    )
    assert probe(path).interlaced
    out = read_frames(path).astype(int)
    assert len(out) == 12
    combing = np.abs(np.diff(out[4:, 8:56], axis=1)).mean()
    assert combing < np.abs(np.diff(woven[4:, 8:56].astype(int), axis=1)).mean() / 4


@pytest.mark.parametrize("transfer", [16, 18])
def test_hdr_is_brought_to_the_common_range(tmp_path, transfer):
    path = tmp_path / "a.mkv"
    colour = {"colorspace": 9, "color_primaries": 9, "color_trc": transfer, "color_range": 1}
    write_video(path, ramp(8), pixel_format="yuv420p10le", colour=colour)
    assert probe(path).hdr
    levels = read_frames(path)[:, 32, 32].astype(int)
    assert (np.diff(levels[:, 1]) >= 0).all()
    assert np.ptp(levels, axis=1).max() <= 2  # grey stays grey
    assert levels[4, 0] != ramp(8)[4, 0, 0, 0]


# Sources


def test_image_sequence_is_one_picture_a_frame(tmp_path):
    write_video(tmp_path / "%04d.png", noise(5), codec="png", pixel_format="rgb24", format="image2")
    assert np.array_equal(read_frames(tmp_path / "%04d.png"), noise(5))
    assert np.array_equal(read_frames(tmp_path / "0001.png"), noise(1))


def test_names_that_look_like_protocols_and_patterns(tmp_path):
    for name in ("http:x.mkv", "100%.mkv", "-a b'.mkv"):
        path = tmp_path / "plain.mkv"
        write_video(path, ramp(2))
        assert len(read_frames(path.rename(tmp_path / name))) == 2


def test_pipe_and_file_object(tmp_path):
    path = tmp_path / "a.mkv"
    write_video(path, noise(20))
    assert np.array_equal(read_frames(Pipe(path.read_bytes())), noise(20))
    with path.open("rb") as file:
        assert np.array_equal(read_frames(file, start=0.25), noise(20)[4:])
        assert not file.closed


def test_a_real_pipe(tmp_path):
    path = tmp_path / "a.mkv"
    write_video(path, noise(20))
    code = "import sys, vqcodec.video as v; print(v.read_frames(sys.stdin.buffer).shape)"
    with subprocess.Popen(["cat", path], stdout=subprocess.PIPE) as cat:
        done = subprocess.run(
            [sys.executable, "-c", code], stdin=cat.stdout, capture_output=True, text=True
        )
    assert done.stdout == "(20, 64, 64, 3)\n"
    assert done.stderr == ""


def test_probe(tmp_path):
    path = tmp_path / "a.mp4"
    write_video(path, ramp(32), codec="libx264", pixel_format="yuv420p")
    info = probe(path)
    assert (info.codec, info.width, info.height, info.pixel_format) == ("h264", 64, 64, "yuv420p")
    assert (info.rate, info.duration) == (16, 2)
    assert info.bytes == path.stat().st_size
    assert [info.interlaced, info.hdr, info.mirrored, info.rotation] == [False, False, False, 0]


# Damage


def refusal(source, **options):
    with pytest.raises(SourceError) as caught:
        read_frames(source, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_what_is_not_a_video(tmp_path):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("no video\n" * 500)
    write_audio(tmp_path / "sound.wav")
    assert refusal(tmp_path / "empty.mp4").endswith("empty.mp4: is empty")
    assert refusal(tmp_path / "text.mp4").endswith("not a video that FFmpeg can read")
    assert refusal(tmp_path / "sound.wav").endswith("no video stream")
    assert refusal(tmp_path / "none.mp4").endswith("no such file")
    assert "is a folder" in refusal(tmp_path)
    assert "not a video" in refusal(Pipe(b""))
    assert "cannot open" in refusal(tmp_path / "none%04d.png")


def test_a_cover_picture_is_no_video(tmp_path):
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        sound = container.add_stream("aac", rate=8000)
        sound.layout = "mono"
        cover = container.add_stream("mjpeg", rate=1, width=64, height=64)
        cover.pix_fmt = "yuvj420p"
        cover.disposition = 1 << 10
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 8000
        container.mux(sound.encode(frame))
        container.mux(cover.encode(av.VideoFrame.from_ndarray(ramp(1)[0], "rgb24")))
        container.mux(cover.encode(None))
        container.mux(sound.encode(None))
    assert refusal(path).endswith("no video stream")


def test_truncated_mp4(tmp_path):
    path = tmp_path / "a.mp4"
    options = {"movflags": "+faststart"}
    write_video(path, noise(32), codec="libx264", pixel_format="yuv420p", container_options=options)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with open_video(path) as reader:
        assert 8 <= len(list(reader)) <= 24
        assert reader.damage
    write_video(path, noise(32), codec="libx264", pixel_format="yuv420p")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    assert "index (moov) is missing" in refusal(path)
    assert "cannot be piped" in refusal(Pipe(data))


def test_corrupt_packets_are_skipped_and_counted(tmp_path):
    path = tmp_path / "a.mov"
    write_video(path, noise(32, 32, 32), codec="png", pixel_format="rgb24")
    data = bytearray(path.read_bytes())
    for start in (len(data) // 3, len(data) // 2):
        data[start : start + 100] = bytes(100)
    path.write_bytes(data)
    with open_video(path) as reader:
        assert len(list(reader)) == 32
        told = "2 frames lost or corrupt, 0.62 to 0.69 s, 1.00 to 1.06 s"
        assert str(reader.damage) == told


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".gif", ".avi"])
def test_any_damage_gives_frames_or_one_plain_error(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    codec, pixels = {".gif": ("gif", "rgb8")}.get(suffix, ("libx264", "yuv420p"))
    write_video(
        path,
        scene(16),
        codec=codec,
        pixel_format=pixels,
        tick=Fraction(1, 100),
        pts=[6 * k for k in range(16)],
    )
    whole = path.read_bytes()
    generator = np.random.default_rng(1)
    for _ in range(25):
        data = bytearray(whole)
        for at in generator.integers(0, len(data), 6):
            data[at] = generator.integers(256)
        path.write_bytes(data[: generator.integers(1, len(data) + 1)])
        with contextlib.suppress(SourceError):
            assert read_frames(path, duration=10).shape[1:] == (64, 64, 3)


def test_a_stream_that_fails_to_read(tmp_path):
    class Broken(Pipe):
        def readinto(self, buffer):
            raise OSError(5, "Input/output error")

    assert "Input/output error" in refusal(Broken(b""))


@pytest.mark.parametrize(
    "bad", [{"width": 0}, {"rate": Fraction(0)}, {"start": -1}, {"duration": 0}, {"fit": "bend"}]
)
def test_arguments_out_of_range(tmp_path, bad):
    with pytest.raises(ValueError, match="must be"):
        open_video(tmp_path / "a.mp4", **bad)


# Cost


def test_nothing_is_imported_until_something_is_opened():
    code = "import sys, vqcodec.video; print({'av', 'torch', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_memory_does_not_grow(tmp_path):
    """In a process of its own: the peak after 100 frames of 0.5 MB, and after 900 more."""
    path = tmp_path / "a.mkv"
    frames = np.broadcast_to(ramp(1, 480, 640)[0], (1000, 480, 640, 3))
    fast = {"preset": "ultrafast"}
    write_video(path, frames, codec="libx264", pixel_format="yuv420p", options=fast)
    code = (
        "import gc, resource, sys, vqcodec.video as v\n"
        "gc.disable()\n"
        "for i, frame in enumerate(v.open_video(sys.argv[1]), 1):\n"
        "    if i in (100, 1000): print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    early, late = map(int, done.stdout.split())
    assert late - early < 32 << 10  # KiB; the frames themselves are 400 MB


# Real footage


def test_real_footage_passes_frame_by_frame():
    files = sorted(FOOTAGE.glob("eval/*.mp4"))[:3]
    if not files:
        pytest.skip("needs ../shared/data/eval")
    for path in files:
        with av.open(str(path)) as container:
            count = sum(1 for _ in container.decode(video=0))
        with open_video(path) as reader:
            assert reader.expected_frames == len(list(reader)) == count
