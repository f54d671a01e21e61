"""How is reStructuredText read? The text stays as it is; the title is the first underlined line.

The text is not run through docutils: that would read files that ``include`` names, and drop what Sphinx's directives
hold.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from cli.readers.decoding import read_text
from cli.readers.reader import ReadItem, SourceFile, whole_file

TITLE_WITHIN = 20_000
ADORNMENT = re.compile(r"([!-/:-@\[-`{-~])\1+\s*")
ROLE = re.compile(r":[\w:.+-]+:`([^`]*)`|``([^`]*)``|`([^`]*)`_?_?")


def read(file: SourceFile) -> Iterator[ReadItem]:
    """Yields the file as one document."""
    text = read_text(file)
    yield whole_file(file, text, section_title(text))


def section_title(text: str) -> str:
    """The first section title of a reStructuredText, "" if it has none.

    A title is a line that does not begin with white space (unless it is overlined), followed by a line of one repeated
    punctuation character at least as long (docutils, "Sections").
    """
    lines = text[:TITLE_WITHIN].split("\n")
    for number, line in enumerate(lines[:-1]):
        title = line.strip()
        if not title or ADORNMENT.fullmatch(title) or not ADORNMENT.fullmatch(lines[number + 1]):
            continue
        overlined = number > 0 and lines[number - 1].rstrip() == lines[number + 1].rstrip()
        opens = overlined or number == 0 or not lines[number - 1].strip()
        flush = overlined or not line[0].isspace()
        if opens and flush and len(lines[number + 1].rstrip()) >= len(title):
            return ROLE.sub(lambda match: match.group(1) or match.group(2) or match.group(3) or "", title)
    return ""
