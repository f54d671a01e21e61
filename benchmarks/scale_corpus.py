"""A million real passages with real vectors: how is the corpus of the scale benchmarks made?

    python -m benchmarks.scale_corpus --train DIR --articles FILE... --out DIR [--passages 1000000] [--true 100000] STEP...

Steps, in this order; each keeps what it made, and is skipped where that is there already:

    texts    passages of about 64 tokens by the embedder's own splitter, in random order, and held-out queries
    embed    the built-in model's dense and learned sparse vectors, of the queries and of the first ``--true`` passages, in
             shards (a kill loses at most one; run it again to go on). With a GPU, ``--true`` may be all passages.
    student  vectors of all other passages, by students of the model without its network (``benchmarks/scale_student.py``)
    bm25     term counts by the analyser

``benchmarks.scale_data.load`` reads the result.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

from benchmarks import report, scale_student, scale_texts
from benchmarks.scale_data import Passages
from benchmarks.scale_texts import PASSAGE_TOKENS
from embedder.embedder import DocumentInput, Embedder
from embedder.values import SparseVector
from index.analyzer import Analyzer
from index.sparse_rows import SparseRows

SHARD = 2_048  # passages
SEED = 20261125
STEPS = ("texts", "embed", "student", "bm25")


def main() -> None:
    """Run the steps that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("steps", nargs="+", choices=STEPS, metavar="STEP", help=", ".join(STEPS))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--train", type=Path, help="a folder of .jsonl.zst pairs (query, positive, source)")
    parser.add_argument("--articles", type=Path, nargs="*", default=[], help=".jsonl.zst files of whole texts")
    parser.add_argument("--passages", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=2_000)
    parser.add_argument("--true", type=int, default=100_000, help="passages that the model itself embeds")
    parser.add_argument("--device")
    parser.add_argument("--dtype", help="of the model's weights; bfloat16 is about twice as fast on a CPU with AMX")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for step in STEPS:
        if step in arguments.steps:
            began = time.perf_counter()
            print(f"{step} ...", flush=True)
            {"texts": _texts, "embed": _embed, "student": _student, "bm25": _bm25}[step](arguments)
            print(f"{step}: {time.perf_counter() - began:.0f} s", flush=True)


def _texts(arguments: argparse.Namespace) -> None:
    out = arguments.out
    if arguments.train is None:
        raise SystemExit("the step texts needs --train")
    if not (out / "passages_token_ptr.npy").exists():
        texts = scale_texts.documents(arguments.articles, arguments.train)
        scale_texts.collect(texts, arguments.passages, SEED).save(out)
    passages = Passages.load(out)
    if not (out / "queries.json").exists():
        queries = scale_texts.choose_queries(arguments.train, passages, arguments.queries, SEED)
        (out / "queries.json").write_text(json.dumps(queries, ensure_ascii=False, indent=0), encoding="utf-8")
    print(f"{len(passages):,} passages, {len(passages.tokens) / len(passages):.1f} tokens a passage")


def _embed(arguments: argparse.Namespace) -> None:
    shards = arguments.out / "shards"
    shards.mkdir(exist_ok=True)
    passages = Passages.load(arguments.out)
    n_true = min(-(-arguments.true // SHARD) * SHARD, len(passages))  # whole shards
    with Embedder.load(
        "builtin", passage_tokens=PASSAGE_TOKENS, device=arguments.device, dtype=arguments.dtype
    ) as embedder:
        if not (arguments.out / "queries_dense.npy").exists():
            _embed_queries(arguments.out, embedder)
        for start in range(0, n_true, SHARD):
            path = shards / f"{start:08d}.npz"
            if not path.exists():
                _embed_shard(path, embedder, passages.texts(start, min(start + SHARD, n_true)))


def _embed_shard(path: Path, embedder: Embedder, texts: list[str]) -> None:
    """Write one shard at once: a file that is there is whole."""
    began = time.perf_counter()
    embedded = embedder.embed_documents([DocumentInput("", text) for text in texts])
    vectors = [document.passages[0].vectors for document in embedded]
    dense = np.stack([each.dense for each in vectors]).astype(np.float16)
    sparse = _sparse_rows([each.sparse for each in vectors])
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        np.savez(file, dense=dense, indptr=sparse.indptr, terms=sparse.terms.astype(np.uint32), values=sparse.values)
    part.rename(path)
    print(f"{path.name}: {len(texts) / (time.perf_counter() - began):.0f} passages/s", flush=True)


def _embed_queries(out: Path, embedder: Embedder) -> None:
    texts = [query["text"] for query in json.loads((out / "queries.json").read_text(encoding="utf-8"))]
    embedded = [query for i in range(0, len(texts), 256) for query in embedder.embed_queries(texts[i : i + 256])]
    sparse = _sparse_rows([query.sparse for query in embedded])
    for name, array in (("indptr", sparse.indptr), ("terms", sparse.terms), ("values", sparse.values)):
        np.save(out / f"queries_sparse_{name}.npy", array)
    np.save(out / "queries_dense.npy", np.stack([query.dense for query in embedded]))


def _sparse_rows(vectors: list[SparseVector | None]) -> SparseRows:
    return SparseRows.from_rows(
        (np.empty(0, np.uint64), np.empty(0, np.float32))
        if each is None
        else (each.ids.astype(np.uint64), each.weights)
        for each in vectors
    )


def _student(arguments: argparse.Namespace) -> None:
    facts = scale_student.make(arguments.out, SEED)
    (arguments.out / "facts.json").write_text(json.dumps({**facts, **report.environment(SEED)}, indent=1))
    print(json.dumps(facts))


def _bm25(arguments: argparse.Namespace) -> None:
    if (arguments.out / "bm25_values.npy").exists():
        return
    passages = Passages.load(arguments.out)
    analyzer = Analyzer()
    parts = [
        analyzer.count(passages.texts(start, min(start + 10_000, len(passages))))
        for start in range(0, len(passages), 10_000)
    ]
    rows = SparseRows.concat(parts)
    for name in ("indptr", "terms", "values"):
        np.save(arguments.out / f"bm25_{name}.npy", getattr(rows, name))


if __name__ == "__main__":
    main()
