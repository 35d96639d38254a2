"""vqcodec.model.config"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqcodec.errors import CheckpointError
from vqcodec.model.config import PRESETS, LevelConfig, ModelConfig

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
    assert PRESETS["base"].bits_per_pixel() == pytest.approx(2304 * 10 / 131072)
    assert PRESETS["base-512"].bits_per_pixel() == pytest.approx(2304 * 9 / 131072)
    assert PRESETS["single-level"].bits_per_pixel() == pytest.approx(2048 * 10 / 131072)


def test_baselines_differ_from_base_only_in_what_they_are_for():
    base, fewer, single = (PRESETS[name] for name in ("base", "base-512", "single-level"))
    assert [level.entries for level in fewer.levels] == [512, 512]
    assert [level.width for level in fewer.levels] == [level.width for level in base.levels]
    assert len(single.levels) == 1
    assert (single.stride_t, single.stride) == (4, 4)


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
        {"decoder_blocks": 10**9},
        {"dim": "128"},
        {"colour": 1},
    ],
)
def test_levels_out_of_range_are_refused(change):
    text = json.dumps({"levels": [{"stride_t": 8, "stride": 8, **change}]})
    with pytest.raises(CheckpointError, match="not a model configuration"):
        ModelConfig.from_json(text)


@pytest.mark.parametrize("strides", [[], [(4, 4), (8, 8)], [(8, 4), (4, 8)], [(8, 8)] * 9])
def test_levels_must_go_from_coarse_to_fine(strides):
    with pytest.raises(ValueError, match="levels"):
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
