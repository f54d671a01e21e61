"""How is a plain text file read? As it is, without a title."""

from __future__ import annotations

from collections.abc import Iterator

from cli.readers.decoding import read_text
from cli.readers.reader import ReadItem, SourceFile, whole_file


def read(file: SourceFile) -> Iterator[ReadItem]:
    """Yields the file as one document."""
    yield whole_file(file, read_text(file))
