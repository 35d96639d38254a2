"""One small checkpoint, in memory and on disk, for all tests here."""

from __future__ import annotations

import pytest
import torch

from vqcodec.model.checkpoint import export, save
from vqcodec.model.config import PRESETS
from vqcodec.model.network import MSVQVAE


@pytest.fixture(scope="session")
def checkpoint():
    torch.manual_seed(0)
    return export(MSVQVAE(PRESETS["tiny"]), {"videos": 3, "note": "für Prüfungen"})


@pytest.fixture(scope="session")
def stored(checkpoint, tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoint") / "tiny.safetensors"
    save(checkpoint, path)
    return path
