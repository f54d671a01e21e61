"""What do ``engine get`` and ``engine delete`` do?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from cli.commands.querying import parse_params
from cli.failures import FAILED
from cli.settings import common_options, current_settings

if TYPE_CHECKING:
    from rich.console import Console

    from engine.api import CollectionApi
    from engine.values import Document

    Params = dict[str, str | int | float | bool | list[str | int | float | bool]]

MAX_PAGE = 1000

GET_EXAMPLES = """\b
Examples:
  engine get docs/intro.md
  engine get --filter 'extension == ".pdf"' --limit 5
  engine get doc1 doc2 --json
"""
DELETE_EXAMPLES = """\b
Examples:
  engine delete docs/old.md docs/older.md
  engine delete --filter 'year < $y' --param y=2000
"""


@click.command("get", short_help="Print documents by id or filter.", epilog=GET_EXAMPLES)
@click.argument("doc_ids", metavar="[ID]...", nargs=-1)
@click.option(
    "--filter", "expression", metavar="EXPR", help="Documents whose metadata match, in the order of their ids."
)
@click.option("--param", "params", metavar="NAME=VALUE", multiple=True, help="A value for $NAME in the filter.")
@click.option(
    "--limit", "-n", type=click.IntRange(1, MAX_PAGE), default=10, show_default=True, help="At most, by filter."
)
@click.option("--after", metavar="ID", help="Begin after this id: the last one of the page before.")
@common_options
def get_command(
    doc_ids: tuple[str, ...], expression: str | None, params: tuple[str, ...], limit: int, after: str | None
) -> None:
    """Print documents as they are stored: by id, by filter, or the first of the collection.

    With --json, a list of documents, null for an id that is not there.
    """
    from cli.output import plain_fields, print_json, stdout_console
    from cli.session import find_collection, open_session

    settings = current_settings()
    if doc_ids and expression:
        raise click.UsageError("Give ids or --filter, not both.")
    with open_session(settings) as engine:
        collection = find_collection(engine, settings)
        found: Sequence[Document | None]
        if doc_ids:
            found = collection.get(doc_ids)
        else:
            found = collection.scroll(
                filter=expression, params=parse_params(params), limit=limit, after=after
            ).documents
    if settings.json:
        print_json([None if document is None else _fields(plain_fields(document)) for document in found])
    else:
        console = stdout_console()
        for document in found:
            if document is not None:
                _print_document(console, document)
    missing = [doc_id for doc_id, document in zip(doc_ids, found, strict=False) if document is None]
    if missing:
        click.echo(f"Not in collection {settings.collection!r}: {', '.join(missing)}", err=True)
        raise click.exceptions.Exit(FAILED)


def _fields(fields: dict[str, object]) -> dict[str, object]:
    """A document's fields, its vectors only where it has its own."""
    return {name: value for name, value in fields.items() if name not in ("vector", "sparse") or value is not None}


def _print_document(console: Console, document: Document) -> None:
    from rich.text import Text

    from cli.output import printable

    console.print(Text(printable(document.doc_id), style="bold cyan"))
    if document.title:
        console.print(Text(printable(document.title), style="bold"))
    for name, value in document.metadata.items():
        console.print(Text(printable(f"{name}: {value}"), style="dim"))
    console.print()
    console.print(Text(printable(document.text)))
    console.print()


@click.command("delete", short_help="Delete documents by id or filter.", epilog=DELETE_EXAMPLES)
@click.argument("doc_ids", metavar="[ID]...", nargs=-1)
@click.option("--filter", "expression", metavar="EXPR", help="Delete the documents whose metadata match.")
@click.option("--param", "params", metavar="NAME=VALUE", multiple=True, help="A value for $NAME in the filter.")
@common_options
def delete_command(doc_ids: tuple[str, ...], expression: str | None, params: tuple[str, ...]) -> None:
    """Delete documents by id or by filter, and print how many there were.

    `engine collections drop` deletes all of them.
    """
    from cli.output import print_json
    from cli.session import find_collection, open_session

    settings = current_settings()
    if bool(doc_ids) == bool(expression):
        raise click.UsageError("Give ids or --filter, one of the two.")
    with open_session(settings) as engine:
        deleted = _delete(find_collection(engine, settings), doc_ids, expression, parse_params(params))
    if settings.json:
        print_json({"deleted": deleted})
    else:
        click.echo(f"Deleted {deleted:,} {'document' if deleted == 1 else 'documents'}.")


def _delete(collection: CollectionApi, doc_ids: Sequence[str], expression: str | None, params: Params) -> int:
    if expression:
        return collection.delete(filter=expression, params=params)
    return collection.delete(doc_ids)
