import dataclasses
import json

import pytest
from synthetic import random_config

from vqcodec.entropy.config import LevelPrior, PriorConfig
from vqcodec.errors import CheckpointError

LEVEL = LevelPrior(
    stride_t=4,
    stride=4,
    entries=20,
    hidden=8,
    embedding=4,
    neighbours=((0, -1, 0, 0), (0, 0, 0, 1)),
    shifts=(8, 8, 8),
    shift=4,
)


@pytest.mark.parametrize("passes", [2, 4])
def test_json_round_trip(passes):
    config = random_config([(8, 8, 1024), (4, 4, 1024), (4, 4, 256)], passes=passes)
    assert ('"passes":4' in config.to_json()) == (passes == 4)
    assert PriorConfig.from_json(config.to_json()) == config
    assert PriorConfig.from_json(config.to_json()).to_json() == config.to_json()


@pytest.mark.parametrize(
    ("entries", "high", "low"),
    [(2, 2, 1), (3, 2, 2), (20, 5, 4), (256, 16, 16), (1024, 32, 32), (32768, 256, 128)],
)
def test_digits_cover_the_entries(entries, high, low):
    level = dataclasses.replace(LEVEL, entries=entries)
    assert (level.high, level.low) == (high, low)
    assert (high - 1) * low < entries <= high * low


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("stride_t", 3),
        ("stride_t", 128),
        ("stride", 0),
        ("stride", 256),
        ("entries", 1),
        ("entries", 32769),
        ("entries", True),
        ("entries", 20.0),
        ("hidden", 0),
        ("hidden", 257),
        ("embedding", 0),
        ("embedding", 385),  # two neighbours of it are too many inputs
        ("shift", -1),
        ("shift", 17),
        ("shifts", [8, 8]),
        ("shifts", [8, 8, 0]),
        ("shifts", [8, 8, 17]),
        ("shifts", [8, 8, 8.0]),
        ("shifts", None),
        ("neighbours", []),
        ("neighbours", [[0, -1, 0]]),
        ("neighbours", [[0, -1, 0, 0.5]]),
        ("neighbours", [[0, 0, 0, 0]]),  # itself
        ("neighbours", [[0, 0, 1, 1]]),  # of its own pass
        ("neighbours", [[0, 1, 0, 1]]),  # the future
        ("neighbours", [[1, -1, 0, 0]]),
        ("neighbours", [[-1, -1, 0, 0]]),
        ("neighbours", [[0, -17, 0, 0]]),
        ("neighbours", [[0, -1, 65, 0]]),
        ("neighbours", 7),
        ("passes", 1),
        ("passes", 3),
        ("passes", True),
        ("stranger", 1),
    ],
)
def test_hostile_values_are_refused(field, value):
    data = json.loads(PriorConfig((LEVEL,)).to_json())
    data["levels"][0][field] = value
    with pytest.raises(CheckpointError):
        PriorConfig.from_json(json.dumps(data))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"levels":[]}', '{"levels":7}', "[" * 100_000])
def test_other_json_is_refused(text):
    with pytest.raises(CheckpointError):
        PriorConfig.from_json(text)


def test_levels_run_from_coarse_to_fine():
    finer = dataclasses.replace(LEVEL, stride=2)
    PriorConfig((LEVEL, finer))
    for levels in ((finer, LEVEL), (LEVEL,) * 17):
        with pytest.raises(ValueError, match="levels"):
            PriorConfig(levels)


def test_cells_of_a_coarsest_cell_are_limited():
    coarse, fine = (dataclasses.replace(LEVEL, stride_t=8, stride=n) for n in (128, 1))
    with pytest.raises(ValueError, match="cells"):
        PriorConfig((coarse, fine))
