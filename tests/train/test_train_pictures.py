"""vqcodec.train.pictures"""

from __future__ import annotations

import io
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from vqcodec.errors import DataError
from vqcodec.train.pictures import Picture, find_pictures


def encoded(height, width, seed=0):
    """A random picture, as a PNG and as uint8 (3, H, W)."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "png")
    return data.getvalue(), torch.from_numpy(pixels).permute(2, 0, 1)


def pack(path, members):
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def test_pictures_of_folders_and_tar_files_are_found_once(tmp_path):
    data, picture = encoded(20, 30)
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/b.PNG").write_bytes(data)
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "folder.jpg").mkdir()
    other, other_picture = encoded(9, 7, seed=1)
    pack(tmp_path / "many.tar", {"x/1.png": data, "readme": b"no picture", "2.png": other})
    found = find_pictures([tmp_path, tmp_path / "deep", tmp_path / "many.tar"])
    assert [item.name.removeprefix(f"{tmp_path}/") for item in found] == [
        *("deep/b.PNG", "many.tar/x/1.png", "many.tar/2.png")
    ]
    for item, expected in zip(found, (picture, picture, other_picture), strict=True):
        assert torch.equal(item.decode(99), expected)
    assert find_pictures([tmp_path]) == found


def test_pictures_of_many_kinds(tmp_path):
    for name, mode in (("a.jpg", "L"), ("b.jpeg", "CMYK"), ("c.png", "P"), ("d.webp", "RGBA")):
        Image.new("RGB", (12, 9), (102, 102, 102)).convert(mode).save(tmp_path / name)
    for item in find_pictures([tmp_path]):
        picture = item.decode(50)
        assert picture.shape == (3, 9, 12)
        assert picture.dtype == torch.uint8
        assert int((picture.int() - 102).abs().max()) <= 2


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_large_pictures_are_scaled_down_without_aliasing(tmp_path, suffix):
    stripes = np.zeros((320, 480, 3), np.uint8)
    stripes[:, ::2] = 200
    Image.fromarray(stripes).save(tmp_path / f"x.{suffix}")
    (item,) = find_pictures([tmp_path])
    picture = item.decode(32)
    assert picture.shape == (3, 32, 48)
    assert 90 < int(picture.min()) <= int(picture.max()) < 110


def test_turned_photographs_stand_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    Image.new("RGB", (20, 10)).save(tmp_path / "x.jpg", exif=exif)
    assert find_pictures([tmp_path])[0].decode(50).shape == (3, 20, 10)


@pytest.mark.parametrize("data", [b"", b"noise", None])
def test_what_cannot_be_read_is_named(tmp_path, data):
    path = tmp_path / "bad.jpg"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(DataError, match=r"bad\.jpg: ."):
        Picture(path, str(path)).decode(99)


def test_a_damaged_tar_file_gives_what_it_can(tmp_path):
    data, picture = encoded(40, 40)
    path = pack(tmp_path / "cut.tar", {"1.png": data, "2.png": data, "3.png": data})
    stride = 512 + -(-len(data) // 512) * 512
    path.write_bytes(path.read_bytes()[: stride + 700])
    (tmp_path / "noise.tar").write_bytes(b"noise" * 1000)
    problems = []
    found = find_pictures([tmp_path], report=problems.append)
    assert torch.equal(found[0].decode(99), picture)
    for item in found[1:]:
        with pytest.raises(DataError, match=r"cut\.tar"):
            item.decode(99)
    assert [problem.split(":")[0] for problem in problems] == [
        str(tmp_path / name) for name in ("cut.tar", "noise.tar")
    ]


def test_no_pictures_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no such file or folder"):
        find_pictures([tmp_path / "nothing"])
    pack(tmp_path / "empty.tar", {})
    (tmp_path / "link.jpg").symlink_to(tmp_path / "gone.jpg")
    with pytest.raises(DataError, match="no pictures found"):
        find_pictures([tmp_path])
