"""Frames to index grids and back."""

import dataclasses

import numpy as np
import pytest
from video_builders import noise, scene

from vqcodec.codec import Codec
from vqcodec.errors import CheckpointError, ModelMismatchError, QualityError
from vqcodec.model import checkpoint as checkpoints
from vqcodec.model.prior import load_prior


@pytest.mark.parametrize("count", [1, 7, 8, 9, 31, 32, 33])
def test_any_number_of_frames(codec, count):
    frames = scene(count)
    top, bottom = codec.encode(frames, 2)
    steps = -(-count // 8)
    assert top.shape == (steps, 8, 8)
    assert bottom.shape == (2 * steps, 16, 16)
    assert top.dtype == bottom.dtype == np.int16
    decoded = codec.decode((top, bottom), count)
    assert decoded.shape == frames.shape
    assert decoded.dtype == np.uint8
    assert codec.decode((top, bottom)).shape == (8 * steps, 64, 64, 3)


def test_any_size(codec):
    frames = scene(40, 96, 80)
    top, bottom, *finer = codec.encode(frames)
    assert [grid.shape for grid in finer] == [(10, 24, 20)] * 2
    assert (top.shape, bottom.shape) == ((5, 12, 10), (10, 24, 20))
    assert codec.decode((top, bottom)).shape == frames.shape


def test_the_last_frame_is_repeated(codec):
    frames = scene(5)
    padded = np.concatenate([frames, np.repeat(frames[-1:], 3, axis=0)])
    for short, full in zip(codec.encode(frames), codec.encode(padded), strict=True):
        np.testing.assert_array_equal(short, full)


def test_decoding_is_repeatable(codec):
    grids = codec.encode(noise(16))
    np.testing.assert_array_equal(codec.decode(grids), codec.decode(grids))


def test_a_batch_is_as_good_as_one_by_one(codec):
    chunks = [scene(16), scene(32)[16:], noise(16)]
    batch = codec.encode_batch(chunks)
    for chunk, together in zip(chunks, batch, strict=True):
        for one, other in zip(codec.encode(chunk), together, strict=True):
            # The order of sums may differ, and with it the choice between two near entries.
            assert np.mean(one != other) < 0.01
    decoded = codec.decode_batch(batch, [16, 3, None])
    assert [len(frames) for frames in decoded] == [16, 3, 16]
    for grids, together in zip(batch, decoded, strict=True):
        alone = codec.decode(grids, len(together))
        assert np.abs(alone.astype(int) - together).max() <= 1


def test_any_layout_in_memory(codec):
    frames = scene(8)
    frozen = frames.copy()
    frozen.flags.writeable = False
    expected = codec.encode(frames)
    for other in (frozen, np.asfortranarray(frames), frames[::-1].copy()[::-1]):
        for one, same in zip(codec.encode(other), expected, strict=True):
            np.testing.assert_array_equal(one, same)
    channels = scene(8)[..., ::-1]
    assert codec.encode(channels)[0].shape == (1, 8, 8)


@pytest.mark.parametrize(
    "frames",
    [
        np.zeros((8, 64, 64, 3), np.float32),
        np.zeros((8, 64, 64), np.uint8),
        np.zeros((8, 64, 64, 4), np.uint8),
        np.zeros((8, 60, 64, 3), np.uint8),
        np.zeros((0, 64, 64, 3), np.uint8),
        np.zeros((8, 0, 64, 3), np.uint8),
    ],
)
def test_other_frames_are_refused(codec, frames):
    with pytest.raises(ValueError, match="frames"):
        codec.encode(frames)


def test_impossible_grids_are_refused(codec):
    top, bottom = codec.encode(scene(8), 2)
    for grids, reason in (
        ((), "0 grids for 4 levels"),
        ((top, bottom) * 3, "6 grids for 4 levels"),
        ((top, top), "different clips"),
        ((top, bottom[:0]), "not int16"),
        ((top, bottom[0]), "not int16"),
        ((top, bottom.astype(np.float32)), "not float32"),
        ((top, np.full_like(bottom, 1024)), "outside 0..1023"),
        ((np.full_like(top, -1), bottom), "outside 0..1023"),
    ):
        with pytest.raises(ValueError, match=reason):
            codec.decode(grids)


def test_planes_of_details_have_a_page_first():
    codec = Codec.load()  # tiny has no details
    grids = codec.encode(np.zeros((8, 16, 16, 3), np.uint8))
    assert [grid.shape for grid in grids[4:]] == [(25, 16, 16), *[(24, 16, 16)] * 3]
    for wrong in ((*grids[:4], grids[5]), (*grids[:5], grids[4])):
        with pytest.raises(ValueError, match="no plane of details"):
            codec.decode(wrong)


@pytest.mark.parametrize("count", [-1, 0, 17])
def test_no_more_frames_than_there_are(codec, count):
    grids = codec.encode(np.zeros((16, 16, 16, 3), np.uint8))
    with pytest.raises(ValueError, match=f"{count} frames of a chunk of 16"):
        codec.decode(grids, count)


@pytest.mark.parametrize(
    "options",
    [
        {"effort": -1},
        {"effort": 10},
        {"trade": -0.1},
        {"trade": float("nan")},
        {"freedom": -0.1},
        {"freedom": 1.1},
        {"freedom": float("nan")},
    ],
)
def test_a_search_has_its_limits(codec, options):
    frames = np.zeros((8, 16, 16, 3), np.uint8)
    with pytest.raises(ValueError, match=next(iter(options))):
        codec.encode_batch([frames], **options)


def test_quality_levels_are_nested(codec):
    frames = noise(16)
    grids = codec.encode(frames)
    assert len(grids) == len(codec.levels) == 4
    for quality in (1, 2, 3, 4):
        fewer = codec.encode(frames, quality)
        assert len(fewer) == quality
        for one, same in zip(fewer, grids, strict=False):
            np.testing.assert_array_equal(one, same)
        assert codec.decode(fewer).shape == frames.shape
    pictures = codec.decode_batch([grids[:3], codec.encode(scene(16), 3)])
    assert np.abs(pictures[0].astype(int) - codec.decode(grids[:3])).max() <= 1
    for quality in (0, 5, -1):
        with pytest.raises(QualityError, match=f"quality levels 1 to 4, not {quality}"):
            codec.encode(frames, quality)


def test_the_prior_is_the_checkpoint_s(codec, foreseeing, foresight):
    assert codec.prior is None
    assert foreseeing.prior is not None
    assert foreseeing.prior.digest() == load_prior(foresight).digest()
    assert foreseeing.model_id != codec.model_id


def test_loading(codec, tiny, stranger, shipped):
    assert Codec.load().model_id == Codec.load("base").model_id == codec.model_id
    assert Codec.load(tiny).levels == codec.levels
    assert Codec.load(str(stranger)).model_id != codec.model_id
    assert Codec.load_for(codec.model_id).model_id == codec.model_id
    with pytest.raises(ModelMismatchError, match="is not shipped here"):
        Codec.load_for(bytes(8))
    with pytest.raises(CheckpointError, match="no model nothing"):
        Codec.load("nothing")


@pytest.mark.parametrize("device", ["nonsense", "cuda:77", "meta", "cpu:x", ""])
def test_devices_that_are_not_there(tiny, device):
    with pytest.raises(CheckpointError, match=f"^device {device}: [^\n]*$"):
        Codec.load(tiny, device=device)


def test_weights_that_do_not_fit_are_named(tiny, tmp_path):
    whole = checkpoints.load(tiny)
    tensors = dict(list(whole.tensors.items())[1:])
    checkpoints.save(dataclasses.replace(whole, tensors=tensors), tmp_path / "less.safetensors")
    with pytest.raises(CheckpointError, match=r"less\.safetensors: weights do not fit"):
        Codec.load(tmp_path / "less.safetensors")
