"""How is something printed?

Answers go to stdout, everything else (progress, warnings) to stderr; a terminal gets colour and its own width, a pipe
plain text.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import Console

PIPE_WIDTH = 100


def print_json(value: object) -> None:
    """Prints one JSON value on stdout."""
    click.echo(json.dumps(value, ensure_ascii=False, default=_plain))


def stdout_console() -> Console:
    """The console for answers."""
    return _console(stderr=False)


def stderr_console() -> Console:
    """The console for progress and remarks."""
    return _console(stderr=True)


def plain_fields(value: object) -> dict[str, object]:
    """A dataclass of ``engine.values`` as a JSON object."""
    assert dataclasses.is_dataclass(value)
    assert not isinstance(value, type)
    return dataclasses.asdict(value)


def printable(text: str) -> str:
    """A line of foreign text without control characters: a file's name or text must not steer the terminal."""
    return "".join(character if character.isprintable() or character in "\n\t" else "�" for character in text)


def _console(*, stderr: bool) -> Console:
    from rich.console import Console

    console = Console(stderr=stderr, highlight=False, soft_wrap=False)
    if not console.is_terminal:
        return Console(stderr=stderr, highlight=False, width=PIPE_WIDTH, no_color=True)
    return console


def _plain(value: object) -> object:
    """What the json module does not know: dataclasses, mappings, sequences, numpy scalars."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence):
        return list(value)
    item = getattr(value, "item", None)  # a numpy scalar, in a plan say
    if callable(item):
        return item()
    return str(value)
