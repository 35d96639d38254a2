"""vqcodec.model.restoration, and pictures that went through it"""

from __future__ import annotations

import dataclasses

import pytest
import torch

from vqcodec.model.checkpoint import export, load, save
from vqcodec.model.config import PRESETS, DetailConfig, ModelConfig
from vqcodec.model.network import MSVQVAE
from vqcodec.model.restoration import Restoration

DETAILS = DetailConfig(planes=2, step=40, width=8, blocks=1)
CONFIG = dataclasses.replace(PRESETS["tiny"], details=DETAILS)


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = MSVQVAE(CONFIG).eval().requires_grad_(False)
    torch.nn.init.normal_(network.restoration.leave.mix.weight, std=0.02)
    return network


@pytest.fixture
def clips():
    return torch.rand(2, 3, 16, 16, 24, generator=torch.Generator().manual_seed(0))


def test_it_begins_as_the_identity(clips):
    details = torch.rand_like(clips) - 0.5
    restored = Restoration(2, 8, 1)(clips, details, torch.tensor([1, 2]))
    assert torch.equal(restored, (clips + details).clamp(0, 1))


def test_it_runs_once_behind_any_planes_and_never_without(network, clips, monkeypatch):
    calls = []
    network.restoration.register_forward_pre_hook(lambda _m, args: calls.append(args[2].tolist()))
    grids = network.encode(clips)
    codes = len(CONFIG.code_grids)
    shown = []
    for count in range(1, len(grids) + 1):
        shown.append(network.decode(grids[:count]))
    assert calls == [[1, 1], [2, 2]]
    plain = MSVQVAE(dataclasses.replace(CONFIG, details=DetailConfig(planes=2, step=40)))
    plain.load_state_dict(network.state_dict(), strict=False)
    plain.eval()
    with torch.inference_mode():
        assert all(map(torch.equal, plain.encode(clips), grids))  # it is of the decoder alone
        for count, picture in enumerate(shown, 1):
            assert torch.equal(picture, plain.decode(grids[:count])) == (count <= codes)
    assert all(picture.min() >= 0 and picture.max() <= 1 for picture in shown)


def test_strips_make_no_difference(network, monkeypatch):
    """They look at as much around them as three blocks do."""
    torch.manual_seed(1)
    deep = Restoration(2, 8, 3).eval().requires_grad_(False)
    for parameter in deep.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    decoded, details = torch.rand(2, 2, 3, 4, 48, 16).unbind()
    planes = torch.tensor([1, 2])
    with torch.inference_mode():
        whole = deep(decoded, details, planes)
        for pixels in (1, 2 * 4 * 16 * 10):  # strips of 2 and of 10 rows
            monkeypatch.setattr("vqcodec.model.restoration._PIXELS", pixels)
            torch.testing.assert_close(deep(decoded, details, planes), whole)
    assert not torch.allclose(whole, (decoded + details).clamp(0, 1), atol=0.01)


def test_it_is_part_of_the_checkpoint_and_its_identity(network, tmp_path):
    checkpoint = export(network, {})
    save(checkpoint, tmp_path / "a.safetensors")
    again = load(tmp_path / "a.safetensors")
    assert again.config.details == DETAILS
    assert ModelConfig.from_json(again.config.to_json()) == CONFIG
    state = again.build().restoration.state_dict()
    for name, tensor in network.restoration.state_dict().items():
        torch.testing.assert_close(state[name], tensor, rtol=1e-3, atol=1e-6)
    changed = dict(checkpoint.tensors)
    changed["restoration.leave.mix.bias"] = changed["restoration.leave.mix.bias"] + 1
    assert dataclasses.replace(checkpoint, tensors=changed).model_id != checkpoint.model_id


def test_without_it_configurations_are_as_they_were():
    plain = dataclasses.replace(CONFIG, details=DetailConfig(planes=2, step=40))
    assert "width" not in plain.to_json().split('"details"')[1].split("}")[0]
    assert ModelConfig.from_json(plain.to_json()) == plain


def test_other_details_have_none(network):
    checkpoint = export(network, {}).with_details(DetailConfig(planes=1, step=8))
    assert checkpoint.build().restoration is None
    assert export(network, {}).with_details(None).build().config.details is None


@pytest.mark.parametrize(
    "values", [{"width": -1}, {"width": 8.0}, {"blocks": 65}, {"blocks": True}]
)
def test_impossible_shapes_are_refused(values):
    with pytest.raises(ValueError, match=next(iter(values))):
        DetailConfig(planes=2, step=8, **values)
