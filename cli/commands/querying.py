"""What does ``engine query`` do?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from cli.expansions import Enrichment, query_expansion_options
from cli.settings import common_options, current_settings

if TYPE_CHECKING:
    from engine.values import Query

# engine.values.MODES and FUSIONS, repeated so that --help imports nothing; a test compares them.
MODES = ("hybrid", "dense", "sparse", "bm25", "multi")
FUSIONS = ("convex", "rrf", "dbsf")
MAX_LIMIT = 1000

EXAMPLES = """\b
Examples:
  engine query how do landmarks work
  engine query "late chunking" --limit 3 --explain
  engine query "error handling" --filter 'extension == ".py"'
  engine query "tax" --filter 'year >= $y and lang == $l' --param y=2020 --param l=en
  engine query "neural networks" --mode dense --json
  engine query "why do ships sink" --expand hyde --generator ./qwen3-0.6b
  engine query "is coffee healthy" --task nfcorpus
  engine query "who may declare war?" --rerank 50 --reranker ./bge-reranker-v2-m3
"""


@click.command("query", short_help="Ask a question.", epilog=EXAMPLES)
@click.argument("text", metavar="TEXT", nargs=-1, required=True)
@click.option(
    "--limit", "-n", type=click.IntRange(1, MAX_LIMIT), default=10, show_default=True, help="Documents to return."
)
@click.option("--offset", type=click.IntRange(0, 10_000), default=0, help="Documents to skip first.")
@click.option("--mode", type=click.Choice(MODES), default="hybrid", show_default=True, help="Which legs to search.")
@click.option(
    "--fusion", type=click.Choice(FUSIONS), default="convex", show_default=True, help="How legs become one score."
)
@click.option("--weights", metavar="LEG=W,...", help="Weights of the legs, as dense=0.6,bm25=0.4.")
@click.option("--filter", "expression", metavar="EXPR", help="Only documents whose metadata match.")
@click.option(
    "--param", "params", metavar="NAME=VALUE", multiple=True, help="A value for $NAME in the filter; JSON or text."
)
@click.option(
    "--passages", type=click.IntRange(0, MAX_LIMIT), default=3, show_default=True, help="Passages a document."
)
@click.option("--threshold", type=float, metavar="SCORE", help="Leave out documents with a lower score.")
@click.option(
    "--recall-target", type=click.FloatRange(0, 1, min_open=True), help="Recall that the dense search should reach."
)
@click.option("--exact", is_flag=True, help="Scan every vector instead of searching a graph.")
@click.option(
    "--rerank", type=click.IntRange(1, MAX_LIMIT), metavar="N", help="Let a reranker order this many of the first hits."
)
@click.option(
    "--reranker", metavar="NAME", help="The reranker: a folder or a hub id; with --server, the server's is used."
)
@click.option("--explain", is_flag=True, help="Show each leg's score, the matched terms, the plan and the timings.")
@click.option("--full", is_flag=True, help="Show whole passages instead of the part that matches.")
@query_expansion_options
@common_options
def query_command(
    text: tuple[str, ...],
    limit: int,
    offset: int,
    mode: str,
    fusion: str,
    weights: str | None,
    expression: str | None,
    params: tuple[str, ...],
    passages: int,
    threshold: float | None,
    recall_target: float | None,
    exact: bool,
    rerank: int | None,
    reranker: str | None,
    explain: bool,
    full: bool,
    enrichment: Enrichment,
) -> None:
    """Ask a question and print the documents that answer it, with their best passages.

    Scores are absolute with the default fusion: the same for any limit, so a threshold means something. A filter
    compares metadata (path, extension, language, and whatever your JSON Lines or CSV hold) with == != < <= > >=, in,
    not in, exists(x), and, or, not.
    """
    from engine.values import Query

    question = " ".join(text)
    query = Query(
        text=question,
        task=enrichment.task,
        mode=mode,  # type: ignore[arg-type]  # click.Choice
        limit=limit,
        offset=offset,
        filter=expression,
        params=parse_params(params),
        fusion=fusion,  # type: ignore[arg-type]  # click.Choice
        weights=parse_weights(weights),
        recall_target=recall_target,
        exact=exact,
        passages=passages,
        score_threshold=threshold,
        rerank=rerank,
        explain=True,
        expansion=enrichment.expansion,
        examples=enrichment.shown(question),
    )
    enrichment.check_generator()
    if reranker is not None and rerank is None:
        raise click.UsageError("--reranker needs --rerank N: how many of the first hits it orders.")
    _answer(query, reranker, explain=explain, full=full)


def _answer(query: Query, reranker: str | None, *, explain: bool, full: bool) -> None:
    from cli.output import print_json, stdout_console
    from cli.query_view import print_result, result_json
    from cli.session import find_collection, open_session

    settings = current_settings()
    with open_session(settings, reranker=reranker) as engine:
        collection = find_collection(engine, settings)
        result = collection.query_batch([query])[0]
        documents = collection.info().documents if not result.hits and not settings.json else 0
    if settings.json:
        print_json(result_json(result))
    else:
        print_result(stdout_console(), query, result, documents=documents, explain=explain, full=full)


def parse_params(pairs: Sequence[str]) -> dict[str, str | int | float | bool | list[str | int | float | bool]]:
    """``NAME=VALUE`` pairs as parameters: a value that is a JSON scalar or list is that, anything else is text.

    Raises:
        click.BadParameter: a pair has no "=".
    """
    params = {}
    for pair in pairs:
        name, separator, value = pair.partition("=")
        if not separator or not name:
            raise click.BadParameter(f"{pair!r} is not NAME=VALUE", param_hint="--param")
        try:
            parsed = json.loads(value)
        except ValueError:
            parsed = value
        params[name.removeprefix("$")] = value if parsed is None or isinstance(parsed, dict) else parsed
    return params


def parse_weights(text: str | None) -> dict[str, float] | None:
    """``dense=0.6,bm25=0.4`` as weights.

    Raises:
        click.BadParameter: it is not written like that.
    """
    if text is None:
        return None
    weights = {}
    for pair in text.split(","):
        leg, separator, weight = pair.partition("=")
        try:
            weights[leg.strip()] = float(weight)
        except ValueError:
            separator = ""
        if not separator:
            raise click.BadParameter(f"{pair!r} is not LEG=WEIGHT, as in dense=0.6,bm25=0.4", param_hint="--weights")
    return weights
