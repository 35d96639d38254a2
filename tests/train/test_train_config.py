"""vqcodec.train.config"""

from __future__ import annotations

import json

import pytest

from vqcodec.model.config import PRESETS
from vqcodec.train.config import TrainConfig, merge


def test_defaults_are_the_papers_recipe():
    config = TrainConfig()
    assert (config.lr, config.betas) == (2e-4, (0.9, 0.999))
    assert (config.commitment, config.perceptual_weight) == (1.0, 0.4)
    assert (config.reconstruction, config.perceptual) == ("mse", "vgg16")
    assert (config.frames, config.size) == (32, 64)


def test_json_round_trip():
    config = TrainConfig(
        model="tiny",
        steps=3,
        minutes=1.5,
        betas=(0.5, 0.9),
        optimizer="muon",
        level_weights=(1.0, 0.0, 2.5, 1.0),
        still_share=0.25,
        decoder_only=True,
    )
    assert TrainConfig.from_json(config.to_json()) == config


def test_states_from_before_stills_are_read():
    settings = json.loads(TrainConfig(seed=3).to_json())
    del settings["still_share"]
    assert TrainConfig.from_json(json.dumps(settings)) == TrainConfig(seed=3)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "{}", '{"betas": [0.9, 0.99], "x": 1}'])
def test_other_json_is_refused(text):
    with pytest.raises(ValueError, match=r"."):
        TrainConfig.from_json(text)


@pytest.mark.parametrize(
    "change",
    [
        {"model": "huge"},
        {"reconstruction": "l3"},
        {"perceptual": "lpips"},
        {"steps": 0},
        {"minutes": 0.0},
        {"epochs": -1.0},
        {"batch": 0},
        {"lr": 0.0},
        {"lr": float("nan")},
        {"short_clips": 1.1},
        {"still_share": -0.1},
        {"still_share": 1.1},
        {"validation": -0.1},
        {"seed": -1},
        {"frames": "32"},
        {"optimizer": "sgd"},
        {"trade": -0.1},
        {"level_weights": [1.0]},
        {"level_weights": [1.0] * 5},
        {"level_weights": [0.0] * 4},
        {"level_weights": [1.0] * 3 + [-1.0]},
        {"level_weights": [1.0] * 3 + [float("nan")]},
        {"level_weights": [1.0] * 3 + [float("inf")]},
        {"level_weights": None},
        {"level_weights": "1234"},
    ],
)
def test_settings_out_of_range_are_refused(change):
    (name,) = change
    text = json.dumps({**json.loads(TrainConfig().to_json()), **change})
    (value,) = change.values()
    other_type = value is None or (isinstance(value, str) and name in ("frames", "level_weights"))
    with pytest.raises(ValueError, match="configuration" if other_type else name):
        TrainConfig.from_json(text)


@pytest.mark.parametrize("model", ["base", "paper", "single-level", "tiny"])
def test_every_quality_level_has_a_weight(model):
    grids = len(PRESETS[model].grids)
    TrainConfig(model=model)
    TrainConfig(model=model, level_weights=(0.0,) * (grids - 1) + (1.0,))
    for wrong in (grids - 1, grids + 1):
        if wrong:
            with pytest.raises(ValueError, match=f"level_weights must be {grids} numbers"):
                TrainConfig(model=model, level_weights=(1.0,) * wrong)


def test_merge_leaves_what_is_not_given():
    merged = merge(TrainConfig(batch=3), {"batch": None, "lr": 0.5, "steps": None})
    assert merged == TrainConfig(batch=3, lr=0.5)
