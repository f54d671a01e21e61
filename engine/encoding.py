"""What does each leg search with, given a query's text or vectors? And where does the model live?

`Model` loads the embedder when the first text needs it, so that commands which embed nothing start at once.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from engine.errors import EngineClosed, InvalidQuery
from engine.fusion import TINY
from engine.rescoring import EncodedQuery
from engine.schema import CollectionSchema
from engine.validation import MAX_QUERY_MULTI_TOKENS, check_sparse, check_tokens, check_vector
from engine.values import Query
from index.analyzer import Analyzer, term_hash
from index.sparse_rows import SparseQuery

if TYPE_CHECKING:
    from embedder.embedder import Embedder
    from embedder.values import DocumentInput, EmbeddedDocument, EmbeddedQuery


BUILTIN = "builtin"


class Model:
    """An embedder, loaded on first use. Thread-safe.

    Args:
        name: "builtin", a folder, or a hub id; None: no model, callers bring their own vectors.
        device: where it runs; None: the best there is.
        dtype: of the weights; None: the recipe's.
        max_batch_tokens: the token budget of a batch; None: by device.
    """

    def __init__(
        self,
        name: str | None,
        *,
        device: str | None = None,
        dtype: str | None = None,
        max_batch_tokens: int | None = None,
    ) -> None:
        self.name = name
        self._device = device
        self._dtype = dtype
        self._max_batch_tokens = max_batch_tokens
        self._lock = threading.Lock()
        self._embedder: Embedder | None = None
        self._closed = False

    def embedder(self) -> Embedder:
        """The loaded embedder.

        Raises:
            EmbedderError: it cannot be loaded, says why.
            EngineClosed: `close` was called.
        """
        with self._lock:
            if self._closed:
                raise EngineClosed()
            if self._embedder is None:
                from embedder.embedder import Embedder

                assert self.name is not None, "collections without a model never ask for one"
                self._embedder = Embedder.load(
                    self.name, device=self._device, dtype=self._dtype, max_batch_tokens=self._max_batch_tokens
                )
            return self._embedder

    @property
    def recorded_name(self) -> str:
        """What a collection notes as its model: a name that opens this model again, whatever "builtin" means then."""
        assert self.name is not None
        return self.embedder().name if self.name == BUILTIN else self.name

    def sibling(self, name: str) -> Model:
        """Another model, with the same choices of device, dtype and batch size."""
        return Model(name, device=self._device, dtype=self._dtype, max_batch_tokens=self._max_batch_tokens)

    def fingerprint(self) -> dict[str, str] | None:
        """What identifies the model's vectors, by part; None without a model. Loads it."""
        if self.name is None:
            return None
        found = self.embedder().fingerprint
        return {**{key: str(value) for key, value in found.as_dict().items()}, "digest": found.digest}

    def close(self) -> None:
        """Unload the model; a second call does nothing."""
        with self._lock:
            self._closed = True
            if self._embedder is not None:
                self._embedder.close()
                self._embedder = None


class QueryEncoder:
    """Turns queries and documents of one collection into what its legs read.

    Args:
        schema: the collection's.
        analyzer: of its BM25 leg.
        model: the engine's; refused when it is not the one that the collection was made with.
    """

    def __init__(self, schema: CollectionSchema, analyzer: Analyzer, model: Model) -> None:
        self._schema = schema
        self.analyzer = analyzer
        self._model = model
        self._checked: Embedder | None = None

    def _embedder(self) -> Embedder:
        """The model, once it is known to be the collection's own.

        Raises:
            FingerprintMismatch: it is another one.
        """
        if self._checked is None:
            self._schema.check_model(self._model.fingerprint())
            self._checked = self._model.embedder()
        return self._checked

    def embed_documents(self, documents: Sequence[DocumentInput]) -> list[EmbeddedDocument]:
        """The embedder's `embed_documents`, behind the fingerprint guard."""
        return self._embedder().embed_documents(documents)

    def embed_queries(self, texts: Sequence[str]) -> list[EmbeddedQuery]:
        """The embedder's `embed_queries`, behind the fingerprint guard."""
        return self._embedder().embed_queries(texts)

    def encode(self, queries: Sequence[Query]) -> list[EncodedQuery]:
        """One encoded query each; all texts go through the model together."""
        texts = [query.text or "" for query in queries if self._needs_model(query)]
        embedded = iter(self.embed_queries(texts) if texts else [])
        return [self._encoded(query, next(embedded) if self._needs_model(query) else None) for query in queries]

    def _needs_model(self, query: Query) -> bool:
        if self._schema.model is None or not (query.text or "").strip():
            return False
        # What mode "multi" ranks, the other legs find.
        wants_dense = self._schema.dim > 0 and query.mode in ("hybrid", "dense", "multi") and query.vector is None
        wants_sparse = self._schema.sparse and query.mode in ("hybrid", "sparse", "multi") and query.sparse is None
        wants_multi = self._schema.multi_dim > 0 and query.mode in ("hybrid", "multi") and query.multi is None
        return wants_dense or wants_sparse or wants_multi

    def _encoded(self, query: Query, embedded: EmbeddedQuery | None) -> EncodedQuery:
        dense = sparse = None
        if query.vector is not None:
            if not self._schema.dim:
                raise InvalidQuery("vector", "this collection has no dense leg")
            dense = check_vector(query.vector, self._schema.dim)
        elif embedded is not None and self._schema.dim:
            dense = np.ascontiguousarray(embedded.dense, np.float32)
        if query.sparse is not None:
            if not self._schema.sparse:
                raise InvalidQuery("sparse", "this collection has no learned sparse leg")
            sparse = SparseQuery(*check_sparse(query.sparse))
        elif embedded is not None and embedded.sparse is not None:
            sparse = SparseQuery(embedded.sparse.ids.astype(np.uint64), embedded.sparse.weights)
        multi = self._multi(query, embedded)
        given = {"dense": ("vector", dense), "sparse": ("sparse", sparse), "multi": ("multi", multi)}
        field, value = given.get(query.mode, ("text", ""))
        if value is None:
            raise InvalidQuery(field, "is missing: this collection has no model that could make it from the text")
        terms, hashes, counts = bm25_terms(self.analyzer, query.text or "")
        return EncodedQuery(
            dense, sparse, self._sparse_terms(sparse), terms, hashes, counts, multi, self._schema.sparse_idf
        )

    def _multi(self, query: Query, embedded: EmbeddedQuery | None) -> np.ndarray | None:
        """The query's token vectors, float32[n, multi_dim], whose lengths are their shares: they sum to 1."""
        vectors = None
        if query.multi is not None:
            vectors = check_tokens(query.multi, self._schema.multi_dim, MAX_QUERY_MULTI_TOKENS)
        elif embedded is not None and self._schema.multi_dim:
            vectors = embedded.multi
        if vectors is None:
            return None
        total = float(np.linalg.norm(vectors, axis=1).sum(dtype=np.float64))
        return (vectors / max(total, TINY)).astype(np.float32)

    def _sparse_terms(self, sparse: SparseQuery | None) -> tuple[str, ...]:
        if sparse is None:
            return ()
        if self._schema.model is None:
            return tuple(str(term) for term in sparse.terms.tolist())
        embedder = self._embedder()
        return tuple(embedder.term_text(term) for term in sparse.terms.tolist())


def bm25_terms(analyzer: Analyzer, text: str) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """A query's terms with their hashes (uint64[m]) and counts (float32[m]), by ascending hash."""
    counted = sorted((term_hash(term), term, count) for term, count in Counter(analyzer.terms(text)).items())
    return (
        tuple(term for _, term, _ in counted),
        np.array([number for number, _, _ in counted], np.uint64),
        np.array([count for _, _, count in counted], np.float32),
    )
