"""Outputs appear whole or not at all."""

import os
import stat

import pytest

from vqcodec.errors import OutputError
from vqcodec.files import make_folder, name_of, replacing


def listing(folder):
    return sorted(path.name for path in folder.iterdir())


def refusal(path, **options):
    with pytest.raises(OutputError) as caught, replacing(path, **options):
        pass
    return str(caught.value)


def test_a_file_appears_only_at_the_end(tmp_path):
    path = tmp_path / "out.vqv"
    with replacing(path) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".vqv"
        temporary.write_bytes(b"new")
        assert not path.exists()
    assert path.read_bytes() == b"new"
    assert listing(tmp_path) == ["out.vqv"]


def test_its_mode_follows_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        for name, folder in (("file", False), ("folder", True)):
            with replacing(tmp_path / name, folder=folder):
                pass
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == 0o750


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_an_exception_leaves_all_as_it_was(tmp_path, error):
    path = tmp_path / "out.vqv"
    path.write_bytes(b"old")

    def fail():
        with replacing(path, force=True) as temporary:
            temporary.write_bytes(b"half")
            raise error

    with pytest.raises(error):
        fail()
    assert path.read_bytes() == b"old"
    assert listing(tmp_path) == ["out.vqv"]


def test_an_existing_file_needs_force(tmp_path):
    path = tmp_path / "out.vqv"
    path.write_bytes(b"old")
    assert refusal(path) == f"{path}: already exists (use -f to overwrite)"
    with replacing(path, force=True) as temporary:
        temporary.write_bytes(b"new")
    assert path.read_bytes() == b"new"


def test_a_long_name_is_no_obstacle(tmp_path):
    path = tmp_path / ("x" * 250 + ".vqv")
    with replacing(path):
        pass
    assert path.exists()


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    link, real = tmp_path / "link.vqv", tmp_path / "elsewhere" / "real.vqv"
    link.symlink_to(real)
    with replacing(link) as temporary:  # it dangles
        temporary.write_bytes(b"first")
    assert "already exists" in refusal(link)
    with replacing(link, force=True) as temporary:
        assert temporary.parent == real.parent
        temporary.write_bytes(b"second")
    assert link.is_symlink()
    assert real.read_bytes() == b"second"


def test_a_missing_folder_is_named(tmp_path):
    path = tmp_path / "no" / "out.vqv"
    assert refusal(path) == f"{path}: no such folder: {path.parent}"


@pytest.mark.parametrize("force", [False, True])
def test_file_and_folder_do_not_replace_each_other(tmp_path, force):
    file, folder = tmp_path / "file", tmp_path / "folder"
    file.touch()
    folder.mkdir()
    assert refusal(folder, force=force) == f"{folder}: is a folder"
    assert refusal(file, force=force, folder=True) == f"{file}: is a file"


def test_folders_of_pictures(tmp_path):
    path = tmp_path / "frames"
    path.mkdir()
    with replacing(path, folder=True) as temporary:  # an empty folder is nobody's work
        (temporary / "000001.png").write_bytes(b"one")
        (temporary / "000002.png").write_bytes(b"two")
    assert listing(path) == ["000001.png", "000002.png"]
    assert "already exists" in refusal(path, folder=True)
    with replacing(path, folder=True, force=True) as temporary:
        (temporary / "000001.png").write_bytes(b"new")
    assert listing(path) == ["000001.png"]
    assert (path / "000001.png").read_bytes() == b"new"
    assert listing(tmp_path) == ["frames"]


@pytest.mark.parametrize("other", ["notes.txt", "cover.png", "000002.png/inside"])
def test_a_folder_of_other_things_is_never_replaced(tmp_path, other):
    path = tmp_path / "frames"
    (path / other).parent.mkdir(parents=True)
    (path / other).touch()
    (path / "000001.png").touch()
    assert "other files than numbered pictures" in refusal(path, folder=True, force=True)
    assert (path / other).exists()


def test_devices_and_pipes_are_written_to(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with replacing(pipe) as temporary:
        assert temporary == pipe
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_errors_inside_name_the_destination(tmp_path):
    path = tmp_path / "out.mp4"
    with pytest.raises(OutputError) as caught, replacing(path) as temporary:
        raise OutputError(f"{temporary}: cannot write: No space left on device")
    assert str(caught.value) == f"{path}: cannot write: No space left on device"
    with pytest.raises(OutputError) as caught, replacing(path):
        raise OSError(28, "No space left on device")
    assert str(caught.value) == f"{path}: No space left on device"
    assert listing(tmp_path) == []


def test_a_read_only_folder(tmp_path, monkeypatch):
    def refuse(**_arguments):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.mkstemp", refuse)  # as root, a mode would stop nobody
    assert refusal(tmp_path / "out.vqv") == f"{tmp_path / 'out.vqv'}: Permission denied"


def test_folders_are_made_with_those_they_lie_in(tmp_path):
    for _ in range(2):
        make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    for path, reason in (("file", "File exists"), ("file/below", "Not a directory")):
        with pytest.raises(OutputError) as caught:
            make_folder(tmp_path / path)
        assert str(caught.value) == f"{tmp_path / path}: {reason}"


def test_names_of_streams(tmp_path):
    class Standard:
        name = "<stdout>"

    assert name_of(Standard()) == "standard output"
    assert name_of(tmp_path) == str(tmp_path)
    assert name_of("<stdin>") == "<stdin>"
