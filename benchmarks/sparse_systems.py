"""How is each system of ``benchmarks.sparse_search`` built and asked?

All get the same rows and queries: BM25 counts of our analyser with k1 1.2 and b 0.75, learned weights times Lucene's idf.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.scale_data import ScaleData, load
from index.analyzer import Analyzer
from index.bm25 import Bm25
from index.sparse import SparseIndex
from index.sparse_rows import SparseQuery, SparseRows

WARM = 20  # queries asked before any is timed
DEEP = 100  # exact hits kept of each query
BM25 = Bm25()
Ask = Callable[[SparseQuery, int], list[int]]


@dataclass(frozen=True)
class Outcome:
    """What one system with one setting did: milliseconds and rows of each query, megabytes, seconds; None: not known."""

    system: str
    times: list[float]
    rows: list[list[int]]
    index_mb: float | None
    peak_mb: float
    build_s: float | None


@dataclass(frozen=True)
class Built:
    """A built index: ways to ask it by name, its megabytes and the seconds that building took (None: not known)."""

    ways: dict[str, Ask]
    index_mb: float | None
    build_s: float | None


@dataclass(frozen=True)
class System:
    """A system: the legs it can search, the most passages it is given, and how it is built."""

    name: str
    legs: tuple[str, ...]
    most: int
    build: Callable[[ScaleData, str], Built]

    def run(self, folder: Path, leg: str, size: int, n_queries: int, k: int) -> None:
        """Measure in this process, and leave ``found_*.json`` in the folder."""
        if size > self.most:
            return
        data = load(folder, size)
        asked = questions(data, leg, index_of(data, leg)[0], n_queries)
        built = self.build(data, leg)
        outcomes = []
        for name, ask in built.ways.items():
            for query in asked[:WARM]:
                ask(query, k)
            times, found = [], []
            for query in asked:
                began = time.perf_counter()
                hits = ask(query, k)
                times.append(1e3 * (time.perf_counter() - began))
                found.append([int(row) for row in hits])
            outcomes.append(asdict(Outcome(name, times, found, built.index_mb, _peak_megabytes(), built.build_s)))
        (folder / f"found_{self.name}_{leg}_{size}.json").write_text(json.dumps(outcomes), encoding="utf-8")


def _peak_megabytes() -> int:
    """The most memory that this process held since it began (getrusage would count its parent's too)."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return round(next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024)


def index_of(data: ScaleData, leg: str) -> tuple[SparseIndex, float]:
    """Our index of a leg, from its folder or built now, and the CPU seconds that building took."""
    folder = data.folder / f"index_{leg}_{data.n}"

    def make(folder: Path) -> None:
        rows = data.bm25() if leg == "bm25" else data.sparse()
        SparseIndex.build(rows, bm25=BM25 if leg == "bm25" else None).save(folder)

    seconds = _kept(folder, make)
    return SparseIndex.load(folder), seconds


def questions(data: ScaleData, leg: str, index: SparseIndex, count: int) -> list[SparseQuery]:
    """The first ``count`` queries, weighted by idf; terms that no passage holds are left out."""
    rows = Analyzer().count(data.queries.texts[:count]) if leg == "bm25" else data.queries.sparse
    asked = []
    for i in range(count):
        terms, weights = rows.row(i)
        df = index.doc_freq(terms)
        held = df > 0
        asked.append(SparseQuery(terms[held], (weights * BM25.idf(data.n, df))[held].astype(np.float32)))
    return asked


def _ours(data: ScaleData, leg: str) -> Built:
    index, seconds = index_of(data, leg)
    folder = data.folder / f"index_{leg}_{data.n}"
    for path in folder.glob("*.npy"):  # into the page cache, as peers have theirs in memory
        np.load(path, mmap_mode="r").view(np.uint8).max()

    def exact(query: SparseQuery, k: int) -> list[int]:
        return index.search(query, k).rows.tolist()

    def approximate(query: SparseQuery, k: int) -> list[int]:
        return index.search(query, k, approximate=True).rows.tolist()

    return Built({"Landmark, exact": exact, "Landmark, approximate": approximate}, _megabytes(folder), seconds)


def _kept(folder: Path, make: Callable[[Path], None]) -> float:
    """Make an index in a folder unless it is there; the CPU seconds that it took."""
    if not (folder / "build.json").exists():
        folder.mkdir(exist_ok=True)
        began = time.process_time()
        make(folder)
        (folder / "build.json").write_text(json.dumps(time.process_time() - began), encoding="utf-8")
    return round(float(json.loads((folder / "build.json").read_text(encoding="utf-8"))), 1)


def _megabytes(folder: Path) -> int:
    return round(sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6)


def _seismic(data: ScaleData, leg: str) -> Built:
    """Seismic without document names, from a file in its own format; several settings of its search.

    Its components have 16 bits, ours are terms of the vocabulary and, beyond it, characters: they are numbered anew.
    """
    import seismic

    folder = data.folder / f"seismic_{leg}_{data.n}"

    def make(folder: Path) -> None:
        rows = data.sparse()
        vocabulary, components = np.unique(rows.terms, return_inverse=True)
        np.save(folder / "vocabulary.npy", vocabulary)
        _write_seismic(folder / "rows.bin", replace(rows, terms=components))
        seismic.SeismicIndexRaw.build(str(folder / "rows.bin"), **SEISMIC_BUILD).save(str(folder / "built"))
        (folder / "rows.bin").unlink()

    seconds = _kept(folder, make)
    index = seismic.SeismicIndexRaw.load(str(next(folder.glob("built*"))))
    vocabulary = np.load(folder / "vocabulary.npy")
    ways: dict[str, Ask] = {}
    for cut, factor in SEISMIC_SEARCH:

        def ask(query: SparseQuery, k: int, cut: int = cut, factor: float = factor) -> list[int]:
            components = np.searchsorted(vocabulary, query.terms).clip(max=len(vocabulary) - 1)
            there = vocabulary[components] == query.terms
            hits = index.search(components[there].astype(np.int32), query.weights[there], k, cut, factor, 0, True)
            return [row for _, row in hits]

        ways[f"Seismic, cut {cut}, factor {factor}"] = ask
    return Built(ways, _megabytes(folder), seconds)


def _write_seismic(path: Path, rows: SparseRows) -> None:
    """Its inner format: uint32 rows; for each uint32 length, uint32 components, float32 values."""
    with path.open("wb") as file:
        np.array([rows.n_rows], np.uint32).tofile(file)
        for first in range(0, rows.n_rows, 50_000):
            ptr = rows.indptr[first : first + 50_001]
            lengths, inner = np.diff(ptr), slice(int(ptr[0]), int(ptr[-1]))
            starts = np.arange(len(lengths)) + 2 * (ptr[:-1] - ptr[0])
            places = np.repeat(starts + 1 - (ptr[:-1] - ptr[0]), lengths) + np.arange(inner.stop - inner.start)
            words = np.empty(len(lengths) + 2 * len(places), np.uint32)
            words[starts] = lengths
            words[places] = rows.terms[inner]
            words[places + np.repeat(lengths, lengths)] = rows.values[inner].view(np.uint32)
            words.tofile(file)


def _bm25s(data: ScaleData, _leg: str) -> Built:
    import bm25s

    folder = data.folder / f"bm25s_{data.n}"

    def make(folder: Path) -> None:
        rows = data.bm25()
        vocabulary, ordinals = np.unique(rows.terms, return_inverse=True)
        repeated = np.repeat(ordinals.astype(np.int32), rows.values.astype(np.int64))
        ends = np.concatenate([[0], np.cumsum(rows.values, dtype=np.int64)])[rows.indptr]
        tokens = [repeated[a:b].tolist() for a, b in pairwise(ends.tolist())]
        index = bm25s.BM25(method="lucene", k1=BM25.k1, b=BM25.b, backend="numba")
        index.index((tokens, {str(i): i for i in range(len(vocabulary))}), show_progress=False)
        index.save(folder / "built")

    seconds = _kept(folder, make)
    index = bm25s.BM25.load(folder / "built")
    index.backend = "numba"
    counted = index_of(data, "bm25")[0]
    vocabulary = np.unique(counted.rows().terms)

    def ask(query: SparseQuery, k: int) -> list[int]:
        places = np.searchsorted(vocabulary, query.terms)
        counts = np.rint(query.weights / BM25.idf(data.n, counted.doc_freq(query.terms))).astype(np.int64)
        found, _ = index.retrieve([np.repeat(places, counts).tolist()], k=k, show_progress=False, n_threads=1)
        return found[0].tolist()

    return Built({"bm25s, numba": ask}, _megabytes(folder), seconds)


def _milvus(data: ScaleData, leg: str) -> Built:
    from pymilvus import DataType, MilvusClient

    folder = data.folder / f"milvus_{leg}_{data.n}"

    def make(folder: Path) -> None:
        client = MilvusClient(str(folder / "built.db"))
        schema = client.create_schema()
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("vector", DataType.SPARSE_FLOAT_VECTOR)
        client.create_collection("passages", schema=schema)
        for some in _batches(data.sparse(), 2_000):
            client.insert("passages", some)
        client.flush("passages")
        params: Any = client.prepare_index_params()
        params.add_index("vector", index_type="SPARSE_INVERTED_INDEX", metric_type="IP")
        client.create_index("passages", params)
        client.close()

    seconds = _kept(folder, make)
    client = MilvusClient(str(folder / "built.db"))
    client.load_collection("passages")

    def ask(query: SparseQuery, k: int) -> list[int]:
        pairs = dict(zip(query.terms.tolist(), query.weights.tolist(), strict=True))
        found = client.search("passages", [pairs], anns_field="vector", limit=k, search_params={"metric_type": "IP"})
        return [hit["id"] for hit in found[0]]

    return Built({"Milvus Lite, sparse inverted": ask}, _megabytes(folder), seconds)


def _batches(rows: SparseRows, size: int) -> Iterator[list[dict[str, object]]]:
    for start in range(0, rows.n_rows, size):
        some = []
        for i in range(start, min(start + size, rows.n_rows)):
            terms, values = rows.row(i)
            some.append({"id": i, "vector": dict(zip(terms.tolist(), values.tolist(), strict=True))})
        yield some


# Its README has 4,000 postings and clusters of a tenth for 8.8 million SPLADE passages. Its build takes time in proportion
# to their product: that of 100,000 of these passages, with 250 terms each, was not done after eight minutes of a core.
SEISMIC_BUILD: dict[str, Any] = {
    "n_postings": 2_000, "centroid_fraction": 0.02, "min_cluster_size": 2, "summary_energy": 0.4, "max_fraction": 1.5,
    "doc_cut": 15, "nknn": 0,
}  # fmt: skip
SEISMIC_SEARCH = ((5, 0.9), (10, 0.9), (10, 0.7), (20, 0.8), (20, 0.6), (40, 0.7), (40, 0.5))
SYSTEMS = {
    system.name: system
    for system in (
        System("ours", ("sparse", "bm25"), 100_000_000, _ours),
        System("seismic", ("sparse",), 100_000_000, _seismic),
        System("bm25s", ("bm25",), 100_000_000, _bm25s),
        System("milvus", ("sparse",), 100_000, _milvus),
    )
}
