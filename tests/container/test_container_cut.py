"""Files with their finer levels dropped."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from synthetic import fitted_prior
from test_container_range import CONTENTS, HEADER, LEVELS, grids_of, reader, same, tags, written

from vqcodec.container import Level, Reader, Writer, verify
from vqcodec.container.cut import cut_file
from vqcodec.errors import (
    ChecksumError,
    FormatError,
    OutputError,
    QualityError,
    TruncatedError,
    UnsupportedError,
)


@pytest.fixture(scope="module")
def prior():
    return fitted_prior(LEVELS, grids_of(HEADER, 64, 99))


@pytest.fixture(scope="module", params=["raw", "deflate", "zstd", "range", "auto"])
def whole(request, prior):
    file = io.BytesIO()
    with Writer(file, HEADER, packer=request.param, prior=prior) as writer:
        for number, (frames, grids) in enumerate(CONTENTS):
            if number % 3 == 1:
                writer.write_chunk(20 + number % 4, bytes([number]))
            writer.write(frames, grids)
        writer.write_chunk(29, b"last")
    return file.getvalue()


def cut(data, quality, **options):
    file = io.BytesIO()
    result = cut_file(io.BytesIO(data), file, quality=quality, **options)
    assert result.nbytes == len(file.getvalue())
    return file.getvalue(), result


def ancillary(data):
    opened = Reader(io.BytesIO(data))
    chunks = opened.chunks(ancillary=lambda _: True)
    return [(chunk.tag, chunk.number, chunk.payload) for chunk in chunks if not chunk.frames]


@pytest.mark.parametrize("quality", [1, 2, 3])
def test_the_levels_that_are_left_are_the_same(whole, prior, quality):
    data, result = cut(whole, quality)
    assert (result.chunks, result.header.frames, result.source_levels) == (11, 88, 3)
    opened = reader(data, prior)
    assert opened.header == result.header
    assert opened.header.levels == HEADER.levels[:quality]
    assert opened.table.indexed
    for chunk, (frames, grids) in zip(opened, CONTENTS, strict=True):
        assert len(chunk.grids()) == quality
        same(chunk, (frames, grids[:quality]))
    assert ancillary(data) == ancillary(whole)
    assert verify(io.BytesIO(data), lambda _: prior).problems == ()
    assert (len(data) < len(whole)) == (quality < 3)
    if quality == 3:
        assert data == whole


def test_in_two_steps_or_one_is_the_same(whole):
    assert cut(cut(whole, 2)[0], 1)[0] == cut(whole, 1)[0]


def test_range_payloads_are_what_the_encoder_would_have_made(prior):
    whole = written(CONTENTS, prior, packer="range")
    fewer = replace(HEADER, levels=HEADER.levels[:2])
    file = io.BytesIO()
    with Writer(file, fewer, packer="range", prior=prior) as writer:
        for frames, grids in CONTENTS:
            writer.write(frames, grids[:2])
    data, _ = cut(whole, 2)
    assert tags(data) == tags(whole)
    # A stream that goes on may not end in the shortest number that would do for its beginning.
    assert 0 <= len(data) - len(file.getvalue()) <= 2 * len(CONTENTS)


def test_pipes(whole, pipe):
    file = io.BytesIO()
    cut_file(pipe(whole), file, quality=2)
    assert file.getvalue() == cut(whole, 2)[0]


def test_of_an_unknown_length(whole, pipe):
    class Unseekable(io.BytesIO):
        def seekable(self):
            return False

    for header in (HEADER, replace(HEADER, frames=88)):
        data = header.to_bytes() + whole[len(HEADER.to_bytes()) :]
        file = Unseekable()
        cut_file(pipe(data), file, quality=1)
        opened = Reader(io.BytesIO(file.getvalue()))
        assert (opened.header.frames, opened.table.frames) == (header.frames, 88)


@pytest.mark.parametrize("quality", [0, 4, 8])
def test_levels_that_are_not_there(whole, tmp_path, quality):
    path, out = tmp_path / "in.vqv", tmp_path / "out.vqv"
    path.write_bytes(whole)
    with pytest.raises(QualityError, match=rf"in\.vqv: has quality levels 1 to 3, not {quality}"):
        cut_file(path, out, quality=quality)
    assert not out.exists()


def test_targets(whole, tmp_path):
    path, out = tmp_path / "in.vqv", tmp_path / "out.vqv"
    path.write_bytes(whole)
    cut_file(path, out, quality=1)
    with pytest.raises(OutputError, match="already exists"):
        cut_file(path, out, quality=1)
    cut_file(path, out, quality=2, force=True)
    assert out.read_bytes() == cut(whole, 2)[0]


@pytest.mark.parametrize(
    ("spoil", "kind"),
    [
        (lambda b: b[:-9], TruncatedError),
        (lambda b: b[:120] + bytes([b[120] ^ 1]) + b[121:], ChecksumError),
        (lambda b: b[:20] + b"?" + b[21:], ChecksumError),
        (lambda b: b[:30], TruncatedError),
        (lambda b: b"something else", FormatError),
    ],
)
def test_damage_is_refused(whole, tmp_path, spoil, kind):
    path, out = tmp_path / "in.vqv", tmp_path / "out.vqv"
    path.write_bytes(spoil(whole))
    with pytest.raises(kind, match=r"in\.vqv: "):
        cut_file(path, out, quality=1)
    assert list(tmp_path.iterdir()) == [path]


def test_payloads_that_cannot_be_cut(prior):
    from vqcodec.container.layout import END_CHUNK, Head, frame_chunk

    for tag, payload, kind in (
        (4, b"\x00\x01xxxx", FormatError),
        (4, b"\x85", FormatError),
        (5, b"\x01\x01xxxx", ChecksumError),
        (2, b"\xff" * 9, FormatError),
        (9, b"?", UnsupportedError),
    ):
        chunk = frame_chunk(Head(tag, 8, len(payload)), payload)
        with pytest.raises(kind, match="chunk at byte 35"):
            cut(HEADER.to_bytes() + chunk + END_CHUNK, 1)


def test_levels_out_of_order(prior):
    header = replace(HEADER, levels=(Level(4, 4), Level(8, 8)))
    file = io.BytesIO()
    with Writer(file, header) as writer:
        writer.write(4, [np.zeros(shape, int) for shape in header.grid_shapes(4)])
    with pytest.raises(FormatError, match="coarsest first"):
        cut(file.getvalue(), 1)
