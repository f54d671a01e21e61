"""What does a template say once its fields are filled, and which part of it is the text?"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_FIELD = re.compile(r"(\{\w+\})")


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a filled template: what it says, and which field it fills ("" for the template's own words)."""

    text: str
    field: str


def pieces(template: str, values: Mapping[str, str]) -> list[Piece]:
    """The non-empty pieces of a filled template; a ``{text}`` is a piece even when it is empty.

    Braces inside the values stay as they are, and so does a ``{name}`` that has no value.
    """
    found = []
    for part in _FIELD.split(template):
        name = part[1:-1] if part.startswith("{") else ""
        piece = Piece(values[name], name) if name in values else Piece(part, "")
        if piece.text or piece.field == "text":
            found.append(piece)
    return found


def fill(template: str, values: Mapping[str, str]) -> str:
    """A filled template as one string."""
    return "".join(piece.text for piece in pieces(template, values))


def quotable_sentence(text: str) -> str:
    """A text that may stand in double quotes as a sentence, by the rule of PromptEOL's reference implementation."""
    text = text.strip()
    if text and text[-1] not in ".?\"'":
        text += "."
    text = text.replace('"', "'")
    return text[:-1] + "." if text.endswith("?") else text
