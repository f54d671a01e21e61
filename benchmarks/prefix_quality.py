"""What does a search by a prefix of the vectors lose?

    python -m benchmarks.prefix_quality ../shared/eval --data /tmp/quality

Reads the dense vectors of the indexes that ``benchmarks.fusion_quality`` keeps in --data, and ranks documents by their
best passage with prefixes of several widths, exactly: the first dimensions as the model gives them, and the first after
the rotation that a collection fits on its own vectors (``index.rotation``). The last column is the whole vector. In the
engine a prefix only finds candidates, which the whole vectors rank; this is what it would cost to stop there.

Prints a Markdown table of means and one line of JSON with every set.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from benchmarks.report import environment, print_json, print_table
from embedder.embedder import Embedder
from engine import open_engine
from engine.collection import Collection
from engine.evaluation import EvaluationSet, evaluate, read_evaluation_set
from engine.storage.store import read_document
from index import rotation

WIDTHS = (32, 64, 128, 192, 256)
DEPTH = 100


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collections", type=Path, nargs="?", default=Path("../shared/eval"))
    parser.add_argument("--data", type=Path, default=Path("/tmp/landmark-quality"), help="where the indexes are kept")
    parser.add_argument("--model", default="builtin")
    arguments = parser.parse_args()
    kept = [path.parent for path in sorted(arguments.collections.glob("*/corpus.jsonl"))]
    kept = [path for path in kept if (arguments.data / path.name).is_dir()]
    if not kept:
        parser.error(f"no index in {arguments.data}; run benchmarks.fusion_quality with the same --data first")
    results = {}
    with Embedder.load(arguments.model) as embedder:
        for path in kept:
            found = read_evaluation_set(path)
            queries = np.stack([one.dense for one in embedder.embed_queries(list(found.queries.values()))])
            names, owners, vectors = _stored(arguments.data / found.name, arguments.model)
            results[found.name] = _losses(found, names, owners, vectors, queries)
            print(f"{found.name}: {results[found.name]}", flush=True)
    columns = [*map(str, WIDTHS), "all"]
    rows: list[list[object]] = [
        [kind, *(float(np.mean([result[kind][i] for result in results.values()])) for i in range(len(columns)))]
        for kind in ("as given", "rotated")
    ]
    print(f"\nnDCG@10 of exact dense search by a prefix, mean of {len(results)} sets\n")
    print_table(["dimensions", *columns], rows)
    print()
    print_json({"benchmark": "prefix_quality", "environment": environment(0), "results": results})


def _stored(folder: Path, model: str) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Document ids, the document of each passage int64[n], and the passages' vectors float32[n, dim]."""
    names: list[str] = []
    owners, vectors = [], []
    with open_engine(folder, model=model) as engine:
        collection = engine.get_collection("c")
        assert isinstance(collection, Collection)
        with collection.reading() as generation, generation.writer.reading() as snapshot:
            for live in snapshot.segments:
                segment = live.segment
                rows = np.arange(segment.n_rows) if live.live_rows is None else np.flatnonzero(live.live_rows)
                assert segment.dense is not None
                owners.append(segment.row_docs[rows].astype(np.int64) + len(names))
                names += [str(doc_no) for doc_no in segment.doc_nos.tolist()]
                vectors.append(np.asarray(segment.dense.vectors[rows], np.float32))
            numbers = {name: int(name) for name in names}
            with generation.store.read() as transaction:
                ids = [read_document(transaction, numbers[name]).doc_id for name in names]
    return ids, np.concatenate(owners), np.concatenate(vectors)


def _losses(
    found: EvaluationSet, names: list[str], owners: np.ndarray, vectors: np.ndarray, queries: np.ndarray
) -> dict[str, list[float]]:
    """nDCG@10 at each width, then of the whole vector."""
    turned = rotation.fit(vectors)
    losses = {}
    for kind, basis in (("as given", None), ("rotated", turned)):
        passages, asked = (vectors, queries) if basis is None else (vectors @ basis, queries @ basis)
        losses[kind] = [_score(found, names, owners, passages, asked, width) for width in (*WIDTHS, vectors.shape[1])]
    return losses


def _score(
    found: EvaluationSet, names: list[str], owners: np.ndarray, passages: np.ndarray, queries: np.ndarray, width: int
) -> float:
    passages, queries = passages[:, :width], queries[:, :width]
    passages = passages / np.maximum(np.linalg.norm(passages, axis=1, keepdims=True), 1e-9)
    run = {}
    for query_id, query in zip(found.queries, queries, strict=True):
        best = np.full(len(names), -np.inf, np.float32)
        np.maximum.at(best, owners, passages @ query)
        order = np.argsort(-best, kind="stable")[:DEPTH]
        run[query_id] = [(names[i], float(best[i])) for i in order]
    return round(evaluate(run, found.qrels).ndcg_at_10, 4)


if __name__ == "__main__":
    main()
