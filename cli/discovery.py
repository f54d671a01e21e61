"""Which files does ``engine index PATH...`` read?

A PATH that is a file is always read. A PATH that is a folder is walked in name order, leaving out hidden files and
folders, what its ``.gitignore`` files exclude (nested ones and those above PATH up to the repository's top), and the
data folder. Links to files are followed, links to folders are not, so no loop can occur.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cli.readers.reader import ReadFailure, SourceFile

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

IGNORE_FILE = ".gitignore"


@dataclass(frozen=True, slots=True)
class Ignore:
    """The rules of one ``.gitignore``, which hold below ``folder``."""

    folder: Path
    rules: GitIgnoreSpec


@dataclass(frozen=True, slots=True)
class Walk:
    """What holds during the walk of one PATH: its resolved name, folders never entered, whether nothing is left out."""

    root: Path
    excluded: frozenset[Path]
    everything: bool


def discover(
    path: Path, *, excluded: frozenset[Path] = frozenset(), everything: bool = False
) -> Iterator[SourceFile | ReadFailure]:
    """Yields the files of one PATH in a fixed order, and a failure for what cannot be listed or opened.

    Args:
        path: an existing file or folder.
        excluded: resolved folders that are not entered.
        everything: hidden and ignored files too.
    """
    root = path.resolve()
    if not root.is_dir():
        yield _named_file(path, root)
        return
    walk = Walk(root, excluded, everything)
    yield from _walk(walk, () if everything else _rules_above(root))


def utf8_name(name: str) -> str:
    """A file's name as valid UTF-8: bytes that are not become U+FFFD."""
    return os.fsencode(name).decode("utf-8", "replace")


def _walk(walk: Walk, rules: tuple[Ignore, ...]) -> Iterator[SourceFile | ReadFailure]:
    pending = [(walk.root, True, rules)]  # a stack, not recursion: folders may be nested deeper than Python's
    while pending:
        path, is_folder, rules = pending.pop()
        if not is_folder:
            yield from _found_file(path, walk)
            continue
        try:
            pending.extend(reversed(_list_folder(path, walk, rules)))
        except OSError as error:
            yield ReadFailure(_name(path, walk), f"the folder cannot be listed: {error.strerror}")


def _list_folder(folder: Path, walk: Walk, rules: tuple[Ignore, ...]) -> list[tuple[Path, bool, tuple[Ignore, ...]]]:
    """The entries of a folder that are not left out: (path, is it a folder, the rules that hold in it), by name."""
    with os.scandir(folder) as listing:
        entries = sorted(listing, key=lambda entry: entry.name)
    if not walk.everything:
        rules = (*rules, *_rules_of(folder))
    kept = []
    for entry in entries:
        path = folder / entry.name
        is_folder = entry.is_dir(follow_symlinks=False)
        left_out = entry.name.startswith(".") or is_ignored(path, is_folder, rules)
        if (left_out and not walk.everything) or path in walk.excluded or entry.name == ".git":
            continue
        kept.append((path, is_folder, rules))
    return kept


def _found_file(path: Path, walk: Walk) -> Iterator[SourceFile | ReadFailure]:
    name = _name(path, walk)
    try:
        status = path.stat()
    except OSError as error:
        yield ReadFailure(name, "it links to nothing" if path.is_symlink() else str(error.strerror))
        return
    if stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever; a link to a folder is not followed
        yield SourceFile(path, name, utf8_name(str(walk.root)), status.st_size)


def _name(path: Path, walk: Walk) -> str:
    return utf8_name(path.relative_to(walk.root).as_posix())


def _named_file(path: Path, resolved: Path) -> SourceFile | ReadFailure:
    """A PATH that is a file. Its root is its folder, so that it is the same document as when that folder is indexed."""
    name = utf8_name(path.name)
    try:
        status = resolved.stat()
    except OSError as error:
        return ReadFailure(name, str(error.strerror))
    if not stat.S_ISREG(status.st_mode):
        return ReadFailure(name, "it is not a regular file")
    return SourceFile(path, name, utf8_name(str(path.absolute().parent.resolve())), status.st_size)


def is_ignored(path: Path, is_folder: bool, rules: Sequence[Ignore]) -> bool:
    """Whether the innermost ``.gitignore`` that says anything about ``path`` excludes it, as git decides."""
    for ignore in reversed(rules):
        relative = path.relative_to(ignore.folder).as_posix() + ("/" if is_folder else "")
        verdict = ignore.rules.check_file(utf8_name(relative)).include
        if verdict is not None:
            return verdict
    return False


def _rules_of(folder: Path) -> tuple[Ignore, ...]:
    from pathspec import GitIgnoreSpec

    try:
        lines = (folder / IGNORE_FILE).read_text("utf-8", "replace").splitlines()
    except OSError:
        return ()
    return (Ignore(folder, GitIgnoreSpec.from_lines(_valid_patterns(lines))),)


def _valid_patterns(lines: Sequence[str]) -> list[str]:
    """The lines that pathspec accepts: git passes over a pattern that it cannot read, pathspec raises."""
    from pathspec import GitIgnoreSpec

    valid = []
    for line in lines:
        try:
            GitIgnoreSpec.from_lines([line])
        except ValueError:
            continue
        valid.append(line)
    return valid


def _rules_above(root: Path) -> tuple[Ignore, ...]:
    """The rules of the folders from the repository's top to ``root``; none if they would leave ``root`` itself out."""
    if (root / ".git").exists():
        return ()
    folders = list(root.parents)
    top = next((position for position, folder in enumerate(folders) if (folder / ".git").exists()), None)
    if top is None:
        return ()
    rules: tuple[Ignore, ...] = ()
    for folder in reversed(folders[: top + 1]):
        rules = (*rules, *_rules_of(folder))
    inside = [root, *folders[:top]]
    return () if any(is_ignored(folder, True, _above(rules, folder)) for folder in inside) else rules


def _above(rules: tuple[Ignore, ...], folder: Path) -> tuple[Ignore, ...]:
    """The rules whose ``.gitignore`` stands above ``folder``."""
    return tuple(ignore for ignore in rules if ignore.folder in folder.parents)
