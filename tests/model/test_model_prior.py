"""The prior in a checkpoint: what is stored, what is refused, and what it does to the identity"""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from safetensors.torch import save as pack_tensors
from synthetic import random_config, random_tensors

from vqcodec.errors import CheckpointError
from vqcodec.model import checkpoint as module
from vqcodec.model.checkpoint import load, read_safetensors, save, store


@pytest.fixture(scope="module")
def prior(checkpoint):
    config = random_config([grid[:3] for grid in checkpoint.config.grids], hidden=4, embedding=2)
    return store(config, random_tensors(config, seed=0))


@pytest.fixture(scope="module")
def stored(checkpoint, prior, tmp_path_factory):
    path = tmp_path_factory.mktemp("prior") / "model.safetensors"
    save(dataclasses.replace(checkpoint, prior=prior), path)
    return path


def test_round_trip(checkpoint, prior, stored):
    again = load(stored)
    assert again.tensors.keys() == checkpoint.tensors.keys()
    again.build()
    assert again.prior.config == prior.config
    assert again.prior.digest == prior.digest
    assert again.prior.tensors.keys() == prior.tensors.keys()
    for name, tensor in prior.tensors.items():
        assert tensor.dtype == again.prior.tensors[name].dtype
        assert torch.equal(tensor, again.prior.tensors[name])
    assert again.prior.build().config == prior.config


def test_a_prior_counts_into_the_identity(checkpoint, prior):
    with_prior = dataclasses.replace(checkpoint, prior=prior)
    seen = {checkpoint.model_id, with_prior.model_id}
    for name, tensor in prior.tensors.items():
        other = dataclasses.replace(prior, tensors={**prior.tensors, name: tensor + 1})
        seen.add(dataclasses.replace(checkpoint, prior=other).model_id)
    shifted = [dataclasses.replace(level, shift=0) for level in prior.config.levels]
    config = dataclasses.replace(prior.config, levels=tuple(shifted))
    other = dataclasses.replace(prior, config=config)
    seen.add(dataclasses.replace(checkpoint, prior=other).model_id)
    assert len(seen) == 3 + len(prior.tensors)
    assert with_prior.network_id == checkpoint.network_id


def rewritten(stored, path, change):
    """A copy whose metadata and tensors are changed, and whose digest is right."""
    metadata, tensors = read_safetensors(stored)
    change(metadata, tensors)
    metadata["digest"] = module._digest(metadata, tensors)
    path.write_bytes(pack_tensors(tensors, metadata))
    return path


def without_configuration(metadata, tensors):
    del metadata["prior"]


def without_digest(metadata, tensors):
    del metadata["prior_digest"]


def no_hex(metadata, tensors):
    metadata["prior_digest"] = "zz"


def nonsense(metadata, tensors):
    metadata["prior"] = "[" * 50000


def of_fewer_levels(metadata, tensors):
    levels = json.loads(metadata["prior"])["levels"][:-1]
    metadata["prior"] = json.dumps({"levels": levels})


def of_floats(metadata, tensors):
    name = next(name for name in tensors if name.startswith("prior."))
    tensors[name] = tensors[name].float()


def network_of_integers(metadata, tensors):
    tensors["analysis.x"] = torch.zeros(3, dtype=torch.int8)


def of_other_weights(metadata, tensors):
    name = next(name for name in tensors if name.startswith("prior."))
    tensors[name] = -tensors[name]


@pytest.mark.parametrize(
    "change",
    [
        *(without_configuration, without_digest, no_hex, nonsense, of_fewer_levels, of_floats),
        *(network_of_integers, of_other_weights),
    ],
)
def test_files_that_contradict_themselves_are_refused(stored, tmp_path, change):
    with pytest.raises(CheckpointError):
        load(rewritten(stored, tmp_path / "model.safetensors", change))


def test_only_a_prior_that_fits_and_agrees_is_built(prior, monkeypatch):
    with pytest.raises(CheckpointError, match="other numbers"):
        dataclasses.replace(prior, digest=bytes(32)).build()
    for name, tensor in prior.tensors.items():
        for bad in (
            tensor[..., :-1],
            tensor.double(),
            torch.full_like(tensor, torch.iinfo(tensor.dtype).min),
        ):
            with pytest.raises(CheckpointError):
                dataclasses.replace(prior, tensors={**prior.tensors, name: bad}).build()
    missing = dict(list(prior.tensors.items())[1:])
    for tensors in (missing, {**prior.tensors, "more": torch.zeros(1, dtype=torch.int8)}):
        with pytest.raises(CheckpointError):
            dataclasses.replace(prior, tensors=tensors).build()
    monkeypatch.setattr(module, "MAX_VALUES", 100)
    with pytest.raises(CheckpointError, match="limit"):
        prior.build()


def test_what_does_not_fit_is_not_stored(prior):
    arrays = {name: tensor.numpy() for name, tensor in prior.tensors.items()}
    assert store(prior.config, arrays).digest == prior.digest
    with pytest.raises(CheckpointError):
        store(prior.config, {**arrays, "more": np.zeros(1, np.int8)})
