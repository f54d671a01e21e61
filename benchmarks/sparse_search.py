"""How fast are the sparse legs at a million passages, beside Seismic, bm25s and Milvus Lite on the same vectors?

    python -m benchmarks.sparse_search --data DIR [--sizes 100000 1000000] [--legs sparse bm25] [--systems ...] [--queries 500]

DIR is what ``benchmarks.scale_corpus`` made. Every system runs in a process of its own, on one thread, one query after the
other: held-out queries, the first ``WARM`` not timed. Recall is of the exact ten best, which our exact mode gives; it is
checked against numpy first. A hit whose score ties with the tenth counts. Indexes are kept in
DIR and loaded; ``--systems seismic --queries 30`` in the background makes one beforehand. Peers that are not installed are
left out. Prints a table a size and one JSON line.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from benchmarks import report
from benchmarks.scale_data import ScaleData, load
from benchmarks.sparse_systems import DEEP, SYSTEMS, Outcome, index_of, questions
from index.sparse import SparseIndex
from index.sparse_rows import SparseQuery

CHUNK = 50_000
CHECKED = 4  # queries whose exact answers are compared with numpy's
PACKAGES = ("numpy", "numba", "pyseismic-lsr", "bm25s", "milvus-lite", "pymilvus")
ONE_THREAD = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "RAYON_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--legs", nargs="+", choices=("sparse", "bm25"), default=["sparse", "bm25"])
    parser.add_argument("--systems", nargs="+", choices=sorted(SYSTEMS), default=list(SYSTEMS))
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--worker", nargs=3, metavar=("SYSTEM", "LEG", "SIZE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        system, leg, size = arguments.worker
        SYSTEMS[system].run(arguments.data, leg, int(size), arguments.queries, arguments.k)
        return
    results = []
    for size in arguments.sizes:
        for leg in arguments.legs:
            truth = _truth(arguments, leg, size)
            found = [
                _measured(arguments, name, leg, size, truth) for name in arguments.systems if leg in SYSTEMS[name].legs
            ]
            rows = [row for part in found for row in part]
            print(f"\n{leg}, {size:,} passages, k = {arguments.k}, {arguments.queries} queries\n")
            report.print_table(HEADER, [_cells(row) for row in rows])
            results += [{"leg": leg, "passages": size, **row} for row in rows]
    report.print_json({"results": results, **report.environment(0, PACKAGES)})


HEADER = ("system", "p50 ms", "p99 ms", "mean ms", "recall@k", "index MB", "peak MB", "build CPU s")


def _cells(row: dict[str, object]) -> list[object]:
    return [row[name] for name in ("system", "p50", "p99", "mean", "recall", "index_mb", "peak_mb", "build_s")]


def _truth(arguments: argparse.Namespace, leg: str, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The exact ``DEEP`` best rows and scores of each query, checked against numpy."""
    path = arguments.data / f"truth_{leg}_{size}_{arguments.queries}.npz"
    if not path.exists():
        data = load(arguments.data, size)
        index, _ = index_of(data, leg)
        asked = questions(data, leg, index, arguments.queries)
        hits = [index.search(query, DEEP) for query in asked]
        _check(data, leg, index, asked[:CHECKED], [each.scores for each in hits])
        rows = np.stack([np.pad(each.rows, (0, DEEP - len(each)), constant_values=-1) for each in hits])
        scores = np.stack([np.pad(each.scores, (0, DEEP - len(each))) for each in hits])
        np.savez(path, rows=rows, scores=scores)
    with np.load(path) as kept:
        return kept["rows"], kept["scores"]


def _check(data: ScaleData, leg: str, index: SparseIndex, queries: list[SparseQuery], found: list[np.ndarray]) -> None:
    """Compare the best scores with a multiplication of all rows by the queries, in numpy.

    Raises:
        AssertionError: they differ; nothing is reported.
    """
    scores: list[list[np.ndarray]] = [[] for _ in queries]
    for start in range(0, data.n, CHUNK):
        rows = data.rows(leg, start, min(start + CHUNK, data.n))
        owners = np.repeat(np.arange(rows.n_rows), np.diff(rows.indptr))
        factors = rows.values.astype(np.float64)
        if index.bm25 is not None:
            lengths = np.bincount(owners, rows.values, rows.n_rows).astype(np.float32)
            factors = index.bm25.tf_part(rows.values, lengths[owners], index.avg_len)
        for query, parts in zip(queries, scores, strict=True):
            places = np.minimum(np.searchsorted(query.terms, rows.terms), len(query.terms) - 1)
            weights = np.where(query.terms[places] == rows.terms, query.weights[places].astype(np.float64), 0.0)
            parts.append(np.bincount(owners, weights * factors, rows.n_rows))
    for parts, best in zip(scores, found, strict=False):
        np.testing.assert_allclose(best, np.sort(np.concatenate(parts))[::-1][: len(best)], rtol=1e-6)


def _measured(
    arguments: argparse.Namespace, name: str, leg: str, size: int, truth: tuple[np.ndarray, np.ndarray]
) -> list[dict[str, object]]:
    """The rows of one system's table: one for each of its settings."""
    out = arguments.data / f"found_{name}_{leg}_{size}.json"
    out.unlink(missing_ok=True)
    command = [sys.executable, "-m", "benchmarks.sparse_search", "--data", str(arguments.data)]
    command += ["--queries", str(arguments.queries), "--k", str(arguments.k), "--worker", name, leg, str(size)]
    subprocess.run(command, check=False, env={**os.environ, **dict.fromkeys(ONE_THREAD, "1")})
    if not out.exists():
        print(f"{name} gave no result for {leg} at {size:,}", file=sys.stderr)
        return []
    outcomes = [Outcome(**each) for each in json.loads(out.read_text(encoding="utf-8"))]
    return [_row(outcome, truth, arguments.k) for outcome in outcomes]


def _row(outcome: Outcome, truth: tuple[np.ndarray, np.ndarray], k: int) -> dict[str, object]:
    """Times in milliseconds and the recall of one setting."""
    times = np.array(outcome.times)
    recalls = []
    for found, rows, scores in zip(outcome.rows, *truth, strict=True):
        wanted = min(k, int((scores > 0).sum()))
        good = set(rows[scores >= scores[wanted - 1] * (1 - 1e-6)].tolist()) if wanted else set()
        recalls.append(min(1.0, len(good & set(found[:k])) / wanted) if wanted else 1.0)
    return {
        "system": outcome.system,
        "p50": float(np.percentile(times, 50)),
        "p99": float(np.percentile(times, 99)),
        "mean": float(times.mean()),
        "recall": round(float(np.mean(recalls)), 4),
        "index_mb": outcome.index_mb,
        "peak_mb": outcome.peak_mb,
        "build_s": outcome.build_s,
    }


if __name__ == "__main__":
    main()
