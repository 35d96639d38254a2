"""vqcodec.model.checkpoint, .header and .registry: what is read from files that others made"""

from __future__ import annotations

import dataclasses
import json
import pickle
import struct

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save as pack_tensors

from vqcodec.errors import CheckpointError
from vqcodec.model import checkpoint as module
from vqcodec.model import registry
from vqcodec.model.checkpoint import FORMAT, Checkpoint, export, load, read_safetensors
from vqcodec.model.config import PRESETS, LevelConfig, ModelConfig, RefinementConfig
from vqcodec.model.header import MAX_HEADER, read_header
from vqcodec.model.network import MSVQVAE


def changed(checkpoint, name, change):
    tensors = {key: tensor.clone() for key, tensor in checkpoint.tensors.items()}
    tensors[name] = change(tensors[name])
    return dataclasses.replace(checkpoint, tensors=tensors)


def same(a: Checkpoint, b: Checkpoint) -> bool:
    return (
        a.config == b.config
        and a.card == b.card
        and a.tensors.keys() == b.tensors.keys()
        and all(torch.equal(a.tensors[name], b.tensors[name]) for name in a.tensors)
    )


def safetensors(header, body=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


# Saving, loading, building


def test_round_trip(checkpoint, stored):
    again = load(stored)
    assert same(again, checkpoint)
    assert again.model_id == checkpoint.model_id


def test_export_is_a_copy_in_half_precision():
    network = MSVQVAE(PRESETS["tiny"])
    checkpoint = export(network, {})
    assert checkpoint.tensors["quantizers.0.codebook"].dtype == torch.float32
    assert checkpoint.tensors["synthesis.stages.0.join.weight"].dtype == torch.float16
    assert not any(name.endswith((".usage", ".total", ".age")) for name in checkpoint.tensors)
    before = checkpoint.model_id
    for tensor in network.state_dict().values():
        tensor.add_(1)
    assert checkpoint.model_id == before


def test_a_built_network_has_the_stored_weights(checkpoint):
    network = checkpoint.build()
    assert not network.training
    state = network.state_dict()
    for name, tensor in checkpoint.tensors.items():
        assert torch.equal(state[name], tensor.float())
    assert not any(parameter.requires_grad for parameter in network.parameters())
    grids = network.encode(torch.rand(1, 3, 8, 16, 16))
    assert network.decode(grids).shape == (1, 3, 8, 16, 16)


def test_building_draws_no_random_numbers(checkpoint):
    before = torch.get_rng_state()
    checkpoint.build()
    assert torch.equal(torch.get_rng_state(), before)


def test_a_built_network_can_be_trained_on(checkpoint):
    network = checkpoint.build().train().requires_grad_(True)
    network.adopt_codebooks()
    network(torch.rand(1, 3, 8, 16, 16)).clip.mean().backward()
    assert all(bool(tensor.isfinite().all()) for tensor in network.state_dict().values())


# Identity


def test_identity_ignores_what_only_encodes(checkpoint):
    for name in checkpoint.tensors:
        if name.startswith("analysis."):
            assert changed(checkpoint, name, lambda t: t + 1).model_id == checkpoint.model_id
    levels = tuple(
        dataclasses.replace(level, encoder_blocks=7, fusion_blocks=5)
        for level in checkpoint.config.levels
    )
    refinement = dataclasses.replace(
        checkpoint.config.refinement, encoder_blocks=7, worth=0.9, decay=0.1
    )
    config = dataclasses.replace(checkpoint.config, levels=levels, refinement=refinement)
    other = dataclasses.replace(checkpoint, config=config, card={"new": 1})
    assert other.model_id == checkpoint.model_id


def test_identity_follows_every_tensor_that_decodes(checkpoint):
    seen = {checkpoint.model_id}
    decoding = [name for name in checkpoint.tensors if not name.startswith("analysis.")]
    assert any("codebook" in name for name in decoding)
    for name in decoding:

        def nudge(tensor):
            flat = tensor.flatten()
            flat[-1] += 1
            return flat.reshape(tensor.shape)

        seen.add(changed(checkpoint, name, nudge).model_id)
        seen.add(changed(checkpoint, name, lambda t: t.double().to(torch.bfloat16)).model_id)
    assert len(seen) == 2 * len(decoding) + 1


@pytest.mark.parametrize("field", ["stride", "entries", "dim", "width", "decoder_blocks"])
def test_identity_follows_the_decoders_configuration(checkpoint, field):
    first, *rest = checkpoint.config.levels
    first = dataclasses.replace(first, **{field: getattr(first, field) * 2})
    config = dataclasses.replace(checkpoint.config, levels=(first, *rest))
    other = dataclasses.replace(checkpoint, config=config)
    assert other.model_id != checkpoint.model_id


def test_identity_follows_how_a_level_is_split(checkpoint):
    top, bottom = checkpoint.config.levels
    seen = {
        dataclasses.replace(
            checkpoint, config=dataclasses.replace(checkpoint.config, levels=(top, level))
        ).model_id
        for level in (
            dataclasses.replace(bottom, split=split, fill_blocks=count)
            for split in (False, True)
            for count in (1, 2)
        )
    }
    assert len(seen) == 3  # what fills nothing decides nothing


@pytest.mark.parametrize("field", ["stages", "entries", "dim", "decoder_blocks"])
def test_identity_follows_what_refines_and_the_tail(checkpoint, field):
    config = checkpoint.config
    more = {field: getattr(config.refinement, field) * 2}
    for changed_config in (
        dataclasses.replace(config, refinement=dataclasses.replace(config.refinement, **more)),
        dataclasses.replace(config, refinement=None),
        dataclasses.replace(config, tail_blocks=config.tail_blocks + 1),
    ):
        other = dataclasses.replace(checkpoint, config=changed_config)
        assert other.model_id != checkpoint.model_id


def test_identity_never_changes():
    """Files name their model by it: whoever breaks this test makes every file unreadable."""
    level = LevelConfig(8, 4, entries=4, dim=6, lookup_dim=3, width=5, decoder_blocks=1)
    config = ModelConfig((level,))
    tensors = {
        "analysis.x": torch.ones(3, dtype=torch.float16),
        "quantizers.0.codebook": torch.arange(6, dtype=torch.float32).reshape(2, 3) / 4,
        "synthesis.y": torch.arange(4, dtype=torch.float16),
    }
    assert (
        Checkpoint(config, tensors, {}).model_id.hex()
        == "1087f7b20bd9b03ed44eb3e867e3db70e1f1062d261703e29d68dcdd2a363178"
    )
    refined = ModelConfig((level,), RefinementConfig(stages=2, entries=3, dim=2))
    tensors = {"refiner.stages.0.codebook": torch.arange(6, dtype=torch.float32).reshape(3, 2) / 4}
    assert (
        Checkpoint(refined, tensors, {}).model_id.hex()
        == "56fda212463277987e3c720611b79ec64a0b2aa12d44cefdbc4e3665428d7d60"
    )


def test_metadata_tells_identity_without_torch(checkpoint, stored):
    header = read_header(stored)
    assert header.metadata["model_id"] == checkpoint.model_id.hex()
    assert len(bytes.fromhex(header.metadata["digest"])) == 32
    assert {name: shape for name, (_, shape) in header.tensors.items()} == {
        name: tuple(tensor.shape) for name, tensor in checkpoint.tensors.items()
    }


# Damage


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_a_damaged_file_is_refused_or_the_same(checkpoint, stored, tmp_path_factory, data):
    original = stored.read_bytes()
    end = len(original)
    # Most of the structure lies in the header.
    place = data.draw(st.integers(0, end - 1) | st.integers(0, 6000), label="place")
    kind = data.draw(st.sampled_from(["flip", "cut", "insert", "drop"]), label="kind")
    if kind == "flip":
        byte = original[place] ^ data.draw(st.integers(1, 255), label="bits")
        damaged = original[:place] + bytes([byte]) + original[place + 1 :]
    elif kind == "cut":
        damaged = original[:place]
    else:
        count = data.draw(st.integers(1, 20), label="count")
        extra = data.draw(st.binary(min_size=count, max_size=count)) if kind == "insert" else b""
        damaged = original[:place] + extra + original[place + (kind == "drop") * count :]
    path = tmp_path_factory.getbasetemp() / "damaged.safetensors"
    path.write_bytes(damaged)
    for read in (load, read_safetensors, registry.describe):
        try:
            result = read(path)
        except CheckpointError:
            continue
        if read is load:
            assert same(result, checkpoint)


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=200), st.booleans())
def test_noise_is_refused(tmp_path_factory, noise, framed):
    path = tmp_path_factory.getbasetemp() / "noise.safetensors"
    path.write_bytes(safetensors(noise) if framed else noise)
    for read in (load, registry.describe):
        with pytest.raises(CheckpointError):
            read(path)


def test_damage_to_any_tensor_or_the_card_is_noticed(stored, tmp_path):
    original = stored.read_bytes()
    for place in (original.index(b"fungen"), len(original) - 1, len(original) // 2):
        damaged = bytearray(original)
        damaged[place] ^= 1
        path = tmp_path / "one-bit.safetensors"
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError):
            load(path)


ONE = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
HOSTILE = {
    "empty": b"",
    "short": b"\x08\0\0\0",
    "no header": struct.pack("<Q", 0),
    "huge header length": struct.pack("<Q", (1 << 64) - 1) + b"{}",
    "header longer than the file": struct.pack("<Q", 100) + b"{}",
    "header over the limit": struct.pack("<Q", MAX_HEADER + 1) + b" " * (MAX_HEADER + 1),
    "pickle": pickle.dumps({"weights": [1, 2, 3]}),
    "list": safetensors([]),
    "number": safetensors(3),
    "nested": safetensors(b"[" * 50000),
    "utf-16": safetensors("{}".encode("utf-16")),
    "metadata null": safetensors({"__metadata__": None}),
    "metadata list": safetensors({"__metadata__": ["format"]}),
    "metadata number": safetensors({"__metadata__": 5}),
    "metadata of numbers": safetensors({"__metadata__": {"format": 1}}),
    "other format": safetensors({"__metadata__": {"format": "pt"}}),
    "no config": safetensors({"__metadata__": {"format": FORMAT}}),
    "entry null": safetensors({"a": None}),
    "entry empty": safetensors({"a": {}}),
    "unknown dtype": safetensors({"a": {**ONE, "dtype": "F4"}}, b"1234"),
    "dtype list": safetensors({"a": {**ONE, "dtype": []}}, b"1234"),
    "float8": safetensors({"a": {**ONE, "dtype": "F8_E5M2", "shape": [4]}}, b"1234"),
    "shape null": safetensors({"a": {**ONE, "shape": None}}, b"1234"),
    "shape text": safetensors({"a": {**ONE, "shape": "1"}}, b"1234"),
    "shape negative": safetensors({"a": {**ONE, "shape": [-1]}}, b"1234"),
    "shape float": safetensors({"a": {**ONE, "shape": [1.0]}}, b"1234"),
    "shape true": safetensors({"a": {**ONE, "shape": [True]}}, b"1234"),
    "shape overflow": safetensors({"a": {**ONE, "shape": [1 << 62, 1 << 62]}}, b"1234"),
    "nothing of a lot": safetensors(
        {"a": {"dtype": "F32", "shape": [0, 1 << 62, 1 << 62], "data_offsets": [0, 0]}}
    ),
    "many dimensions": safetensors({"a": {**ONE, "shape": [1] * 100}}, b"1234"),
    "too little data": safetensors({"a": {**ONE, "shape": [1000]}}, b"1234"),
    "offsets outside": safetensors({"a": {**ONE, "data_offsets": [4, 8]}}, b"1234"),
    "offsets backwards": safetensors({"a": {**ONE, "data_offsets": [4, 0]}}, b"1234"),
    "overlap": safetensors({"a": ONE, "b": ONE}, b"1234"),
    "hole": safetensors({"a": {**ONE, "data_offsets": [4, 8]}}, b"12345678"),
    "trailing bytes": safetensors({"a": ONE}, b"12345678"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused(name, tmp_path):
    path = tmp_path / "hostile.safetensors"
    path.write_bytes(HOSTILE[name])
    with pytest.raises(CheckpointError, match=r"hostile\.safetensors"):
        load(path)
    with pytest.raises(CheckpointError, match=r"hostile\.safetensors"):
        registry.describe(path)


def test_missing_file_and_folder_are_refused(tmp_path):
    for path in (tmp_path / "nothing.safetensors", tmp_path):
        with pytest.raises(CheckpointError, match=str(path)):
            load(path)


def test_a_huge_file_is_not_read(tmp_path):
    path = tmp_path / "huge.safetensors"
    with path.open("wb") as file:
        file.truncate((1 << 30) + 1)  # sparse
    with pytest.raises(CheckpointError, match="more than a checkpoint may have"):
        load(path)


def hostile_metadata(checkpoint, path, tensors=None, **changes):
    """Write a checkpoint whose metadata is changed and whose digest is right nonetheless."""
    tensors = checkpoint.tensors if tensors is None else tensors
    config, card = checkpoint.config.to_json(), json.dumps(checkpoint.card)
    metadata = {"format": FORMAT, "config": config, "card": card}
    metadata["model_id"] = checkpoint.model_id.hex()
    metadata.update({key: value for key, value in changes.items() if value is not None})
    try:
        text = f"{metadata['config']}\n{metadata['card']}\n"
        metadata["digest"] = module._hash(text, tensors).hex()
    except KeyError:
        metadata["digest"] = "00" * 32
    for key, value in changes.items():
        if value is None:
            del metadata[key]
    path.write_bytes(pack_tensors(tensors, metadata))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"digest": None}, "no 'digest'"),
        ({"model_id": None}, "no 'model_id'"),
        ({"card": None}, "no 'card'"),
        ({"model_id": "00" * 32}, "model_id does not match"),
        ({"card": "[1]"}, "card is not"),
        ({"card": "{"}, "Expecting"),
        ({"card": "[" * 100000}, "recursion"),
        ({"card": "1" * 5000}, "digits"),
        ({"config": "{}"}, "not a model configuration"),
        ({"config": '{"levels": []}'}, "at least one level"),
        ({"config": "[" * 100000}, "recursion"),
        ({"config": PRESETS["single-level"].to_json()}, "model_id does not match"),
    ],
)
def test_hostile_metadata_is_refused(checkpoint, tmp_path, changes, reason):
    path = tmp_path / "hostile.safetensors"
    hostile_metadata(checkpoint, path, **changes)
    with pytest.raises(CheckpointError, match=reason):
        load(path)


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.float64, torch.uint8])
def test_other_dtypes_are_refused(checkpoint, tmp_path, dtype):
    path = tmp_path / "hostile.safetensors"
    tensors = {name: tensor.to(dtype) for name, tensor in checkpoint.tensors.items()}
    hostile_metadata(checkpoint, path, tensors)
    with pytest.raises(CheckpointError, match="not floating-point"):
        load(path)


def test_a_scalar_where_a_tensor_belongs_is_refused(checkpoint):
    odd = changed(checkpoint, "quantizers.0.codebook", lambda _: torch.tensor(1.0))
    assert len(odd.model_id) == 32
    with pytest.raises(CheckpointError, match=r"do not fit.*quantizers\.0\.codebook"):
        odd.build()


def test_missing_and_unknown_tensors_are_refused(checkpoint):
    tensors = dict(checkpoint.tensors)
    tensors["extra.weight"] = tensors.pop("synthesis.stages.0.join.weight")
    with pytest.raises(CheckpointError, match=r"extra\.weight and 1 more"):
        dataclasses.replace(checkpoint, tensors=tensors).build()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(checkpoint, value):
    odd = changed(checkpoint, "analysis.heads.0.bias", lambda t: t.fill_(value))
    with pytest.raises(CheckpointError, match="finite"):
        odd.build()


@pytest.mark.parametrize(
    "level",
    [
        LevelConfig(8, 8, width=4096),
        LevelConfig(8, 8, entries=32768, dim=4096, lookup_dim=4096),
        LevelConfig(64, 64, width=4096, encoder_blocks=0, decoder_blocks=0),
        LevelConfig(8, 8, width=512, encoder_blocks=64, decoder_blocks=64),
    ],
)
def test_a_huge_network_is_refused_before_it_is_allocated(level):
    with pytest.raises(CheckpointError, match="are the limit"):
        Checkpoint(ModelConfig((level,)), {}, {}).build()


def test_all_presets_are_within_the_limit():
    for name, config in PRESETS.items():
        if name != "tiny":
            with pytest.raises(CheckpointError, match="do not fit"):
                Checkpoint(config, {}, {}).build()
