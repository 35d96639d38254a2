"""What tests of the whole program share: tiny random models, and a small video."""

from __future__ import annotations

import os
import signal

import pytest

# Workers of pytest-xdist share the cores: more threads than these would wait for each other.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell's jobs in the background ignore SIGINT, and what they start inherits that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def make_checkpoint(path, seed):
    import torch

    from vqcodec.model.checkpoint import export, save
    from vqcodec.model.config import PRESETS
    from vqcodec.model.network import MSVQVAE

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    save(export(MSVQVAE(PRESETS["tiny"]), {"note": "random"}), path)
    return path


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A checkpoint with random weights, alone in its folder as ``base``."""
    return make_checkpoint(tmp_path_factory.mktemp("weights") / "base.safetensors", 0)


@pytest.fixture(scope="session")
def stranger(tmp_path_factory):
    """Another checkpoint of the same architecture."""
    return make_checkpoint(tmp_path_factory.mktemp("elsewhere") / "stranger.safetensors", 1)


@pytest.fixture
def shipped(tiny, monkeypatch):
    """Let ``tiny`` be the one model that is shipped."""
    monkeypatch.setattr("vqcodec.model.registry.weights_folder", lambda: tiny.parent)


@pytest.fixture(scope="session")
def codec(tiny):
    from vqcodec.codec import Codec

    return Codec.load(tiny)


@pytest.fixture(scope="session")
def foresight(tiny, codec, video, tmp_path_factory):
    """``tiny`` with a prior that knows how often each index is in ``video``."""
    import dataclasses

    from synthetic import fitted_tensors

    from vqcodec.model.checkpoint import load, save, store
    from vqcodec.video import read_frames

    levels = [(level.stride_t, level.stride, level.entries) for level in codec.levels]
    prior = store(*fitted_tensors(levels, codec.encode(read_frames(video))))
    path = tmp_path_factory.mktemp("foresight") / "base.safetensors"
    save(dataclasses.replace(load(tiny), prior=prior), path)
    return path


@pytest.fixture(scope="session")
def foreseeing(foresight):
    from vqcodec.codec import Codec

    return Codec.load(foresight)


@pytest.fixture(scope="session")
def ranged(video, foreseeing, tmp_path_factory):
    """``video`` encoded at all levels with ``foreseeing``: chunks that need those before them."""
    from vqcodec.transcode import encode_file

    path = tmp_path_factory.mktemp("ranged") / "in.vqv"
    encode_file(video, path, codec=foreseeing, quality=len(foreseeing.levels))
    return path


@pytest.fixture(scope="session")
def video(tmp_path_factory):
    """100 frames of 96×64 at 16 fps: three chunks of 32 and one of 4."""
    from video_builders import scene, write_video

    path = tmp_path_factory.mktemp("video") / "in.mkv"
    write_video(path, scene(100, 64, 96))
    return path


@pytest.fixture(scope="session")
def coded(video, codec, tmp_path_factory):
    """``video`` encoded with ``tiny``."""
    from vqcodec.transcode import encode_file

    path = tmp_path_factory.mktemp("coded") / "in.vqv"
    encode_file(video, path, codec=codec)
    return path
