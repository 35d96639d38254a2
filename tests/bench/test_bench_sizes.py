"""vqcodec.bench.sizes: larger pictures with the same weights"""

from __future__ import annotations

import json

import pytest
from video_builders import scene, write_video

from vqcodec.bench import sizes
from vqcodec.bench.bdrate import Curve
from vqcodec.codec import Codec
from vqcodec.errors import DataError


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("videos")
    write_video(root / "a.mkv", scene(40, 128, 160))
    write_video(root / "b.mkv", scene(40, 128, 128), rate=20)
    write_video(root / "long.mkv", scene(64, 128, 128))
    write_video(root / "short.mkv", scene(31, 128, 128))
    write_video(root / "small.mkv", scene(40, 96, 128))
    (root / "broken.mkv").write_bytes(b"nothing")
    return root


def test_sources_are_large_and_long_enough(root, tmp_path) -> None:
    assert [path.stem for path in sizes.find_sources(root)] == ["a", "b", "long"]
    assert [path.stem for path in sizes.find_sources(root, 2)] == ["a", "long"]
    write_video(tmp_path / "small.mkv", scene(40, 96, 128))
    with pytest.raises(DataError, match="no video of 128x128"):
        sizes.find_sources(tmp_path)


def test_native_size_is_not_scaled(root) -> None:
    frames = sizes._read(root / "a.mkv", 128)
    assert (frames == scene(40, 128, 160)[:32, :, 16:144]).all()


@pytest.mark.parametrize("model", ["tiny", "foresight"])
def test_every_size_and_level(root, request, model) -> None:
    codec = Codec.load(request.getfixturevalue(model))
    points = sizes.measure(codec, [root / "a.mkv"])
    levels = range(1, len(codec.levels) + 1)
    assert [(p.size, p.quality) for p in points] == [(s, q) for s in sizes.SIZES for q in levels]
    for size in sizes.SIZES:
        mine = [p for p in points if p.size == size]
        assert 0 < mine[0].bpp < mine[-1].bpp
        assert all(point.gain is None for point in mine) or size == 128


def test_bytes_are_those_of_a_file(root, foresight, tmp_path, monkeypatch) -> None:
    from vqcodec.container import Reader
    from vqcodec.transcode import encode_file

    codec = Codec.load(foresight)
    path = tmp_path / "out.vqv"
    source = root / "b.mkv"  # 40 frames at 20 a second: one chunk
    encode_file(source, path, codec=codec, quality=2, effort=0, width=128, height=128, fit="crop")
    with path.open("rb") as file:
        (chunk,) = Reader(file).table.entries
    monkeypatch.setattr(sizes, "SIZES", (64, 128))
    point = next(p for p in sizes.measure(codec, [source]) if (p.size, p.quality) == (128, 2))
    assert point.bpp == pytest.approx(8 * chunk.nbytes / (32 * 128 * 128))


def test_gain_is_read_off_the_small_curve() -> None:
    small = Curve.of([0.1, 0.4], [20.0, 30.0])
    inside, below = (sizes.SizePoint(128, 1, bpp, 26.0, 0.8) for bpp in (0.2, 0.05))
    assert sizes._with_gain(inside, small).gain == pytest.approx(1.0)
    assert sizes._with_gain(below, small).gain is None


def test_prints_markdown_or_json(root, tiny, capsys, monkeypatch) -> None:
    monkeypatch.setattr(sizes, "SIZES", (64, 128))  # the third takes most of the time
    arguments = ["--root", str(root), "--limit", "1", "--model", str(tiny)]
    assert sizes.main(arguments) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert lines[0].startswith("| size | quality | bpp |")
    assert lines[2].startswith("| 64x64 | 1 | ")
    assert sizes.main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["clips"] == 1
    assert len(found["points"]) == len(lines) - 2
    assert sizes.main(["--root", str(root / "none")]) == DataError.exit_code
