"""Indexes of other libraries on whole vectors, as `benchmarks.dense_search` runs them: one thread, one query at a time.

Graphs have 16 links a node and are built with a width of 200, as Landmark's. Each is built once, kept in a file with the
processor seconds of its building, and read from there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from index.vectors import score_rows

M, WIDTH = 16, 200
GRAPH_WIDTHS = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
PROBES = (4, 8, 16, 32, 64, 128, 256)
SEED = 1


@dataclass(frozen=True)
class Subject:
    """One index under test.

    Attributes:
        name: with its settings.
        build_s: processor seconds of building.
        nbytes: what it needs in memory, which is the size of its files.
        settings: to try, cheapest first.
        search: query float32[dim], k and a setting → the rows, best first.
    """

    name: str
    build_s: float
    nbytes: int
    settings: Sequence[Any]
    search: Callable[[np.ndarray, int, Any], np.ndarray]


class Peer(Protocol):
    """Builds a subject from float16 unit rows, or reads the one that it kept in ``folder``."""

    def __call__(self, vectors: np.ndarray, folder: Path) -> Subject:
        """The subject; the folder exists."""


def _kept(path: Path, build: Callable[[], None]) -> float:
    """Processor seconds of building ``path``, now or when it was built."""
    seconds = path.with_suffix(".seconds")
    if not seconds.exists():
        began = time.process_time()
        build()
        seconds.write_text(f"{time.process_time() - began:.1f}")
    return float(seconds.read_text())


def hnswlib_graph(vectors: np.ndarray, folder: Path) -> Subject:
    """Hnswlib's own graph of float32 vectors."""
    import hnswlib

    n, dim = vectors.shape
    path = folder / "hnswlib.bin"

    def build() -> None:
        graph = hnswlib.Index(space="ip", dim=dim)
        graph.init_index(max_elements=n, M=M, ef_construction=WIDTH, random_seed=SEED)
        graph.add_items(vectors.astype(np.float32), num_threads=1)
        graph.save_index(str(path))

    seconds = _kept(path, build)
    graph = hnswlib.Index(space="ip", dim=dim)
    graph.load_index(str(path))

    def search(query: np.ndarray, k: int, width: int) -> np.ndarray:
        graph.set_ef(width)
        return graph.knn_query(query, k=k, num_threads=1)[0][0]

    return Subject("hnswlib", seconds, path.stat().st_size, GRAPH_WIDTHS, search)


def usearch_graph(dtype: str) -> Peer:
    """Usearch's graph of float32, float16 or 8-bit vectors."""

    def make(vectors: np.ndarray, folder: Path) -> Subject:
        from usearch.index import Index

        def empty() -> Index:
            return Index(
                ndim=vectors.shape[1],
                metric="ip",
                dtype=dtype,
                connectivity=M,
                expansion_add=WIDTH,
                expansion_search=64,
            )

        path = folder / f"usearch-{dtype}.bin"

        def build() -> None:
            index = empty()
            index.add(np.arange(len(vectors)), vectors.astype(np.float32), threads=1)
            index.save(str(path))

        seconds = _kept(path, build)
        index = empty()
        index.load(str(path))

        def search(query: np.ndarray, k: int, width: int) -> np.ndarray:
            index.expansion_search = width
            return index.search(query, k, threads=1).keys.astype(np.int64)

        return Subject(f"usearch {dtype}", seconds, path.stat().st_size, GRAPH_WIDTHS, search)

    return make


def faiss_index(name: str, factory: str, settings: Sequence[str]) -> Peer:
    """An index of faiss's factory by inner product, each setting a string of its ParameterSpace.

    ``{nlist}``, ``{half}`` and ``{quarter}`` in ``factory`` stand for 4 √n lists, and for parts of the dimensions.
    """

    def make(vectors: np.ndarray, folder: Path) -> Subject:
        import faiss

        faiss.omp_set_num_threads(1)
        n, dim = vectors.shape
        described = factory.format(nlist=int(4 * n**0.5), half=dim // 2, quarter=dim // 4)
        path = folder / f"faiss-{''.join(c for c in described if c.isalnum())}.bin"

        def build() -> None:
            index = faiss.index_factory(dim, described, faiss.METRIC_INNER_PRODUCT)
            if described.startswith("HNSW"):
                index.hnsw.efConstruction = WIDTH
            whole = vectors.astype(np.float32)
            index.train(whole)
            index.add(whole)
            faiss.write_index(index, str(path))

        seconds = _kept(path, build)
        index = faiss.read_index(str(path))
        space = faiss.ParameterSpace()
        current = [""]

        def search(query: np.ndarray, k: int, setting: str) -> np.ndarray:
            if setting and setting != current[0]:
                space.set_index_parameters(index, setting)
                current[0] = setting
            return index.search(query[None, :], k)[1][0]

        return Subject(f"faiss {name}", seconds, path.stat().st_size, settings, search)

    return make


def sign_bits(vectors: np.ndarray, folder: Path) -> Subject:
    """The sign bits of all dimensions after a random rotation, by faiss, and exact rescoring by Landmark's kernel."""
    import faiss

    faiss.omp_set_num_threads(1)
    n, dim = vectors.shape
    began = time.process_time()
    basis = np.linalg.qr(np.random.default_rng(SEED).standard_normal((dim, dim)))[0].astype(np.float32)
    index = faiss.IndexBinaryFlat(dim)
    index.add(np.packbits(vectors.astype(np.float32) @ basis > 0.0, axis=1))
    seconds = time.process_time() - began

    def search(query: np.ndarray, k: int, depth: int) -> np.ndarray:
        bits = np.packbits(query @ basis > 0.0)[None, :]
        rows = index.search(bits, depth)[1][0].astype(np.int64)
        scores = score_rows(vectors, query, rows)
        return rows[np.argsort(-scores, kind="stable")[:k]]

    del folder
    depths = (40, 80, 160, 320, 640, 1_280, 2_560)
    return Subject("sign bits + rescoring", seconds, n * dim // 8 + vectors.nbytes, depths, search)


_REFINED = [f"nprobe={probes},k_factor_rf={factor}" for probes in PROBES for factor in (4, 10, 30)]
PEERS: dict[str, Peer] = {
    "hnswlib": hnswlib_graph,
    "faiss-hnsw": faiss_index("HNSW", f"HNSW{M}", [f"efSearch={width}" for width in GRAPH_WIDTHS]),
    "faiss-ivfpq": faiss_index("IVF-PQ fast scan", "IVF{nlist},PQ{half}x4fs,Refine(SQfp16)", _REFINED),
    "faiss-rabitq": faiss_index("IVF-RaBitQ", "IVF{nlist},RaBitQ,Refine(SQfp16)", _REFINED),
    "faiss-flat": faiss_index("flat", "Flat", [""]),
    "usearch": usearch_graph("f32"),
    "usearch-f16": usearch_graph("f16"),
    "usearch-i8": usearch_graph("i8"),
    "sign-bits": sign_bits,
}
