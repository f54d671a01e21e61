"""How is a PDF read? The text layer of every page, a blank line between pages; the title is the document's own.

A PDF whose pages are pictures has no text layer; it is reported, not indexed as nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING

from cli.readers.reader import ReadItem, SourceFile, UnreadableFile, whole_file

if TYPE_CHECKING:
    from pypdf import PdfReader


def read(file: SourceFile) -> Iterator[ReadItem]:
    """Yields the file as one document, with ``pages`` in its metadata."""
    title, pages = read_pages(file)
    text = "\n\n".join(page.strip() for page in pages if page.strip())
    if not text:
        raise UnreadableFile(f"none of its {len(pages)} pages has text (scanned? it would need OCR)")
    yield whole_file(file, text, title, {"pages": len(pages)})


def read_pages(file: SourceFile) -> tuple[str, list[str]]:
    """Returns (title, the text of every page).

    Raises:
        UnreadableFile: the file is encrypted, damaged, or not a PDF.
    """
    from pypdf import PdfReader
    from pypdf.errors import DependencyError, FileNotDecryptedError

    logging.getLogger("pypdf").setLevel(
        logging.CRITICAL
    )  # it logs a line for each oddity of a file; we report or read on
    number = 0
    try:
        with file.path.open("rb") as stream:
            reader = PdfReader(stream)
            if reader.is_encrypted and not reader.decrypt(""):
                raise UnreadableFile("it is encrypted with a password")
            pages = []
            for number, page in enumerate(reader.pages, start=1):  # noqa: B007  names the page that fails
                pages.append(page.extract_text())
            return _title(reader), pages
    except (UnreadableFile, OSError):
        raise
    except (FileNotDecryptedError, DependencyError) as error:
        raise UnreadableFile("it is encrypted") from error
    except Exception as error:
        # pypdf raises KeyError, AttributeError, RecursionError, zlib.error... on damaged files, beside its own errors.
        where = f" on page {number}" if number else ""
        raise UnreadableFile(f"damaged PDF{where} ({type(error).__name__}: {error})") from error


def _title(reader: PdfReader) -> str:
    title = reader.metadata.title if reader.metadata else None
    return " ".join(str(title).split()) if title else ""
