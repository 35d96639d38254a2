"""vqcodec.model.registry"""

from __future__ import annotations

import pytest

from vqcodec.errors import CheckpointError, ModelMismatchError
from vqcodec.model import registry


def test_describe_tells_what_the_header_says(checkpoint, stored):
    model = registry.describe(stored)
    assert (model.name, model.model_id, model.card) == (
        "tiny",
        checkpoint.model_id.hex(),
        checkpoint.card,
    )
    assert model.bytes == stored.stat().st_size


def test_registry_finds_by_name_path_and_identity(checkpoint, stored, monkeypatch):
    monkeypatch.setattr(registry, "weights_folder", lambda: stored.parent)
    (stored.parent / "broken.safetensors").write_bytes(b"broken")
    assert [model.name for model in registry.shipped()] == ["tiny"]
    assert registry.find("tiny") == registry.find(stored) == stored
    assert registry.find_by_id(checkpoint.model_id[:8]) == stored
    with pytest.raises(CheckpointError, match="no model nothing"):
        registry.find("nothing")
    with pytest.raises(ModelMismatchError, match="tiny"):
        registry.find_by_id(bytes(8))
