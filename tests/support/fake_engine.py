"""A small in-memory engine behind the Protocols of ``engine.api``, for tests of what stands in front of an engine.

It searches by shared words and by dot product, filters by one ``key == $name``, and embeds by counting letters. ``error`` makes
the next calls raise; ``gate`` makes them wait; both let a test see what the server does with a failing or slow engine.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from engine.api import CollectionApi, MetadataChanges, Params
from engine.errors import (
    CollectionExists,
    CollectionNotFound,
    DimensionMismatch,
    DocumentNotFound,
    EngineClosed,
    InvalidArgument,
    InvalidDocument,
    InvalidFilter,
    InvalidQuery,
)
from engine.validation import to_document
from engine.values import (
    Acknowledgement,
    CollectionInfo,
    CollectionStats,
    Coverage,
    Document,
    Embedding,
    EngineInfo,
    Expansion,
    Hit,
    Page,
    PassageHit,
    Query,
    QueryResult,
    ScoreDetail,
    SegmentStats,
    TermContribution,
)

FAKE_DIM = 4


class FakeEngine:
    """Collections in a dict."""

    def __init__(self) -> None:
        self.collections: dict[str, FakeCollection] = {}
        self.error: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)
        self.calls = 0
        self.closed = False

    def enter(self) -> None:
        """What every call passes."""
        self.calls += 1
        self.entered.release()
        self.gate.wait()
        if self.closed:
            raise EngineClosed
        if self.error is not None:
            raise self.error

    def create_collection(
        self,
        name: str,
        *,
        dim: int | None = None,
        sparse: bool | None = None,
        multi: bool = False,
        multi_dim: int | None = None,
        language: str = "english",
        dense_kind: str = "auto",
        weights: Mapping[str, float] | None = None,
        expansion: Expansion | None = None,
        task: str | None = None,
    ) -> FakeCollection:
        self.enter()
        if not name:
            raise InvalidArgument("name", "is empty")
        if name in self.collections:
            raise CollectionExists(name)
        info = CollectionInfo(
            name=name,
            model=None if dim else "fake",
            fingerprint=None if dim else "f00d",
            dim=dim or FAKE_DIM,
            coarse_dim=2,
            legs=("dense", "sparse", "bm25") if sparse else ("dense", "bm25"),
            language=language,
            weights=dict(weights or {"dense": 0.5}),
            expansion=expansion,
            documents=0,
            passages=0,
            sequence=0,
            multi_dim=multi_dim or 0,
            task=task,
        )
        self.collections[name] = FakeCollection(self, info)
        return self.collections[name]

    def get_collection(self, name: str) -> FakeCollection:
        if name not in self.collections:
            raise CollectionNotFound(name, sorted(self.collections))
        return self.collections[name]

    def list_collections(self) -> list[CollectionInfo]:
        self.enter()
        return [self.collections[name].info() for name in sorted(self.collections)]

    def drop_collection(self, name: str) -> None:
        self.enter()
        self.get_collection(name)
        del self.collections[name]

    def embed(self, texts: Sequence[str], *, task: str | None = None, query: bool = False) -> list[Embedding]:
        self.enter()
        sparse = None if task == "no-sparse" else {"letter": 1.5}
        return [
            Embedding([float(query), float(len(text))], sparse, ((0, len(text), [0.5, 0.25]),), len(text.split()))
            for text in texts
        ]

    def info(self) -> EngineInfo:
        self.enter()
        return EngineInfo("0.0", "fake", None, "cpu", FAKE_DIM, False, 128)

    def close(self) -> None:
        self.closed = True

    def __enter__(self) -> FakeEngine:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.close()


class FakeCollection(CollectionApi):
    """Documents in a dict."""

    def __init__(self, engine: FakeEngine, info: CollectionInfo) -> None:
        self.documents: dict[str, Document] = {}
        self.batch = 1  # documents that `ingest` gathers before it acknowledges them
        self._engine = engine
        self._info = info
        self._sequence = 0

    @property
    def name(self) -> str:
        return self._info.name

    def upsert(self, documents: Iterable[Document | Mapping[str, object]]) -> list[Acknowledgement]:
        self._engine.enter()
        checked = [self._checked(to_document(document)) for document in documents]
        return [self._put(document) for document in checked]

    def ingest(self, documents: Iterable[Document | Mapping[str, object]]) -> Iterator[Acknowledgement]:
        gathered: list[Acknowledgement] = []
        for given in documents:
            self._engine.enter()
            try:
                gathered.append(self._put(self._checked(to_document(given))))
            except InvalidDocument as error:
                gathered.append(Acknowledgement(getattr(given, "doc_id", ""), "failed", error=str(error)))
            if len(gathered) >= self.batch:
                yield from gathered
                gathered = []
        yield from gathered

    def delete(
        self, doc_ids: Sequence[str] | None = None, *, filter: str | None = None, params: Params | None = None
    ) -> int:
        self._engine.enter()
        if (doc_ids is None) == (filter is None):
            raise InvalidArgument("doc_ids", "give ids or a filter, one of the two")
        chosen = [one.doc_id for one in self._matching(filter, params)] if doc_ids is None else doc_ids
        return sum(self.documents.pop(doc_id, None) is not None for doc_id in chosen)

    def update_metadata(self, doc_id: str, changes: MetadataChanges, *, replace: bool = False) -> int:
        self._engine.enter()
        if doc_id not in self.documents:
            raise DocumentNotFound(doc_id)
        merged = {**({} if replace else self.documents[doc_id].metadata), **changes}
        kept = {key: value for key, value in merged.items() if value is not None}
        self.documents[doc_id] = _with_metadata(self.documents[doc_id], kept)
        self._sequence += 1
        return self._sequence

    def get(self, doc_ids: Sequence[str], *, vectors: bool = False) -> list[Document | None]:
        self._engine.enter()
        found = [self.documents.get(doc_id) for doc_id in doc_ids]
        if vectors:
            return found
        return [None if one is None else replace(one, vector=None, sparse=None) for one in found]

    def scroll(
        self, *, filter: str | None = None, params: Params | None = None, limit: int = 100, after: str | None = None
    ) -> Page:
        self._engine.enter()
        if limit < 1:
            raise InvalidArgument("limit", f"must be at least 1, got {limit}")
        rest = [one for one in self._matching(filter, params) if after is None or one.doc_id > after]
        page = rest[:limit]
        return Page(page, page[-1].doc_id if len(rest) > limit else None)

    def count(self, *, filter: str | None = None, params: Params | None = None) -> int:
        self._engine.enter()
        return len(self._matching(filter, params))

    def answer(self, query: Query) -> QueryResult:
        self._engine.enter()
        if not 1 <= query.limit <= 1000:
            raise InvalidQuery("limit", f"must be from 1 to 1,000, got {query.limit}")
        if query.text is None and query.vector is None and query.sparse is None:
            raise InvalidQuery("text", "give a text or a vector")
        if query.vector is not None and len(query.vector) != self._info.dim:
            raise DimensionMismatch(self._info.dim, len(query.vector))
        words = set((query.text or "").split())
        scored = [(self._score(one, words, query.vector), one) for one in self._matching(query.filter, query.params)]
        best = sorted(((score, one) for score, one in scored if score > 0), key=lambda pair: (-pair[0], pair[1].doc_id))
        plan = {
            "mode": query.mode,
            "fusion": query.fusion,
            "depth": query.depth,
            "exact": query.exact,
            "legs": ["dense", "bm25"],
            "offset": query.offset,
        }
        hits = tuple(
            Hit(
                one.doc_id,
                score,
                one.title,
                one.metadata,
                (PassageHit(one.text, 0, len(one.text), score),)[: query.passages],
                ScoreDetail(
                    bm25=score,
                    ranks={"bm25": rank},
                    weights=dict(query.weights or {}),
                    terms=tuple(
                        TermContribution(word, "bm25", 1.0)
                        for word in sorted(words & set(one.text.split()))
                        if query.explain
                    ),
                ),
            )
            for rank, (score, one) in enumerate(best[query.offset : query.offset + query.limit], start=1)
        )
        return QueryResult(hits, {"total": 0.25}, plan)

    def query_batch(self, queries: Sequence[Query]) -> list[QueryResult]:
        return [self.answer(query) for query in queries]

    def info(self) -> CollectionInfo:
        self._engine.enter()
        n_docs = len(self.documents)
        return replace(self._info, documents=n_docs, passages=n_docs, sequence=self._sequence)

    def optimize(self) -> None:
        self.enter()

    def stats(self) -> CollectionStats:
        segments = [SegmentStats(name="head", passages=len(self.documents), deleted=1, dense_kind="flat", size_bytes=0)]
        return CollectionStats(info=self.info(), segments=segments, store_bytes=4096, tokens=Coverage(5, 4, 1, 2))

    def _checked(self, document: Document) -> Document:
        if not document.doc_id:
            raise InvalidDocument("doc_id", "is empty")
        if document.vector is not None and len(document.vector) != self._info.dim:
            raise InvalidDocument("vector", f"expected {self._info.dim} dimensions, got {len(document.vector)}")
        return document

    def _put(self, document: Document) -> Acknowledgement:
        status = "updated" if document.doc_id in self.documents else "added"
        self.documents[document.doc_id] = document
        self._sequence += 1
        n_words = len(document.text.split())
        return Acknowledgement(document.doc_id, status, 1, Coverage(n_words, n_words), self._sequence)

    def _matching(self, filter: str | None, params: Params | None) -> list[Document]:
        ordered = [self.documents[doc_id] for doc_id in sorted(self.documents)]
        if filter is None:
            return ordered
        key, equals, name = filter.partition(" == $")
        if not equals or name not in (params or {}):
            raise InvalidFilter(filter, "expected key == $name with a bound parameter")
        return [one for one in ordered if one.metadata.get(key) == (params or {})[name]]

    @staticmethod
    def _score(document: Document, words: set[str], vector: Sequence[float] | None) -> float:
        score = float(len(words & set(document.text.split())))
        if vector is not None and document.vector is not None:
            score += float(sum(a * b for a, b in zip(vector, document.vector, strict=True)))
        return score


def _with_metadata(document: Document, metadata: Mapping[str, object]) -> Document:
    return replace(document, metadata=metadata)
