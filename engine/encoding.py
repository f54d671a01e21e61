"""What does each leg search with, given a query's text or vectors? And where does the model live?

`Model` loads the embedder when the first text needs it, so that commands which embed nothing start at once.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from engine.errors import EngineClosed, GeneratorMismatch, InvalidQuery
from engine.fusion import TINY
from engine.generators import Generators
from engine.rescoring import EncodedQuery
from engine.schema import CollectionSchema
from engine.validation import MAX_QUERY_MULTI_TOKENS, check_sparse, check_tokens, check_vector
from engine.values import Query
from index.analyzer import Analyzer, term_hash
from index.sparse_rows import SparseQuery

if TYPE_CHECKING:
    from embedder.embedder import Embedder
    from embedder.generation.answers import CachedGenerator
    from embedder.generation.documents import DocumentExpander
    from embedder.generation.queries import QueryExpander
    from embedder.values import DocumentInput, EmbeddedDocument, EmbeddedQuery


BUILTIN = "builtin"

# What a query's text is embedded with: its task, and its examples as (query, passage) pairs.
Prompt: TypeAlias = tuple[str | None, tuple[tuple[str, str], ...]]


class Model:
    """An embedder, loaded on first use. Thread-safe.

    Args:
        name: "builtin", a folder, or a hub id; None: no model, callers bring their own vectors.
        device: where it runs; None: the best there is.
        dtype: of the weights (`embedder.dtypes`); None: float32.
        max_batch_tokens: the token budget of a batch; None: by device.
        generators: what writes for collections and queries that are expanded.
    """

    def __init__(
        self,
        name: str | None,
        *,
        device: str | None = None,
        dtype: str | None = None,
        max_batch_tokens: int | None = None,
        generators: Generators | None = None,
    ) -> None:
        self.name = name
        self.generators = generators or Generators()
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
        """Another model, with the same generators and the same choices of device, dtype and batch size."""
        return Model(
            name,
            device=self._device,
            dtype=self._dtype,
            max_batch_tokens=self._max_batch_tokens,
            generators=self.generators,
        )

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
        self._expander: DocumentExpander | None = None

    def _embedder(self) -> Embedder:
        """The model, once it is known to be the collection's own.

        Raises:
            FingerprintMismatch: it is another one.
        """
        if self._checked is None:
            self._schema.check_model(self._model.fingerprint())
            self._checked = self._model.embedder()
        return self._checked

    def prepare(self) -> None:
        """Load the model of a collection that was made with one.

        Raises:
            FingerprintMismatch: it is another one.
            EmbedderError: it cannot be loaded.
        """
        if self._schema.model is not None:
            self._embedder()

    def embed_documents(self, documents: Sequence[DocumentInput]) -> list[EmbeddedDocument]:
        """The embedder's `embed_documents`, behind the fingerprint guard."""
        return self._embedder().embed_documents(documents)

    def expand_documents(self, documents: Sequence[DocumentInput]) -> list[EmbeddedDocument]:
        """`embed_documents`, with what the collection's generator writes about the passages.

        Raises:
            GeneratorMismatch: the engine's generator is not the collection's.
            EmbedderError: the generator cannot be loaded, or failed.
        """
        if self._expander is None:
            from embedder.generation.documents import DocumentExpander

            expansion = self._schema.expansion
            assert expansion is not None
            self._expander = DocumentExpander(
                self.embed_documents,
                self._own_generator(),
                method=expansion.method,
                n=expansion.n,
                use=expansion.use,
                lexical=expansion.bm25,
            )
        return self._expander.embed_documents(documents)

    def _own_generator(self) -> CachedGenerator:
        """The generator that the collection was made with."""
        stored = self._schema.generator
        assert stored is not None, "a schema with an expansion names its generator"
        name = self._model.generators.name or stored
        generator = self._model.generators.get(name)
        if generator.identity != self._schema.generator_identity:
            raise GeneratorMismatch(self._schema.name, stored, name)
        return generator

    def embed_queries(self, texts: Sequence[str], prompt: Prompt | None = None) -> list[EmbeddedQuery]:
        """The embedder's `embed_queries`, behind the fingerprint guard; without a prompt, with the collection's task.

        Raises:
            InvalidInput: the model takes no examples, or no task, or has none of this name.
        """
        task, examples = prompt or (self._schema.task, ())
        return self._embedder().embed_queries(texts, task=task, shots=examples)

    def _prompt(self, query: Query) -> Prompt:
        """What a query is embedded with: its task, or else the collection's, and its examples.

        A model that takes no task leaves that of a reranked query to the reranker.
        """
        task, examples = self._task(query), tuple((question, answer) for question, answer in query.examples)
        for_reranker = task is not None and query.rerank is not None
        if for_reranker and not self._embedder().recipe.takes_task(query=True):
            task = None
        return task, examples

    def _task(self, query: Query) -> str | None:
        return self._schema.task if query.task is None else query.task

    def instruction(self, query: Query) -> str | None:
        """The task of a query, or else the collection's, in words as the model's recipe says it; None: neither has one.

        Raises:
            InvalidInput: the model has no task of this name.
        """
        task = self._task(query)
        return task if task is None or self._schema.model is None else self._embedder().recipe.instruction(task)

    def write(self, queries: Sequence[Query]) -> list[Sequence[str]]:
        """What the generator writes about each query; nothing about one without an expansion.

        Raises:
            InvalidQuery: the engine has no generator.
            EmbedderError: the generator cannot be loaded, or failed.
        """
        return [
            ()
            if query.expansion is None
            else self._query_expander(query).write(query.text or "", query.expansion.method, query.expansion.n)
            for query in queries
        ]

    def _query_expander(self, query: Query) -> QueryExpander:
        from embedder.generation.queries import QueryExpander

        name = self._model.generators.name or self._schema.generator
        if name is None:
            raise InvalidQuery(
                "expansion",
                "needs a generator, a causal language model that writes: name one with generator=, or --generator",
            )

        prompt = self._prompt(query)

        def embed_queries(texts: Sequence[str]) -> list[EmbeddedQuery]:
            return self.embed_queries(texts, prompt)

        generator, asked = self._model.generators.get(name), self.instruction(query)
        return QueryExpander(embed_queries, self.embed_documents, generator, task=asked)

    def encode(self, queries: Sequence[Query], written: Sequence[Sequence[str]] = ()) -> list[EncodedQuery]:
        """One encoded query each; texts with the same task and examples go through the model together.

        Args:
            queries: that were checked.
            written: what `write` says about each; empty: nothing about any.
        """
        alike: dict[Prompt, list[int]] = {}
        for place, query in enumerate(queries):
            if self._needs_model(query):
                alike.setdefault(self._prompt(query), []).append(place)
        embedded: dict[int, EmbeddedQuery] = {}
        for prompt, places in alike.items():
            found = self.embed_queries([queries[place].text or "" for place in places], prompt)
            embedded.update(zip(places, found, strict=True))
        return [
            self._expanded(query, self._encoded(query, embedded.get(place)), written[place] if written else ())
            for place, query in enumerate(queries)
        ]

    def _expanded(self, query: Query, encoded: EncodedQuery, about: Sequence[str]) -> EncodedQuery:
        """The query with what was written about it in its dense vector."""
        expansion = query.expansion
        if expansion is None or encoded.dense is None or not about:
            return encoded
        dense = self._query_expander(query).dense(
            query.text or "", encoded.dense, about, expansion.method, expansion.weight
        )
        return replace(encoded, dense=dense)

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
