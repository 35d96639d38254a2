"""vqcodec.bench.speed"""

from __future__ import annotations

import json
import sys

import pytest
import torch

from vqcodec.bench import speed


def test_unpacking_is_timed_at_every_level(video, foreseeing):
    rows = speed.unpacking(video, foreseeing, rounds=2)
    assert [row.quality for row in rows] == list(range(1, len(foreseeing.levels) + 1))
    assert all(row.unpack > 0 and row.decode > 0 for row in rows)


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
        assert text.count("unpacking") == 4
