"""vqcodec.carry: the error of a chunk's last frame goes on in the next one, less and less."""

import dataclasses
import io
from itertools import pairwise

import numpy as np
import pytest
import torch
from detail_values import dequantise, symbols_of
from video_builders import scene, write_video

from vqcodec.carry import FADE, SHARE, WHOLE, Carry, Residue
from vqcodec.codec import Codec
from vqcodec.container import Reader
from vqcodec.model import details
from vqcodec.model.config import PRESETS, DetailConfig
from vqcodec.model.network import MSVQVAE
from vqcodec.transcode import encode_file

CONFIG = DetailConfig(planes=2, step=64)


def coefficients(seed, frames=8):
    """Of noise in two blocks, split in some way each."""
    random = np.random.default_rng(seed)
    pixels = torch.from_numpy(random.normal(0, 9, (1, 3, frames, 16, 8))).float()
    splits = torch.from_numpy(random.integers(0, 4, (1, 2, 1)))
    return details.Coefficients(details.analyse(pixels, splits), splits)


def found(wanted):
    return details.grid_of(dequantise(symbols_of(wanted, CONFIG, 2), CONFIG))


def error(lacking, said):
    """(3, F, H, W) of what details say, in 8-bit values."""
    return added_to(lacking._replace(grid=said), lacking)


def added_to(wanted, lacking):
    """(3, F, H, W) of what is wanted beyond what lacks."""
    return (details.synthesise(wanted) - details.synthesise(lacking))[0]


def test_the_first_chunk_has_nothing_to_repeat():
    first = coefficients(0)
    assert Residue().onto(first) is first


def test_what_is_wanted_of_the_next_begins_with_a_share_of_the_error():
    first, second = coefficients(0), coefficients(1, frames=6)
    residue = Residue()
    residue.keep(first, found(first))
    added = added_to(residue.onto(second), second)
    last = error(first, found(first))[:, -1]
    assert last.abs().mean() > 3
    for number in range(6):
        torch.testing.assert_close(
            added[:, number], SHARE * 6 / WHOLE * FADE**number * last, atol=1e-3, rtol=1e-3
        )


def test_the_error_is_that_of_what_is_true_not_of_what_was_wanted():
    first, second = coefficients(0), coefficients(1)
    residue = Residue()
    residue.keep(first, found(first))
    wanted = residue.onto(second)
    residue.keep(second, found(wanted))
    added = added_to(residue.onto(coefficients(2)), coefficients(2))[:, 0]
    torch.testing.assert_close(
        added, SHARE * 8 / WHOLE * error(second, found(wanted))[:, -1], atol=1e-3, rtol=1e-3
    )


@pytest.mark.parametrize("loud", [1, 8, 300])
def test_the_estimate_is_what_planes_say_that_do_not_aim(loud):
    """Beyond what they can say, too."""
    grid, splits = coefficients(3)
    wanted = details.Coefficients(loud * grid, splits)
    said = found(wanted)
    assert (said != 0).any() == (loud > 1)
    torch.testing.assert_close(details.unaimed(wanted, CONFIG), said)


def test_the_last_plane_goes_by_what_is_said_and_all_others_by_the_estimate():
    carry, first, second = Carry(), coefficients(0), coefficients(1)
    wanted, finest = carry.onto(first)
    assert wanted is finest is first
    said = torch.full_like(first.grid, 5.0)
    carry.keep(first, wanted, said, CONFIG)
    for now, before in zip(carry.onto(second), (details.unaimed(first, CONFIG), said), strict=True):
        residue = Residue()
        residue.keep(first, before)
        torch.testing.assert_close(now.grid, residue.onto(second).grid)
    wanted, finest = carry.onto(second)
    assert (wanted.grid != finest.grid).any()
    carry.keep(second, wanted, None, CONFIG)
    assert carry.onto(first)[1] is first  # what is not known does not go on


@pytest.mark.parametrize("planes", [1, 2])
def test_the_last_of_all_planes_says_the_finest(planes):
    """Of a model with one plane, or with two of which so many are written."""
    config = dataclasses.replace(PRESETS["tiny"], details=DetailConfig(planes, step=64))
    decoded = torch.full((1, 3, 8, 16, 8), 0.5)
    wanted, finest = (
        details.Coefficients(20 * grid, splits) for grid, splits in map(coefficients, (0, 1))
    )
    finest = finest._replace(splits=wanted.splits)

    class Plain:
        aimed = staticmethod(lambda _decoded, known: known)

    plain = Plain()
    plain.config = config
    one, other, both = (
        MSVQVAE.details(plain, decoded, *which)
        for which in ((wanted, planes), (finest, planes), (wanted, planes, finest))
    )
    for part, same in zip(both.planes[:-1], one.planes[:-1], strict=True):
        assert torch.equal(part.symbols, same.symbols)
    if planes == 1:
        assert torch.equal(both.planes[0].symbols, other.planes[0].symbols)
    assert (both.planes[-1].symbols != one.planes[-1].symbols).any()


@pytest.fixture(scope="module")
def shipped():
    """The shipped model: ``tiny`` has no details."""
    return Codec.load()


def still(frames):
    """A textured picture that stands still, with noise that does not, and is coded."""
    rng = np.random.default_rng(5)
    picture = scene(1, 64, 64) // 2 + 64 + rng.normal(0, 12, (1, 64, 64, 3))
    return (picture + rng.normal(0, 12, (frames, 64, 64, 3))).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def chunks():
    return list(still(96).reshape(3, 32, 64, 64, 3))


@pytest.mark.parametrize(("effort", "missing", "share"), [(0, 0, 0.95), (1, 0, 0.95), (0, 1, 0.99)])
def test_errors_change_less_where_chunks_meet(shipped, chunks, effort, missing, share):
    quality = len(shipped.levels) - missing

    def jump(**options):
        grids = shipped.encode_batch(chunks, quality, effort=effort, **options)
        errors = [
            shipped.decode(each).astype(float) - chunk
            for each, chunk in zip(grids, chunks, strict=True)
        ]
        jumps = [after[0] - before[-1] for before, after in pairwise(errors)]
        return np.sqrt(np.mean(np.square(jumps))), np.sqrt(np.mean(np.square(errors)))

    alone, together = jump(), jump(carry=shipped.carry())
    assert together[0] < share * alone[0]
    assert together[1] < 1.02 * alone[1]  # and that costs little


def test_codes_are_as_they_were(shipped, chunks):
    alone, together = (
        shipped.encode_batch(chunks, carry=carry) for carry in (None, shipped.carry())
    )
    codes = sum(not level.details for level in shipped.levels)
    for one, other in zip(alone, together, strict=True):
        for grid, same in zip(one[:codes], other[:codes], strict=True):
            np.testing.assert_array_equal(grid, same)
    for grid, same in zip(alone[0], together[0], strict=True):
        np.testing.assert_array_equal(grid, same)
    assert (alone[1][-1] != together[1][-1]).any()


def test_levels_of_codes_alone_hand_on_nothing(shipped, chunks):
    quality = shipped.default_quality
    alone, together = (
        shipped.encode_batch(chunks, quality, carry=carry) for carry in (None, shipped.carry())
    )
    for one, other in zip(alone, together, strict=True):
        for grid, same in zip(one, other, strict=True):
            np.testing.assert_array_equal(grid, same)


@pytest.mark.parametrize("missing", [1, 3])
def test_a_lower_level_is_a_prefix_of_the_highest(shipped, chunks, missing):
    quality = len(shipped.levels) - missing
    whole = shipped.encode_batch(chunks, carry=shipped.carry())
    part = shipped.encode_batch(chunks, quality, carry=shipped.carry())
    for one, other in zip(whole, part, strict=True):
        for grid, same in zip(one[:quality], other, strict=True):
            np.testing.assert_array_equal(grid, same)


def test_however_chunks_are_batched(shipped, chunks):
    together = shipped.encode_batch(chunks, carry=shipped.carry())
    carry = shipped.carry()
    one_by_one = [shipped.encode_batch([chunk], carry=carry)[0] for chunk in chunks]
    for one, other in zip(together, one_by_one, strict=True):
        for grid, same in zip(one, other, strict=True):
            # The order of sums may differ, and with it what is close to a threshold.
            assert (grid != same).sum() < 10


def test_files_are_encoded_so(shipped, tmp_path, monkeypatch):
    monkeypatch.setattr("vqcodec.transcode.BATCH_PIXELS", 1)  # a batch for each chunk
    frames = still(64)
    write_video(tmp_path / "in.mkv", frames)
    file = io.BytesIO()
    quality = len(shipped.levels)
    encode_file(tmp_path / "in.mkv", file, codec=shipped, quality=quality, effort=0)
    second = list(Reader(io.BytesIO(file.getvalue()), lambda _header: shipped.prior))[1].grids()
    halves = np.split(frames, 2)
    with_it, without = (
        shipped.encode_batch(halves, quality, carry=carry)[1] for carry in (shipped.carry(), None)
    )
    assert (second[-1] != without[-1]).sum() > 100
    assert (second[-1] != with_it[-1]).sum() < 10  # as batches round otherwise
