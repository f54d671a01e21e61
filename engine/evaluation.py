"""How good are the answers, measured as trec_eval measures?

Metrics are means over the judged queries. A ranking is ordered by score descending, and equal scores by ``doc_id``
*descending*: that is what trec_eval does to a run file, so the figures are those that trec_eval prints for the same
run.

A data set is a folder in BEIR layout: ``corpus.jsonl`` and ``queries.jsonl`` (``_id``, ``title``, ``text``), and
judgements in ``qrels.tsv`` or ``qrels/test.tsv`` (query-id, corpus-id, score; TREC's four columns are read too).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.errors import InvalidArgument
from engine.values import Document

NDCG_DEPTH = 10
RECALL_DEPTH = 100
MRR_DEPTH = 10
QRELS_FILES = ("qrels.tsv", "qrels/test.tsv")

Qrels = Mapping[str, Mapping[str, int]]
"""query id → document id → graded relevance; above 0 is relevant."""

Run = Mapping[str, Sequence[tuple[str, float]]]
"""query id → (document id, score) pairs, in any order."""


@dataclass(frozen=True, slots=True)
class Metrics:
    """Means over the judged queries, each in [0, 1]."""

    ndcg_at_10: float
    recall_at_100: float
    mrr_at_10: float


@dataclass(frozen=True, slots=True)
class EvaluationSet:
    """A data set: its queries (those with judgements), the judgements, and where its documents are."""

    name: str
    corpus: Path
    queries: Mapping[str, str]
    qrels: Qrels


def evaluate(run: Run, qrels: Qrels) -> Metrics:
    """Measures a run. A judged query that the run lacks counts as 0; a query without judgements does not count."""
    sums = [0.0, 0.0, 0.0]
    for query_id, judged in qrels.items():
        ranking = trec_order(run.get(query_id, ()))
        sums[0] += ndcg(ranking, judged, NDCG_DEPTH)
        sums[1] += recall(ranking, judged, RECALL_DEPTH)
        sums[2] += reciprocal_rank(ranking, judged, MRR_DEPTH)
    return Metrics(*(total / max(1, len(qrels)) for total in sums))


def trec_order(scored: Sequence[tuple[str, float]]) -> list[str]:
    """Document ids by score descending, then id descending (trec_eval 9, ``form_res_rels.c``)."""
    return [doc_id for doc_id, _ in sorted(scored, key=lambda pair: (pair[1], pair[0]), reverse=True)]


def ndcg(ranking: Sequence[str], judged: Mapping[str, int], depth: int) -> float:
    """DCG over the ideal DCG; gain is linear: sum of rel / log2(rank + 1) (Järvelin, Kekäläinen 2002; trec_eval)."""
    gains = [max(0, judged.get(doc_id, 0)) for doc_id in ranking[:depth]]
    ideal = sorted((relevance for relevance in judged.values() if relevance > 0), reverse=True)[:depth]
    return _dcg(gains) / _dcg(ideal) if ideal else 0.0


def recall(ranking: Sequence[str], judged: Mapping[str, int], depth: int) -> float:
    """The share of the relevant documents that are among the first ``depth``."""
    relevant = {doc_id for doc_id, relevance in judged.items() if relevance > 0}
    return len(relevant.intersection(ranking[:depth])) / len(relevant) if relevant else 0.0


def reciprocal_rank(ranking: Sequence[str], judged: Mapping[str, int], depth: int) -> float:
    """1 / the rank of the first relevant document, 0 if it is beyond ``depth``."""
    for rank, doc_id in enumerate(ranking[:depth], start=1):
        if judged.get(doc_id, 0) > 0:
            return 1.0 / rank
    return 0.0


def _dcg(gains: Sequence[int]) -> float:
    return sum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains, start=1))


def read_evaluation_set(folder: Path) -> EvaluationSet:
    """Reads the queries and judgements of a data set; its documents are read by ``read_corpus``.

    Raises:
        InvalidArgument: a file is missing or malformed, or no query has a judgement.
    """
    corpus = folder / "corpus.jsonl"
    qrels_file = next((folder / name for name in QRELS_FILES if (folder / name).is_file()), folder / QRELS_FILES[0])
    for path in (corpus, folder / "queries.jsonl", qrels_file):
        if not path.is_file():
            raise InvalidArgument(
                "dataset", f"{path} is missing; BEIR layout is corpus.jsonl, queries.jsonl, qrels.tsv"
            )
    qrels = read_qrels(qrels_file)
    texts = {query_id: text for query_id, _, text in _read_rows(folder / "queries.jsonl") if query_id in qrels}
    if not texts:
        raise InvalidArgument("dataset", f"no query of {folder / 'queries.jsonl'} has a judgement in {qrels_file}")
    judged = {query_id: qrels[query_id] for query_id in texts}
    return EvaluationSet(folder.resolve().name, corpus, texts, judged)


def read_corpus(corpus: Path) -> Iterator[Document]:
    """Yields the documents of a BEIR corpus, title and text only. Those with neither are left out: nothing finds them.

    Raises:
        InvalidArgument: a line is malformed.
    """
    for doc_id, title, text in _read_rows(corpus):
        if title.strip() or text.strip():
            yield Document(doc_id=doc_id, title=title, text=text)


def read_qrels(path: Path) -> dict[str, dict[str, int]]:
    """Reads judgements: three columns with a header line (BEIR) or four without (TREC), by tabs or spaces.

    Raises:
        InvalidArgument: a line has another form.
    """
    qrels: dict[str, dict[str, int]] = {}
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, start=1):
            columns = line.rstrip("\r\n").split("\t") if "\t" in line else line.split()
            if not any(columns):
                continue
            if len(columns) == 4:  # TREC: query, iteration, document, relevance
                del columns[1]
            relevance = _relevance(columns)
            if relevance is None and number == 1:
                continue
            if relevance is None:
                raise InvalidArgument("dataset", f"{path}, line {number}: expected query-id, corpus-id, score")
            qrels.setdefault(columns[0], {})[columns[1]] = relevance
    return qrels


def _relevance(columns: Sequence[str]) -> int | None:
    if len(columns) != 3:
        return None
    try:
        return int(float(columns[2]))
    except (ValueError, OverflowError):
        return None


def _read_rows(path: Path) -> Iterator[tuple[str, str, str]]:
    """(id, title, text) of every line of a JSON Lines file."""
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                doc_id = row["_id"] if "_id" in row else row["id"]
                yield str(doc_id), str(row.get("title") or ""), str(row.get("text") or "")
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                problem = (
                    f"{path}, line {number}: expected a JSON object with _id and text ({type(error).__name__}: {error})"
                )
                raise InvalidArgument("dataset", problem) from error
