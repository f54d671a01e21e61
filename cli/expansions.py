"""Which options say what a generator writes, and which examples a model is shown? Shared by index, query and eval.

Each decorator adds options and hands the command one value made of them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.settings import generator_option, is_given

if TYPE_CHECKING:
    from engine.examples import Examples
    from engine.values import Expansion, QueryExpansion

# engine.values.EXPANSION_USES and QUERY_EXPANSION_METHODS, repeated so that --help imports nothing; a test compares them.
USES = ("fuse", "vectors")
QUERY_METHODS = ("hyde", "thoughts", "rewrites")

Command = Callable[..., None]


@dataclass(frozen=True, slots=True)
class Enrichment:
    """What goes with a query: its task, what is written about it, and how many of which examples are shown with it."""

    task: str | None
    expansion: QueryExpansion | None
    examples: Examples | None
    shots: int

    def shown(self, question: str) -> tuple[tuple[str, str], ...]:
        """The examples for one question."""
        return () if self.examples is None else self.examples.nearest(question, self.shots)

    def check_generator(self) -> None:
        """Refuse a ``--generator`` on the command line of a query that asks for nothing from it.

        Raises:
            click.UsageError: there is no ``--expand``.
        """
        if self.expansion is None and is_given("generator"):
            raise click.UsageError("--generator needs --expand: what it is to write about the query.")


def document_expansion_options(command: Command) -> Command:
    """Adds what the generator writes about passages; the command takes it as ``expansion``, None for nothing."""

    @functools.wraps(command)
    def wrapped(
        *args: Any,  # noqa: ANN401  # whatever click gives the command
        questions: int | None,
        rewrites: int | None,
        use: str | None,
        bm25: bool,
        **options: Any,  # noqa: ANN401
    ) -> None:
        command(*args, expansion=_expansion(questions, rewrites, use, bm25), **options)

    return _with(
        wrapped,
        click.option(
            "--questions",
            type=click.IntRange(1, 50),
            metavar="N",
            help="The generator writes N questions that each passage answers (a new collection).",
        ),
        click.option(
            "--rewrites",
            type=click.IntRange(1, 50),
            metavar="N",
            help="The generator says each passage in N other ways (a new collection).",
        ),
        click.option(
            "--expansion-use",
            "use",
            type=click.Choice(USES),
            help="Average what is written into the passage's vector, or keep it as vectors beside it.  [default: fuse]",
        ),
        click.option("--expansion-bm25", "bm25", is_flag=True, help="BM25 counts what is written, too."),
    )


def query_expansion_options(command: Command) -> Command:
    """Adds the task of queries, what the generator writes about them, and examples; the command takes ``enrichment``."""

    @functools.wraps(command)
    def wrapped(
        *args: Any,  # noqa: ANN401  # whatever click gives the command
        task: str | None,
        expand: str | None,
        n: int,
        examples: Path | None,
        shots: int,
        **options: Any,  # noqa: ANN401
    ) -> None:
        command(*args, enrichment=_enrichment(task, expand, n, examples, shots), **options)

    return _with(
        wrapped,
        click.option(
            "--task",
            metavar="TASK",
            help="What is asked for: the name of a task (`engine models show`), or an instruction.",
        ),
        click.option(
            "--expand",
            type=click.Choice(QUERY_METHODS),
            help="The generator first writes a hypothetical answer, thoughts, or paraphrases.",
        ),
        click.option(
            "--expansion-texts",
            "n",
            type=click.IntRange(1, 16),
            default=1,
            show_default=True,
            help="How many it writes.",
        ),
        click.option(
            "--examples",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            metavar="FILE",
            help="Pairs (as for `engine tune`) to show a model that takes examples; the most similar are chosen.",
        ),
        click.option(
            "--shots",
            type=click.IntRange(0, 64),
            default=5,
            show_default=True,
            help="How many of the examples to show.",
        ),
        generator_option,
    )


def _with(command: Command, *options: Callable[[Command], Command]) -> Command:
    for option in reversed(options):
        command = option(command)
    return command


def _expansion(questions: int | None, rewrites: int | None, use: str | None, bm25: bool) -> Expansion | None:
    from engine.values import Expansion

    if questions and rewrites:
        raise click.UsageError("--questions and --rewrites exclude each other.")
    n = questions or rewrites
    if n is None:
        if use or bm25:
            raise click.UsageError("--expansion-use and --expansion-bm25 need --questions or --rewrites.")
        return None
    return Expansion(
        method="questions" if questions else "rewrites",
        n=n,
        use=use or "fuse",  # type: ignore[arg-type]  # click.Choice
        bm25=bm25,
    )


def _enrichment(task: str | None, expand: str | None, n: int, examples: Path | None, shots: int) -> Enrichment:
    from engine.values import QueryExpansion

    expansion = None if expand is None else QueryExpansion(method=expand, n=n)  # type: ignore[arg-type]  # click.Choice
    if examples is None:
        return Enrichment(task, expansion, None, 0)
    from engine.examples import Examples

    return Enrichment(task, expansion, Examples.read(examples), shots)
