"""vqcodec.train.state"""

from __future__ import annotations

import contextlib
import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save as pack_tensors

from vqcodec.errors import CheckpointError
from vqcodec.model.config import PRESETS
from vqcodec.model.network import MSVQVAE
from vqcodec.train.state import FORMAT, read_state, save_state

INFO = {"step": 3}


def new_run(seed=0, preset="tiny"):
    torch.manual_seed(seed)
    network = MSVQVAE(PRESETS[preset])
    return network, torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)


def step(network, optimizer):
    output = network(torch.rand(1, 3, 8, 16, 16))
    (output.clip.mean() + output.commitment).backward()
    optimizer.step()
    optimizer.zero_grad()


@pytest.fixture(scope="module")
def run():
    run = new_run()
    step(*run)
    return run


@pytest.fixture(scope="module")
def stored(run, tmp_path_factory):
    path = tmp_path_factory.mktemp("state") / "state.safetensors"
    save_state(path, *run, INFO)
    return path


def test_goes_on_as_if_never_stopped(tmp_path):
    network, optimizer = new_run()
    step(network, optimizer)
    save_state(tmp_path / "state", network, optimizer, INFO)
    step(network, optimizer)

    again, other = new_run(seed=1)
    state = read_state(tmp_path / "state")
    assert state.info == INFO
    state.restore(again, other)
    step(again, other)
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name
    slots = other.state_dict()["state"]
    for index, slot in optimizer.state_dict()["state"].items():
        for name, tensor in slot.items():
            assert torch.equal(tensor, slots[index][name])


def test_a_run_that_has_not_stepped_can_be_saved(tmp_path):
    save_state(tmp_path / "state", *new_run(), INFO)
    read_state(tmp_path / "state").restore(*new_run(seed=1))


def test_state_of_another_architecture_is_refused(stored):
    with pytest.raises(CheckpointError, match="another architecture"):
        read_state(stored).restore(*new_run(preset="single-level"))


def hostile(run, path, change, metadata=None):
    state = {f"network.{name}": tensor for name, tensor in run[0].state_dict().items()}
    state["random.cpu"] = torch.get_rng_state()
    change(state)
    path.write_bytes(pack_tensors(state, metadata or {"format": FORMAT, "info": json.dumps(INFO)}))
    return path


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state.pop("random.cpu"),
        lambda state: state.update({"random.cpu": torch.zeros(3)}),
        lambda state: state.update({"random.cpu": torch.zeros(3, dtype=torch.uint8)}),
        lambda state: state.update({"optimizer.0.exp_avg": torch.zeros(3)}),
        lambda state: state.update({"optimizer.x.exp_avg": torch.zeros(3)}),
        lambda state: state.update({"optimizer.99999.exp_avg": torch.zeros(3)}),
        lambda state: state.pop("network.quantizers.0.usage"),
        lambda state: state.update({"network.extra": torch.zeros(3)}),
    ],
)
def test_hostile_states_are_refused(run, tmp_path, change):
    path = hostile(run, tmp_path / "state", change)
    with pytest.raises(CheckpointError):
        read_state(path).restore(*new_run())


@pytest.mark.parametrize(
    "metadata",
    [{"format": "vqcodec-model-1"}, {"format": FORMAT}, {"format": FORMAT, "info": "{"}],
)
def test_other_files_are_refused(run, tmp_path, metadata):
    path = hostile(run, tmp_path / "state", lambda _: None, metadata)
    with pytest.raises(CheckpointError):
        read_state(path)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 20000), st.integers(0, 255))
def test_damage_to_the_header_is_no_other_exception(stored, place, byte):
    damaged = bytearray(stored.read_bytes())
    damaged[place % len(damaged)] = byte
    path = stored.parent / "damaged"
    path.write_bytes(damaged)
    with contextlib.suppress(CheckpointError):
        read_state(path).restore(*new_run())
