"""A reporter of training runs, and how to interrupt them."""

from __future__ import annotations

import dataclasses
import os
import signal


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


def interrupt_at(number, name=signal.SIGTERM):
    def act(reached):
        if reached >= number:
            os.kill(os.getpid(), name)

    return act
