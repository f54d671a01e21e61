"""What does ``engine embed`` do?"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.settings import Settings, common_options, current_settings

if TYPE_CHECKING:
    from rich.table import Table

    from engine.values import Embedding

SHOWN_VALUES = 4
SHOWN_TERMS = 6

EXAMPLES = """\b
Examples:
  engine embed "what is a landmark" --query
  engine embed "first text" "second text" --json
  cat lines.txt | engine embed --json
"""


@click.command("embed", short_help="Print the vectors of texts.", epilog=EXAMPLES)
@click.argument("texts", metavar="[TEXT]...", nargs=-1)
@click.option("--query", "as_query", is_flag=True, help="Embed as questions, not as documents.")
@click.option("--task", metavar="NAME", help="A task or an instruction that the model knows.")
@click.option("--landmarks", is_flag=True, help="Add the vector and the characters of each passage to the JSON.")
@common_options
def embed_command(texts: tuple[str, ...], as_query: bool, task: str | None, landmarks: bool) -> None:
    """Print the dense and sparse vectors of texts; without TEXT, of each line of standard input."""
    from cli.output import print_json, stdout_console
    from cli.session import open_session

    settings = current_settings()
    given = list(texts) or [line for line in sys.stdin.read().splitlines() if line.strip()]
    if not given:
        raise click.UsageError("There is nothing to embed: give texts as arguments, or lines on standard input.")
    with _data_folder(settings) as folder, open_session(replace(settings, data=folder)) as engine:
        embeddings = engine.embed(given, task=task, query=as_query)
    if settings.json:
        print_json([embedding_json(embedding, landmarks) for embedding in embeddings])
    else:
        stdout_console().print(_table(given, embeddings))


@contextmanager
def _data_folder(settings: Settings) -> Iterator[Path]:
    """The data folder, whose collection names the model; a temporary one if there is none, since nothing is kept."""
    if settings.server or settings.data.is_dir():
        yield settings.data
        return
    with tempfile.TemporaryDirectory(prefix="landmark-embed-") as folder:
        yield Path(folder)


def embedding_json(embedding: Embedding, landmarks: bool) -> dict[str, object]:
    """The JSON form of one embedding."""
    value: dict[str, object] = {
        "dense": [float(number) for number in embedding.dense],
        "sparse": None if embedding.sparse is None else dict(embedding.sparse),
        "tokens": embedding.tokens,
    }
    if landmarks:
        value["landmarks"] = [
            {"start": start, "end": end, "dense": [float(number) for number in dense]}
            for start, end, dense in embedding.landmarks
        ]
    return value


def _table(texts: Sequence[str], embeddings: Sequence[Embedding]) -> Table:
    from rich.table import Table
    from rich.text import Text

    from cli.output import printable

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("text", "tokens", "passages", "dim", "dense", "sparse"):
        table.add_column(name, justify="right" if name in ("tokens", "passages", "dim") else "left")
    for text, embedding in zip(texts, embeddings, strict=True):
        values = " ".join(f"{value:+.3f}" for value in embedding.dense[:SHOWN_VALUES])
        terms = sorted((embedding.sparse or {}).items(), key=lambda item: -item[1])[:SHOWN_TERMS]
        sparse = "none" if embedding.sparse is None else ", ".join(f"{term} {weight:.2f}" for term, weight in terms)
        shown = Text(printable(text), no_wrap=True)
        shown.truncate(40, overflow="ellipsis")
        passages, dim = str(len(embedding.landmarks)), str(len(embedding.dense))
        table.add_row(shown, str(embedding.tokens), passages, dim, f"{values} …", Text(printable(sparse)))
    return table
