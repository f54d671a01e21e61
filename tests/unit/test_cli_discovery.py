"""Which files are found: order, .gitignore at every level, hidden ones, links, and what cannot be listed."""

import os

import pytest

from cli.discovery import discover
from cli.readers.reader import ReadFailure, SourceFile


def make(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("words")


def names_of(path, **options):
    return [found.name if isinstance(found, SourceFile) else f"! {found.where}" for found in discover(path, **options)]


def test_files_come_in_name_order_with_paths_relative_to_the_root(tmp_path):
    make(tmp_path, "b.md", "a/z.txt", "a/y/x.txt", "c.txt")
    assert names_of(tmp_path) == ["a/y/x.txt", "a/z.txt", "b.md", "c.txt"]


def test_a_file_is_named_relative_to_its_folder_and_shares_its_root(tmp_path):
    make(tmp_path, "sub/a.txt")
    (named,) = discover(tmp_path / "sub" / "a.txt")
    (walked,) = discover(tmp_path / "sub")
    assert named == walked


def test_gitignore_is_respected_at_every_level(tmp_path):
    make(tmp_path, "a.log", "b.txt", "build/x.txt", "sub/a.log", "sub/keep.log", "sub/only_here.txt", "only_here.txt")
    (tmp_path / ".gitignore").write_text("*.log\nbuild/\n# comment\n\n[\n")
    (tmp_path / "sub" / ".gitignore").write_text("!keep.log\n/only_here.txt\n")
    assert names_of(tmp_path) == ["b.txt", "only_here.txt", "sub/keep.log"]
    assert "a.log" in names_of(tmp_path, everything=True)


def test_gitignore_above_the_path_holds_up_to_the_repository(tmp_path):
    make(tmp_path, "repo/docs/a.md", "repo/docs/b.tmp", "repo/build/c.md")
    (tmp_path / ".gitignore").write_text("*.md\n")
    (tmp_path / "repo" / ".git").mkdir()
    (tmp_path / "repo" / ".gitignore").write_text("*.tmp\n/build\n")
    assert names_of(tmp_path / "repo" / "docs") == ["a.md"]
    assert names_of(tmp_path / "repo" / "build") == ["c.md"], "a folder that the user names is read"


def test_hidden_files_and_the_data_folder_are_left_out(tmp_path):
    make(tmp_path, ".env", ".cache/a.txt", "a.txt", "index-data/LOCK", ".git/config")
    excluded = frozenset([tmp_path / "index-data"])
    assert names_of(tmp_path, excluded=excluded) == ["a.txt"]
    assert names_of(tmp_path, excluded=excluded, everything=True) == [".cache/a.txt", ".env", "a.txt"]


def test_links_are_safe(tmp_path):
    make(tmp_path, "real/a.txt")
    (tmp_path / "real" / "loop").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "file.txt").symlink_to(tmp_path / "real" / "a.txt")
    (tmp_path / "gone.txt").symlink_to(tmp_path / "nothing")
    assert names_of(tmp_path) == ["file.txt", "! gone.txt", "real/a.txt"]


def test_pipes_are_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.txt")
    assert names_of(tmp_path) == []
    (failure,) = discover(tmp_path / "pipe.txt")
    assert failure == ReadFailure("pipe.txt", "it is not a regular file")


def test_a_folder_that_cannot_be_listed_is_a_failure(tmp_path, monkeypatch):
    make(tmp_path, "a.txt", "closed/b.txt")
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert names_of(tmp_path) == ["a.txt", "! closed"]


def test_names_that_are_not_utf8_are_made_so(tmp_path):
    try:
        (tmp_path / os.fsdecode(b"caf\xe9.txt")).write_text("words")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    assert names_of(tmp_path) == ["caf\ufffd.txt"]


def test_very_deep_folders_are_walked(tmp_path):
    here = os.getcwd()
    os.chdir(tmp_path)
    try:
        for _ in range(600):
            os.mkdir("d")
            os.chdir("d")
        with open("a.txt", "w") as file:
            file.write("deep")
    finally:
        os.chdir(here)
    assert len(names_of(tmp_path)) == 1
