"""What does ``engine eval`` do?"""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.commands.querying import FUSIONS, MAX_LIMIT, MODES
from cli.expansions import Enrichment, document_expansion_options, query_expansion_options
from cli.settings import Settings, common_options, current_settings, is_given

if TYPE_CHECKING:
    from rich.table import Table

    from engine.api import CollectionApi
    from engine.evaluation import EvaluationSet, Metrics
    from engine.values import Expansion

DEFAULT_MODES = "dense,sparse,bm25,hybrid"
QUERY_BATCH = 16
ENRICHED_MODES = ("hybrid", "dense")  # the others do not read the dense vector, which is all that changes

EXAMPLES = """\b
Examples:
  engine eval ./scifact
  engine eval ./scifact --modes bm25,hybrid,hybrid:rrf
  engine eval ./scifact --model Qwen/Qwen3-Embedding-0.6B --task scifact
  engine eval ./scifact --model Qwen/Qwen3-Embedding-0.6B --device cuda --json
  engine eval ./scifact --keep --data ./evaluated     the next run does not embed again
  engine eval ./scifact --keep --expand hyde --generator ./qwen3-0.6b
"""


@dataclass(frozen=True, slots=True)
class Report:
    """What one evaluation found; a mode that the collection lacks is None."""

    dataset: str
    n_docs: int
    n_queries: int
    fingerprint: str | None
    modes: dict[str, Metrics | None]
    index_s: float
    query_s: float


@click.command("eval", short_help="Measure nDCG, recall and MRR on judged queries.", epilog=EXAMPLES)
@click.argument("dataset", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--modes", default=DEFAULT_MODES, show_default=True, help="Modes, as MODE or MODE:FUSION, by commas.")
@click.option("--limit", type=click.IntRange(1, MAX_LIMIT), default=100, show_default=True, help="Documents a query.")
@click.option("--keep", is_flag=True, help="Index into --data, collection eval-DATASET, instead of a temporary folder.")
@click.option("--multi", is_flag=True, help="Keep token vectors too, as `engine index --multi` does.")
@document_expansion_options
@query_expansion_options
@common_options
def eval_command(
    dataset: Path,
    modes: str,
    limit: int,
    keep: bool,
    multi: bool,
    expansion: Expansion | None,
    enrichment: Enrichment,
) -> None:
    """Index a data set in BEIR layout, run its queries, and print nDCG@10, recall@100 and MRR@10 as trec_eval does.

    DATASET is a folder with corpus.jsonl, queries.jsonl and qrels.tsv (or qrels/test.tsv). Only queries with judgements
    count, and a query that finds nothing counts as 0. A mode that the model lacks is left empty.
    """
    from cli.output import print_json, stdout_console
    from engine.evaluation import read_evaluation_set

    settings = current_settings()
    if settings.server:
        raise click.UsageError("`engine eval` runs in this process; leave --server out.")
    wanted = parse_modes(modes)
    evaluation_set = read_evaluation_set(dataset)
    with _data_folder(settings, keep) as folder:
        local = replace(settings, data=folder)
        report = _evaluate(
            local, evaluation_set, wanted, limit, multi=multi, expansion=expansion, enrichment=enrichment
        )
    if settings.json:
        print_json(report_json(report))
    else:
        stdout_console().print(_table(report))


def parse_modes(text: str) -> list[tuple[str, str]]:
    """``dense,hybrid:rrf`` as (mode, fusion) pairs.

    Raises:
        click.BadParameter: a mode or a fusion is unknown.
    """
    pairs = []
    for item in text.split(","):
        mode, _, fusion = item.strip().partition(":")
        if mode not in MODES or (fusion or "convex") not in FUSIONS:
            known = f"modes: {', '.join(MODES)}; fusions: {', '.join(FUSIONS)}"
            raise click.BadParameter(f"{item.strip()!r} is unknown ({known})", param_hint="--modes")
        pairs.append((mode, fusion))
    return list(dict.fromkeys(pairs))


def report_json(report: Report) -> dict[str, object]:
    """The JSON form of ``engine eval``."""
    return {
        "dataset": report.dataset,
        "n_docs": report.n_docs,
        "n_queries": report.n_queries,
        "fingerprint": report.fingerprint,
        "modes": {name: None if metrics is None else asdict(metrics) for name, metrics in report.modes.items()},
        "seconds": {"index": round(report.index_s, 3), "query": round(report.query_s, 3)},
    }


@contextmanager
def _data_folder(settings: Settings, keep: bool) -> Iterator[Path]:
    if keep:
        yield settings.data
        return
    with tempfile.TemporaryDirectory(prefix="landmark-eval-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _evaluate(
    settings: Settings,
    evaluation_set: EvaluationSet,
    wanted: Sequence[tuple[str, str]],
    limit: int,
    *,
    multi: bool,
    expansion: Expansion | None,
    enrichment: Enrichment,
) -> Report:
    from cli.session import ensure_collection, open_session

    with open_session(settings, create=True) as engine:
        name = collection_name(evaluation_set.name)
        writes = is_given("generator") and enrichment.expansion is None
        collection = ensure_collection(engine, name, multi=multi, expansion=expansion, writes=writes)
        started = time.perf_counter()
        n_docs = _index(collection, evaluation_set)
        indexed = time.perf_counter()
        info = collection.info()
        legs = {"hybrid", *info.legs}
        modes = {
            f"{mode}:{fusion}" if fusion else mode: (
                _measure(collection, evaluation_set, mode, fusion or "convex", limit, enrichment)
                if mode in legs
                else None
            )
            for mode, fusion in wanted
        }
    queried = time.perf_counter()
    return Report(
        dataset=evaluation_set.name,
        n_docs=n_docs,
        n_queries=len(evaluation_set.queries),
        fingerprint=info.fingerprint,
        modes=modes,
        index_s=indexed - started,
        query_s=queried - indexed,
    )


def collection_name(dataset: str) -> str:
    """The collection that a data set is kept in: "eval-" and its name, as far as a collection may be called that."""
    return "eval-" + re.sub(r"[^A-Za-z0-9_.-]", "-", dataset)[:59]


def _index(collection: CollectionApi, evaluation_set: EvaluationSet) -> int:
    """Ingests the corpus; returns how many documents it has. One that cannot be stored is reported."""
    from cli.output import printable, stderr_console
    from cli.progress import steps
    from engine.evaluation import read_corpus

    with evaluation_set.corpus.open("rb") as lines:
        n_docs = sum(1 for line in lines if line.strip())
    for acknowledgement in steps(collection.ingest(read_corpus(evaluation_set.corpus)), "index", n_docs):
        if acknowledgement.status == "failed":
            line = printable(f"failed  {acknowledgement.doc_id}: {acknowledgement.error}")
            stderr_console().print(line, style="red", markup=False)
    return n_docs


def _measure(
    collection: CollectionApi,
    evaluation_set: EvaluationSet,
    mode: str,
    fusion: str,
    limit: int,
    enrichment: Enrichment,
) -> Metrics:
    from cli.progress import steps
    from engine.evaluation import evaluate
    from engine.values import Query

    items = list(evaluation_set.queries.items())
    batches = [items[start : start + QUERY_BATCH] for start in range(0, len(items), QUERY_BATCH)]
    run: dict[str, list[tuple[str, float]]] = {}
    for batch in steps(batches, f"query {mode} {fusion if mode == 'hybrid' else ''}".strip(), len(batches)):
        queries = [
            Query(
                text=text,
                task=None if mode == "bm25" else enrichment.task,
                mode=mode,  # type: ignore[arg-type]  # parse_modes checked both
                fusion=fusion,  # type: ignore[arg-type]
                limit=limit,
                passages=1,
                explain=False,
                expansion=enrichment.expansion if mode in ENRICHED_MODES else None,
                examples=enrichment.shown(text),
            )
            for _, text in batch
        ]
        for (query_id, _), result in zip(batch, collection.query_batch(queries), strict=True):
            run[query_id] = [(hit.doc_id, hit.score) for hit in result.hits]
    return evaluate(run, evaluation_set.qrels)


def _table(report: Report) -> Table:
    from rich.table import Table

    fingerprint = (report.fingerprint or "none")[:16]
    caption = f"index {report.index_s:.1f} s, queries {report.query_s:.1f} s, fingerprint {fingerprint}"
    title = f"{report.dataset}: {report.n_docs:,} documents, {report.n_queries:,} queries"
    table = Table(title=title, caption=caption, title_justify="left", caption_justify="left")
    table.add_column("mode")
    for name in ("nDCG@10", "recall@100", "MRR@10"):
        table.add_column(name, justify="right")
    best = max((metrics.ndcg_at_10 for metrics in report.modes.values() if metrics), default=0.0)
    for mode, metrics in report.modes.items():
        if metrics is None:
            table.add_row(mode, "-", "-", "-", style="dim")
        else:
            style = "bold" if metrics.ndcg_at_10 == best else ""
            figures = (metrics.ndcg_at_10, metrics.recall_at_100, metrics.mrr_at_10)
            table.add_row(mode, *(f"{figure:.4f}" for figure in figures), style=style)
    return table
