"""What do weights in fewer bits cost, and what do they bring, on this machine?

    python -m benchmarks.quantised_weights DATASET... [--model builtin] [--dtypes float32,int8] [--documents 5000]

For each dtype, in a process of its own: tokens of documents a second, and a CPU second, which other work disturbs less (the best
of ``--rounds``), milliseconds a query of its own, memory that the process holds once the model is loaded, the mean and the
least cosine of passages and of queries to those of float32, and nDCG@10 of exact dense search on data sets in BEIR layout
(``--documents``: the first so many of each). Prints a table and one JSON line.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.report import environment, print_json, print_table
from embedder.dtypes import DTYPES
from embedder.embedder import DocumentInput, Embedder
from engine.evaluation import evaluate, read_corpus, read_evaluation_set

PACKAGES = ("torch", "torchao", "transformers", "numpy")
TIMED_QUERIES = 50


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """One dtype on one data set: rates, memory, quality, and the unit vectors by which it is compared."""

    tokens_per_s: float
    tokens_per_cpu_s: float
    query_ms: float
    resident_mb: float
    ndcg_at_10: float
    passages: np.ndarray
    queries: np.ndarray


@dataclass(frozen=True, slots=True)
class Line:
    """What is printed of one dtype on one data set."""

    dataset: str
    dtype: str
    tokens_per_s: float
    tokens_per_cpu_s: float
    query_ms: float
    resident_mb: float
    ndcg_at_10: float
    passage_cosine: float
    least_cosine: float
    query_cosine: float


def measure(dataset: Path, model: str, dtype: str, device: str | None, limit: int, rounds: int) -> Measured:
    """Embed a data set with one dtype; meant for a process of its own."""
    found = read_evaluation_set(dataset)
    documents = list(itertools.islice(read_corpus(found.corpus), limit))
    qrels = {query: judged for query, judged in found.qrels.items() if any(d.doc_id in judged for d in documents)}
    before = _resident()
    with Embedder.load(model, dtype=dtype, device=device) as embedder:
        embedder.embed_queries(["warm up"])
        resident = _resident() - before
        inputs = [DocumentInput(document.title, document.text) for document in documents]
        seconds, cpu_seconds = [], []
        for _ in range(rounds):
            began, cpu = time.perf_counter(), time.process_time()
            embedded = embedder.embed_documents(inputs)
            seconds.append(time.perf_counter() - began)
            cpu_seconds.append(time.process_time() - cpu)
        times = []
        for text in itertools.islice(found.queries.values(), TIMED_QUERIES):
            began = time.perf_counter()
            embedder.embed_queries([text + "."])  # not the text itself: it would come from the cache below
            times.append(time.perf_counter() - began)
        queries = _unit([one.dense for one in embedder.embed_queries([found.queries[name] for name in qrels])])
    passages = _unit([passage.vectors.dense for document in embedded for passage in document.passages])
    starts = np.cumsum([0, *(len(document.passages) for document in embedded)])[:-1]
    scores = np.maximum.reduceat(queries @ passages.T, starts, axis=1)
    ids = [document.doc_id for document in documents]
    run = {name: list(zip(ids, row.tolist(), strict=True)) for name, row in zip(qrels, scores, strict=True)}
    tokens = sum(document.embedded for document in embedded)
    ndcg = evaluate(run, qrels).ndcg_at_10
    rates = tokens / min(seconds), tokens / min(cpu_seconds)
    return Measured(*rates, 1e3 * float(np.median(times)), resident, ndcg, passages, queries)


def _unit(vectors: Sequence[np.ndarray]) -> np.ndarray:
    matrix = np.stack(vectors).astype(np.float32)
    return matrix / np.linalg.norm(matrix, axis=1, keepdims=True)


def _resident() -> float:
    """MB of memory that this process holds."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure every dtype on every data set and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("datasets", nargs="+", type=Path)
    parser.add_argument("--model", default="builtin")
    parser.add_argument(
        "--dtypes", default="float32,int8", help=f"the first is what the others are compared with: {DTYPES}"
    )
    parser.add_argument("--device")
    parser.add_argument("--documents", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args(arguments)
    lines = []
    for dataset in options.datasets:
        first: Measured | None = None
        for dtype in options.dtypes.split(","):
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
                job = (dataset, options.model, dtype, options.device, options.documents, options.rounds)
                found = process.submit(measure, *job).result()
            first = first or found
            cosines = (found.passages * first.passages).sum(1)
            line = Line(
                dataset.name,
                dtype,
                round(found.tokens_per_s),
                round(found.tokens_per_cpu_s),
                round(found.query_ms, 2),
                round(found.resident_mb),
                round(found.ndcg_at_10, 4),
                round(float(cosines.mean()), 5),
                round(float(cosines.min()), 5),
                round(float((found.queries * first.queries).sum(1).mean()), 5),
            )
            lines.append(line)
    print_table(list(asdict(lines[0])), [list(asdict(line).values()) for line in lines])
    print_json(
        {"benchmark": "quantised_weights", **environment(0, PACKAGES), "lines": [asdict(line) for line in lines]}
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
