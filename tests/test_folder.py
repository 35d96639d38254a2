"""Which files are below a folder, and what they become."""

import pytest

from vqcodec.errors import OutputError, SourceError
from vqcodec.folder import Task, plan


def planned(root, *names, becomes=".vqv", into="out"):
    """What becomes of files with these names: (source, target), both without their folders."""
    source, target = root / "in", root / into
    for name in names:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).touch()
    tasks = plan(source, target, suffixes={".mp4", ".avi", ".mkv"}, becomes=becomes)
    return {
        str(task.source.relative_to(source)): str(task.target.relative_to(target)) for task in tasks
    }


def test_the_tree_is_mirrored_in_order(tmp_path):
    names = planned(tmp_path, "b.mp4", "a/c.AVI", "a/b/d.mkv", "notes.txt", "a/none", "e.f.mp4")
    assert list(names.items()) == [
        ("a/b/d.mkv", "a/b/d.vqv"),
        ("a/c.AVI", "a/c.vqv"),
        ("b.mp4", "b.vqv"),
        ("e.f.mp4", "e.f.vqv"),
    ]


def test_hidden_files_links_to_folders_and_other_things_are_left_out(tmp_path):
    (tmp_path / "in/c.mp4").mkdir(parents=True)
    (tmp_path / "in/loop").symlink_to(tmp_path / "in")
    (tmp_path / "in/gone.mp4").symlink_to(tmp_path / "nothing")
    (tmp_path / "in/link.mp4").symlink_to(tmp_path / "in/a.mp4")
    names = planned(tmp_path, "a.mp4", "._a.mp4", ".trash/b.mp4")
    assert list(names) == ["a.mp4", "link.mp4"]


def test_two_of_one_name_are_both_kept(tmp_path):
    names = planned(tmp_path, "a.mp4", "a.avi", "a.mp4.mkv", "b.mp4", "c/a.mp4")
    assert names == {
        "a.avi": "a.avi.vqv",
        "a.mp4": "a.mp4.vqv",
        "a.mp4.mkv": "a.mp4.mkv.vqv",
        "b.mp4": "b.vqv",
        "c/a.mp4": "c/a.vqv",
    }


@pytest.mark.parametrize("into", ["in/out", "in/deep/out"])
def test_results_inside_the_folder_are_not_walked(tmp_path, into):
    (tmp_path / into).mkdir(parents=True)
    (tmp_path / into / "b.mp4").touch()
    assert planned(tmp_path, "a.mp4", into=into) == {"a.mp4": "a.vqv"}


def test_results_beside_the_sources(tmp_path):
    assert planned(tmp_path, "a.mp4", "b/c.mp4", into="in") == {
        "a.mp4": "a.vqv",
        "b/c.mp4": "b/c.vqv",
    }


def test_folders_as_results(tmp_path):
    assert planned(tmp_path, "a.mp4", becomes="") == {"a.mp4": "a"}


def test_what_is_done(tmp_path):
    task = Task(tmp_path / "in.vqv", tmp_path / "out")
    assert not task.is_done
    task.target.mkdir()
    assert not task.is_done
    (task.target / "000001.png").touch()
    assert task.is_done
    assert Task(tmp_path, tmp_path / "out/000001.png").is_done


def test_what_cannot_be(tmp_path):
    with pytest.raises(SourceError, match=r"in: no files \.avi \.mkv \.mp4 in this folder"):
        planned(tmp_path, "notes.txt")
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="file: is a file"):
        planned(tmp_path, "a.mp4", into="file")
