"""vqcodec.model.restoration, and pictures that went through it"""

from __future__ import annotations

import dataclasses

import pytest
import torch
from detail_values import known_of, symbols_of

from vqcodec.model.checkpoint import export, load, save
from vqcodec.model.config import PRESETS, DetailConfig, ModelConfig, RestorationConfig
from vqcodec.model.details import (
    Quantised,
    aimed,
    analyse_blocks,
    by_block,
    lacking,
    quantised,
    synthesise_blocks,
)
from vqcodec.model.network import MSVQVAE
from vqcodec.model.restoration import Restoration

PLAIN = dataclasses.replace(PRESETS["tiny"], details=DetailConfig(planes=2, step=40))
SHAPE = RestorationConfig(8, 1, detail_blocks=1, interval_width=12, interval_blocks=1)
WITHOUT_INTERVALS = dataclasses.replace(SHAPE, interval_width=0, interval_blocks=0)
CONFIG = dataclasses.replace(PLAIN, restoration=SHAPE)


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = MSVQVAE(CONFIG).eval().requires_grad_(False)
    torch.nn.init.normal_(network.restoration.leave.mix.weight, std=0.02)
    return network


@pytest.fixture
def clips():
    return torch.rand(2, 3, 16, 16, 24, generator=torch.Generator().manual_seed(0))


def details_of(residual: torch.Tensor, planes: int = 2) -> Quantised:
    """What so many planes say of a residual in 0..1."""
    assert PLAIN.details is not None
    wanted = lacking(255 * residual, PLAIN.details)
    return known_of(symbols_of(wanted, PLAIN.details, planes), PLAIN.details)


def test_it_begins_as_the_identity(clips):
    details = details_of(torch.rand_like(clips) - 0.5)
    plain = Restoration(WITHOUT_INTERVALS, 2, 2)
    restored = plain(clips, details, torch.tensor([1, 2]))
    assert torch.equal(restored, (clips + details.picture).clamp(0, 1))
    for shape in (SHAPE, WITHOUT_INTERVALS):
        assert torch.equal(Restoration(shape, 2, 2)(clips, None, torch.tensor([1, 2])), clips)


@pytest.mark.parametrize("planes", [1, 2])
def test_coefficients_end_inside_their_intervals(clips, planes):
    """Whatever the blocks and the weights of what settles them say, or planes before aimed at."""
    assert PLAIN.details is not None
    details = details_of(torch.rand_like(clips) - 0.5, planes)
    told = torch.randn(details.likely.shape) * details.step
    details = aimed(details, synthesise_blocks(told, details.splits) / 255)
    symbols = torch.randint(0, 3, (2, 48, 16, 24), generator=torch.Generator().manual_seed(0))
    for known in (details, quantised(symbols, details, PLAIN.details)):
        restoration = Restoration(SHAPE, 2, 3).eval().requires_grad_(False)
        for parameter in restoration.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
        with torch.inference_mode():
            shown = restoration(clips, known, torch.tensor([2, 2]))
        found = analyse_blocks(255 * (shown - clips), known.splits)
        assert (known.low - 0.1 <= found).all()
        assert (found <= known.high + 0.1).all()
        inside = (found - known.low)[known.high - known.low > 1] / known.step
        assert float(inside.std()) > 0.1  # they are not all in one place


def test_how_blocks_are_split_counts_for_these_blocks(clips):
    details = details_of(torch.rand_like(clips) - 0.5)
    intervals = Restoration(SHAPE, 2, 2).intervals.requires_grad_(False)
    for name, parameter in intervals.named_parameters():
        if not name.startswith("blocks"):  # those look around
            torch.nn.init.normal_(parameter, std=0.1)
    seen = details.step * torch.randn(details.values.shape)
    first = torch.zeros_like(details.splits)
    other = first.clone()
    other[0, 1, 2] = 3
    shown = [intervals(seen, details._replace(splits=splits)) for splits in (first, other)]
    changed = (shown[0] != shown[1]).any(1).any(1)
    assert changed.nonzero().tolist() == [[0, 1, 2]]
    torch.nn.init.zeros_(intervals.split.weight)  # as it begins
    shown = [intervals(seen, details._replace(splits=splits)) for splits in (first, other)]
    assert torch.equal(*shown)


def test_blocks_for_details_are_for_these_alone(network, clips):
    calls = []
    grids = network.encode(clips)
    network.restoration.detail_blocks.register_forward_hook(lambda *_: calls.append(True))
    codes = len(CONFIG.code_grids)
    for count in range(1, len(grids) + 1):
        network.decode(grids[:count])
        planes = max(0, count - codes)
        assert len(calls) == len(clips) * planes
        calls.clear()


def test_each_plane_but_the_last_is_restored_to_aim_the_next(network, clips):
    calls = []
    network.restoration.register_forward_pre_hook(lambda _m, args: calls.append(args[2].tolist()))
    codes, count = len(CONFIG.code_grids), len(CONFIG.grids)
    network.encode(clips, codes + 1)
    assert not calls  # there is nothing to aim
    grids = network.encode(clips)
    assert calls == [[codes + 1] * 2]
    for quality in range(1, count + 1):
        calls.clear()
        network.decode(grids[:quality])
        if quality <= codes:
            assert calls == [[quality] * 2]
        else:
            planes = list(range(codes + 1, quality + 1))
            assert calls == [[level] for _ in clips for level in planes]


def test_it_brings_pictures_out_of_planes(network, clips):
    plain = MSVQVAE(PLAIN)
    plain.load_state_dict(network.state_dict(), strict=False)
    plain.eval()
    grids, count = network.encode(clips), len(CONFIG.code_grids) + 1
    with torch.inference_mode():
        assert all(map(torch.equal, plain.encode(clips, count), grids))
        for quality in range(1, count + 1):
            picture = network.decode(grids[:quality])
            assert not torch.equal(picture, plain.decode(grids[:quality]))
            assert picture.min() >= 0
            assert picture.max() <= 1


def test_both_sides_aim_alike(network, clips):
    """What is decoded has every coefficient where the encoder had it, in its interval."""
    with torch.inference_mode():
        grids = network.encode(clips)
        codes = len(CONFIG.code_grids)
        decoded = network.reconstruct(grids[:codes]).clip
        wanted = network.lacking(clips, decoded)
        found = network.details(decoded, wanted, 2)
        known = network.aimed(decoded, known_of(grids[codes:-1], PLAIN.details))
        assert found.before is not None
        torch.testing.assert_close(known.likely, found.before.likely)
        torch.testing.assert_close(network.decode(grids), network.shown(decoded, found))
        said = quantised(grids[-1], known, PLAIN.details)
        aims = by_block(wanted.grid)
        assert (said.low - 1e-3 <= aims).all()
        assert (aims <= said.high + 1e-3).all()


def test_what_codes_decode_to_before_it(network, clips):
    """Details correct these pictures, and the search changes their codes."""
    plain = MSVQVAE(PLAIN).eval()
    plain.load_state_dict(network.state_dict(), strict=False)
    codes = network.encode(clips, len(CONFIG.code_grids))
    with torch.inference_mode():
        assert torch.equal(network.reconstruct(codes).clip, plain.decode(codes))
        decoded = plain.decode(codes)
        found = network.lacking(clips, decoded)
        assert all(map(torch.equal, found, plain.lacking(clips, decoded)))
    with pytest.raises(ValueError, match="grids"):
        network.reconstruct(network.encode(clips))


def test_strips_make_no_difference(monkeypatch):
    """They look at as much around them as all blocks do."""
    torch.manual_seed(1)
    deep = Restoration(RestorationConfig(8, 1, 2, 8, 1), 2, 2).eval().requires_grad_(False)
    for parameter in deep.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    decoded = torch.rand(2, 3, 4, 48, 16)
    details = details_of(torch.rand_like(decoded) - 0.5)
    quality = torch.tensor([1, 2])
    with torch.inference_mode():
        whole = [deep(decoded, some, quality) for some in (details, None)]
        for pixels in (1, 2 * 4 * 16 * 10):  # strips of the least rows, and of 8 and 10
            monkeypatch.setattr("vqcodec.model.strips.PIXELS", pixels)
            for some, expected in zip((details, None), whole, strict=True):
                torch.testing.assert_close(deep(decoded, some, quality), expected)
    assert not torch.allclose(whole[0], (decoded + details.picture).clamp(0, 1), atol=0.01)
    assert not torch.allclose(whole[1], decoded, atol=0.01)


def test_training_and_decoding_agree(clips):
    """Without gradients it works in parts."""
    torch.manual_seed(1)
    restoration = Restoration(SHAPE, 2, 2)
    for parameter in restoration.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    quality = torch.tensor([1, 2])
    for details in (details_of(torch.rand_like(clips) - 0.5), None):
        trained = restoration(clips, details, quality)
        assert trained.requires_grad
        with torch.no_grad():
            torch.testing.assert_close(restoration(clips, details, quality), trained.detach())


def test_it_is_part_of_the_checkpoint_and_its_identity(network, tmp_path):
    checkpoint = export(network, {})
    save(checkpoint, tmp_path / "a.safetensors")
    again = load(tmp_path / "a.safetensors")
    assert again.config.restoration == SHAPE
    assert ModelConfig.from_json(again.config.to_json()) == CONFIG
    state = again.build().restoration.state_dict()
    for name, tensor in network.restoration.state_dict().items():
        torch.testing.assert_close(state[name], tensor, rtol=1e-3, atol=1e-6)
    changed = dict(checkpoint.tensors)
    changed["restoration.leave.mix.bias"] = changed["restoration.leave.mix.bias"] + 1
    assert dataclasses.replace(checkpoint, tensors=changed).model_id != checkpoint.model_id


def test_without_it_configurations_are_as_they_were():
    assert "restoration" not in PLAIN.to_json()
    assert ModelConfig.from_json(PLAIN.to_json()) == PLAIN
    plain = dataclasses.replace(CONFIG, restoration=RestorationConfig(width=8, blocks=1))
    assert "detail_blocks" not in plain.to_json()
    assert "interval" not in plain.to_json()
    assert ModelConfig.from_json(plain.to_json()) == plain


def test_it_is_put_in_and_taken_out(network):
    checkpoint = export(network, {"restoration": {"steps": 6}, "steps": 9})
    bare = checkpoint.with_restoration(None)
    assert bare.card == {"steps": 9}  # or `vqcodec models` would tell of what is gone
    assert bare.build().restoration is None
    assert bare.config == PLAIN
    again = bare.with_restoration(SHAPE, network.restoration.state_dict())
    assert again.model_id == checkpoint.model_id


def test_other_details_have_none(network):
    checkpoint = export(network, {}).with_details(DetailConfig(planes=1, step=8))
    assert checkpoint.build().restoration is None
    assert export(network, {}).with_details(None).build().config.details is None


@pytest.mark.parametrize(
    "values",
    [
        {"width": 0},
        {"width": 8.0},
        {"blocks": 65},
        {"blocks": True},
        {"detail_blocks": -1},
        {"interval_width": 5000},
        {"interval_width": 0},  # with blocks
        {"interval_blocks": 65},
    ],
)
def test_impossible_shapes_are_refused(values):
    with pytest.raises(ValueError, match=next(iter(values))):
        dataclasses.replace(SHAPE, **values)
