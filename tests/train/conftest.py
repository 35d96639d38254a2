"""A folder of small synthetic videos, and a run on it that takes a second."""

from __future__ import annotations

import dataclasses

import av
import numpy as np
import pytest
from PIL import Image

from vqcodec.train.config import RunOptions, TrainConfig
from vqcodec.train.data import prepare

# name: (frames, height, width); one shorter than a clip, none square but one.
VIDEOS = {
    "a/wide.mkv": (50, 36, 64),
    "a/tall.mkv": (40, 60, 40),
    "b/short.mkv": (5, 32, 48),
    "b/square.avi": (70, 40, 40),
    "b/second.mkv": (45, 48, 64),
}


def waves(frames, height, width, phase):
    """uint8 (T, H, W, 3): smooth colours that drift."""
    t, y, x = np.meshgrid(
        np.arange(frames) / 10, np.linspace(0, 3, height), np.linspace(0, 3, width), indexing="ij"
    )
    planes = [
        np.sin(a * x + b * y + c * t + phase) for a, b, c in ((2, 1, 1), (1, 3, 2), (4, 2, 3))
    ]
    return (127 + 110 * np.stack(planes, -1)).astype(np.uint8)


def write(path, clip):
    """Save uint8 (T, H, W, 3) without loss, 16 frames a second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=16)
        stream.height, stream.width = clip.shape[1:3]
        stream.pix_fmt = "bgr0"
        for frame in clip:
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), "rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))


@pytest.fixture(scope="session")
def videos(tmp_path_factory):
    """A folder tree of videos, with some other files in it."""
    root = tmp_path_factory.mktemp("videos")
    for number, (name, shape) in enumerate(VIDEOS.items()):
        (root / name).parent.mkdir(exist_ok=True)
        write(root / name, waves(*shape, phase=number))
    (root / "notes.txt").write_text("not a video")
    (root / "folder.mp4").mkdir()
    return root


@pytest.fixture(scope="session")
def photographs(tmp_path_factory):
    """A folder of three smooth pictures of different shapes."""
    root = tmp_path_factory.mktemp("photographs")
    for number, shape in enumerate(((80, 80), (60, 90), (90, 50))):
        Image.fromarray(waves(1, *shape, phase=number)[0]).save(root / f"{number}.png")
    return root


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def footage(videos, cache):
    return prepare(sorted(videos / name for name in VIDEOS), cache, short_side=32)


@pytest.fixture(scope="session")
def quick():
    return TrainConfig(
        model="tiny", frames=16, size=16, batch=2, steps=6, lr=1e-3, perceptual="none", delay=2
    )


@pytest.fixture
def options(videos, cache, tmp_path):
    return RunOptions(
        data=(videos,), out=tmp_path / "out", cache=cache, validate_every=1000, save_every=1000
    )


@dataclasses.dataclass
class Recorder:
    """A reporter that remembers, and that may act after a step."""

    after_step: object = None
    messages: list = dataclasses.field(default_factory=list)
    problems: list = dataclasses.field(default_factory=list)
    steps: list = dataclasses.field(default_factory=list)
    validations: list = dataclasses.field(default_factory=list)

    def message(self, text):
        self.messages.append(text)

    def prepared(self, done, total, problem):
        if problem:
            self.problems.append(problem)

    def progress(self, progress):
        self.steps.append(progress)
        if self.after_step:
            self.after_step(progress)

    def validated(self, step, result):
        self.validations.append((step, result))


@pytest.fixture
def recorder():
    return Recorder()


@pytest.fixture
def new_recorder():
    return Recorder
