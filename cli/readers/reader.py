"""What does a reader take, and what does it give back?

A reader is a function ``read(file) -> Iterator[ReadItem]``: it opens one file and yields its documents, its failures
and what it skipped, in file order, holding no more than it must. It raises ``UnreadableFile`` (or ``OSError``) when
nothing more of the file can be read; what it yielded before that stands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from engine.values import Document

ROOT_FIELD = "_root"
"""Metadata of every document from a file: the resolved folder that its path is relative to; ``--prune`` stays in it."""

FILE_FIELD = "_file"
"""Metadata of a document that is one row of a file: that file, relative to PATH. (A whole-file one has ``path``.)"""


class UnreadableFile(Exception):
    """The file's content cannot be read, or not any further; the message is the reason, for the user."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file to read.

    ``name`` is its path relative to PATH with forward slashes, always valid UTF-8; ``root`` is PATH, resolved (its
    folder, if PATH is a file).
    """

    path: Path
    name: str
    root: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class ReadDocument:
    """One document, and how many bytes of its file it stands for (for the progress bar)."""

    document: Document
    size_bytes: int


@dataclass(frozen=True, slots=True)
class ReadFailure:
    """A file, or one line of a file, that cannot be read: where ("notes/a.pdf", "rows.jsonl:12") and why."""

    where: str
    reason: str
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file that is not for indexing: "binary", "unknown type" or "empty"."""

    where: str
    reason: str
    size_bytes: int = 0


ReadItem = ReadDocument | ReadFailure | Skipped
Reader = Callable[[SourceFile], Iterator[ReadItem]]


def file_metadata(file: SourceFile) -> dict[str, str]:
    """The metadata of a whole-file document: ``path``, ``extension`` (lower case, with its dot) and the root marker."""
    return {"path": file.name, "extension": Path(file.name).suffix.lower(), ROOT_FIELD: file.root}


def whole_file(
    file: SourceFile,
    text: str,
    title: str = "",
    extra: dict[str, str | int] | None = None,
    boundaries: tuple[int, ...] = (),
) -> ReadItem:
    """One document of a whole file, or ``Skipped`` when it has no text at all."""
    if not text.strip():
        return Skipped(file.name, "empty", file.size_bytes)
    metadata = {**file_metadata(file), **(extra or {})}
    document = Document(doc_id=file.name, text=text, title=title, metadata=metadata, boundaries=boundaries)
    return ReadDocument(document, file.size_bytes)
