"""What does ``engine index`` do?"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.expansions import document_expansion_options
from cli.failures import FAILED, INTERRUPTED
from cli.settings import Settings, common_options, current_settings, generator_option, is_given

if TYPE_CHECKING:
    from cli.ingestion import ReadingOptions, Source, Tally
    from engine.values import Expansion


EXAMPLES = """\b
Examples:
  engine index ./docs
  engine index ./docs ./notes.md --prune
  engine index corpus.jsonl --collection papers
  engine index ./src --server localhost:50051 --json
  engine index ./docs --collection asked --generator ./qwen3-0.6b --questions 5
"""


@click.command("index", short_help="Index files and folders.", epilog=EXAMPLES)
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--prune", is_flag=True, help="Remove documents whose files have vanished from PATH.")
@click.option("--all", "everything", is_flag=True, help="Read hidden files and those that .gitignore excludes too.")
@click.option(
    "--max-file-mb",
    type=click.FloatRange(min=0, min_open=True),
    default=64,
    show_default=True,
    help="Refuse larger files, except .jsonl and .csv, which are read row by row.",
)
@click.option(
    "--multi",
    is_flag=True,
    help="Keep token vectors too, for a new collection: better ranking, for a byte a dimension and token.",
)
@click.option(
    "--task",
    metavar="TASK",
    help="What queries ask for unless they say otherwise (a new collection): a task's name, or an instruction.",
)
@click.option("--strict", is_flag=True, help="Exit with 1 when any file failed, not only when all did.")
@document_expansion_options
@generator_option
@common_options
def index_command(
    paths: tuple[Path, ...],
    prune: bool,
    everything: bool,
    max_file_mb: float,
    multi: bool,
    strict: bool,
    task: str | None,
    expansion: Expansion | None,
) -> None:
    """Index files and folders: .txt .md .rst .html .pdf .docx .csv .json .jsonl and source code.

    A document's id is its path relative to PATH (JSON Lines: its _id or id). Files that did not change are not embedded
    again, so run it as often as you like; Ctrl-C keeps what is done, and the next run goes on from there. A file that
    cannot be read is reported and the rest goes on. Binary and unknown files, hidden ones and what .gitignore excludes
    are left out.
    """
    from cli.ingestion import ReadingOptions, Tally, find_sources

    settings = current_settings()
    started = time.perf_counter()
    options = ReadingOptions(max_bytes=int(max_file_mb * 1e6), everything=everything)
    tally = Tally()
    sources = find_sources(paths, frozenset([settings.data.resolve()]), options, tally)
    interrupted = _run(settings, sources, options, tally, prune=prune, multi=multi, task=task, expansion=expansion)
    _report(settings, tally, time.perf_counter() - started, interrupted)
    if interrupted:
        raise click.exceptions.Exit(INTERRUPTED)
    if tally.failed and (strict or not tally.documents):
        raise click.exceptions.Exit(FAILED)


def _run(
    settings: Settings,
    sources: list[Source],
    options: ReadingOptions,
    tally: Tally,
    *,
    prune: bool,
    multi: bool,
    task: str | None,
    expansion: Expansion | None,
) -> bool:
    """Ingests and prunes; returns whether the user stopped it."""
    from cli import pruning
    from cli.ingestion import Ingestion
    from cli.progress import IndexProgress
    from cli.session import ensure_collection, open_session

    with IndexProgress(tally) as progress:
        try:
            with open_session(settings, create=True) as engine:
                collection = ensure_collection(
                    engine,
                    settings.collection,
                    multi=multi,
                    task=task,
                    expansion=expansion,
                    writes=is_given("generator"),
                )
                ingestion = Ingestion(sources, options, tally)
                ingestion.run(collection, progress.notice)
                if prune:
                    tally.removed = pruning.prune(collection, sources, ingestion)
                if tally.changed:
                    progress.settling()
                    collection.optimize()
        except KeyboardInterrupt:
            return True
    return False


def _report(settings: Settings, tally: Tally, seconds: float, interrupted: bool) -> None:
    from cli.output import print_json, stderr_console, stdout_console
    from cli.summaries import index_json, index_table, interruption_text, skipped_text

    remarks = stderr_console()
    if interrupted:
        remarks.print(interruption_text(tally), markup=False, soft_wrap=True)
    if settings.json:
        if tally.skipped:
            remarks.print(f"skipped {skipped_text(tally)}", markup=False)
        print_json(index_json(tally, seconds, interrupted))
    else:
        stdout_console().print(index_table(tally, seconds))
