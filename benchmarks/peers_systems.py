"""How do the peers of ``benchmarks.peers`` do the same work? One small adapter each, on the API that their pages recommend."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from benchmarks.peers_data import DataSet
from benchmarks.peers_measure import LIMIT, disk_mib, measure_queries, memory_over, peak_mib, quality

DEPTH = 100  # candidates of each leg, as Landmark takes
BATCH = 1_000
Hits = list[int]


class Peer(Protocol):
    """One system: rows are document ids."""

    note: str

    def __init__(self, folder: Path, data_set: DataSet) -> None:
        """Open an empty store and prepare what is not to be timed."""

    def ingest(self, start: int, stop: int) -> None:
        """Stores rows start to stop, durable on return as far as the system promises it."""

    def finish(self) -> None:
        """Builds the indexes."""

    def dense(self, i: int) -> Hits:
        """Answers query i by its vector."""

    def hybrid(self, i: int) -> Hits:
        """Answers query i by its vector and text."""


def measure_peer(name: str, data_set: DataSet, folder: Path) -> dict[str, object]:
    """One peer's row; says so when it is not installed."""
    n_rows = len(data_set.texts)
    try:
        base = peak_mib(reset=True)
        peer = PEERS[name](folder, data_set)
    except ModuleNotFoundError as error:
        return {"system": name, "note": f"not installed ({error.name})"}
    started = time.perf_counter()
    for start in range(0, n_rows, BATCH):
        peer.ingest(start, min(n_rows, start + BATCH))
    result: dict[str, object] = {"system": name, "passages": n_rows}
    result["ingest_per_s"] = n_rows / (time.perf_counter() - started)
    started = time.perf_counter()
    peer.finish()
    result["idle_s"] = time.perf_counter() - started
    result.update(measure_queries(data_set, peer.hybrid))
    result.update(quality(data_set, peer.dense, peer.hybrid))
    return {**result, "rss_mib": memory_over(base), "disk_mib": disk_mib(folder), "note": peer.note}


class MilvusLite:
    """Milvus Lite: HNSW and its own BM25 function, RRF. Its server is a child process, whose memory is not counted."""

    note = "HNSW + BM25 function, RRF; peak RSS is the client's process"

    def __init__(self, folder: Path, data_set: DataSet) -> None:
        from pymilvus import DataType, Function, FunctionType, MilvusClient

        self._set = data_set
        self._client: Any = MilvusClient(str(folder / "milvus.db"))
        schema = MilvusClient.create_schema(auto_id=False)
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("text", DataType.VARCHAR, max_length=65_535, enable_analyzer=True)
        schema.add_field("dense", DataType.FLOAT_VECTOR, dim=data_set.vectors.shape[1])
        schema.add_field("sparse", DataType.SPARSE_FLOAT_VECTOR)
        schema.add_function(Function("bm25", FunctionType.BM25, ["text"], ["sparse"]))
        indexes = MilvusClient.prepare_index_params()
        indexes.add_index("dense", index_type="HNSW", metric_type="COSINE", params={"M": 16, "efConstruction": 200})
        indexes.add_index("sparse", index_type="SPARSE_INVERTED_INDEX", metric_type="BM25")
        self._client.create_collection("c", schema=schema, index_params=indexes)

    def ingest(self, start: int, stop: int) -> None:
        """See `Peer`."""
        texts, vectors = self._set.texts, self._set.vectors
        rows = [{"id": r, "text": texts[r], "dense": vectors[r].tolist()} for r in range(start, stop)]
        self._client.insert("c", rows)

    def finish(self) -> None:
        """See `Peer`."""
        self._client.flush("c")
        self._client.load_collection("c")

    def dense(self, i: int) -> Hits:
        """See `Peer`."""
        vector = [self._set.query_vectors[i].tolist()]
        found = self._client.search("c", vector, anns_field="dense", limit=LIMIT, search_params={"params": {"ef": 200}})
        return [int(hit["id"]) for hit in found[0]]

    def hybrid(self, i: int) -> Hits:
        """See `Peer`."""
        from pymilvus import AnnSearchRequest, RRFRanker

        vector = [self._set.query_vectors[i].tolist()]
        dense = AnnSearchRequest(vector, "dense", {"params": {"ef": 200}}, limit=DEPTH)
        lexical = AnnSearchRequest([self._set.queries[i]], "sparse", {}, limit=DEPTH)
        found = self._client.hybrid_search("c", [dense, lexical], RRFRanker(), limit=LIMIT, output_fields=["text"])
        return [int(hit["id"]) for hit in found[0]]


class QdrantLocal:
    """Qdrant's local mode: exact scan in Python; BM25 as sparse vectors of our analyser, idf by Qdrant; RRF."""

    note = "exact scan in Python, sparse vectors made by our analyser (not timed), RRF"

    def __init__(self, folder: Path, data_set: DataSet) -> None:
        from qdrant_client import QdrantClient, models

        from index.analyzer import Analyzer
        from index.bm25 import Bm25

        self._set, self._models = data_set, models
        analyzer = Analyzer("english")
        self._terms: dict[int, int] = {}
        counts = analyzer.count(data_set.texts)
        lengths = np.add.reduceat(counts.values, counts.indptr[:-1])
        rows = np.repeat(lengths, np.diff(counts.indptr))
        weights = Bm25().tf_part(counts.values, rows, float(lengths.mean()))
        self._sparse = [
            (self._ids(counts.row(i)[0]), weights[counts.indptr[i] : counts.indptr[i + 1]].tolist())
            for i in range(counts.n_rows)
        ]
        asked = analyzer.count(data_set.queries)
        self._asked = [(self._ids(asked.row(i)[0]), asked.row(i)[1].tolist()) for i in range(asked.n_rows)]
        self._client: Any = QdrantClient(path=str(folder))
        vectors = models.VectorParams(size=data_set.vectors.shape[1], distance=models.Distance.COSINE)
        sparse = models.SparseVectorParams(modifier=models.Modifier.IDF)
        self._client.create_collection("c", vectors_config={"dense": vectors}, sparse_vectors_config={"bm25": sparse})

    def _ids(self, terms: np.ndarray) -> list[int]:
        return [self._terms.setdefault(term, len(self._terms)) for term in terms.tolist()]

    def _vector(self, pair: tuple[list[int], list[float]]) -> object:
        return self._models.SparseVector(indices=pair[0], values=pair[1])

    def ingest(self, start: int, stop: int) -> None:
        """See `Peer`."""
        points = [
            self._models.PointStruct(
                id=row,
                vector={"dense": self._set.vectors[row].tolist(), "bm25": self._vector(self._sparse[row])},
                payload={"text": self._set.texts[row]},
            )
            for row in range(start, stop)
        ]
        self._client.upsert("c", points)

    def finish(self) -> None:
        """See `Peer`. There is nothing to build."""

    def dense(self, i: int) -> Hits:
        """See `Peer`."""
        found = self._client.query_points("c", query=self._set.query_vectors[i].tolist(), using="dense", limit=LIMIT)
        return [int(point.id) for point in found.points]

    def hybrid(self, i: int) -> Hits:
        """See `Peer`."""
        legs = [
            self._models.Prefetch(query=self._set.query_vectors[i].tolist(), using="dense", limit=DEPTH),
            self._models.Prefetch(query=self._vector(self._asked[i]), using="bm25", limit=DEPTH),
        ]
        fusion = self._models.FusionQuery(fusion=self._models.Fusion.RRF)
        found = self._client.query_points("c", prefetch=legs, query=fusion, limit=LIMIT)
        return [int(point.id) for point in found.points]


class LanceDb:
    """LanceDB: IVF_HNSW_SQ and its full-text index with stemming, its RRF reranker."""

    note = "IVF_HNSW_SQ + FTS, RRF"

    def __init__(self, folder: Path, data_set: DataSet) -> None:
        import lancedb
        import pyarrow as pa

        self._set, self._arrow = data_set, pa
        vector = pa.list_(pa.float32(), data_set.vectors.shape[1])
        self._schema = pa.schema([("id", pa.int64()), ("text", pa.string()), ("vector", vector)])
        self._table: Any = lancedb.connect(str(folder)).create_table("c", schema=self._schema)

    def ingest(self, start: int, stop: int) -> None:
        """See `Peer`."""
        pa = self._arrow
        flat = pa.array(self._set.vectors[start:stop].ravel())
        vectors = pa.FixedSizeListArray.from_arrays(flat, self._set.vectors.shape[1])
        columns = [pa.array(range(start, stop), pa.int64()), pa.array(self._set.texts[start:stop]), vectors]
        self._table.add(pa.Table.from_arrays(columns, schema=self._schema))

    def finish(self) -> None:
        """See `Peer`."""
        self._table.optimize()
        self._table.create_index(metric="cosine", vector_column_name="vector", index_type="IVF_HNSW_SQ")
        self._table.create_fts_index("text")

    def dense(self, i: int) -> Hits:
        """See `Peer`."""
        found = self._table.search(self._set.query_vectors[i]).distance_type("cosine").limit(LIMIT)
        return [int(row) for row in found.to_arrow()["id"].to_pylist()]

    def hybrid(self, i: int) -> Hits:
        """See `Peer`."""
        search = self._table.search(query_type="hybrid").vector(self._set.query_vectors[i]).text(self._set.queries[i])
        found = search.distance_type("cosine").limit(DEPTH).to_arrow()  # RRF is the default
        return [int(row) for row in found["id"].to_pylist()[:LIMIT]]


PEERS: dict[str, type[Peer]] = {"milvus-lite": MilvusLite, "qdrant-local": QdrantLocal, "lancedb": LanceDb}
