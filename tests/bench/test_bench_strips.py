"""Pictures of single clips: which are chosen, what stands below them."""

from __future__ import annotations

import dataclasses
import io
from fractions import Fraction

import numpy as np
import pytest
from bench_builders import moving_clip, result
from PIL import Image

from vqcodec.bench import strips
from vqcodec.bench.clips import CLIP_RATE, Clip
from vqcodec.bench.codecs import Encoded
from vqcodec.bench.compare import aggregate, compare
from vqcodec.bench.report import write_report
from vqcodec.bench.runner import Folders
from vqcodec.bench.schema import SCHEMA, Bench, ClipResult, CodecInfo

CLIPS = 12
OURS = {"quality 3": (4000, 30.0), "quality 2": (2600, 26.0), "quality 1": (400, 20.0)}
PEERS = {
    "weak": {"crf 22": (8000, 30.0), "crf 34": (2500, 24.0), "crf 46": (800, 18.0)},
    "strong": {"crf 22": (8000, 36.0), "crf 34": (2900, 28.0), "crf 46": (800, 22.0)},
    "far": {"crf 22": (8000, 50.0), "crf 34": (7000, 49.0)},  # never as cheap as ours
}


@dataclasses.dataclass(frozen=True)
class Ref:
    """Stands for a :class:`~vqcodec.bench.clips.ClipRef`, without a video."""

    id: str

    def load(self, cache: object) -> Clip:
        return Clip(self.id, moving_clip(), CLIP_RATE)


class Grey:
    """A codec whose pictures all have one grey, its name's length."""

    def __init__(self, name: str) -> None:
        self.name = name

    def encode(self, frames: np.ndarray, rate: Fraction, setting: str) -> Encoded:
        return Encoded(1, 1, bytes([len(self.name)]) * len(frames))

    def decode(self, payload: bytes) -> np.ndarray:
        frames = np.frombuffer(payload, np.uint8)[:, None, None, None]
        return np.broadcast_to(frames, (len(payload), 64, 64, 3))


def _results(codec: str, ladder: dict[str, tuple[int, float]]) -> list[ClipResult]:
    """Later clips are worse, except at the highest setting of the ladder."""
    made = [
        result(codec, setting, f"clip{k}", size, psnr + (-0.1 if number else 0.1) * k)
        for number, (setting, (size, psnr)) in enumerate(ladder.items())
        for k in range(CLIPS)
    ]
    fixed = {"quality 3": 39168, "quality 2": 23040, "quality 1": 2560}
    return [dataclasses.replace(r, fixed_bits=fixed.get(r.setting)) for r in made]


def _bench(*peers: str, ours: bool = True) -> Bench:
    ladders = ({"vqcodec": OURS} if ours else {}) | {name: PEERS[name] for name in peers}
    found = [r for name, ladder in ladders.items() for r in _results(name, ladder)]
    return Bench(
        schema=SCHEMA,
        created="",
        command="",
        machine={},
        versions={},
        dataset="folder",
        options={},
        mode="clips",
        codecs=[CodecInfo(name, f"the {name}", "", name == "vqcodec") for name in ladders],
        skipped=[],
        notes=[],
        points=aggregate(found),
        comparisons=compare(found, ["vqcodec"], peers, resamples=2) if ours else [],
        results=found,
    )


@pytest.fixture
def sheet(monkeypatch, tmp_path):
    """``worst_clips`` of a run, with codecs that paint grey."""
    monkeypatch.setattr(strips, "build", Grey)
    refs = [Ref(f"clip{k}") for k in range(CLIPS)]
    return lambda bench: strips.worst_clips(bench, refs, Folders(tmp_path))


def test_ten_worst_clips_at_the_papers_rate(sheet) -> None:
    found = sheet(_bench("weak", "strong", "far"))
    titles = [f"{place} of 10: clip{CLIPS - place}" for place in range(1, 11)]
    assert [strip.title for strip in found] == titles
    original, ours, peer = found[0].rows
    assert original == "original"
    assert ours.startswith("the vqcodec, quality 2: ")
    assert peer.startswith("the strong, crf 34: ")


def test_pictures_are_the_source_ours_and_the_peer(sheet) -> None:
    picture = np.asarray(Image.open(io.BytesIO(sheet(_bench("strong"))[0].png)))
    assert picture.shape == (2 * (3 * 64 + 2 * 4), 2 * (4 * 64 + 3 * 4), 3)  # three rows of four
    assert (picture[:128:2, :128:2] == moving_clip()[0]).all()
    assert (picture[136:264, :128] == len("vqcodec")).all()
    assert (picture[272:, -128:] == len("strong")).all()


@pytest.mark.parametrize("peers", [(), ("far",)])
def test_no_peer_at_that_rate(sheet, peers) -> None:
    assert {len(strip.rows) for strip in sheet(_bench(*peers))} == {2}


def test_peers_alone_have_no_sheet(sheet) -> None:
    assert sheet(_bench("strong", ours=False)) == []


def test_sheet_is_in_the_report(sheet, tmp_path) -> None:
    bench = _bench("strong")
    text = write_report(bench, tmp_path / "report", worst=sheet(bench)).read_text()
    assert "<h2>The worst clips: 10, at the paper's rate</h2>" in text
    assert "not for publication" in text
    assert text.count("<figure>") == 10
    assert "The worst clips" not in write_report(bench, tmp_path / "report").read_text()
