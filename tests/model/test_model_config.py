"""vqcodec.model.config"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqcodec.errors import CheckpointError
from vqcodec.limits import MAX_LEVELS
from vqcodec.model.config import PRESETS, Grid, LevelConfig, ModelConfig, RefinementConfig

VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
JSON = st.recursive(
    VALUES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@pytest.mark.parametrize("name", PRESETS)
def test_json_round_trip(name):
    config = PRESETS[name]
    assert ModelConfig.from_json(config.to_json()) == config


def test_json_is_canonical():
    text = PRESETS["base"].to_json()
    assert ModelConfig.from_json(json.dumps(json.loads(text), indent=3)).to_json() == text


def test_rates_of_the_papers_grids():
    # 256 top and 2048 bottom indices of 10 bits over 32 × 64 × 64 pixels.
    assert PRESETS["paper"].bits_per_pixel() == pytest.approx(2304 * 10 / 131072)
    assert PRESETS["paper-512"].bits_per_pixel() == pytest.approx(2304 * 9 / 131072)
    assert PRESETS["single-level"].bits_per_pixel() == pytest.approx(2048 * 10 / 131072)


def test_baselines_differ_from_paper_only_in_what_they_are_for():
    paper, fewer, single = (PRESETS[name] for name in ("paper", "paper-512", "single-level"))
    assert [level.entries for level in fewer.levels] == [512, 512]
    same = tuple(dataclasses.replace(level, entries=1024) for level in fewer.levels)
    assert dataclasses.replace(fewer, levels=same) == paper
    assert len(single.levels) == 1
    assert (single.stride_t, single.stride) == (4, 4)
    assert single.tail_blocks == paper.tail_blocks


def test_base_is_the_papers_network_and_what_refines_it():
    base, paper = PRESETS["base"], PRESETS["paper"]
    whole = tuple(dataclasses.replace(level, split=False, worth=0.0) for level in base.levels)
    assert dataclasses.replace(base, levels=whole, refinement=None) == paper
    assert paper.grids == (Grid(8, 8, 1024), Grid(4, 4, 1024))
    assert base.grids[:3] == (
        Grid(8, 8, 1024),
        Grid(8, 4, 1024),
        Grid(8, 4, 1024),
    )  # the bottom in halves
    assert base.grids[3:] == (Grid(4, 4, 256),)
    # The stage adds 2048 indices of 8 bits.
    for grids in (3, 4):
        expected = paper.bits_per_pixel() + (grids - 3) * 2048 * 8 / 131072
        assert base.bits_per_pixel(grids) == pytest.approx(expected)
    assert base.bits_per_pixel() == base.bits_per_pixel(5)
    assert base.bits_per_pixel(1) == pytest.approx(256 * 10 / 131072)
    assert base.bits_per_pixel(2) == pytest.approx((256 + 1024) * 10 / 131072)


def test_a_split_level_needs_twice_the_steps_of_the_coarsest():
    top, bottom = LevelConfig(8, 8), LevelConfig(4, 4, split=True)
    assert ModelConfig((top, bottom)).grids == (Grid(8, 8, 1024), *[Grid(8, 4, 1024)] * 2)
    for levels in ((bottom,), (dataclasses.replace(top, stride_t=4), bottom)):
        with pytest.raises(ValueError, match="split"):
            ModelConfig(levels)


def test_a_configuration_without_refinement_says_so_or_nothing():
    level = {"stride_t": 4, "stride": 4}
    for more in ({}, {"refinement": None}):
        config = ModelConfig.from_json(json.dumps({"levels": [level], **more}))
        assert config == ModelConfig((LevelConfig(4, 4),))
        assert len(config.grids) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"stride": 3},
        {"stride": 128},
        {"stride": 4.0},
        {"stride_t": True},
        {"stride_t": 0},
        {"entries": 1},
        {"entries": 512.5},
        {"entries": 1 << 20},
        {"lookup_dim": 129},
        {"lookup_dim": 0},
        {"width": float("nan")},
        {"decoder_blocks": -1},
        {"fill_blocks": -1},
        {"split": 1},
        {"split": True},  # as before odd steps were guessed
        {"worth": 0.5},  # of a whole level
        {"split": True, "worth": 2},
        {"decoder_blocks": 10**9},
        {"dim": "128"},
        {"colour": 1},
    ],
)
def test_levels_out_of_range_are_refused(change):
    text = json.dumps({"levels": [{"stride_t": 8, "stride": 8, **change}]})
    with pytest.raises(CheckpointError, match="not a model configuration"):
        ModelConfig.from_json(text)


@pytest.mark.parametrize(
    "change",
    [
        {"refinement": {}},
        {"refinement": []},
        {"refinement": 2},
        {"refinement": {"stages": 0}},
        {"refinement": {"stages": MAX_LEVELS}},  # and a level
        {"refinement": {"stages": 10**9}},
        {"refinement": {"stages": 2.0}},
        {"refinement": {"stages": True}},
        {"refinement": {"stages": 2, "entries": 1}},
        {"refinement": {"stages": 2, "entries": 1 << 20}},
        {"refinement": {"stages": 2, "dim": 0}},
        {"refinement": {"stages": 2, "encoder_blocks": -1}},
        {"refinement": {"stages": 2, "decoder_blocks": 65}},
        {"refinement": {"stages": 2, "worth": -0.1}},
        {"refinement": {"stages": 2, "worth": "much"}},
        {"refinement": {"stages": 2, "decay": 1.5}},
        {"refinement": {"stages": 2, "decay": None}},
        {"refinement": {"stages": 2, "colour": 1}},
        {"levels": [], "refinement": {"stages": 2}},
        {"tail_blocks": -1},
        {"tail_blocks": 65},
        {"tail_blocks": 1.0},
        {"tail_blocks": None},
    ],
)
def test_what_follows_the_levels_is_checked(change):
    text = json.dumps({"levels": [{"stride_t": 8, "stride": 8}], **change})
    with pytest.raises(CheckpointError, match="not a model configuration"):
        ModelConfig.from_json(text)


def test_there_are_at_most_as_many_grids_as_a_header_holds():
    levels = (LevelConfig(8, 8), LevelConfig(4, 4))
    most = ModelConfig(levels, RefinementConfig(stages=MAX_LEVELS - 2))
    assert len(most.grids) == MAX_LEVELS
    with pytest.raises(ValueError, match="at most 16 grids, not 17"):
        ModelConfig(levels, RefinementConfig(stages=MAX_LEVELS - 1))


@pytest.mark.parametrize("strides", [[], [(4, 4), (8, 8)], [(8, 4), (4, 8)], [(8, 8)] * 17])
def test_levels_must_go_from_coarse_to_fine(strides):
    with pytest.raises(ValueError, match=r"level|grids"):
        ModelConfig(tuple(LevelConfig(stride_t=t, stride=s) for t, s in strides))


@given(JSON.map(json.dumps) | st.text(max_size=50))
def test_any_other_text_is_refused(text):
    with pytest.raises(CheckpointError):
        ModelConfig.from_json(text)


def test_imports_no_torch():
    code = (
        "import sys, vqcodec.model.config, vqcodec.model.header, vqcodec.model.registry;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
