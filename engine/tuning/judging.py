"""Which of two models answers held-out queries better?

Both embed the same small collection: the passages that answer the held-out queries, and others as distractors. Each leg and
the fusion are measured as ``engine eval`` does, and the difference in nDCG@10 comes with a bootstrap interval over the
queries. A distractor that holds a query word for word is left out: of self-supervised pairs, it is the passage from which
the query was taken, and both legs would only recognise the copy.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from engine.api import CollectionApi
from engine.collection import Collection
from engine.embedded import bare_schema, with_model
from engine.encoding import Model
from engine.errors import InvalidArgument
from engine.evaluation import NDCG_DEPTH, RECALL_DEPTH, Metrics, evaluate, ndcg, trec_order
from engine.values import LEGS, Document, Mode, Query

if TYPE_CHECKING:
    from embedder.tuning.examples import Example

MIN_QUERIES = 10
MAX_QUERIES = 300
MAX_PASSAGES = 1_000
QUERY_BATCH = 32
RESAMPLES = 2_000
SURE = 0.8  # of them rose: below, a gain may be chance, and is not worth embedding a collection again
FUSED: Mode = "hybrid"


@dataclass(frozen=True, slots=True)
class JudgedSet:
    """Passages, and queries with the numbers of the passages that answer them."""

    passages: tuple[str, ...]
    queries: tuple[str, ...]
    answers: tuple[frozenset[int], ...]

    @property
    def qrels(self) -> dict[str, dict[str, int]]:
        """The answers as `engine.evaluation` reads them."""
        return {str(i): {str(n): 1 for n in sorted(own)} for i, own in enumerate(self.answers)}


@dataclass(frozen=True, slots=True)
class Scores:
    """What one model reaches in each mode that it has, and each query's nDCG@10, float64[n_queries]."""

    metrics: Mapping[Mode, Metrics]
    by_query: Mapping[Mode, np.ndarray]


@dataclass(frozen=True, slots=True)
class Change:
    """nDCG@10 of one mode before and after; ``low`` to ``high`` holds 95 % of the resampled differences, ``risen`` are above 0.

    ``before`` is None for a leg that the old model lacks, and then so are the others.
    """

    mode: Mode
    before: Metrics | None
    after: Metrics | None
    low: float | None
    high: float | None
    risen: float | None


def judged_set(
    held_out: Sequence[Example], distractors: Sequence[str], *, max_passages: int = MAX_PASSAGES
) -> JudgedSet:
    """The queries of held-out examples among their answers and the first fitting distractors.

    Raises:
        InvalidArgument: fewer than MIN_QUERIES examples can judge; graded pairs cannot.
    """
    usable = [example for example in held_out if not example.is_graded]
    numbers: dict[str, int] = {}
    answers: dict[str, set[int]] = {}
    for example in usable:
        if example.query in answers or len(answers) < MAX_QUERIES:
            number = numbers.setdefault(example.positive, len(numbers))
            answers.setdefault(example.query, set()).add(number)
    if len(answers) < MIN_QUERIES:
        raise InvalidArgument(
            "held_out", f"only {len(answers)} queries are held out, {MIN_QUERIES} are needed; give more examples"
        )
    queries = [_plain(query) for query in answers]
    for text in distractors:
        if len(numbers) >= max_passages:
            break
        plain = _plain(text)
        if text not in numbers and not any(query in plain for query in queries):
            numbers[text] = len(numbers)
    return JudgedSet(tuple(numbers), tuple(answers), tuple(frozenset(own) for own in answers.values()))


def measure(model: Model, judged: JudgedSet, *, language: str) -> Scores:
    """Index the passages with a model in a temporary collection, and run the queries in every mode."""
    with _collection(model, language) as collection:
        collection.upsert([Document(doc_id=str(n), text=text) for n, text in enumerate(judged.passages)])
        collection.optimize()
        return scores(collection, judged)


def scores(collection: CollectionApi, judged: JudgedSet) -> Scores:
    """Run the queries in every mode of a collection whose documents are the passages, their ids the numbers."""
    modes: list[Mode] = [*collection.info().legs, FUSED]
    runs, qrels = {mode: _run(collection, judged.queries, mode) for mode in modes}, judged.qrels
    by_query = {
        mode: np.array([ndcg(trec_order(run[query]), relevant, NDCG_DEPTH) for query, relevant in qrels.items()])
        for mode, run in runs.items()
    }
    return Scores({mode: evaluate(run, qrels) for mode, run in runs.items()}, by_query)


def compare(before: Scores, after: Scores, *, seed: int) -> list[Change]:
    """The change in every mode that either model has, the fusion last."""
    modes = [mode for mode in (*LEGS, FUSED) if mode in {*before.metrics, *after.metrics}]
    changes = []
    for mode in modes:
        spread: tuple[float | None, float | None, float | None] = None, None, None
        if mode in before.by_query and mode in after.by_query:
            spread = _spread(after.by_query[mode] - before.by_query[mode], np.random.default_rng(seed))
        changes.append(Change(mode, before.metrics.get(mode), after.metrics.get(mode), *spread))
    return changes


def is_better(changes: Sequence[Change]) -> bool:
    """Whether the fused nDCG@10 rose, and not by the luck of a few queries."""
    fused = next(change for change in changes if change.mode == FUSED)
    assert fused.risen is not None
    return fused.risen >= SURE


def _spread(differences: np.ndarray, rng: np.random.Generator) -> tuple[float, float, float]:
    """Of the mean over resampled queries the 2.5 and 97.5 percentiles, and the share above 0 (Efron's bootstrap)."""
    chosen = rng.integers(len(differences), size=(RESAMPLES, len(differences)))
    means = differences[chosen].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high), float(np.mean(means > 0.0))


@contextmanager
def _collection(model: Model, language: str) -> Iterator[Collection]:
    schema = with_model(bare_schema("judging", language, "flat"), model, sparse=None, multi=False)
    with tempfile.TemporaryDirectory(prefix="landmark-judging-", ignore_cleanup_errors=True) as folder:
        Collection.create(Path(folder), schema)
        collection = Collection(Path(folder), model)
        try:
            yield collection
        finally:
            collection.close()


def _run(collection: CollectionApi, queries: Sequence[str], mode: Mode) -> dict[str, list[tuple[str, float]]]:
    run = {}
    for start in range(0, len(queries), QUERY_BATCH):
        batch = [
            Query(text=text, mode=mode, limit=RECALL_DEPTH, passages=1, explain=False)
            for text in queries[start : start + QUERY_BATCH]
        ]
        for number, result in enumerate(collection.query_batch(batch), start):
            run[str(number)] = [(hit.doc_id, hit.score) for hit in result.hits]
    return run


def _plain(text: str) -> str:
    return " ".join(text.lower().split())
