"""Which reader opens which file, and what happens around every reader?

By name: extension, or whole name for files that have none (README, Makefile). A new format is one module and one line
here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import PurePosixPath

from cli.readers import source_code
from cli.readers.decoding import SNIFF_BYTES, is_binary
from cli.readers.reader import Reader, ReadFailure, ReadItem, Skipped, SourceFile, UnreadableFile

PLAIN_EXTENSIONS = (
    ".txt .text .log .tex .bib .org .adoc .asciidoc .textile .wiki .yaml .yml .toml .ini .cfg .conf .properties .xml "
    ".srt .vtt .po .eml .diff .patch"
)
PLAIN_NAMES = (
    "readme license licence notice changelog changes authors contributors contributing copying install todo news "
    "history codeowners maintainers"
)
MODULES: Mapping[str, str] = {
    **dict.fromkeys(PLAIN_EXTENSIONS.split(), "plain_text"),
    **dict.fromkeys(source_code.LANGUAGE_OF, "source_code"),
    **dict.fromkeys((".md", ".markdown", ".mdx", ".mdown"), "markdown"),
    **dict.fromkeys((".rst", ".rest"), "restructured_text"),
    **dict.fromkeys((".html", ".htm", ".xhtml"), "html_page"),
    **dict.fromkeys((".jsonl", ".ndjson"), "jsonl_rows"),
    **dict.fromkeys((".csv", ".tsv"), "csv_rows"),
    ".json": "json_document",
    ".pdf": "pdf_pages",
    ".docx": "word_document",
}
BINARY_FORMATS = frozenset(("pdf_pages", "word_document"))
STREAMED_FORMATS = frozenset(("jsonl_rows", "csv_rows"))


def reader_name(name: str) -> str | None:
    """The module in ``cli.readers`` that reads a file of this name; None: the type is unknown."""
    path = PurePosixPath(name)
    base = path.name.lower()
    if base in source_code.FILE_NAMES:
        return "source_code"
    if base in PLAIN_NAMES.split():
        return "plain_text"
    return MODULES.get(path.suffix.lower())


def read_file(file: SourceFile, *, max_bytes: int, named: bool = False) -> Iterator[ReadItem]:
    """Reads one file: its documents, its failures and what was skipped. Nothing is raised for a bad file.

    Args:
        file: the file.
        max_bytes: refuse a larger file, unless its format is read row by row.
        named: the user named this very file, so an unknown type is read as plain text.
    """
    module = reader_name(file.name) or ("plain_text" if named else None)
    if module is not None and module not in STREAMED_FORMATS and file.size_bytes > max_bytes:
        limit = f"{max_bytes / 1e6:g} MB; raise it with --max-file-mb"
        yield ReadFailure(
            file.name, f"too large: {file.size_bytes / 1e6:.1f} MB, the limit is {limit}", file.size_bytes
        )
        return
    try:
        if module not in BINARY_FORMATS and _looks_binary(file):
            yield Skipped(file.name, "binary", file.size_bytes)
            return
        if module is None:
            yield Skipped(file.name, "unknown type", file.size_bytes)
            return
        reader: Reader = import_module(f"cli.readers.{module}").read
        yield from reader(file)
    except UnreadableFile as error:
        yield ReadFailure(file.name, str(error), file.size_bytes)
    except OSError as error:
        yield ReadFailure(file.name, error.strerror or type(error).__name__, file.size_bytes)


def _looks_binary(file: SourceFile) -> bool:
    with file.path.open("rb") as stream:
        return is_binary(stream.read(SNIFF_BYTES))
