"""How is JSON Lines read? One document a line, streamed; a malformed line is reported, and the rest goes on."""

from __future__ import annotations

from collections.abc import Iterator

from cli.readers.decoding import BYTE_ORDER_MARKS
from cli.readers.reader import ReadDocument, ReadFailure, ReadItem, SourceFile, UnreadableFile
from cli.readers.rows import MalformedRow, document_from_row, parse_json

MAX_LINE_BYTES = 64 << 20
UTF8_MARK = b"\xef\xbb\xbf"


def read(file: SourceFile) -> Iterator[ReadItem]:
    """Yields a document or a failure a line; blank lines are passed over.

    Raises:
        UnreadableFile: the file is not UTF-8, or a line is longer than ``MAX_LINE_BYTES``.
    """
    with file.path.open("rb") as stream:
        for number, line in enumerate(iter(lambda: stream.readline(MAX_LINE_BYTES + 1), b""), start=1):
            if len(line) > MAX_LINE_BYTES:
                raise UnreadableFile(
                    f"line {number} is longer than {MAX_LINE_BYTES:,} bytes; the lines after it were not read"
                )
            yield from _read_line(file, number, line)


def _read_line(file: SourceFile, number: int, line: bytes) -> Iterator[ReadItem]:
    content = line
    if number == 1:
        if any(line.startswith(mark) and encoding != "utf-8-sig" for mark, encoding in BYTE_ORDER_MARKS):
            raise UnreadableFile("JSON Lines must be UTF-8; this is UTF-16 or UTF-32")
        content = line.removeprefix(UTF8_MARK)
    content = content.strip()
    if not content:
        return
    try:
        document = document_from_row(parse_json(content), file, f"{file.name}#{number}")
    except MalformedRow as error:
        yield ReadFailure(f"{file.name}:{number}", str(error), len(line))
    else:
        yield ReadDocument(document, len(line))
