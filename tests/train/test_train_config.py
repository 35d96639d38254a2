"""vqcodec.train.config"""

from __future__ import annotations

import json

import pytest

from vqcodec.train.config import TrainConfig, merge


def test_defaults_are_the_papers_recipe():
    config = TrainConfig()
    assert (config.lr, config.betas) == (2e-4, (0.9, 0.999))
    assert (config.commitment, config.perceptual_weight) == (1.0, 0.4)
    assert (config.reconstruction, config.perceptual) == ("mse", "vgg16")
    assert (config.frames, config.size) == (32, 64)


def test_json_round_trip():
    config = TrainConfig(steps=3, minutes=1.5, betas=(0.5, 0.9))
    assert TrainConfig.from_json(config.to_json()) == config


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
        {"validation": -0.1},
        {"seed": -1},
        {"frames": "32"},
    ],
)
def test_settings_out_of_range_are_refused(change):
    (name,) = change
    text = json.dumps({**json.loads(TrainConfig().to_json()), **change})
    with pytest.raises(ValueError, match=name if change != {"frames": "32"} else "configuration"):
        TrainConfig.from_json(text)


def test_merge_leaves_what_is_not_given():
    merged = merge(TrainConfig(batch=3), {"batch": None, "lr": 0.5, "steps": None})
    assert merged == TrainConfig(batch=3, lr=0.5)
