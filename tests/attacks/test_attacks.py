"""Each nasty file through each verb: the right result or one documented error, soon, in bounds."""

import io
import resource
import time

import pytest
from make import CHECKPOINTS, FILES

from vqcodec.container import Reader, verify
from vqcodec.container.cut import cut_file
from vqcodec.container.repair import repair_file
from vqcodec.errors import (
    CheckpointError,
    ChecksumError,
    FormatError,
    UnsupportedError,
    VqcodecError,
)
from vqcodec.model.checkpoint import load
from vqcodec.transcode import decode_file

SECONDS = 5  # of computing: other tests may run beside it
MEMORY = 512 << 20  # beyond what the process had


@pytest.fixture
def bounded():
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    yield
    assert time.process_time() - began < SECONDS
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < MEMORY


@pytest.fixture
def attack(request, codec):
    """The bytes of an attack, made before the clock runs."""
    return FILES[request.param][2](codec.model_id)


def each(names=FILES):
    return pytest.mark.parametrize(
        ("attack", "name"), [(name, name) for name in names], indirect=["attack"]
    )


@each()
def test_verify(attack, name, bounded):
    problems = verify(io.BytesIO(attack)).problems
    expected = FILES[name][1]
    assert [type(problem) for problem in problems[:1]] == [expected] * (expected is not None)


@each()
def test_info(attack, name, bounded):
    try:
        table = Reader(io.BytesIO(attack)).table
    except VqcodecError:
        assert FILES[name][1] is not None
    else:
        assert len(table.entries) <= len(attack) // 9


@each()
def test_repair(attack, name, bounded):
    target = io.BytesIO()
    try:
        result = repair_file(io.BytesIO(attack), target)
    except VqcodecError:
        assert FILES[name][1] is not None
    else:
        after = verify(io.BytesIO(target.getvalue()))
        assert all(isinstance(problem, UnsupportedError) for problem in after.problems)
        assert after.frames >= verify(io.BytesIO(attack)).frames  # a search finds nested ones
        assert FILES[name][1] is not None or not result.losses.count


@pytest.mark.parametrize("conceal", [False, True])
@each()
def test_decode(attack, name, conceal, codec, bounded):
    target = io.BytesIO()
    try:
        result = decode_file(io.BytesIO(attack), target, codec=codec, conceal=conceal)
    except VqcodecError:
        assert name != "sound"
    else:
        assert target.getvalue().count(b"FRAME\n") == result.frames < 1000
        if conceal and FILES[name][1] is ChecksumError:  # a false index alone loses no picture
            assert result.problem is not None


@pytest.mark.parametrize("conceal", [False, True])
@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("range")])
def test_decode_with_a_prior(name, conceal, foreseeing, bounded):
    data = FILES[name][2](foreseeing.model_id)
    target = io.BytesIO()
    try:
        result = decode_file(io.BytesIO(data), target, codec=foreseeing, conceal=conceal)
    except FormatError:
        pass
    else:
        assert conceal
        assert result.problem is not None


@each()
def test_cut(attack, name, bounded):
    target = io.BytesIO()
    try:
        cut_file(io.BytesIO(attack), target, quality=1)
    except VqcodecError:
        assert name not in ("sound", "no-frames", "ancillary", "largest-chunk")
    else:
        assert len(target.getvalue()) <= len(attack)


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv"])
@pytest.mark.parametrize("conceal", [False, True])
@each([name for name in FILES if name.startswith("audio")])
def test_decode_with_audio(attack, name, conceal, suffix, codec, tmp_path, bounded):
    target = tmp_path / f"out.{suffix}"
    try:
        result = decode_file(io.BytesIO(attack), target, codec=codec, conceal=conceal)
    except VqcodecError:
        assert not target.exists()
    else:
        assert result.frames in (32, 64)
        assert target.stat().st_size > 100


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_checkpoint(name, tmp_path, monkeypatch, bounded):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(CHECKPOINTS[name][1])
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        load(path)
    assert list(tmp_path.iterdir()) == [path]


def test_a_checkpoint_of_nan(tiny):
    import dataclasses

    from vqcodec.codec import Codec

    checkpoint = load(tiny)
    tensors = {
        name: tensor.fill_(float("nan")) if tensor.is_floating_point() else tensor
        for name, tensor in checkpoint.tensors.items()
    }
    with pytest.raises(CheckpointError, match="finite"):
        Codec(dataclasses.replace(checkpoint, tensors=tensors))
