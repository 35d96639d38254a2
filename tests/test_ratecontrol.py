"""Files of the size that was asked for, and codes chosen by what they cost."""

import io

import numpy as np
import pytest
import torch
from audio_builders import write_av
from synthetic import fitted_prior
from video_builders import Pipe, scene, write_video

from vqcodec.codec import Codec
from vqcodec.container import verify
from vqcodec.model.checkpoint import export
from vqcodec.model.config import PRESETS
from vqcodec.model.network import MSVQVAE
from vqcodec.transcode import encode_file

SIDE = 32
CHUNKS = (1, 5, 12, 40)  # all of the first two are tried, of the others a sample


def textured(count, seed=0):
    """Waves under a grain that comes and goes, so that some chunks take more bits than others."""
    generator = np.random.default_rng(seed)
    grain = generator.normal(size=(count, SIDE, SIDE, 3)) * 40
    loud = np.maximum(0, np.sin(np.arange(count) / 60))[:, None, None, None]
    return np.clip(scene(count, SIDE, SIDE) + grain * loud, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def priced():
    """A tiny random model, but with codebooks drawn from data, and a prior that fits its codes."""
    torch.manual_seed(0)
    network = MSVQVAE(PRESETS["tiny"])
    frames = textured(128, seed=1)
    clips = torch.from_numpy(frames).reshape(4, 32, SIDE, SIDE, 3).permute(0, 4, 1, 2, 3) / 255
    network.train()(clips)
    codec = Codec(export(network, {"note": "random"}))
    grids = [codec.encode(chunk) for chunk in np.split(frames, 4)]
    levels = [(level.stride_t, level.stride, level.entries) for level in codec.levels]
    codec.prior = fitted_prior(
        levels, [np.stack([chunk[number] for chunk in grids]) for number in range(len(levels))]
    )
    return codec


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Videos by their number of chunks."""
    folder = tmp_path_factory.mktemp("clips")
    for chunks in CHUNKS:
        write_video(folder / f"{chunks}.mkv", textured(32 * chunks))
    return {chunks: folder / f"{chunks}.mkv" for chunks in CHUNKS}


def encoded(source, codec, **options):
    file = io.BytesIO()
    result = encode_file(source, file, codec=codec, width=SIDE, height=SIDE, **options)
    report = verify(io.BytesIO(file.getvalue()), lambda _header: codec.prior)
    assert not report.problems
    assert result.nbytes == len(file.getvalue())
    return file.getvalue(), result


def score(codec, frames, grids, nearest, trade):
    """D + λR as the search has it: λ from the nearest codes."""

    def both(codes):
        picture = codec.decode(codes)
        error = float(((picture.astype(float) - frames) ** 2).mean())
        return error, float(sum(bits.sum() for bits in codec.prior.cost(codes)))

    (error, bits), (first_error, first_bits) = both(grids), both(nearest)
    return error / first_error + trade * bits / first_bits


@pytest.mark.parametrize("options", [{"effort": 0, "trade": 5}, {"effort": 4, "freedom": 0}])
def test_without_effort_or_freedom_codes_are_the_nearest(priced, options):
    frames = textured(32)
    for one, other in zip(
        priced.encode(frames), priced.encode_batch([frames], **options)[0], strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_with_little_freedom_codes_are_near_the_nearest(priced):
    frames = textured(32)
    nearest = priced.encode(frames)

    def moved(freedom):
        [grids] = priced.encode_batch([frames], effort=1, trade=0, freedom=freedom)
        return sum(int((a != b).sum()) for a, b in zip(grids, nearest, strict=True))

    assert 0 < moved(0.1) < moved(0.4) < moved(1)


@pytest.mark.parametrize(("quality", "trade"), [(1, 1), (2, 0), (4, 0.5), (4, 4)])
def test_search_is_never_worse(priced, quality, trade):
    chunks = [textured(32, seed) for seed in (2, 3)]
    nearest = priced.encode_batch(chunks, quality)
    scores = []
    for effort in (2, 4):
        found = priced.encode_batch(chunks, quality, effort=effort, trade=trade)
        for grids, level in zip(found[0], priced.levels, strict=False):
            assert grids.dtype == np.int16
            assert 0 <= grids.min() <= grids.max() < level.entries
        again = priced.encode_batch(chunks, quality, effort=effort, trade=trade)
        for one, other in zip(found, again, strict=True):
            for grid, same in zip(one, other, strict=True):
                np.testing.assert_array_equal(grid, same)
        triples = zip(chunks, found, nearest, strict=True)
        scores.append([score(priced, *triple, trade) for triple in triples])
    # Pictures are rounded to 8 bits here, and were not in the search.
    assert np.max(scores) <= (1 + trade) * 1.001
    assert np.mean(scores[1]) <= np.mean(scores[0]) * 1.001


def test_memory_is_what_the_writer_allows(priced, clips, monkeypatch):
    seen = []
    encode_batch = Codec.encode_batch

    def spy(self, batch, *arguments, before=None, follows=(), **options):
        seen.append((before is not None, list(follows)))
        return encode_batch(self, batch, *arguments, before=before, follows=follows, **options)

    monkeypatch.setattr(Codec, "encode_batch", spy)
    encoded(clips[40], priced, effort=1, duration=22)
    follows = [follow for _, batch in seen for follow in batch]
    assert follows == [number % 8 > 0 for number in range(11)]
    assert all(before == batch[0] for before, batch in seen)
    seen.clear()
    encoded(clips[5], priced, effort=1, independent=True)
    assert not any(before or any(batch) for before, batch in seen)


def test_trials_hand_on_errors_as_files_do(priced, clips, monkeypatch):
    seen = []
    encode_batch = Codec.encode_batch

    def spy(self, batch, *arguments, carry=None, **options):
        seen.append((carry, len(batch)))
        return encode_batch(self, batch, *arguments, carry=carry, **options)

    monkeypatch.setattr(Codec, "encode_batch", spy)
    monkeypatch.setattr("vqcodec.transcode.SEARCH_PIXELS", 1)  # a batch for each chunk
    natural = encoded(clips[5], priced, quality=3)[1].nbytes
    seen.clear()
    encoded(clips[5], priced, target_size=round(0.65 * natural))
    carries = {id(carry): carry for carry, _ in seen if carry is not None}
    counts = [sum(n for carry, n in seen if carry is each) for each in carries.values()]
    assert len(counts) > 1
    assert set(counts) == {5}  # one for each trial, and one for the file, of all chunks


@pytest.mark.parametrize("chunks", CHUNKS)
def test_the_size_is_met(priced, clips, chunks):
    natural = encoded(clips[chunks], priced, quality=3)[1].nbytes
    kbps = 0.9 * natural * 8 / (2 * chunks) / 1000
    for options, share in (
        ({"target_size": round(0.65 * natural)}, 0.65),
        ({"bitrate": kbps, "quality": 3}, 0.9),
    ):
        result = encoded(clips[chunks], priced, **options)[1]
        assert result.effort == 2
        assert result.control.target == pytest.approx(share * natural, abs=1)
        assert result.control.problem is None
        assert result.nbytes == pytest.approx(share * natural, rel=0.05)
        if "quality" in options:
            assert len(result.header.levels) == options["quality"]


@pytest.mark.parametrize("most", [1, 5])
def test_a_few_chunks_stand_for_all(priced, clips, monkeypatch, most):
    """As of pictures so large that hardly any are kept."""
    monkeypatch.setattr("vqcodec.ratecontrol.SAMPLE_PIXELS", most * 32 * SIDE * SIDE)
    natural = encoded(clips[40], priced, quality=3)[1].nbytes
    result = encoded(clips[40], priced, quality=3, target_size=round(0.8 * natural))[1]
    assert result.control.problem is None
    assert result.nbytes == pytest.approx(0.8 * natural, rel=0.05)


@pytest.mark.parametrize("share", [0.97, 1])
@pytest.mark.parametrize("chunks", [1, 40])
def test_a_level_comes_back_to_its_nearest_codes(priced, clips, chunks, share):
    natural = encoded(clips[chunks], priced, quality=2)[1].nbytes
    options = {"quality": 2, "target_size": round(share * natural)}
    result = encoded(clips[chunks], priced, **options)[1]
    assert result.control.problem is None
    assert result.nbytes == pytest.approx(share * natural, rel=0.05)


def test_audio_is_in_the_budget(priced, tmp_path):
    write_av(tmp_path / "in.mp4", seconds=6)
    silent = encoded(tmp_path / "in.mp4", priced, quality=2, effort=2, audio="none")[1]
    whole = encoded(tmp_path / "in.mp4", priced, quality=2, effort=2)[1]
    assert whole.audio_bytes > silent.nbytes
    result = encoded(tmp_path / "in.mp4", priced, target_size=whole.nbytes)[1]
    assert result.audio_bytes == whole.audio_bytes
    assert result.nbytes == pytest.approx(whole.nbytes, rel=0.01)


@pytest.mark.parametrize(
    ("target", "options", "reason"),
    [
        (100, {}, "more than the 100 asked for: quality 1 takes at least"),
        (10, {}, "more than the 10 asked for: all but the pictures takes"),
        (10**6, {}, "less than the 1000000 asked for: quality 4 takes at most"),
        (10**6, {"quality": 2}, "quality 2 takes at most"),
    ],
)
def test_a_target_out_of_reach(priced, clips, target, options, reason):
    result = encoded(clips[1], priced, target_size=target, **options)[1]
    assert reason in result.control.problem
    assert result.control.problem.startswith(f"{result.nbytes} bytes, ")


def test_without_a_prior_there_are_only_levels(codec, clips):
    sizes = [encoded(clips[1], codec, quality=q, effort=2)[1].nbytes for q in (1, 2)]
    result = encoded(clips[1], codec, target_size=sizes[0])[1]
    assert result.control.problem is None
    assert result.nbytes == sizes[0]
    result = encoded(clips[1], codec, target_size=sum(sizes) // 2)[1]
    assert "asked for: quality" in result.control.problem


def test_a_pipe_is_read_twice(priced, clips):
    options = {"target_size": 5000, "duration": 4}
    data, result = encoded(Pipe(clips[5].read_bytes()), priced, **options)
    assert data == encoded(clips[5], priced, **options)[0]
    assert result.source_bytes is None
    assert encoded(io.BytesIO(clips[5].read_bytes()), priced, **options)[0] == data
