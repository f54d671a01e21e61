"""How do the embedded libraries do the work of ``benchmarks.peers``: Chroma, txtai, and faiss with bm25s glued by hand?"""

from __future__ import annotations

import json
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

RRF_K = 60


class Chroma:
    """Chroma's persistent client: HNSW only."""

    batch = 5_000  # its get_max_batch_size() is 5,461
    stores_first = True
    note = "dense only: its local client has neither BM25 nor hybrid search (Collection.search: not implemented for Local Chroma)"

    def __init__(self, folder: Path, data_set: DataSet) -> None:
        import chromadb

        self._set = data_set
        hnsw = {
            "space": "cosine",
            "max_neighbors": GRAPH_LINKS,
            "ef_construction": BUILD_WIDTH,
            "ef_search": SEARCH_WIDTH,
        }
        settings = chromadb.Settings(anonymized_telemetry=False)
        self._client: Any = chromadb.PersistentClient(str(folder), settings)
        self._collection = self._client.create_collection(
            "passages", configuration={"hnsw": hnsw}, embedding_function=None
        )

    def ingest(self, start: int, stop: int) -> None:
        """See `Peer`."""
        ids = [str(row) for row in range(start, stop)]
        self._collection.add(ids, embeddings=self._set.vectors[start:stop], documents=self._set.texts[start:stop])

    def finish(self) -> None:
        """See `Peer`. The graph grows as rows come."""

    def dense(self, i: int) -> list[int]:
        """See `Peer`."""
        found = self._collection.query(self._set.query_vectors[i : i + 1], n_results=LIMIT, include=[])
        return [int(row) for row in found["ids"][0]]

    def close(self) -> None:
        """See `Peer`."""
        self._client.close()


class Txtai:
    """txtai: hybrid index with content, vectors from outside; a hundred candidates a leg, convex fusion of scaled scores."""

    stores_first = False  # index() and save() are one step
    note = "hnswlib, BM25 in SQLite with stop words and no stemming, its convex fusion; one index() call, then save()"

    def __init__(self, folder: Path, data_set: DataSet) -> None:
        from txtai import Embeddings

        self._set, self._folder = data_set, folder
        self.batch = len(data_set.texts)  # index() takes a whole collection
        rows = {text: row for row, text in enumerate(data_set.texts)}
        queries = {text: row for row, text in enumerate(data_set.queries)}

        def vectors(texts: list[str]) -> np.ndarray:
            known = (data_set.vectors[rows[t]] if t in rows else data_set.query_vectors[queries[t]] for t in texts)
            return np.stack(list(known))

        hnsw = {"m": GRAPH_LINKS, "efconstruction": BUILD_WIDTH, "efsearch": SEARCH_WIDTH}
        config = {"method": "external", "transform": vectors, "content": True, "backend": "hnsw", "hnsw": hnsw}
        words = {"stopwords": STOP_WORDS}
        bm25 = {"method": "bm25", "terms": True, "normalize": True, "tokenizer": words, "k1": BM25_K1, "b": BM25_B}
        self._embeddings: Any = Embeddings({**config, "scoring": bm25})

    def ingest(self, start: int, stop: int) -> None:
        """See `Peer`."""
        self._embeddings.index((row, self._set.texts[row], None) for row in range(start, stop))
        self._embeddings.save(str(self._folder / "index"))

    def finish(self) -> None:
        """See `Peer`. index() has built them."""

    def dense(self, i: int) -> list[int]:
        """See `Peer`."""
        return [int(row) for row, _ in self._embeddings.ann.search(self._set.query_vectors[i : i + 1], LIMIT)[0]]

    def hybrid(self, i: int) -> list[Passage]:
        """See `HybridPeer`."""
        return [(int(hit["id"]), hit["text"]) for hit in self._embeddings.search(self._set.queries[i], LIMIT)]

    def close(self) -> None:
        """See `Peer`."""
        self._embeddings.close()


class FaissAndBm25s:
    """What one writes by hand: a faiss graph, bm25s with a stemmer, a list of texts, and ten lines of RRF."""

    batch = 10_000
    stores_first = False
    note = (
        "no database: faiss HNSW and bm25s (numba) in memory and saved once; no updates, deletes, filters or recovery"
    )

    def __init__(self, folder: Path, data_set: DataSet) -> None:
        import bm25s
        import faiss
        import Stemmer

        self._set, self._folder, self._faiss, self._bm25s = data_set, folder, faiss, bm25s
        self._graph: Any = faiss.IndexHNSWFlat(data_set.vectors.shape[1], GRAPH_LINKS, faiss.METRIC_INNER_PRODUCT)
        self._graph.hnsw.efConstruction, self._graph.hnsw.efSearch = BUILD_WIDTH, SEARCH_WIDTH
        self._words: Any = bm25s.BM25(method="lucene", k1=BM25_K1, b=BM25_B, backend="numba")
        self._stemmer = Stemmer.Stemmer("english")
        self._texts: list[str] = []

    def _tokens(self, texts: list[str]) -> object:
        return self._bm25s.tokenize(texts, stopwords=STOP_WORDS, stemmer=self._stemmer, show_progress=False)

    def ingest(self, start: int, stop: int) -> None:
        """See `Peer`. Nothing is durable before `finish`."""
        self._graph.add(self._set.vectors[start:stop])
        self._texts += self._set.texts[start:stop]

    def finish(self) -> None:
        """See `Peer`."""
        self._words.index(self._tokens(self._texts), show_progress=False)
        self._words.save(str(self._folder / "words"))
        self._faiss.write_index(self._graph, str(self._folder / "graph.faiss"))
        (self._folder / "texts.json").write_text(json.dumps(self._texts))

    def dense(self, i: int) -> list[int]:
        """See `Peer`."""
        found: list[int] = self._graph.search(self._set.query_vectors[i : i + 1], LIMIT)[1][0].tolist()
        return found

    def hybrid(self, i: int) -> list[Passage]:
        """See `HybridPeer`."""
        near = self._graph.search(self._set.query_vectors[i : i + 1], DEPTH)[1][0].tolist()
        found = self._words.retrieve(self._tokens([self._set.queries[i]]), k=DEPTH, show_progress=False)
        lexical = found.documents[0][found.scores[0] > 0].tolist()
        scores: dict[int, float] = {}
        for leg in (near, lexical):
            for rank, row in enumerate(leg, 1):
                scores[row] = scores.get(row, 0.0) + 1 / (RRF_K + rank)
        best = sorted(scores, key=lambda row: -scores[row])[:LIMIT]
        return [(row, self._texts[row]) for row in best]

    def close(self) -> None:
        """See `Peer`."""
