"""How is HTML read? Its visible text, a blank line between paragraphs; the title is ``<title>`` or the first ``<h1>``.

Parsed by libxml2 (lxml), which repairs what browsers repair. A page nested deeper than libxml2 goes is refused, not
cut.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from cli.readers.decoding import BYTE_ORDER_MARKS, decode_text
from cli.readers.reader import ReadItem, SourceFile, UnreadableFile, whole_file

UNSEEN = frozenset(("script", "style", "noscript", "template", "head", "svg", "math", "iframe", "object", "datalist"))
PARAGRAPH_TAGS = (
    "address article aside blockquote body details dl fieldset figure footer form h1 h2 h3 h4 h5 h6 header hr main nav "
    "ol p pre section table ul"
)
LINE_TAGS = "br caption center dd div dt figcaption legend li option summary tbody tfoot thead title tr"
PARAGRAPHS = frozenset(PARAGRAPH_TAGS.split())
LINES = frozenset(LINE_TAGS.split())
CELLS = frozenset(("td", "th"))
DECLARED = re.compile(rb"<meta[^>]+charset\s*=\s*[\"']?\s*([\w.:-]+)", re.IGNORECASE)
DECLARED_WITHIN = 4096
BREAK = "\x1d"
PARAGRAPH = "\x1e"


def read(file: SourceFile) -> Iterator[ReadItem]:
    """Yields the page as one document."""
    title, text = page_text(decode_page(file.path.read_bytes()))
    yield whole_file(file, text, title)


def decode_page(data: bytes) -> str:
    """Decodes a page: UTF-8 if it is, then the encoding that it declares, then by statistics."""
    if any(data.startswith(mark) for mark, _ in BYTE_ORDER_MARKS):
        return decode_text(data)
    declared = DECLARED.search(data[:DECLARED_WITHIN])
    for encoding in ("utf-8", declared.group(1).decode("ascii") if declared else None):
        try:
            if encoding is not None:
                return data.decode(encoding)
        except (UnicodeDecodeError, LookupError):
            continue
    return decode_text(data)


def page_text(page: str) -> tuple[str, str]:
    """Returns (title, visible text) of a page.

    Raises:
        UnreadableFile: the page is nested too deep for the parser.
    """
    from lxml import etree, html

    parser = html.HTMLParser(encoding="utf-8", remove_comments=True, remove_pis=True, huge_tree=True)
    try:
        root = etree.fromstring(page.replace("\0", "").encode("utf-8", "replace"), parser)
    except etree.XMLSyntaxError as error:
        raise UnreadableFile(f"the HTML cannot be parsed: {error}") from error
    if any("depth" in entry.message.lower() for entry in parser.error_log):
        raise UnreadableFile("its elements are nested too deep")
    if root is None:
        return "", ""
    heading = next((words for tag in ("title", "h1") for words in _texts_of(root, tag)), "")
    return heading, _lay_out("".join(_visible(root)))


def _texts_of(root: Any, tag: str) -> Iterator[str]:  # noqa: ANN401  lxml ships no types
    for element in root.iter(tag):
        words = " ".join("".join(element.itertext()).split())
        if words:
            yield words


def _visible(root: Any) -> Iterator[str]:  # noqa: ANN401
    """The visible strings in document order, with marks where a block begins or ends."""
    from lxml import etree

    unseen = preformatted = 0
    for event, element in etree.iterwalk(root, events=("start", "end")):
        opening = event == "start"
        step = 1 if opening else -1
        hides = element.tag in UNSEEN or element.get("hidden") is not None or element.get("aria-hidden") == "true"
        if hides and opening:
            unseen += 1
        if not unseen:
            yield _edge(element.tag, opening)
        preformatted += step * (element.tag == "pre")
        if hides and not opening:
            unseen -= 1
        words = element.text if opening else element.tail
        if words and not unseen:
            yield words.replace("\n", BREAK) if preformatted else " ".join(re.split(r"[ \t\r\n\f]+", words))


def _edge(tag: str, opening: bool) -> str:
    if tag in PARAGRAPHS:
        return PARAGRAPH
    if tag in LINES:
        return BREAK if opening or tag != "br" else ""
    return " " if tag in CELLS else ""


def _lay_out(marked: str) -> str:
    paragraphs = []
    for paragraph in marked.split(PARAGRAPH):
        lines = (re.sub(r" {2,}", " ", line).strip() for line in paragraph.split(BREAK))
        kept = "\n".join(line for line in lines if line)
        if kept:
            paragraphs.append(kept)
    return "\n\n".join(paragraphs)
