"""Which code for prefixes, and which stand-ins for queries? The two choices behind docs/adr/0013.

    python -m benchmarks.dense_codes CORPUS [--passages N]

CORPUS has ``dense.npy`` float16[n, dim] and ``queries_dense.npy`` float32[m, dim] (`benchmarks.scale_corpus` makes them).

The first table: recall@10 when the best by a code of the rotated vectors are rescored exactly, by how many are. ``int8`` has
one step for all dimensions, the other codes as many levels as their bits allow over three standard deviations.
The second: recall@10 of the index itself for real held-out queries, and for queries made of passages in several ways: the
certificate is honest where these are as hard as those, in the scan and in the graph.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.report import environment, print_json, print_table
from index import rotation
from index.dense import DenseIndex
from index.recall import KS, measure, nearest

K = 10
DEPTHS = (10, 20, 40, 80, 160)
GRAPH_WIDTHS = (16, 48, 96, 128, 192)
SEED = 0


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--passages", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=1_000)
    arguments = parser.parse_args()
    vectors = np.ascontiguousarray(np.load(arguments.corpus / "dense.npy", mmap_mode="r")[: arguments.passages])
    queries = np.load(arguments.corpus / "queries_dense.npy")[: arguments.queries].astype(np.float32)
    print(
        f"{len(vectors):,} vectors of {vectors.shape[1]}, {len(queries):,} queries\n\nRecall@10 by candidates rescored\n"
    )
    codes = [[name, *row] for name, row in _codes(vectors, queries)]
    print_table(["code", "bytes", *map(str, DEPTHS)], codes)
    print(f"\nRecall@10 of the index, prefix 256: flat by depth {DEPTHS[:3]}, graph by width {GRAPH_WIDTHS}\n")
    stand_ins = _stand_ins(vectors, queries)
    print_table(["queries", *(f"flat {d}" for d in DEPTHS[:3]), *(f"graph {w}" for w in GRAPH_WIDTHS)], stand_ins)
    print()
    facts = {"n": len(vectors), "dim": vectors.shape[1], "environment": environment(SEED)}
    print_json({"benchmark": "dense_codes", **facts, "codes": codes, "stand_ins": stand_ins})


def _codes(vectors: np.ndarray, queries: np.ndarray) -> Iterator[tuple[str, list[object]]]:
    """The name, the bytes a row, and the recall at each depth, of each code."""
    whole = vectors.astype(np.float32)
    basis = rotation.fit(vectors)
    turned, asked = whole @ basis, queries @ basis
    exact = queries @ whole.T
    least = -np.partition(-exact, K - 1, axis=1)[:, K - 1 : K]
    good = exact >= least
    step = np.abs(turned[:, :128]).max() / 127.0
    yield "int8, 128 dimensions", [128, *_recalls(asked[:, :128] @ (np.rint(turned[:, :128] / step)).T, good)]
    for bits, dim in ((4, 192), (4, 256), (4, 384), (2, 384)):
        levels, steps = _levels(turned[:, :dim], bits)
        weights = asked[:, :dim] * steps
        yield f"{bits} bits, {dim} dimensions", [bits * dim // 8, *_recalls(weights @ levels.T, good)]
        if (bits, dim) == (4, 256):
            short = np.rint(weights * (127.0 / np.abs(weights).max(axis=1, keepdims=True)))
            yield "the same, query in 8 bits", [128, *_recalls(short @ levels.T, good)]


def _levels(turned: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Levels float32[n, dim] over three standard deviations, and what one is worth, float32[dim]."""
    count = 2**bits
    steps = 6.0 * turned.std(axis=0) / count
    return np.clip(np.floor((turned - turned.mean(axis=0)) / steps) + count // 2, 0, count - 1), steps


def _recalls(scores: np.ndarray, good: np.ndarray) -> list[object]:
    """Recall at each of ``DEPTHS``: how many of the good rows are among so many best by these scores."""
    best = np.argpartition(-scores, DEPTHS[-1], axis=1)[:, : DEPTHS[-1]]
    order = np.argsort(-np.take_along_axis(scores, best, 1), axis=1)
    hits = np.take_along_axis(good, np.take_along_axis(best, order, 1), 1).cumsum(axis=1).clip(max=K)
    return [float(hits[:, depth - 1].mean()) / K for depth in DEPTHS]


def _stand_ins(vectors: np.ndarray, queries: np.ndarray) -> list[list[object]]:
    indexes = [DenseIndex.build(vectors, kind=kind, coarse_dim=256, rotate=True) for kind in ("flat", "hnsw")]
    rows: list[list[object]] = []
    for name, made, hidden in _queries(vectors, queries):
        exact = nearest(vectors, made, KS[-1], hidden)
        least = np.stack(
            [indexes[0].score(one, found)[[k - 1 for k in KS]] for one, found in zip(made, exact, strict=True)]
        )
        flat = {one.depth: one.recall for one in measure(indexes[0], (0,), made, least, hidden) if one.k == K}
        graph = {width: _graph_recall(indexes[1], width, made, least, hidden) for width in GRAPH_WIDTHS}
        rows.append([name, *(flat.get(depth, max(flat.values())) for depth in DEPTHS[:3]), *graph.values()])
    return rows


def _graph_recall(index: DenseIndex, width: int, made: np.ndarray, least: np.ndarray, hidden: np.ndarray) -> float:
    return max(one.recall for one in measure(index, (width,), made, least, hidden) if one.k == K)


def _queries(vectors: np.ndarray, queries: np.ndarray) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """A name, queries float32[m, dim], and the row that each must not find (-1: none)."""
    rng = np.random.default_rng(SEED)
    m = len(queries)
    rows = np.sort(rng.choice(len(vectors), m, replace=False))
    own = vectors[rows].astype(np.float32)
    yield "real, held out", queries, np.full(m, -1)
    yield "rows as they are", own, rows
    noise = _unit(rng.standard_normal(own.shape, np.float32))
    for length in (0.5, 1.0, 1.4):
        yield f"rows + {length} of a random direction", _unit(own + length * noise), rows
    others = [vectors[rng.choice(len(vectors), m)].astype(np.float32) for _ in range(2)]
    for part in (0.5,):
        yield f"rows + {part} of the difference of two rows", _unit(own + part * (others[0] - others[1])), rows


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(min=1e-9)


if __name__ == "__main__":
    main()
