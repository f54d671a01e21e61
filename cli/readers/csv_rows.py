"""How is CSV read? One document a row, streamed; its id is ``path#n``, n from 1 without the header.

Columns called ``title`` and ``text`` are what is searched and the others are metadata; without a ``text`` column, the
text is "column: value" lines of the whole row. Cells that are numbers become numbers in the metadata, so that filters
compare them as such.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence

from cli.readers.decoding import SAMPLE_BYTES, detect_encoding
from cli.readers.reader import FILE_FIELD, ROOT_FIELD, ReadDocument, ReadItem, SourceFile, UnreadableFile
from engine.values import Document, Scalar

DELIMITERS = ",;\t|"
MAX_CELL_CHARS = 16 << 20
MAX_METADATA_CHARS = 1000
"""A longer cell is prose: it is in the text, and not in the metadata as well."""

INTEGER = re.compile(r"-?(?:0|[1-9]\d{0,17})")  # "007" is a code, not a number; 18 digits fit in 64 bits
DECIMAL = re.compile(r"-?(?:0|[1-9]\d*)\.\d+(?:[eE][+-]?\d+)?")


def read(file: SourceFile) -> Iterator[ReadItem]:
    """Yields one document a row; empty rows are passed over.

    Raises:
        UnreadableFile: the encoding is unknown, or a cell is longer than ``MAX_CELL_CHARS`` (a quote that was never
            closed).
    """
    with file.path.open("rb") as stream:
        sample = stream.read(SAMPLE_BYTES)
    encoding = detect_encoding(sample[: sample.rfind(b"\n") + 1] or sample)
    csv.field_size_limit(MAX_CELL_CHARS)
    number = 0
    with file.path.open(encoding=encoding, newline="") as text:
        first = text.readline()
        text.seek(0)
        rows = csv.reader(text, delimiter="\t" if file.name.lower().endswith(".tsv") else find_delimiter(first))
        try:
            columns: Sequence[str] = ()
            for row in rows:
                if not columns:
                    columns, is_header = name_columns(row)
                    if is_header:
                        continue
                number += 1
                if any(cell.strip() for cell in row):
                    document = row_document(file, number, columns, row)
                    yield ReadDocument(document, sum(len(cell.encode("utf-8", "replace")) + 1 for cell in row))
        except (csv.Error, UnicodeDecodeError) as error:
            raise UnreadableFile(f"after row {number}: {error}; the rows after it were not read") from error


def find_delimiter(line: str) -> str:
    """The delimiter that a header line uses most outside quotes; a comma if it uses none."""
    bare = re.sub(r'"[^"]*"', "", line)
    return max(DELIMITERS, key=bare.count)


def name_columns(row: Sequence[str]) -> tuple[list[str], bool]:
    """Returns (a unique name for every column, whether ``row`` is a header); a row with a number in it is not."""
    is_header = not any(isinstance(cell_value(cell.strip()), int | float) for cell in row)
    names: list[str] = []
    for position, cell in enumerate(row, start=1):
        name = (cell.strip() if is_header else "") or f"column{position}"
        names.append(name if name not in names else f"{name}_{position}")
    return names, is_header


def row_document(file: SourceFile, number: int, columns: Sequence[str], row: Sequence[str]) -> Document:
    """One row as a document. Cells beyond the header's are named by their position."""
    cells: dict[str, str] = {}
    for position, cell in enumerate(row):
        name = columns[position] if position < len(columns) else f"column{position + 1}"
        if cell.strip():
            cells[name] = cell.strip()
    by_name = {name.lower(): name for name in reversed(cells)}
    title = cells.pop(by_name.get("title", ""), "")
    text = cells.pop(by_name.get("text", ""), "")
    if not any(name.lower() == "text" for name in columns):
        text = "\n".join(f"{name}: {value}" for name, value in cells.items())
    metadata: dict[str, Scalar] = {
        name: cell_value(value) for name, value in cells.items() if len(value) <= MAX_METADATA_CHARS
    }
    metadata |= {ROOT_FIELD: file.root, FILE_FIELD: file.name}
    return Document(doc_id=f"{file.name}#{number}", title=title, text=text, metadata=metadata)


def cell_value(cell: str) -> Scalar:
    """A cell as an integer or a decimal number when it is written as one, else as it stands."""
    if INTEGER.fullmatch(cell):
        return int(cell)
    if DECIMAL.fullmatch(cell):
        return float(cell)
    return cell
