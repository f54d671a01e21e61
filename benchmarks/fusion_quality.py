"""How good is each leg, and what does fusing them add, on real collections with human judgements?

    python -m benchmarks.fusion_quality ../shared/eval --data /tmp/quality

Every folder below the given one that is in BEIR layout is indexed once into --data (kept: a second run only queries) with
the built-in model and the collection's defaults, then all its queries run in every mode. "dense + bm25" has the weights
of a collection without a learned sparse leg. Beside us, in the same run:
sentence-transformers with the same model (title + text cut at 256 tokens) and bm25s (method lucene) on our analyser's
terms, in the same language, of whole documents. Prints a Markdown table and one line of JSON.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import environment, print_json, print_table
from engine import open_engine
from engine.api import CollectionApi
from engine.evaluation import EvaluationSet, Metrics, evaluate, read_corpus, read_evaluation_set
from engine.fusion import BM25_SHARE
from engine.values import Query
from index.analyzer import Analyzer

# name: (mode, fusion, legs whose weight becomes 0)
RUNS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "dense": ("dense", "convex", ()),
    "bm25": ("bm25", "convex", ()),
    "hybrid": ("hybrid", "convex", ()),
    "rrf": ("hybrid", "rrf", ()),
    "dbsf": ("hybrid", "dbsf", ()),
}
# Only for a model with a learned sparse head; "hybrid" has all three legs then.
SPARSE_RUNS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "sparse": ("sparse", "convex", ()),
    "dense + bm25": ("hybrid", "convex", ("sparse",)),
    "dense + sparse": ("hybrid", "convex", ("bm25",)),
}
LANGUAGES = {"xquad_de": "german"}  # every other set: the default, English
LIMIT = 100
BATCH = 64


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "collections", type=Path, nargs="?", default=Path("../shared/eval"), help="folder of BEIR folders"
    )
    parser.add_argument("--data", type=Path, default=Path("/tmp/landmark-quality"), help="where the indexes are kept")
    parser.add_argument("--model", default="builtin")
    parser.add_argument("--only", default="", help="names, by commas")
    parser.add_argument("--no-peers", action="store_true", help="leave sentence-transformers and bm25s out")
    arguments = parser.parse_args()
    names = [path.parent.name for path in sorted(arguments.collections.glob("*/corpus.jsonl"))]
    chosen = [name for name in names if not arguments.only or name in arguments.only.split(",")]
    if not chosen:
        parser.error(f"no BEIR folder in {arguments.collections}")
    results = {}
    for name in chosen:
        results[name] = measure_set(
            read_evaluation_set(arguments.collections / name),
            arguments.data,
            arguments.model,
            peers=not arguments.no_peers,
        )
        print(f"{name}: {results[name]}", flush=True)
    _print(results)


def measure_set(evaluation_set: EvaluationSet, data: Path, model: str, *, peers: bool) -> dict[str, Any]:
    """nDCG@10 of every mode of one set, recall@100, weights and seconds; its index is kept below ``data``."""
    with open_engine(data / evaluation_set.name, model=model) as engine:
        if not engine.list_collections():
            engine.create_collection("c", language=_language(evaluation_set))
        collection = engine.get_collection("c")
        started = time.perf_counter()
        failed = [answer for answer in collection.ingest(read_corpus(evaluation_set.corpus)) if answer.error]
        assert not failed, failed[0]
        collection.optimize()
        index_s = time.perf_counter() - started
        info = collection.info()
        runs = RUNS | (SPARSE_RUNS if "sparse" in info.legs else {})
        weights = info.weights
        found = {name: _run(collection, evaluation_set, weights, *run) for name, run in runs.items()}
    result: dict[str, Any] = {name: metrics.ndcg_at_10 for name, metrics in found.items()}
    result["recall_at_100"] = {name: round(metrics.recall_at_100, 4) for name, metrics in found.items()}
    result["bm25_weight"] = round(_alone(weights) / weights["dense"], 3)
    result["sparse_weight"] = round(weights["sparse"] / weights["dense"], 3) if "sparse" in weights else None
    result["index_s"] = round(index_s, 1)
    if peers:
        result["sentence-transformers"] = _sentence_transformers(evaluation_set).ndcg_at_10
        result["bm25s"] = _bm25s(evaluation_set).ndcg_at_10
    return result


def _alone(weights: Mapping[str, float]) -> float:
    """BM25's weight in a collection without a learned sparse leg."""
    if "sparse" not in weights:
        return weights["bm25"]
    relative = weights["bm25"] / weights["dense"]
    return weights["dense"] * (relative / BM25_SHARE) ** 2  # the inverse of engine.fusion.beside_sparse


def _run(
    collection: CollectionApi,
    evaluation_set: EvaluationSet,
    defaults: Mapping[str, float],
    mode: str,
    fusion: str,
    without: Sequence[str],
) -> Metrics:
    run = {}
    weights = {**defaults, **dict.fromkeys(without, 0.0)}
    if "sparse" in without:
        weights["bm25"] = _alone(defaults)
    items = list(evaluation_set.queries.items())
    for start in range(0, len(items), BATCH):
        part = items[start : start + BATCH]
        queries = [
            Query(text=text, mode=mode, fusion=fusion, weights=weights, limit=LIMIT, passages=0, explain=False)  # type: ignore[arg-type]
            for _, text in part
        ]
        for (query_id, _), result in zip(part, collection.query_batch(queries), strict=True):
            run[query_id] = [(hit.doc_id, hit.score) for hit in result.hits]
    return evaluate(run, evaluation_set.qrels)


def _language(evaluation_set: EvaluationSet) -> str:
    return LANGUAGES.get(evaluation_set.name, "english")


def _whole_texts(evaluation_set: EvaluationSet) -> tuple[list[str], list[str]]:
    documents = list(read_corpus(evaluation_set.corpus))
    return [d.doc_id for d in documents], [f"{d.title} {d.text}".strip() for d in documents]


def _sentence_transformers(evaluation_set: EvaluationSet) -> Metrics:
    from sentence_transformers import SentenceTransformer

    from embedder.builtin import model_folder

    model = SentenceTransformer(str(model_folder()), device="cpu")
    ids, texts = _whole_texts(evaluation_set)
    vectors = model.encode(texts, normalize_embeddings=True)
    queries = model.encode(list(evaluation_set.queries.values()), normalize_embeddings=True)
    return evaluate(dict(_ranked(evaluation_set.queries, ids, queries @ vectors.T)), evaluation_set.qrels)


def _bm25s(evaluation_set: EvaluationSet) -> Metrics:
    import bm25s

    analyzer = Analyzer(_language(evaluation_set))
    ids, texts = _whole_texts(evaluation_set)
    retriever = bm25s.BM25(method="lucene", k1=1.2, b=0.75)
    retriever.index([analyzer.terms(text) for text in texts], show_progress=False)
    known = [_known(retriever, analyzer.terms(text)) for text in evaluation_set.queries.values()]
    scores = [retriever.get_scores(terms) if terms else np.zeros(len(ids)) for terms in known]
    return evaluate(dict(_ranked(evaluation_set.queries, ids, np.array(scores), positive=True)), evaluation_set.qrels)


def _known(retriever: object, terms: Sequence[str]) -> list[str]:
    return [term for term in terms if term in retriever.vocab_dict]  # type: ignore[attr-defined]


def _ranked(
    queries: dict[str, str], ids: list[str], scores: np.ndarray, *, positive: bool = False
) -> Iterator[tuple[str, list[tuple[str, float]]]]:
    for query_id, row in zip(queries, scores, strict=True):
        best = np.argsort(-row, kind="stable")[:LIMIT]
        yield query_id, [(ids[i], float(row[i])) for i in best if not positive or row[i] > 0]


def _print(results: dict[str, dict[str, Any]]) -> None:
    known = [*RUNS, *SPARSE_RUNS, "sentence-transformers", "bm25s"]
    columns = [column for column in known if any(column in result for result in results.values())]
    gains = {"hybrid - better leg": lambda r: r["hybrid"] - max(r["dense"], r["bm25"])}
    if "dense + bm25" in columns:
        gains["third leg"] = lambda r: r["hybrid"] - r["dense + bm25"]
    rows = [
        [name, *(result.get(column) for column in columns), *(f"{gain(result):+.4f}" for gain in gains.values()),
         result["bm25_weight"], result["sparse_weight"]]
        for name, result in results.items()
    ]  # fmt: skip
    means = [f"{np.mean([gain(result) for result in results.values()]):+.4f}" for gain in gains.values()]
    rows.append(["mean", *_means(results.values(), columns), *means, "", ""])
    print("nDCG@10 (linear gain)\n")
    print_table(["set", *columns, *gains, "BM25 weight", "sparse weight"], rows)
    recalls = {name: result["recall_at_100"] for name, result in results.items()}
    legs = [column for column in columns if column in next(iter(recalls.values()))]
    print("\nrecall@100\n")
    recalled = [[name, *(recall[leg] for leg in legs)] for name, recall in recalls.items()]
    print_table(["set", *legs], [*recalled, ["mean", *_means(recalls.values(), legs)]])
    print()
    print_json({"benchmark": "fusion_quality", "environment": environment(0), "results": results})


def _means(results: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> list[float | None]:
    """The mean of each column over the sets that have it."""
    found = [[result[column] for result in results if column in result] for column in columns]
    return [float(np.mean(values)) if values else None for values in found]


if __name__ == "__main__":
    main()
