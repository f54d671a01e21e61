"""How do the embedded databases do the work of ``benchmarks.peers``: Milvus Lite, Qdrant's local mode and LanceDB?"""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers_data import DataSet
from benchmarks.peers_measure import (
    BM25_B,
    BM25_K1,
    BUILD_WIDTH,
    DEPTH,
    GRAPH_LINKS,
    LIMIT,
    SEARCH_WIDTH,
    STOP_WORDS,
    Passage,
)


class MilvusLite:
    """Milvus Lite, a server within this process: HNSW and its BM25 function, RRF.

    The order is the one that Milvus recommends for a first load: insert, flush, index, load.
    """

    batch = 1_000
    stores_first = True
    note = (
        "HNSW, its BM25 function (idf per segment), RRF; its analyser has stop words and no stemming; "
        "one gRPC call a query; no fsync until a flush"
    )

    def __init__(self, folder: Path, data_set: DataSet) -> None:
        from pymilvus import DataType, Function, FunctionType, MilvusClient

        self._set = data_set
        self._path = str(folder / "milvus.db")
        self._client: Any = MilvusClient(self._path)
        schema = MilvusClient.create_schema(auto_id=False)
        schema.add_field("id", DataType.INT64, is_primary=True)
        analyzer = {"tokenizer": "standard", "filter": [{"type": "stop", "stop_words": STOP_WORDS}]}
        schema.add_field("text", DataType.VARCHAR, max_length=65_535, enable_analyzer=True, analyzer_params=analyzer)
        schema.add_field("dense", DataType.FLOAT_VECTOR, dim=data_set.vectors.shape[1])
        schema.add_field("sparse", DataType.SPARSE_FLOAT_VECTOR)
        schema.add_function(Function("bm25", FunctionType.BM25, ["text"], ["sparse"]))
        self._client.create_collection("c", schema=schema)

    def ingest(self, start: int, stop: int) -> None:
        """See `Peer`."""
        texts, vectors = self._set.texts, self._set.vectors
        self._client.insert("c", [{"id": row, "text": texts[row], "dense": vectors[row]} for row in range(start, stop)])

    def finish(self) -> None:
        """See `Peer`."""
        self._client.flush("c")
        self._wait_for_compaction()
        indexes = self._client.prepare_index_params()
        dense = {"M": GRAPH_LINKS, "efConstruction": BUILD_WIDTH}
        indexes.add_index("dense", index_type="HNSW", metric_type="COSINE", params=dense)
        bm25 = {"bm25_k1": BM25_K1, "bm25_b": BM25_B}
        indexes.add_index("sparse", index_type="SPARSE_INVERTED_INDEX", metric_type="BM25", params=bm25)
        self._client.create_index("c", indexes)
        self._client.load_collection("c")

    def _wait_for_compaction(self) -> None:
        """A flush merges segments in the background, and nothing public waits for it: get_compaction_state is a constant."""
        from milvus_lite.server_manager import server_manager_instance

        for _, database, _ in server_manager_instance._servers.values():
            database.get_collection("c")._wait_for_bg()

    def dense(self, i: int) -> list[int]:
        """See `Peer`."""
        vector = [self._set.query_vectors[i]]
        found = self._client.search(
            "c", vector, anns_field="dense", limit=LIMIT, search_params={"params": {"ef": SEARCH_WIDTH}}
        )
        return [int(hit["id"]) for hit in found[0]]

    def hybrid(self, i: int) -> list[Passage]:
        """See `HybridPeer`."""
        from pymilvus import AnnSearchRequest, RRFRanker

        dense = AnnSearchRequest([self._set.query_vectors[i]], "dense", {"params": {"ef": SEARCH_WIDTH}}, limit=DEPTH)
        lexical = AnnSearchRequest([self._set.queries[i]], "sparse", {}, limit=DEPTH)
        found = self._client.hybrid_search("c", [dense, lexical], RRFRanker(), limit=LIMIT, output_fields=["text"])
        return [(int(hit["id"]), hit["entity"]["text"]) for hit in found[0]]

    def close(self) -> None:
        """See `Peer`."""
        from milvus_lite.server_manager import server_manager_instance

        self._client.close()
        server_manager_instance.release_server(self._path)


class QdrantLocal:
    """Qdrant's local mode: BM25 as sparse vectors with Qdrant's idf, as its pages do with fastembed; RRF.

    fastembed fetches its stop words from the net; our analyser, which stems and drops as Landmark does, stands in for it.
    It is part of the timed work.
    """

    batch = 250
    stores_first = True
    note = (
        "scans every vector in Python by design, for at most 20,000 points by its own warning; sparse vectors made by "
        "Landmark's analyser within the times, idf by Qdrant; RRF; one SQLite commit a point"
    )

    def __init__(self, folder: Path, data_set: DataSet) -> None:
        from qdrant_client import QdrantClient, models

        from index.analyzer import Analyzer
        from index.bm25 import Bm25

        self._set, self._models = data_set, models
        self._analyzer = Analyzer("english")
        self._weigh = Bm25(BM25_K1, BM25_B).tf_part
        self._terms: dict[int, int] = {}  # Qdrant's term ids have 32 bits
        self._mean_length = 0.0
        self._client: Any = QdrantClient(path=str(folder))
        vectors = models.VectorParams(size=data_set.vectors.shape[1], distance=models.Distance.COSINE)
        sparse = models.SparseVectorParams(modifier=models.Modifier.IDF)
        self._client.create_collection("c", vectors_config={"dense": vectors}, sparse_vectors_config={"bm25": sparse})

    def ingest(self, start: int, stop: int) -> None:
        """See `Peer`. The mean length is that of the first batch; fastembed takes a constant."""
        counts = self._analyzer.count(self._set.texts[start:stop])
        lengths = np.array([counts.row(i)[1].sum() for i in range(counts.n_rows)])
        self._mean_length = self._mean_length or float(lengths.mean())
        points = []
        for row, length in zip(range(start, stop), lengths, strict=True):
            terms, tf = counts.row(row - start)
            bm25 = self._sparse(terms, self._weigh(tf, np.full(len(tf), length), self._mean_length))
            vector = {"dense": self._set.vectors[row].tolist(), "bm25": bm25}
            points.append(self._models.PointStruct(id=row, vector=vector, payload={"text": self._set.texts[row]}))
        self._client.upsert("c", points)

    def _sparse(self, terms: np.ndarray, values: np.ndarray) -> object:
        ids = [self._terms.setdefault(term, len(self._terms)) for term in terms.tolist()]
        return self._models.SparseVector(indices=ids, values=values.tolist())

    def finish(self) -> None:
        """See `Peer`. There is nothing to build."""

    def dense(self, i: int) -> list[int]:
        """See `Peer`."""
        vector = self._set.query_vectors[i]
        found = self._client.query_points("c", query=vector, using="dense", limit=LIMIT, with_payload=False)
        return [int(point.id) for point in found.points]

    def hybrid(self, i: int) -> list[Passage]:
        """See `HybridPeer`."""
        models = self._models
        terms, tf = self._analyzer.count([self._set.queries[i]]).row(0)
        legs = [
            models.Prefetch(query=self._set.query_vectors[i].tolist(), using="dense", limit=DEPTH),
            models.Prefetch(query=self._sparse(terms, tf), using="bm25", limit=DEPTH),
        ]
        fusion = models.FusionQuery(fusion=models.Fusion.RRF)
        found = self._client.query_points("c", prefetch=legs, query=fusion, limit=LIMIT, with_payload=True)
        return [(int(point.id), point.payload["text"]) for point in found.points]

    def close(self) -> None:
        """See `Peer`."""
        self._client.close()


class LanceDb:
    """LanceDB: IVF_HNSW_FLAT with one partition, full-text search that stems and drops as Landmark does, its RRF.

    Its limit is both the number of hits and the candidates of each leg. So a hundred are fused, of which only the ids are
    read, and then the texts of ten.
    """

    batch = 50_000
    stores_first = True
    note = "IVF_HNSW_FLAT with one partition, so one graph; stemming full-text search; RRF; no fsync of its own"

    def __init__(self, folder: Path, data_set: DataSet) -> None:
        # It writes a warning on stderr for every query that selects columns; read when the library is imported.
        os.environ.setdefault("LANCEDB_LOG", "error")
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
        """See `Peer`. Rows must be one fragment before they are indexed, or the index is of many parts."""
        from lancedb.index import FTS, HnswFlat

        self._table.optimize()
        graph = HnswFlat(distance_type="cosine", num_partitions=1, m=GRAPH_LINKS, ef_construction=BUILD_WIDTH)
        self._table.create_index("vector", config=graph)
        words = FTS(language="English", stem=True, remove_stop_words=True, custom_stop_words=STOP_WORDS)
        self._table.create_index("text", config=words)
        self._table.wait_for_index([index.name for index in self._table.list_indices()])

    def dense(self, i: int) -> list[int]:
        """See `Peer`."""
        search = self._table.search(self._set.query_vectors[i]).distance_type("cosine").ef(SEARCH_WIDTH)
        return [int(row) for row in search.limit(LIMIT).select(["id"]).to_arrow()["id"].to_pylist()]

    def hybrid(self, i: int) -> list[Passage]:
        """See `HybridPeer`."""
        search = self._table.search(query_type="hybrid").vector(self._set.query_vectors[i]).text(self._set.queries[i])
        search = search.distance_type("cosine").ef(SEARCH_WIDTH).limit(DEPTH).select(["id"]).with_row_id(True)
        found = search.to_arrow().slice(length=LIMIT)
        taken = self._table.take_row_ids(found["_rowid"].to_pylist()).select(["id", "text"]).to_arrow()
        texts = dict(zip(taken["id"].to_pylist(), taken["text"].to_pylist(), strict=True))  # in no promised order
        return [(row, texts[row]) for row in found["id"].to_pylist()]

    def close(self) -> None:
        """See `Peer`. The versions before the last are of no use to one reader."""
        self._table.optimize(cleanup_older_than=timedelta(seconds=1))
