"""vqcodec.bench.ablation: that its rows are runs that can be trained"""

from __future__ import annotations

import pytest

from vqcodec.bench.ablation import RECIPE, ROWS
from vqcodec.cli.train import train
from vqcodec.train.config import TrainConfig, merge


@pytest.mark.parametrize("name", ROWS)
def test_every_row_is_a_run(name, tmp_path):
    row = ["ms-ssim" if word == "perceptual" else word for word in ROWS[name]]
    context = train.make_context("train", ["--data", str(tmp_path), *RECIPE, *row])
    known = TrainConfig.__dataclass_fields__.keys()
    settings = {key: value for key, value in context.params.items() if key in known}
    config = merge(TrainConfig(), settings)
    # The paper's tables are of the paper's networks, without what refines the shipped one.
    assert config.model in ("single-level", "paper", "paper-512")
    assert (config.batch, config.perceptual) == (4, "none" if name == "vq-vae-2" else "ms-ssim")
