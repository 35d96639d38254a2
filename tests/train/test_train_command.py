"""The options of ``vqcodec train``"""

from __future__ import annotations

import pytest

from vqcodec.cli.dispatch import run
from vqcodec.train import loop
from vqcodec.train.config import TrainConfig


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """Run ``vqcodec train`` with these arguments; return what it would train, and how."""
    calls = []

    def train(config, options, reporter):
        calls.append((config, options))
        return options.out / "model.safetensors"

    monkeypatch.setattr(loop, "train", train)

    def ask(*arguments):
        code = run(["train", "--data", str(tmp_path), "--quiet", *map(str, arguments)])
        return (code, *calls.pop()) if calls else (code, None, None)

    return ask


@pytest.fixture
def refused(videos, tmp_path, capsys):
    """Run ``vqcodec train``, see that it does nothing but fail so; return its one line."""

    def ask(code, *arguments):
        out, cache = tmp_path / "out", tmp_path / "cache"
        where = ("--data", videos, "--out", out, "--cache", cache)
        assert run(["train", *map(str, (*where, *arguments))]) == code
        assert not out.exists()
        assert not cache.exists()
        (line,) = capsys.readouterr().err.splitlines()
        return line

    return ask


def test_defaults_are_the_configurations(asked):
    code, config, options = asked()
    assert (code, config) == (0, TrainConfig())
    assert (options.init, options.resume, options.bf16) == (None, True, True)


def test_what_is_new_can_be_set(asked, tmp_path):
    code, config, options = asked(
        *("--optimizer", "muon", "--trade", "0.5"),
        *("--level-weights", "6,13,40,18", "--init", tmp_path / "init.safetensors"),
    )
    assert code == 0
    assert config == TrainConfig(optimizer="muon", trade=0.5, level_weights=(6, 13, 40, 18))
    assert options.init == tmp_path / "init.safetensors"


@pytest.mark.parametrize(
    ("arguments", "share"), [([], 0.15), (["--still-share", "0.4"], 0.4), (["--still-share", 0], 0)]
)
def test_stills_can_join_in(asked, tmp_path, arguments, share):
    roots = tmp_path / "a", tmp_path / "b.tar"
    code, config, options = asked("--stills", roots[0], "--stills", roots[1], *arguments)
    assert (code, config, options.stills) == (0, TrainConfig(still_share=share), roots)


def test_without_stills_there_is_no_share_of_them(asked):
    _, config, options = asked()
    assert (config.still_share, options.stills) == (0, ())


@pytest.mark.parametrize("option", [("--stills", "x"), ("--still-share", "0.1")])
def test_stills_are_not_for_the_prior(asked, capsys, option):
    assert asked("--stage", "prior", "--init", "model.safetensors", *option)[0] == 2
    assert f"{option[0]} is not for --stage prior" in capsys.readouterr().err


def test_codes_can_be_kept(asked):
    assert asked("--decoder-only")[1] == TrainConfig(decoder_only=True)


def test_level_weights_belong_to_the_model(asked):
    code, config, _ = asked("--model", "single-level", "--level-weights", "1")
    assert (code, config.level_weights) == (0, (1.0,))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--optimizer", "sgd"], "'sgd' is not one of 'adam', 'muon'"),
        (["--still-share", "0.2"], "--still-share needs --stills"),
        (["--still-share", "1.2"], "1.2 is not in the range"),
        (["--level-weights", "1;2"], "'1;2' is not a list of numbers"),
        (["--level-weights", ""], "'' is not a list of numbers"),
        (["--level-weights", "1,2"], "level_weights must be 4 numbers"),
        (["--level-weights", "0,0,0,0"], "not all of them 0"),
        (["--level-weights", "1,1,1,nan"], "level_weights must be"),
        (["--model", "tiny", "--level-weights", "1,1,1,1,1,1,1,1"], "must be 4 numbers"),
        (["--model", "base-512"], "no architecture base-512 (known: base, paper, paper-512,"),
    ],
)
def test_wrong_settings_are_wrong_usage(asked, capsys, arguments, message):
    code, config, _ = asked(*arguments)
    (line,) = capsys.readouterr().err.splitlines()
    assert (code, config) == (2, None)
    assert message in line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seed", "-1"], "'--seed': -1 is not in the range"),
        (["--stage", "prior", "--seed", "-1"], "'--seed': -1 is not in the range"),
        (["--stage", "prior", "--seed", 1 << 64], "is not in the range"),
        (["--stage", "mending", "--lr", "nan"], "'--lr': 'nan' is not a number"),
        (["--stage", "mending", "--validation", "nan"], "'--validation': 'nan' is not a number"),
        (["--stage", "details", "--step", "nan"], "step must be a number in 1..1024, not nan"),
        (["--stage", "details", "--chunks", 10**400], "is not in the range"),
        (["--stage", "restoration", "--chunks", "1"], "chunks must be at least 4"),
        (["--stage", "restoration", "--interval-width", "0"], "need an interval_width"),
        (["--epochs", "inf"], "'--epochs': inf is not in the range"),
        (["--steps", 10**400], "is not in the range"),
        (["--threads", 10**9], "is not in the range"),
        (["--perceptual-weight", "nan"], "'--perceptual-weight': 'nan' is not a number"),
    ],
)
def test_no_stage_begins_with_wrong_settings(refused, tiny, arguments, message):
    assert message in refused(2, "--init", tiny, *arguments)


def test_codes_are_kept_of_a_checkpoint(refused):
    assert "decoder_only needs a checkpoint" in refused(2, "--decoder-only")


@pytest.mark.parametrize("stage", ["autoencoder", "prior", "details", "restoration", "mending"])
def test_no_stage_begins_on_an_unknown_device(refused, tiny, stage):
    assert "device abacus: " in refused(9, "--init", tiny, "--stage", stage, "--device", "abacus")
