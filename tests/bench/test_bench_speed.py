"""vqcodec.bench.speed"""

from __future__ import annotations

import json
import sys

import pytest
import torch

from vqcodec.bench import speed
from vqcodec.model.checkpoint import load, save
from vqcodec.model.config import MendingConfig
from vqcodec.model.mending import Mending


def test_unpacking_is_timed_at_every_level(video, foreseeing):
    rows = speed.unpacking(video, foreseeing, rounds=2)
    assert [row.quality for row in rows] == list(range(1, len(foreseeing.levels) + 1))
    assert all(row.unpack > 0 and row.decode > 0 for row in rows)


def test_a_border_is_timed_where_there_is_what_mends(tiny, tmp_path):
    before, shape = load(tiny), MendingConfig(4, 1)
    assert "border" not in speed.measure(clips=1, rounds=1, model=str(tiny))
    grids, codes = len(before.config.grids), len(before.config.code_grids)
    weights = Mending(shape, grids, codes).state_dict()
    save(before.with_mending(shape, weights), tmp_path / "a.safetensors")
    result = speed.measure(clips=1, rounds=1, model=str(tmp_path / "a.safetensors"))
    assert result["border"] > 0
    assert 0 < result["border_gflop"] < 0.1


@pytest.mark.parametrize("as_json", [False, True])
def test_command(video, foresight, capsys, monkeypatch, as_json):
    monkeypatch.setattr(speed, "start_up", lambda: 2.0)
    threads = torch.get_num_threads()
    options = ["--threads", "1", "--rounds", "1", "--model", foresight, "--video", video]
    monkeypatch.setattr(sys, "argv", list(map(str, ["speed", *options, *["--json"] * as_json])))
    try:
        speed.main()
    finally:
        torch.set_num_threads(threads)
    text = capsys.readouterr().out
    if as_json:
        result = json.loads(text)
        assert result["encode_ratio"] > 0
        assert len(result["unpacking"]) == 4
    else:
        assert text.count("times faster") == 2
        assert text.count("M parameters") == 1
        assert text.count("unpacking") == 4
