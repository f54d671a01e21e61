"""How is Markdown read? The text stays as it is; the title is the front matter's, or the first heading's words."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

from cli.readers.decoding import read_text
from cli.readers.reader import ReadItem, SourceFile, whole_file

TITLE_WITHIN = 20_000  # characters; a title stands near the beginning, and parsing a whole book for it is wasted
FRONT_MATTER = re.compile(r"\A---[ \t]*\n(.*?)\n(?:---|\.\.\.)[ \t]*\n", re.DOTALL)
FRONT_TITLE = re.compile(r"^title[ \t]*:[ \t]*(.+?)[ \t]*$", re.MULTILINE | re.IGNORECASE)


def read(file: SourceFile) -> Iterator[ReadItem]:
    """Yields the file as one document."""
    text = read_text(file)
    yield whole_file(file, text, markdown_title(text))


def markdown_title(text: str) -> str:
    """The title of a Markdown text, "" if it has none."""
    head = text[:TITLE_WITHIN]
    front = FRONT_MATTER.match(head)
    if front:
        named = FRONT_TITLE.search(front.group(1))
        if named:
            return named.group(1).strip("\"'")
        head = head[front.end() :]
    return _first_heading(head)


def _first_heading(text: str) -> str:
    from markdown_it import MarkdownIt

    tokens = MarkdownIt("commonmark").parse(text)
    for opening, content in itertools.pairwise(tokens):
        if opening.type == "heading_open":
            words = "".join(
                " " if child.type in ("softbreak", "hardbreak") else child.content
                for child in content.children or ()
                if child.type != "html_inline"
            )
            if words.strip():
                return " ".join(words.split())
    return ""
