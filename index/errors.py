"""What can go wrong in an index, and what does the caller do about it?

SearchIndexError
├── InvalidIndexInput     an argument cannot be used: change it
│   ├── DimensionMismatch a vector has another width than the index
│   ├── UnknownLanguage   no analyser of this name
│   └── UnknownIndexKind  no dense index of this name
├── IndexBuildFailed      the library that builds the index refused: build another kind, or rebuild
└── CorruptIndexFile      a file of the segment is missing, damaged or of another version: rebuild the segment
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


class SearchIndexError(Exception):
    """The base of every error that an index raises on purpose."""


class InvalidIndexInput(SearchIndexError):
    """One argument has a value that cannot be used."""

    def __init__(self, field: str, problem: str) -> None:
        self.field = field
        self.problem = problem
        super().__init__(f"{field}: {problem}")


class DimensionMismatch(InvalidIndexInput):
    """A vector has another width than the index."""

    def __init__(self, expected: int, got: int) -> None:
        self.expected = expected
        self.got = got
        super().__init__("vector", f"it has {got} dimensions, the index has {expected}. Use the model that filled it.")


class UnknownLanguage(InvalidIndexInput):
    """The analyser knows no language of this name."""

    def __init__(self, language: str, known: Iterable[str]) -> None:
        self.language = language
        self.known = tuple(known)
        super().__init__("language", f"{language!r} is unknown. Use one of: {', '.join(self.known)}.")


class UnknownIndexKind(InvalidIndexInput):
    """The registry holds no dense index of this name."""

    def __init__(self, kind: str, known: Iterable[str]) -> None:
        self.kind = kind
        self.known = tuple(known)
        super().__init__("kind", f"{kind!r} is unknown. Use one of: {', '.join(self.known)}.")


class IndexBuildFailed(SearchIndexError):
    """The library behind an index kind refused to build it or to search it."""

    def __init__(self, kind: str, problem: str) -> None:
        self.kind = kind
        self.problem = problem
        super().__init__(f"The {kind} index failed: {problem}. Rebuild the segment, or use the flat index.")


class CorruptIndexFile(SearchIndexError):
    """A file of an index folder is missing, cannot be read, or was written by another version."""

    def __init__(self, path: Path, problem: str) -> None:
        self.path = path
        self.problem = problem
        super().__init__(f"{path}: {problem}. Rebuild the segment from the stored passages.")
