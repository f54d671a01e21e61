"""How is a DOCX read? Its paragraphs, tables, text boxes and notes; the title is its property, or the first heading.

python-docx opens the package; the text is collected from the XML tree itself, because ``paragraph.text`` leaves out
text boxes, content controls and tracked insertions.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from cli.readers.reader import ReadItem, SourceFile, UnreadableFile, whole_file

if TYPE_CHECKING:
    from docx.document import Document as WordDocument

MAX_UNPACKED_BYTES = 1 << 30
WORD = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
NOTES = ("footnotes", "endnotes")
BREAKS = {f"{WORD}tab": "\t", f"{WORD}br": "\n", f"{WORD}cr": "\n", f"{WORD}noBreakHyphen": "-"}


def read(file: SourceFile) -> Iterator[ReadItem]:
    """Yields the file as one document."""
    title, text = read_word(file)
    yield whole_file(file, text, title)


def read_word(file: SourceFile) -> tuple[str, str]:
    """Returns (title, text).

    Raises:
        UnreadableFile: the file is damaged, encrypted, not a DOCX, or unpacks to more than ``MAX_UNPACKED_BYTES``.
    """
    import docx

    try:
        with zipfile.ZipFile(file.path) as package:
            unpacked = sum(part.file_size for part in package.infolist())
        if unpacked > MAX_UNPACKED_BYTES:
            raise UnreadableFile(f"it unpacks to {unpacked:,} bytes; the limit is {MAX_UNPACKED_BYTES:,}")
        document = docx.Document(str(file.path))
        return _title(document), _text(document)
    except (UnreadableFile, OSError):
        raise
    except zipfile.BadZipFile as error:
        raise UnreadableFile("it is not a DOCX file, or damaged, or encrypted") from error
    except Exception as error:
        # python-docx and lxml raise KeyError, ValueError, XMLSyntaxError... on damaged packages.
        raise UnreadableFile(f"damaged DOCX ({type(error).__name__}: {error})") from error


def _text(document: WordDocument) -> str:
    parts = ["".join(_strings(document.element.body))]
    for relation in document.part.rels.values():
        if not relation.is_external and relation.reltype.rsplit("/", 1)[-1] in NOTES:
            parts.append("".join(_strings(_parsed(relation.target_part.blob))))
    lines = "\n".join(line.rstrip() for line in "\n".join(parts).split("\n"))
    while "\n\n\n" in lines:
        lines = lines.replace("\n\n\n", "\n\n")
    return lines.strip()


def _parsed(xml: bytes) -> Any:  # noqa: ANN401  lxml ships no types
    from docx.oxml import parse_xml

    return parse_xml(xml)


def _strings(root: Any) -> Iterator[str]:  # noqa: ANN401
    """The text of a tree in its order: a blank line after a paragraph, a line a table row, " | " between cells."""
    from lxml import etree

    fallback = table = 0
    for event, element in etree.iterwalk(root, events=("start", "end")):
        step = 1 if event == "start" else -1
        fallback += step * (element.tag == FALLBACK)  # holds the same text box once more, for old programs
        table += step * (element.tag == f"{WORD}tbl")
        if fallback:
            continue
        if step > 0:
            yield element.text or "" if element.tag == f"{WORD}t" else BREAKS.get(element.tag, "")
        elif element.tag == f"{WORD}p":
            yield "\n\n" if not table else " " if element.getnext() is not None else ""
        elif element.tag == f"{WORD}tc":
            yield " | " if element.getnext() is not None else ""
        elif element.tag in (f"{WORD}tr", f"{WORD}tbl"):
            yield "\n"


def _title(document: WordDocument) -> str:
    named = document.core_properties.title.strip()
    # python-docx and Word leave such placeholders in files that nobody gave a title.
    if named and named.lower() not in ("word document", "document"):
        return str(named)
    for paragraph in document.paragraphs:
        style = paragraph.style.name if paragraph.style is not None else ""
        if style in ("Title", "Heading 1") and paragraph.text.strip():
            return " ".join(paragraph.text.split())
    return ""
