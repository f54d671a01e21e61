"""How is a JSON file read?

A list of objects with ``title`` or ``text`` is one document an object; an object with ``text`` is one document; any
other JSON (settings, say) is one document of the file's text.
"""

from __future__ import annotations

from collections.abc import Iterator

from cli.readers.decoding import read_text
from cli.readers.reader import ReadDocument, ReadFailure, ReadItem, SourceFile, UnreadableFile, whole_file
from cli.readers.rows import MalformedRow, document_from_row, parse_json


def read(file: SourceFile) -> Iterator[ReadItem]:
    """Yields the file's documents.

    Raises:
        UnreadableFile: the file is not JSON.
    """
    text = read_text(file)
    if not text.strip():
        yield whole_file(file, text)
        return
    try:
        value = parse_json(text)
    except MalformedRow as error:
        raise UnreadableFile(str(error)) from error
    if _holds_documents(value):
        yield from _read_rows(value, file)
    elif isinstance(value, dict) and isinstance(value.get("text"), str):
        try:
            yield ReadDocument(document_from_row(value, file, file.name), file.size_bytes)
        except MalformedRow as error:
            yield ReadFailure(file.name, str(error), file.size_bytes)
    else:
        yield whole_file(file, text)


def _holds_documents(value: object) -> bool:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        return False
    return any(isinstance(item.get(name), str) for item in value for name in ("text", "title"))


def _read_rows(rows: object, file: SourceFile) -> Iterator[ReadItem]:
    assert isinstance(rows, list)
    share = file.size_bytes // max(1, len(rows))
    for number, row in enumerate(rows, start=1):
        try:
            yield ReadDocument(document_from_row(row, file, f"{file.name}#{number}"), share)
        except MalformedRow as error:
            yield ReadFailure(f"{file.name}#{number}", str(error), share)
