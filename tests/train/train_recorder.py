"""A reporter of training runs, and how to interrupt them."""

from __future__ import annotations

import dataclasses
import os
import signal

import pytest
import torch

from vqcodec.errors import SettingError
from vqcodec.model.checkpoint import MODEL, read_safetensors


@dataclasses.dataclass
class Recorder:
    """A reporter that remembers, and that may act after a step or a sequence."""

    after_step: object = None
    after_sequence: object = None
    messages: list = dataclasses.field(default_factory=list)
    steps: list = dataclasses.field(default_factory=list)
    results: list = dataclasses.field(default_factory=list)
    done: list = dataclasses.field(default_factory=list)

    def message(self, text):
        self.messages.append(text)

    def prepared(self, done, total, problem):
        assert problem is None

    def encoded(self, done, total):
        self.done.append(done)
        if self.after_sequence:
            self.after_sequence(done)

    def progress(self, progress):
        self.steps.append(progress)
        if self.after_step:
            self.after_step(progress.step)

    def predicted(self, step, result):
        self.results.append((step, result))

    restored = mended = detailed = predicted


def check_resuming(train, config, options, state):
    """A run of six steps, stopped after one and after four, ends as one that was not."""
    whole = dataclasses.replace(options, out=options.out / "whole")
    broken = dataclasses.replace(options, out=options.out / "broken", validate_every=2)
    options.out.mkdir()
    train(config, whole, Recorder())
    for step, name in ((1, signal.SIGTERM), (4, signal.SIGINT)):
        recorder = Recorder(after_step=interrupt_at(step, name))
        train(config, broken, recorder)
        assert recorder.steps[-1].step == step
        assert (broken.out / MODEL).exists()
        assert any("run again" in message for message in recorder.messages)
    train(config, broken, Recorder())
    (_, expected), (_, found) = (read_safetensors(o.out / state) for o in (whole, broken))
    assert expected.keys() == found.keys()
    for name, tensor in expected.items():
        assert torch.equal(tensor, found[name]), name
    with pytest.raises(SettingError, match="other settings"):
        train(dataclasses.replace(config, lr=0.5), whole, Recorder())


def interrupt_at(number, name=signal.SIGTERM):
    def act(reached):
        if reached >= number:
            os.kill(os.getpid(), name)

    return act
