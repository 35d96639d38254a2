"""End to end with the shipped model: from a video to a file, and back to pictures worth seeing."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from video_builders import psnr, scene, write_video

from vqcodec.cli.dispatch import run
from vqcodec.model import registry
from vqcodec.video import probe, read_frames

EVAL = Path(__file__).parents[2] / "shared" / "data" / "eval"
CLIPS = sorted(EVAL.glob("*.mp4"))[:3]
FLOOR = 18  # dB; far below what the model gives, far above what a wrong one does

pytestmark = pytest.mark.skipif(
    registry.DEFAULT not in {model.name for model in registry.shipped()},
    reason=f"{registry.weights_folder()} holds no {registry.DEFAULT}.safetensors",
)


def vq(*arguments):
    assert run([*map(str, arguments), "-q"]) == 0


def there_and_back(source, folder, capsys):
    """Encode, check, decode; the pictures that went in, and those that came out."""
    import torch

    torch.set_num_threads(1)
    coded, exact, movie = folder / "a.vqv", folder / "exact", folder / "a.mp4"
    vq("encode", source, coded)
    assert run(["info", str(coded), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    vq("verify", coded)
    vq("decode", coded, exact)
    vq("decode", coded, movie)
    before, after = read_frames(source), read_frames(f"{exact}/%06d.png")
    assert len(before) == len(after) == len(read_frames(movie)) == told["frames"]
    assert probe(movie).duration == len(before) / probe(movie).rate
    assert told["model_name"] == registry.DEFAULT
    # No chunk costs more than 10 bits an index and 8 bytes.
    for chunk in told["chunks"]:
        steps = math.ceil(chunk["frames"] / 8)
        assert chunk["bytes"] <= 8 + math.ceil(10 * steps * (8 * 8 + 2 * 16 * 16) / 8)
    return before, after


@pytest.mark.parametrize("count", [1, 33])
def test_a_synthetic_video(tmp_path, capsys, count):
    muted = (scene(count) // 2) + 64  # its full colours are beyond any footage
    write_video(tmp_path / "in.mkv", muted)
    before, after = there_and_back(tmp_path / "in.mkv", tmp_path, capsys)
    assert before.shape == (count, 64, 64, 3)
    assert psnr(before, after) > FLOOR


@pytest.mark.skipif(not CLIPS, reason=f"no clips in {EVAL}")
@pytest.mark.parametrize("clip", CLIPS, ids=lambda path: path.stem[:6])
def test_a_real_clip(tmp_path, capsys, clip):
    before, after = there_and_back(clip, tmp_path, capsys)
    quality = psnr(before, after)
    print(f"{quality:.2f} dB")
    assert quality > FLOOR


def test_every_level_is_a_prefix_of_the_highest(tmp_path):
    from vqcodec.codec import Codec
    from vqcodec.indices import open as open_indices

    codec, whole = Codec.load(), tmp_path / "whole.vqv"
    write_video(tmp_path / "in.mkv", scene(16))
    vq("encode", tmp_path / "in.mkv", whole, "--quality", len(codec.levels))
    with open_indices(whole) as file:
        [chunk] = file
        grids = chunk.grids()
    assert len(grids) == len(codec.levels)
    for quality in range(1, len(codec.levels) + 1):
        vq("cut", whole, tmp_path / "cut.vqv", "--quality", quality, "-f")
        vq("decode", tmp_path / "cut.vqv", tmp_path / str(quality))
        decoded = read_frames(f"{tmp_path}/{quality}/%06d.png")
        np.testing.assert_array_equal(decoded, codec.decode(grids[:quality]))


def test_a_batch_gives_the_same_indices_as_one_by_one():
    from vqcodec.codec import Codec

    codec = Codec.load()
    clips = [scene(32), scene(64)[32:], np.zeros((32, 64, 64, 3), np.uint8)]
    for clip, batch in zip(clips, codec.encode_batch(clips), strict=True):
        for one, other in zip(codec.encode(clip), batch, strict=True):
            assert np.mean(one != other) < 0.01


def test_details_add_quality_and_their_rate_can_be_aimed_at(tmp_path):
    """Up to the highest level pictures get better, and sizes between two levels can be had."""
    from vqcodec.codec import Codec

    codec, source = Codec.load(), tmp_path / "in.mkv"
    grain = np.random.default_rng(0).normal(0, 12, (40, 64, 64, 3))
    frames = (scene(40) / 2 + 64 + grain).clip(0, 255).astype(np.uint8)
    write_video(source, frames)
    sizes, quality = [], []
    planes = [level.details for level in codec.levels]
    assert any(planes)
    for count in range(planes.index(True), len(planes) + 1):
        coded = tmp_path / f"{count}.vqv"
        vq("encode", source, coded, "--quality", count)
        vq("decode", coded, tmp_path / f"{count}")
        sizes.append(coded.stat().st_size)
        quality.append(psnr(frames, read_frames(f"{tmp_path / str(count)}/%06d.png")))
    assert sizes == sorted(sizes)
    assert quality == sorted(quality)
    assert quality[-1] > quality[0] + 2
    target = round((sizes[-2] * sizes[-1]) ** 0.5)
    vq("encode", source, tmp_path / "aimed.vqv", "--target-size", target)
    assert (tmp_path / "aimed.vqv").stat().st_size == pytest.approx(target, rel=0.05)
    # Cutting takes what is coded as it is.
    vq("cut", tmp_path / f"{len(planes)}.vqv", tmp_path / "cut.vqv", "--quality", len(planes) - 1)
    vq("verify", tmp_path / "cut.vqv")
    vq("decode", tmp_path / "cut.vqv", tmp_path / "cut")
    assert psnr(frames, read_frames(f"{tmp_path / 'cut'}/%06d.png")) == quality[-2]
