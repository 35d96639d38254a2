"""vqcodec.bench.seams: flicker where chunks meet"""

from __future__ import annotations

import json

import numpy as np
import pytest
from video_builders import scene, write_video

from vqcodec import metrics
from vqcodec.bench import seams
from vqcodec.codec import Codec
from vqcodec.errors import DataError
from vqcodec.seam import joined


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("videos")
    write_video(root / "a.mkv", scene(80, 64, 80))
    write_video(root / "b.mkv", scene(70, 64, 64))
    write_video(root / "short.mkv", scene(32, 64, 64))
    (root / "broken.mkv").write_bytes(b"nothing")
    return root


def test_videos_are_long_enough_and_have_a_border(root) -> None:
    assert [len(v) for v in seams.find_videos(root, 0)] == [80, 70]
    assert [len(v) for v in seams.find_videos(root, 5)] == [80]
    assert len(seams.find_videos(root, 0, limit=1)) == 1
    with pytest.raises(DataError, match="10 seconds"):
        seams.find_videos(root)


def test_figures_are_those_of_decoding(root, codec) -> None:
    (video,) = seams.find_videos(root, 5)
    points = seams.measure(codec, [video])
    assert [p.quality for p in points] == list(range(1, len(codec.levels) + 1))
    chunks = [video[start : start + 32] for start in (0, 32, 64)]
    raw = np.concatenate([codec.decode(codec.encode(chunk, 2), len(chunk)) for chunk in chunks])
    plain = metrics.flicker(video, raw)
    assert points[1].unsmoothed == pytest.approx(plain.border)
    assert points[1].border < plain.border
    parts = [raw[start : start + 32] for start in (0, 32, 64)]
    smoothed = metrics.flicker(video, np.concatenate(list(joined(parts, codec.seams(2)))))
    assert (points[1].inside, points[1].border) == pytest.approx((smoothed.inside, smoothed.border))
    assert seams.SeamPoint(1, inside=4.0, border=5.0, unsmoothed=6.0).excess == pytest.approx(25)


def test_prints_markdown_or_json(root, tiny, capsys) -> None:
    arguments = ["--root", str(root), "--seconds", "5", "--model", str(tiny)]
    assert seams.main(arguments) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert lines[0].startswith("| quality | inside | at borders |")
    assert seams.main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["videos"] == 1
    assert len(found["points"]) == len(lines) - 2 == len(Codec.load(tiny).levels)
    assert seams.main(["--root", str(root / "none")]) == DataError.exit_code
