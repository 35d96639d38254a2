"""vqcodec.model.registry: which models there are, read from the headers of their files."""

import pytest

from vqcodec.errors import CheckpointError, ModelMismatchError
from vqcodec.model import registry


@pytest.fixture
def folder(tiny, tmp_path, monkeypatch):
    """A folder of shipped models with some rubbish beside the one."""
    (tmp_path / "base.safetensors").write_bytes(tiny.read_bytes())
    (tmp_path / "broken.safetensors").write_bytes(b"rubbish")
    (tmp_path / "empty.safetensors").touch()
    (tmp_path / "foreign.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    (tmp_path / "folder.safetensors").mkdir()
    (tmp_path / "notes.txt").touch()
    monkeypatch.setattr(registry, "weights_folder", lambda: tmp_path)
    return tmp_path


def test_describe_tells_what_the_header_says(checkpoint, stored):
    model = registry.describe(stored)
    assert (model.name, model.model_id, model.card) == (
        "tiny",
        checkpoint.model_id.hex(),
        checkpoint.card,
    )
    assert model.bytes == stored.stat().st_size


def test_what_cannot_be_read_is_passed_over(folder, tiny):
    (model,) = registry.shipped()
    assert (model.name, model.path) == ("base", folder / "base.safetensors")
    assert model.bytes == tiny.stat().st_size
    assert len(model.model_id) == 64
    assert model.card == {"note": "random"}


def test_no_folder_holds_no_models(monkeypatch, tmp_path):
    monkeypatch.setattr(registry, "weights_folder", lambda: tmp_path / "nothing")
    assert registry.shipped() == []
    with pytest.raises(CheckpointError, match=r"no model base: .*\(none\)"):
        registry.find(None)


def test_by_name_or_path(folder, stranger, monkeypatch):
    assert registry.find(None) == registry.find("base") == folder / "base.safetensors"
    assert registry.find(stranger) == registry.find(str(stranger)) == stranger
    monkeypatch.chdir(stranger.parent)
    assert registry.find(stranger.name).samefile(stranger)
    for name in ("nothing", "./base", "notes.txt"):
        with pytest.raises(CheckpointError, match=rf"no model {name}: .*\(base\)"):
            registry.find(name)


def test_others_by_name(folder, stranger):
    (folder / "other.safetensors").write_bytes(stranger.read_bytes())
    assert [model.name for model in registry.shipped()] == ["base", "other"]
    assert registry.find("other") == folder / "other.safetensors"


def test_by_identity(folder, codec):
    assert registry.find_by_id(codec.model_id) == folder / "base.safetensors"
    with pytest.raises(ModelMismatchError) as caught:
        registry.find_by_id(b"\xff" * 8)
    assert "ffffffffffffffff" in str(caught.value)
    assert codec.model_id.hex() in str(caught.value)  # what is there instead


@pytest.mark.parametrize("name", ["broken", "empty", "foreign", "folder", "nothing"])
def test_describing_rubbish(folder, name):
    with pytest.raises(CheckpointError, match=name):
        registry.describe(folder / f"{name}.safetensors")
