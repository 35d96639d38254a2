"""``vqcodec encode`` of odd videos, as docs/reliability.md states them."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest
from video_builders import (
    noise,
    quadrants,
    ramp,
    scene,
    write_audio,
    write_raw_h264,
    write_video,
)

from vqcodec.container.file import open as open_vqv
from vqcodec.video.source import video_stream

MILLISECOND = Fraction(1, 1000)
QUARTER_TURN = (0, 65536, 0, -65536, 0, 0, 0, 0, 2**30)
HDR10 = {"colorspace": 9, "color_primaries": 9, "color_trc": 16, "color_range": 1}


def h264(path, frames, *, pixel_format="yuv420p", **options):
    write_video(path, frames, codec="libx264", pixel_format=pixel_format, **options)


def pictures(path, frames, **options):
    write_video(path, frames, codec="png", pixel_format="rgb24", format="image2", **options)


def empty(path):
    """A header without a frame."""
    path.write_bytes(b"YUV4MPEG2 W64 H64 F16:1 Ip C444\n")


def eight_k(path):
    """One frame of 7680×4320."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=16, width=7680, height=4320)
        stream.pix_fmt = "yuvj420p"
        planes = np.full((4320 * 3 // 2, 7680), 128, np.uint8)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(planes, "yuvj420p")))
        container.mux(stream.encode(None))


def out_of_order(path):
    """Matroska has the stamp of a frame, int16 ms, two bytes before its data."""
    write_video(path, ramp(32))
    with av.open(str(path)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    data = bytearray(path.read_bytes())
    for number, packet in enumerate(packets):
        place = data.index(packet) - 3
        if number % 5 == 3:
            stamp = int.from_bytes(data[place : place + 2], "big") - 130
            data[place : place + 2] = stamp.to_bytes(2, "big")
    path.write_bytes(data)


def overwrite(path, numbers):
    """Zero the packets with these numbers, which are in the order of decoding."""
    with av.open(str(path)) as container:
        packets = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    data = bytearray(path.read_bytes())
    for number in numbers:
        place, size = packets[number]
        data[place : place + size] = bytes(size)
    path.write_bytes(data)


def corrupt(path, numbers, codec="libx264", **options):
    write_video(path, scene(64), codec=codec, pixel_format="yuv420p", options=options)
    overwrite(path, numbers)


def truncated(path, **options):
    h264(path, noise(64), options={"bf": "0"}, **options)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def alpha(path):
    frames = np.full((8, 64, 64, 4), 128, np.uint8)
    write_video(path, frames, codec="png", pixel_format="rgba", source_format="rgba")


def gif(path):
    write_video(path, ramp(16), codec="gif", pixel_format="rgb8", tick=Fraction(1, 100),
                pts=[25 * k // 4 for k in range(16)])  # fmt: skip


def sequence(path, missing=(), first=1):
    pictures(path, scene(8), container_options={"start_number": str(first)})
    for number in missing:
        (path.parent / (path.name % number)).unlink()


# What is encoded: name, how it is made, coded frames, display aspect.
SOUND = {
    "one frame": ("a.mp4", lambda p: h264(p, scene(1)), 1, 1),
    "one picture": ("a.png", lambda p: pictures(p, scene(1)), 1, 1),
    "1x1": ("a.mov", lambda p: write_video(p, ramp(8, 1, 1), codec="png", pixel_format="rgb24"),
            8, 1),
    "8K": ("a.mkv", eight_k, 1, Fraction(16, 9)),
    "1000 fps": ("a.mp4", lambda p: h264(p, ramp(500, 16, 16), rate=1000), 8, 1),
    "negative stamps": ("a.nut", lambda p: write_video(
        p, ramp(16), pts=[62 * k - 500 for k in range(16)], tick=MILLISECOND), 16, 1),
    "hidden by an edit list": ("a.mp4", lambda p: h264(
        p, ramp(16), pts=[k - 4 for k in range(16)], options={"bf": "0"}), 12, 1),
    "no stamps": ("a.h264", lambda p: write_raw_h264(p, [(64, 64)], 24), 24, 1),
    "stamps out of order": ("a.mkv", out_of_order, 32, 1),
    "another size on the way": ("a.h264", lambda p: write_raw_h264(p, [(64, 64), (96, 48)], 8),
                                16, 1),
    "rotated": ("a.mp4", lambda p: h264(p, quadrants(64, 128), matrix=QUARTER_TURN),
                1, Fraction(1, 2)),
    "HDR": ("a.mkv", lambda p: write_video(p, ramp(8), pixel_format="yuv420p10le", colour=HDR10),
            8, 1),
    "4:4:4": ("a.mp4", lambda p: h264(p, scene(8), pixel_format="yuv444p"), 8, 1),
    "palette GIF": ("a.gif", gif, 16, 1),
    "alpha": ("a.mov", alpha, 8, 1),
    "image sequence": ("%04d.png", sequence, 8, 1),
    "image sequence from 101": ("%04d.png", lambda p: sequence(p, first=101), 8, 1),
}  # fmt: skip


@pytest.mark.parametrize("kind", SOUND)
def test_odd_but_sound(vq, tmp_path, kind):
    name, make, frames, aspect = SOUND[kind]
    make(tmp_path / name)
    done = vq("encode", tmp_path / name, tmp_path / "out.vqv")
    assert done.code == 0
    assert done.err.startswith(f"{frames} frames of 64x64, ")  # no warning before it
    with open_vqv(tmp_path / "out.vqv") as file:
        assert (file.header.frames, file.header.aspect) == (frames, aspect)


# What is encoded with a warning: name, how it is made, coded frames, what is lost.
DAMAGED = {
    "packets": ("a.mp4", lambda p: corrupt(p, (20, 21, 22, 44), bf="0", g="8"),
                64, "4 frames lost or corrupt, 1.25 to 1.44 s, 2.75 to 2.81 s"),
    "B-frames": ("a.mp4", lambda p: corrupt(p, range(20, 24), bf="2", b_strategy="0"),
                 64, "4 frames lost or corrupt, "),
    "frames that refer to a lost one": (
        "a.mp4",
        lambda p: corrupt(
            p, (10,), "libx265", **{"x265-params": "keyint=32:bframes=0:log-level=0"}),
        64, "22 frames lost or corrupt, 0.62 to 2.00 s"),
    "the first frames": ("a.mp4", lambda p: corrupt(p, (0, 1), bf="0", g="16"),
                         48, "16 frames lost or corrupt, at 0.00 s"),
    "shortly before the end": ("a.mp4", lambda p: corrupt(p, (58, 61), bf="0", g="8"),
                               64, "2 frames lost or corrupt, 3.62 to 3.69 s, 3.81 to 3.88 s"),
    "truncated MP4": ("a.mp4", lambda p: truncated(
        p, container_options={"movflags": "+faststart"}), 31, "33 frames lost or corrupt, 1.94 to"),
    "a picture of a sequence": ("%04d.png", lambda p: sequence(p, (5,)),
                                4, "4 frames lost or corrupt, 0.25 to 0.50 s"),
}  # fmt: skip


@pytest.mark.parametrize("threads", [1, 3, 16])
@pytest.mark.parametrize("kind", DAMAGED)
def test_losses_are_counted_and_placed(vq, tmp_path, monkeypatch, kind, threads):
    def stream_of(*arguments):
        stream = video_stream(*arguments)
        stream.codec_context.thread_count = threads
        return stream

    monkeypatch.setattr("vqcodec.video.decode.video_stream", stream_of)
    name, make, frames, told = DAMAGED[kind]
    make(tmp_path / name)
    done = vq("encode", tmp_path / name, tmp_path / "out.vqv")
    warning, summary = done.err.splitlines()
    assert (done.code, summary.split(",")[0]) == (0, f"{frames} frames of 64x64")
    assert warning.startswith(f"vqcodec: warning: {tmp_path / name}: {told}")


# What is refused: name, how it is made, why.
REFUSED = {
    "zero length": ("a.mp4", lambda p: p.touch(), "is empty"),
    "no frame": ("a.y4m", empty, "none of its video can be decoded"),
    "audio only": ("a.wav", write_audio, "no video stream"),
    "missing moov": ("a.mp4", truncated, "incomplete MP4: its index (moov) is missing or damaged"),
    "all packets corrupt": ("a.mp4", lambda p: corrupt(p, range(64)),
                            "none of its video can be decoded"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_refusals(vq, tmp_path, kind):
    name, make, why = REFUSED[kind]
    make(tmp_path / name)
    done = vq("encode", tmp_path / name, tmp_path / "out.vqv")
    assert (done.code, done.line) == (3, f"{tmp_path / name}: {why}")
    assert not (tmp_path / "out.vqv").exists()


def test_an_mp4_with_its_index_at_the_end_cannot_be_piped(vq, pipe_in, tmp_path):
    h264(tmp_path / "a.mp4", noise(64))
    pipe_in((tmp_path / "a.mp4").read_bytes())
    done = vq("encode", "-", tmp_path / "out.vqv")
    assert done.code == 3
    assert done.line.endswith("(an MP4 with its index at the end cannot be piped)")
