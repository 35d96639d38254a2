"""Whole files: any video to ``.vqv`` and ``.vqv`` to any video."""

import io
import math
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from video_builders import Pipe, noise, ramp, scene, write_video

from vqcodec.codec import Codec
from vqcodec.container import Level, Reader, nearest_ratio, verify
from vqcodec.container.file import open as open_vqv
from vqcodec.container.range_payload import split
from vqcodec.errors import (
    CheckpointError,
    ChecksumError,
    FormatError,
    ModelMismatchError,
    OutputError,
    QualityError,
    SettingError,
    SourceError,
    TruncatedError,
    UnsupportedError,
)
from vqcodec.model.checkpoint import load
from vqcodec.model.config import REACH, MendingConfig
from vqcodec.model.mending import Mending
from vqcodec.seam import joined
from vqcodec.transcode import decode_file, encode_file
from vqcodec.video import probe, read_frames


def encoded(source, codec, **options):
    """The bytes of ``source`` encoded, and what was said of them."""
    file = io.BytesIO()
    result = encode_file(source, file, codec=codec, **options)
    report = verify(io.BytesIO(file.getvalue()))
    assert not report.problems
    assert report.frames == result.header.frames
    return file.getvalue(), result


def decoded(data, codec, folder, **options):
    """Pictures (T, H, W, 3) that ``data`` decodes to, exactly."""
    result = decode_file(
        io.BytesIO(data), folder / "exact.mkv", video_codec="ffv1", codec=codec, force=True,
        size=(64, 64), **options,
    )  # fmt: skip
    frames = read_frames(folder / "exact.mkv")
    assert len(frames) == result.frames
    return frames


@pytest.mark.parametrize("count", [1, 31, 32, 33, 100])
def test_every_frame_comes_back(codec, tmp_path, count):
    write_video(tmp_path / "in.mkv", scene(count))
    data, result = encoded(tmp_path / "in.mkv", codec)
    assert result.header.frames == count
    assert result.chunks == -(-count // 32)
    decode_file(io.BytesIO(data), tmp_path / "out.mp4", codec=codec)
    assert len(read_frames(tmp_path / "out.mp4")) == count
    assert probe(tmp_path / "out.mp4").duration == Fraction(count, 16)


def test_other_rates_and_sizes(video, codec, tmp_path):
    data, result = encoded(video, codec, rate=Fraction(30000, 1001), width=128, height=64)
    assert result.header.rate == Fraction(30000, 1001)
    assert result.header.frames == round(Fraction(100, 16) * result.header.rate)
    with av.open(str(video)) as container:
        assert result.source_bytes == container.size
    decode_file(io.BytesIO(data), tmp_path / "out.mp4", codec=codec)
    info = probe(tmp_path / "out.mp4")
    assert (info.width, info.height, info.rate) == (128, 64, Fraction(30000, 1001))
    assert len(read_frames(tmp_path / "out.mp4", rate=info.rate)) == result.header.frames


def test_a_rate_that_the_header_must_round_is_the_rate_of_sampling(video, codec):
    rate = Fraction(29.9700299700299)
    header = encoded(video, codec, rate=rate)[1].header
    assert header.rate == Fraction(30000, 1001)


@pytest.mark.parametrize(("fit", "aspect"), [("stretch", Fraction(3, 2)), ("crop", 1), ("pad", 1)])
def test_the_display_aspect_is_kept(video, codec, tmp_path, fit, aspect):
    data, result = encoded(video, codec, fit=fit, duration=1)
    assert result.header.aspect == aspect
    decode_file(io.BytesIO(data), tmp_path / "out.mp4", codec=codec)
    assert probe(tmp_path / "out.mp4").display_aspect == aspect


def test_an_absurd_aspect_is_limited(coded, codec, tmp_path):
    assert nearest_ratio(Fraction(10**6)) == 1 / nearest_ratio(Fraction(1, 10**6)) == 65535
    for aspect in ((65535, 1), (1, 65535)):
        data = altered(coded, aspect=Fraction(*aspect))
        path = tmp_path / "out.webm"
        decode_file(io.BytesIO(data), path, codec=codec, duration=0.01, force=True)
        assert 2 <= probe(path).width <= 8192


def test_variable_frame_rate_follows_the_stamps(codec, tmp_path):
    stamps = [0, 10, 200, 1000, 1010, 2500]  # ms
    write_video(tmp_path / "in.mkv", ramp(6), pts=stamps, tick=Fraction(1, 1000))
    data, result = encoded(tmp_path / "in.mkv", codec)
    source = read_frames(tmp_path / "in.mkv")
    assert result.header.frames == len(source) >= 40
    assert len(decoded(data, codec, tmp_path)) == len(source)


def test_a_part_of_the_source(video, codec):
    data, result = encoded(video, codec, start=Fraction(1, 2), duration=2)
    assert result.header.frames == 32
    source = read_frames(video, start=Fraction(1, 2), duration=2)
    (chunk,) = Reader(io.BytesIO(data))
    for stored, fresh in zip(
        chunk.grids(), codec.encode(source, codec.default_quality), strict=True
    ):
        assert np.mean(stored != fresh) < 0.01


def test_a_start_behind_the_end(video, codec, coded, tmp_path):
    with pytest.raises(SourceError, match=r"in\.mkv: ends before the start, 99 s"):
        encode_file(video, tmp_path / "x.vqv", codec=codec, start=99)
    with pytest.raises(SourceError, match=r"in\.vqv: ends before the start, 99 s"):
        decode_file(coded, tmp_path / "x.mp4", codec=codec, start=99)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", ["start", "duration"])
@pytest.mark.parametrize("seconds", [-1, math.inf, math.nan])
def test_times_that_make_no_sense(video, coded, codec, tmp_path, option, seconds):
    for work, source in ((encode_file, video), (decode_file, coded)):
        with pytest.raises(ValueError, match="must be positive"):
            work(source, tmp_path / "x.mp4", codec=codec, **{option: seconds})
    with pytest.raises(ValueError, match="must be positive"):
        decode_file(coded, tmp_path / "x.mp4", codec=codec, duration=0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"effort": -1}, r"effort must be an integer in 0\.\.9"),
        ({"effort": 10}, r"effort must be an integer in 0\.\.9"),
        ({"effort": 2.5}, r"effort must be an integer in 0\.\.9"),
        ({"effort": 1, "trade": -0.1}, "trade must be a number from 0 on"),
        ({"effort": 1, "trade": math.nan}, "trade must be"),
        ({"effort": 1, "trade": math.inf}, "trade must be"),
        ({"bitrate": 0}, "bitrate"),
        ({"bitrate": -1}, "bitrate"),
        ({"bitrate": math.nan}, "bitrate"),
        ({"bitrate": math.inf}, "bitrate"),
        ({"target_size": 0}, "target_size"),
        ({"target_size": -1}, "target_size"),
        ({"target_size": 1000, "bitrate": 10}, "either target_size or bitrate"),
        ({"quality": 0}, "quality levels 1 to"),
        ({"rate": 0}, "rate must be above 0"),
        ({"rate": -1}, "rate must be above 0"),
        ({"rate": math.inf}, "rate must be above 0"),
        ({"width": 0}, "must be positive"),
        ({"fit": "best"}, "fit must be one of"),
        ({"audio": "mp3"}, "audio must be one of"),
        ({"packer": "zip"}, "no packer 'zip'"),
    ],
)
def test_settings_out_of_range(video, codec, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        encode_file(video, tmp_path / "x.vqv", codec=codec, **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [(0, 0), (-8, 8), (64, 0)])
def test_sizes_that_no_picture_has(coded, codec, tmp_path, size):
    with pytest.raises(ValueError, match="sides must be positive"):
        decode_file(coded, tmp_path / "x.mp4", codec=codec, size=size)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("packer", ["raw", "deflate", "zstd"])
def test_packers(video, codec, packer):
    data, _ = encoded(video, codec, packer=packer, duration=2)
    (chunk,) = Reader(io.BytesIO(data))
    best = encoded(video, codec, duration=2)[0]
    assert len(best) <= len(data)
    assert chunk.packer in (packer, "raw")


@pytest.mark.parametrize("independent", [False, True])
def test_the_range_packer(video, foreseeing, tmp_path, independent):
    file = io.BytesIO()
    encode_file(video, file, codec=foreseeing, quality=4, independent=independent)
    tags = [entry.tag for entry in Reader(io.BytesIO(file.getvalue())).table.entries]
    assert tags == ([4] * 4 if independent else [4, 5, 5, 5])
    raw, _ = encoded(video, foreseeing, quality=4, packer="raw")
    assert len(file.getvalue()) < 0.8 * len(raw)
    same = decoded(raw, foreseeing, tmp_path)
    np.testing.assert_array_equal(decoded(file.getvalue(), foreseeing, tmp_path), same)
    np.testing.assert_array_equal(
        decoded(file.getvalue(), foreseeing, tmp_path, start=4.5, duration=1), same[72:88]
    )
    end = io.BytesIO()
    decode_file(Pipe(file.getvalue()), end, codec=foreseeing, start=4)
    assert end.getvalue().count(b"FRAME\n") == 36


def test_the_range_packer_needs_a_prior(video, codec, ranged, tmp_path):
    with pytest.raises(CheckpointError, match="has no prior"):
        encode_file(video, tmp_path / "x.vqv", codec=codec, packer="range")
    with pytest.raises(ModelMismatchError):
        decode_file(ranged, tmp_path / "x.mp4", codec=codec)
    assert list(tmp_path.iterdir()) == []


def test_quality(video, codec, tmp_path):
    sizes = []
    for quality in (1, 2, 3, 4):
        data, result = encoded(video, codec, quality=quality)
        assert result.header.levels == codec.levels[:quality]
        sizes.append(len(data))
        assert len(decoded(data, codec, tmp_path)) == 100
    assert sizes == sorted(sizes)
    assert encoded(video, codec)[1].header.levels == codec.levels[: codec.default_quality]
    with pytest.raises(QualityError, match="1 to 4, not 5"):
        encode_file(video, tmp_path / "x.vqv", codec=codec, quality=5)
    assert not (tmp_path / "x.vqv").exists()


def test_whole_levels_of_a_chunk_that_is_cut_off(video, foreseeing, codec, tmp_path):
    for model, packer in ((foreseeing, "range"), (codec, "raw")):
        data, _ = encoded(video, model, packer=packer, quality=4)
        third = Reader(io.BytesIO(data)).table.entries[2]
        cut = data[: third.offset + third.nbytes - 1]
        kept = 3
        if packer == "range":  # which spends next to nothing on the last levels here
            ends, stream = split(data[third.offset + 8 :][: third.length], 4)
            kept = sum(end < len(stream) for end in ends)
        for source in (cut, data[: third.offset + 12]):
            result = decode_file(io.BytesIO(source), io.BytesIO(), codec=model)
            assert (result.frames, type(result.problem)) == (64, TruncatedError)
        concealed = decode_file(io.BytesIO(cut), io.BytesIO(), codec=model, conceal=True)
        assert (concealed.frames, type(concealed.problem)) == (96, TruncatedError)
        assert concealed.losses.cut
        assert f"of which {kept} of 4 levels are shown" in str(concealed.problem)
        frames = decoded(cut, model, tmp_path, conceal=True)
        expected = shown(data, model, slice(3), last=kept)
        assert np.abs(frames - expected).max() <= 1
        # What is near a border depends on both its sides.
        before = decoded(data, model, tmp_path)[: 64 - REACH]
        np.testing.assert_array_equal(frames[: 64 - REACH], before)
        less = data[: third.offset + 9]
        assert decode_file(io.BytesIO(less), io.BytesIO(), codec=model, conceal=True).frames == 64


def opened(data, codec):
    return Reader(io.BytesIO(data), lambda _header: codec.prior)


def shown(data, codec, chunks, last=None):
    """Pictures of some chunks by themselves, as signed integers; of the last so many levels."""
    *found, end = list(opened(data, codec))[chunks]
    grids = [*((chunk, chunk.grids()) for chunk in found), (end, end.grids()[:last])]
    pictures = [codec.decode(levels)[: chunk.frames] for chunk, levels in grids]
    seams = codec.seams(len(opened(data, codec).header.levels))
    return np.concatenate(list(joined(pictures, seams))).astype(int)


@pytest.fixture(scope="module")
def mending(tiny):
    """``tiny`` with a network for borders between chunks."""
    shape = MendingConfig(4, 1)
    checkpoint = load(tiny)
    config = checkpoint.config
    torch.manual_seed(0)
    network = Mending(shape, len(config.grids), len(config.code_grids)).requires_grad_(False)
    torch.nn.init.normal_(network.leave.weight, std=0.3)
    return Codec(checkpoint.with_mending(shape, network.state_dict()))


def test_borders_are_mended(video, mending, codec, tmp_path):
    data, result = encoded(video, mending)
    whole = decoded(data, mending, tmp_path).astype(int)
    assert np.abs(whole - shown(data, mending, slice(None))).max() <= 1  # batches round otherwise
    pictures = [mending.decode(c.grids())[: c.frames] for c in opened(data, mending)]
    ruled = np.concatenate(list(joined(pictures, codec.seams(len(result.header.levels)))))
    moved = np.abs(whole - ruled).max((1, 2, 3))
    near = [f for b in (32, 64, 96) for f in range(b - REACH, b + REACH) if f < 98]
    assert moved[near].min() > 3
    assert np.delete(moved, near).max() <= 1
    part = decoded(data, mending, tmp_path, start=Fraction(60, 16), duration=Fraction(8, 16))
    np.testing.assert_array_equal(part, whole[60:68])
    damaged = bytearray(data)
    damaged[Reader(io.BytesIO(data)).table.entries[1].offset + 12] ^= 1
    concealed = decoded(bytes(damaged), mending, tmp_path, conceal=True)
    np.testing.assert_array_equal(concealed[: 32 - REACH], whole[: 32 - REACH])
    np.testing.assert_array_equal(concealed[32:64], concealed[31:32].repeat(32, 0))
    np.testing.assert_array_equal(concealed[64 + REACH :], whole[64 + REACH :])


def test_through_pipes(video, codec, coded, tmp_path):
    class Sink(io.RawIOBase):
        def __init__(self):
            self.data = bytearray()

        def writable(self):
            return True

        def write(self, piece):
            self.data += piece
            return len(piece)

    middle, end = Sink(), Sink()
    result = encode_file(Pipe(video.read_bytes()), middle, codec=codec)
    assert result.source_bytes is None
    with open_vqv(coded) as file:
        expected = [chunk.payload for chunk in file]
    piped = Reader(io.BytesIO(middle.data))
    assert piped.header.frames == 0  # not known when it was written
    assert [chunk.payload for chunk in piped] == expected
    seen = []
    decode_file(
        Pipe(bytes(middle.data)), end, codec=codec, progress=lambda *state: seen.append(state)
    )
    assert end.data.startswith(b"YUV4MPEG2 W64 H64 F16:1 Ip A3:2 C444")
    assert end.data.count(b"FRAME\n") == 100
    assert seen[0] == (0, None)
    assert seen[-1] == (100, None)


@pytest.mark.parametrize(
    "name", ["out.mp4", "out.mov", "out.mkv", "out.webm", "out.gif", "out.y4m", "folder"]
)
def test_every_format(coded, codec, tmp_path, name):
    result = decode_file(coded, tmp_path / name, codec=codec, duration=Fraction(5, 2))
    assert result.frames == 40
    path = tmp_path / name
    source = f"{path}/%06d.png" if path.is_dir() else path
    frames = read_frames(source)
    assert abs(len(frames) - 40) <= (name == "out.gif")  # whose clock ticks every 1/100 s
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("start", "duration", "first", "count"),
    [(0, None, 0, 100), (2, 2, 32, 32), (1.5, 3, 24, 48), (6, 9, 96, 4), (5, 0.01, 80, 1)],
)
def test_a_part_of_the_file(coded, codec, tmp_path, start, duration, first, count):
    data = coded.read_bytes()
    part = decoded(data, codec, tmp_path, start=start, duration=duration)
    assert len(part) == count
    chunks = slice(first // 32, -(-(first + count) // 32))
    expected = shown(data, codec, chunks)[first % 32 :][:count]
    assert np.abs(part - expected).max() <= 1


def test_only_the_chunks_of_the_part_are_read(coded, codec, tmp_path):
    with open_vqv(coded) as file:
        chunks = list(file)
    data = bytearray(coded.read_bytes())
    for chunk in (chunks[0], chunks[2]):
        data[chunk.offset + 10] ^= 1
    assert len(decoded(bytes(data), codec, tmp_path, start=2, duration=2)) == 32
    with pytest.raises(ChecksumError):
        decoded(bytes(data), codec, tmp_path, start=3, duration=2)


def test_scaling(coded, codec, tmp_path):
    decode_file(coded, tmp_path / "a.mp4", codec=codec, size="display", duration=1)
    decode_file(coded, tmp_path / "b.mp4", codec=codec, size=(192, 128), duration=1)
    for name, size in (("a.mp4", (96, 64)), ("b.mp4", (192, 128))):
        info = probe(tmp_path / name)
        assert (info.width, info.height) == size
        assert info.display_aspect == Fraction(3, 2)


def altered(path, **changes):
    """A file's bytes with another header."""
    with open_vqv(path) as reader:
        return replace(reader.header, **changes).to_bytes() + path.read_bytes()[reader.begin :]


def test_truncation(coded, codec, tmp_path):
    with open_vqv(coded) as file:
        chunks = list(file)
    data = coded.read_bytes()
    cut = data[: chunks[2].offset + 20]
    for source in (io.BytesIO(cut), Pipe(cut)):
        result = decode_file(source, tmp_path / "x.mp4", codec=codec, force=True)
        assert result.frames == 64
        assert isinstance(result.problem, TruncatedError)
    assert np.abs(decoded(cut, codec, tmp_path) - shown(data, codec, slice(2))).max() <= 1
    # What was asked for is there:
    assert decode_file(io.BytesIO(cut), io.BytesIO(), codec=codec, duration=3).problem is None
    for length in (5, 30, chunks[0].offset, chunks[0].offset + 20):
        out = io.BytesIO()
        with pytest.raises(TruncatedError):
            decode_file(io.BytesIO(data[:length]), out, codec=codec)
        assert out.getvalue() == b""


def test_damage(coded, codec, tmp_path):
    with open_vqv(coded) as file:
        second = list(file)[1]
    path = tmp_path / "x.vqv"
    data = bytearray(coded.read_bytes())
    data[second.offset + 30] ^= 4
    path.write_bytes(data)
    with pytest.raises(ChecksumError, match=rf"x\.vqv: chunk at byte {second.offset} \(2\.00 to"):
        decode_file(path, tmp_path / "out.mp4", codec=codec)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"frames": 2**32 - 1}, FormatError),
        ({"model_id": b"12345678"}, ModelMismatchError),
        ({"levels": (Level(8, 8, 512), Level(4, 4, 1024))}, FormatError),  # not the model's
    ],
)
@pytest.mark.parametrize("open_model", [False, True])
def test_hostile_headers(coded, codec, shipped, tmp_path, changes, error, open_model):
    path = tmp_path / "x.vqv"
    path.write_bytes(altered(coded, **changes))
    with pytest.raises(error, match=r"x\.vqv: ") as caught:
        decode_file(path, tmp_path / "out.mp4", codec=codec if open_model else None)
    assert type(caught.value) is error
    assert list(tmp_path.iterdir()) == [path]


def test_a_version_to_come(coded, tmp_path):
    path = tmp_path / "x.vqv"
    path.write_bytes(coded.read_bytes()[:4] + b"\x03" + bytes(99))
    with pytest.raises(UnsupportedError, match=r"x\.vqv: the file has format version 3"):
        decode_file(path, tmp_path / "out.mp4")
    assert list(tmp_path.iterdir()) == [path]


def test_the_wrong_model(coded, stranger, tmp_path):
    for options in ({"codec": Codec.load(stranger)}, {"model": stranger}):
        with pytest.raises(ModelMismatchError, match=r"in\.vqv: needs model [0-9a-f]{16}, not"):
            decode_file(coded, tmp_path / "x.mp4", **options)


def test_the_shipped_model_is_found_by_itself(coded, video, shipped, tmp_path):
    assert decode_file(coded, tmp_path / "x.mp4").frames == 100
    encode_file(video, tmp_path / "x.vqv")
    assert (tmp_path / "x.vqv").read_bytes() == coded.read_bytes()


def test_a_target_is_refused_before_the_work(video, coded, codec, tmp_path):
    (tmp_path / "x.vqv").touch()
    with pytest.raises(OutputError, match="already exists"):
        encode_file(video, tmp_path / "x.vqv", codec=codec)
    with pytest.raises(SettingError, match="unknown format"):
        decode_file(coded, tmp_path / "x.vqv", codec=codec)
    with pytest.raises(OutputError, match="no such folder"):
        decode_file(coded, tmp_path / "no/x.mp4", codec=codec)
    with pytest.raises(SourceError):
        encode_file(coded, tmp_path / "y.vqv", codec=codec)
    assert [path.name for path in tmp_path.iterdir()] == ["x.vqv"]


def test_sides_and_rates_out_of_range(video, codec):
    for options in ({"width": 4096, "height": 4096}, {"width": 12}, {"width": 8192}):
        with pytest.raises(SettingError, match=r"^pictures of \d+x\d+: (one chunk|picture side)"):
            encode_file(video, io.BytesIO(), codec=codec, **options)
    write = io.BytesIO()
    encode_file(video, write, codec=codec, rate=Fraction(1, 10**9), duration=1)
    assert Reader(io.BytesIO(write.getvalue())).header.rate == Fraction(1, 65535)


def test_progress(video, codec):
    seen = []
    encode_file(video, io.BytesIO(), codec=codec, progress=lambda *state: seen.append(state))
    assert seen[0] == (0, 100)
    assert seen[-1] == (100, 100)


def test_damage_of_the_source_is_told(codec, tmp_path):
    path = tmp_path / "in.mp4"
    write_video(path, noise(20), codec="mpeg4", pixel_format="yuv420p")
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 2000] = bytes(2000)
    path.write_bytes(data)
    result = encoded(path, codec)[1]
    assert result.damage
    assert result.header.frames == 20
