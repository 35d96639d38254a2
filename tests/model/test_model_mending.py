"""vqcodec.model.mending, and chunks that it joins"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from vqcodec.codec import Codec
from vqcodec.model.checkpoint import export, load, save
from vqcodec.model.config import (
    PRESETS,
    REACH,
    DetailConfig,
    MendingConfig,
    ModelConfig,
    RestorationConfig,
)
from vqcodec.model.mending import Mending, as_pictures
from vqcodec.model.network import MSVQVAE
from vqcodec.model.restoration import Restoration
from vqcodec.seam import Seams, joined, rule

PLAIN = dataclasses.replace(PRESETS["tiny"], details=DetailConfig(planes=2, step=40))
SHAPE = MendingConfig(8, 1, detail_blocks=1)
CONFIG = dataclasses.replace(PLAIN, mending=SHAPE)
CODES = len(CONFIG.code_grids)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    network = MSVQVAE(CONFIG).eval().requires_grad_(False)
    torch.nn.init.normal_(network.mending.leave.weight, std=0.05)
    return network


@pytest.fixture(scope="module")
def codec(network):
    return Codec(export(network, {}))


@pytest.fixture
def border():
    """Frames across two borders, and what the rule has moved."""
    generator = torch.Generator().manual_seed(0)
    return torch.rand(2, 2 * REACH, 3, 16, 24, generator=generator), torch.rand(2, 3, 16, 24) / 9


@pytest.mark.parametrize("quality", [1, CODES, CODES + 1])
def test_it_begins_as_the_identity(border, quality):
    assert torch.equal(Mending(SHAPE, 6, CODES)(*border, quality), border[0])


def test_blocks_for_details_are_for_these_alone(network, border):
    calls = []
    handle = network.mending.detail_blocks.register_forward_hook(lambda *_: calls.append(True))
    for quality in range(1, len(CONFIG.grids) + 1):
        assert network.mending(*border, quality).shape == border[0].shape
        assert len(calls) == max(0, quality - CODES)
    handle.remove()


def test_it_sees_what_moved_and_the_level(border):
    torch.manual_seed(1)
    mending = Mending(SHAPE, 6, CODES).requires_grad_(False)
    for parameter in mending.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    frames, moved = border
    first = mending(frames, moved, 1)
    assert not torch.allclose(mending(frames, -moved, 1), first)
    assert not torch.allclose(mending(frames, moved, 2), first)


def test_strips_make_no_difference(monkeypatch):
    """They look at as much around them as all blocks do."""
    torch.manual_seed(1)
    deep = Mending(MendingConfig(8, 1, 2), 6, CODES)
    for parameter in deep.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    frames, moved = torch.rand(2, 2 * REACH, 3, 48, 16), torch.rand(2, 3, 48, 16)
    for quality in (CODES, CODES + 1):
        trained = deep(frames, moved, quality)  # with gradients: in one piece
        assert trained.requires_grad
        for rows in (2, 10, 48):
            monkeypatch.setattr("vqcodec.model.strips.PIXELS", 2 * 2 * REACH * 16 * rows)
            with torch.inference_mode():
                torch.testing.assert_close(deep(frames, moved, quality), trained.detach())
        assert not torch.allclose(trained, frames, atol=0.01)


def test_what_is_shown_stays_in_8_bits():
    torch.manual_seed(1)
    mending = Mending(SHAPE, 6, CODES).requires_grad_(False)
    torch.nn.init.normal_(mending.leave.weight, std=2)
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (2 * REACH, 16, 24, 3), np.uint8)
    moved = rng.integers(-30, 30, (16, 24, 3), np.int16)
    shown = mending.shown(frames, moved, 6)
    assert (shown.dtype, shown.shape) == (np.uint8, frames.shape)
    exact = mending(
        as_pictures(torch.from_numpy(frames)[None]), as_pictures(torch.from_numpy(moved)[None]), 6
    )
    exact = 255 * exact[0].movedim(1, -1).numpy()
    assert exact.min() < -9
    assert exact.max() > 264
    assert np.abs(exact.clip(0, 255) - shown).max() <= 0.501


@pytest.mark.parametrize("lengths", [(16, 16, 16), (16, 5, 1, 16, 2), (1, 1)])
def test_chunks_are_joined_by_it(codec, lengths):
    rng = np.random.default_rng(0)
    chunks = [rng.integers(0, 256, (length, 16, 16, 3), np.uint8) for length in lengths]
    found, plain = (
        np.concatenate(list(joined(chunks, seams)))
        for seams in (codec.seams(6), Seams(rule(codec.levels)))
    )
    assert (found.dtype, found.shape) == (np.uint8, plain.shape)
    whole = np.concatenate(chunks)
    near = np.zeros(len(whole), bool)
    for place in np.cumsum(lengths)[:-1]:
        near[max(0, place - REACH) : place + REACH] = True
    np.testing.assert_array_equal(found[~near], whole[~near])
    assert not np.array_equal(found[near], plain[near])


def test_untrained_it_leaves_what_the_rule_does(network):
    before = network.mending.leave.weight.clone()
    network.mending.leave.weight.zero_()
    codec = Codec(export(network, {}))
    network.mending.leave.weight.copy_(before)
    chunks = list(np.random.default_rng(0).integers(90, 130, (3, 16, 16, 16, 3), np.uint8))
    for quality in (1, 3, 6):
        mended, ruled = (
            np.concatenate(list(joined(chunks, seams)))
            for seams in (codec.seams(quality), Seams(rule(codec.levels_at(quality))))
        )
        np.testing.assert_array_equal(mended, ruled)
    assert not np.array_equal(ruled, np.concatenate(chunks))


def test_it_is_part_of_the_checkpoint_and_its_identity(network, tmp_path):
    checkpoint = export(network, {})
    save(checkpoint, tmp_path / "a.safetensors")
    again = load(tmp_path / "a.safetensors")
    assert again.config.mending == SHAPE
    assert ModelConfig.from_json(again.config.to_json()) == CONFIG
    state = again.build().mending.state_dict()
    for name, tensor in network.mending.state_dict().items():
        torch.testing.assert_close(state[name], tensor, rtol=1e-3, atol=1e-6)
    changed = dict(checkpoint.tensors)
    changed["mending.leave.bias"] = changed["mending.leave.bias"] + 1
    assert dataclasses.replace(checkpoint, tensors=changed).model_id != checkpoint.model_id


def test_it_is_put_in_and_taken_out(network):
    checkpoint = export(network, {"mending": {"steps": 6}, "steps": 9})
    bare = checkpoint.with_mending(None)
    assert bare.card == {"steps": 9}
    assert bare.build().mending is None
    assert bare.config == PLAIN
    assert "mending" not in bare.config.to_json()  # as it was before there was any
    again = bare.with_mending(SHAPE, network.mending.state_dict())
    assert again.model_id == checkpoint.model_id


def test_other_pictures_have_none(network):
    checkpoint = export(network, {})
    for other in (
        checkpoint.with_details(DetailConfig(planes=1, step=8)),
        checkpoint.with_details(None),
        checkpoint.with_restoration(None),
    ):
        assert other.build().mending is None
    shape = RestorationConfig(8, 1)
    weights = Restoration(shape, len(CONFIG.grids), 2).state_dict()
    other = checkpoint.with_restoration(shape, weights).build()
    assert other.restoration is not None
    assert other.mending is None


@pytest.mark.parametrize(
    "values", [{"width": 0}, {"width": 8.0}, {"blocks": 0}, {"blocks": True}, {"detail_blocks": -1}]
)
def test_impossible_shapes_are_refused(values):
    with pytest.raises(ValueError, match=next(iter(values))):
        dataclasses.replace(SHAPE, **values)
