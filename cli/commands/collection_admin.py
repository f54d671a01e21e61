"""What does ``engine collections`` do?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from cli.commands.querying import parse_weights
from cli.settings import common_options, current_settings

if TYPE_CHECKING:
    from rich.table import Table

    from engine.values import CollectionInfo, CollectionStats

EXAMPLES = """\b
Examples:
  engine collections
  engine collections create papers --language german
  engine collections create own-vectors --dim 768
  engine collections stats papers --json
  engine collections drop papers
"""
CREATE_EXAMPLES = """\b
Examples:
  engine collections create papers
  engine collections create artikel --language german --weights dense=0.6,bm25=0.4
  engine collections create own-vectors --dim 768
"""
NAME_EXAMPLES = """\b
Example:
  engine collections {} papers
"""
# The largest ones for which the analyser has a stemmer are named; the engine refuses others with the whole list.
LANGUAGES = "english, german, french, spanish, ... or none"


@click.group(
    "collections",
    short_help="List, create, describe and drop collections.",
    invoke_without_command=True,
    epilog=EXAMPLES,
)
@common_options
@click.pass_context
def collections_group(context: click.Context) -> None:
    """List the collections of the data folder, or work on one of them."""
    if context.invoked_subcommand is None:
        _list()


@collections_group.command(
    "list", short_help="List the collections.", epilog=NAME_EXAMPLES.format("list").replace(" papers", "")
)
@common_options
def list_command() -> None:
    """List the collections with what they hold."""
    _list()


@collections_group.command("create", short_help="Create a collection.", epilog=CREATE_EXAMPLES)
@click.argument("name")
@click.option(
    "--dim", type=click.IntRange(1, 16_384), help="Width of your own vectors; without it, the model makes them."
)
@click.option(
    "--sparse/--no-sparse", default=None, help="Keep learned sparse vectors.  [default: if the model has them]"
)
@click.option("--multi", is_flag=True, help="Keep token vectors, which rank what the other legs find.")
@click.option("--multi-dim", type=click.IntRange(1, 16_384), help="Width of your own token vectors, without a model.")
@click.option("--language", default="english", show_default=True, help=f"For stemming: {LANGUAGES}.")
@click.option(
    "--dense-kind", type=click.Choice(("auto", "flat", "hnsw", "faiss", "gpu")), default="auto", show_default=True
)
@click.option(
    "--task", metavar="TASK", help="What queries ask for unless they say otherwise: a name, or an instruction."
)
@click.option("--weights", metavar="LEG=W,...", help="Default weights of the legs, as dense=0.6,bm25=0.4.")
@common_options
def create_command(
    name: str,
    dim: int | None,
    sparse: bool | None,
    multi: bool,
    multi_dim: int | None,
    language: str,
    dense_kind: str,
    task: str | None,
    weights: str | None,
) -> None:
    """Create an empty collection. What is chosen here holds for its life; `engine index` takes the defaults."""
    from cli.output import plain_fields, print_json, stdout_console
    from cli.session import open_session

    settings = current_settings()
    with open_session(settings, create=True) as engine:
        info = engine.create_collection(
            name,
            dim=dim,
            sparse=sparse,
            multi=multi,
            multi_dim=multi_dim,
            language=language,
            dense_kind=dense_kind,
            task=task,
            weights=parse_weights(weights),
        ).info()
    if settings.json:
        print_json(plain_fields(info))
    else:
        stdout_console().print(_list_table([info]))


@collections_group.command("info", short_help="Describe a collection.", epilog=NAME_EXAMPLES.format("info"))
@click.argument("name", required=False)
@common_options
def info_command(name: str | None) -> None:
    """Print what a collection was created with and what it holds."""
    from cli.output import plain_fields, print_json, stdout_console

    settings = current_settings()
    info = _stats(name).info
    if settings.json:
        print_json(plain_fields(info))
    else:
        stdout_console().print(_info_table(info))


@collections_group.command("stats", short_help="Describe a collection's storage.", epilog=NAME_EXAMPLES.format("stats"))
@click.argument("name", required=False)
@common_options
def stats_command(name: str | None) -> None:
    """Print the segments, the size on disk and the token coverage of a collection."""
    from cli.output import plain_fields, print_json, stdout_console

    settings = current_settings()
    stats = _stats(name)
    if settings.json:
        print_json(plain_fields(stats))
    else:
        console = stdout_console()
        console.print(_info_table(stats.info))
        console.print()
        console.print(_segments_table(stats))


@collections_group.command("drop", short_help="Delete a collection.", epilog=NAME_EXAMPLES.format("drop"))
@click.argument("name")
@common_options
def drop_command(name: str) -> None:
    """Delete a collection with all its documents. It is not asked twice."""
    from cli.output import print_json
    from cli.session import open_session

    settings = current_settings()
    with open_session(settings) as engine:
        engine.drop_collection(name)
    if settings.json:
        print_json({"dropped": name})
    else:
        click.echo(f"Dropped {name}.")


def _list() -> None:
    from cli.output import plain_fields, print_json, stdout_console
    from cli.session import open_session

    settings = current_settings()
    if not settings.server and not settings.data.is_dir():
        infos: list[CollectionInfo] = []
    else:
        with open_session(settings) as engine:
            infos = engine.list_collections()
    if settings.json:
        print_json([plain_fields(info) for info in infos])
    elif infos:
        stdout_console().print(_list_table(infos))
    else:
        click.echo("There are no collections yet. Run `engine index PATH` first.")


def _stats(name: str | None) -> CollectionStats:
    from dataclasses import replace

    from cli.session import find_collection, open_session

    settings = current_settings()
    with open_session(settings) as engine:
        return find_collection(engine, replace(settings, collection=name or settings.collection)).stats()


def _list_table(infos: Sequence[CollectionInfo]) -> Table:
    from rich.table import Table

    table = Table(box=None, padding=(0, 3, 0, 0), header_style="dim")
    for column in ("collection", "documents", "passages", "legs", "dim", "model"):
        table.add_column(column, justify="right" if column in ("documents", "passages", "dim") else "left")
    for info in infos:
        legs = ", ".join(info.legs)
        counts = (f"{info.documents:,}", f"{info.passages:,}")
        table.add_row(info.name, *counts, legs, f"{info.dim}", info.model or "none (own vectors)")
    return table


def _info_table(info: CollectionInfo) -> Table:
    from rich.table import Table

    from cli.output import plain_fields

    table = Table(box=None, show_header=False, padding=(0, 3, 0, 0))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for name, value in plain_fields(info).items():
        table.add_row(name.replace("_", " "), _shown(value))
    return table


def _segments_table(stats: CollectionStats) -> Table:
    from rich.table import Table

    tokens = stats.tokens
    coverage = f"tokens: {tokens.read:,} read, {tokens.embedded:,} embedded, {tokens.dropped:,} dropped"
    multi_bytes = sum(segment.multi_bytes for segment in stats.segments)
    multi = f"token vectors {multi_bytes / 1e6:,.1f} MB; " if stats.info.multi_dim else ""
    caption = f"store {stats.store_bytes / 1e6:,.1f} MB; {multi}{coverage}"
    table = Table(box=None, padding=(0, 3, 0, 0), header_style="dim", caption=caption, caption_justify="left")
    for column in ("segment", "passages", "deleted", "dense", "recall@10", "size"):
        table.add_column(column, justify="left" if column in ("segment", "dense") else "right")
    for segment in stats.segments:
        size = f"{segment.size_bytes / 1e6:,.1f} MB" if segment.size_bytes else "in memory"
        recall = (
            "unmeasured" if segment.recall is None else f"{segment.recall.recall:.3f} (≥ {segment.recall.lower:.3f})"
        )
        counts = (f"{segment.passages:,}", f"{segment.deleted:,}")
        table.add_row(segment.name, *counts, segment.dense_kind, "" if segment.dense_kind == "none" else recall, size)
    return table


def _shown(value: object) -> str:
    if isinstance(value, dict):
        shown = (f"{name} {item:g}" if isinstance(item, float) else f"{name} {item}" for name, item in value.items())
        return ", ".join(shown) or "the engine's"
    if isinstance(value, list | tuple):
        return ", ".join(str(item) for item in value)
    return f"{value:,}" if isinstance(value, int) else str(value)
