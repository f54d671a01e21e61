"""How are a collection's reads answered: queries, documents, counts, statistics?

`CollectionReader` needs a `Serving`: the generation that this process writes (`engine.generation`), or one that it follows
while another process writes it (`engine.following`).
"""

from __future__ import annotations

import itertools
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np

from engine.api import CollectionApi, Params
from engine.encoding import QueryEncoder
from engine.errors import InvalidArgument
from engine.filters import Filter
from engine.planner import DEFAULT_RECALL_TARGET, plan
from engine.priority import answering
from engine.query_validation import MAX_LIMIT, check_query
from engine.recent import RecentQueries
from engine.reranking import RerankerModel
from engine.schema import CollectionSchema
from engine.searcher import Search, Stopwatch
from engine.snapshot import LiveSegment, Snapshot
from engine.storage.durable import folder_size
from engine.storage.kv import Readable, Transaction
from engine.storage.layout import SEGMENTS_FOLDER, STORE_FOLDER
from engine.storage.store import State, documents_after, find, read_block, read_document, read_text
from engine.validation import check_doc_id
from engine.values import (
    CollectionInfo,
    CollectionStats,
    Coverage,
    Document,
    Page,
    Query,
    QueryResult,
    RecallEstimate,
    SegmentStats,
)
from index.dense import DenseIndex


@dataclass(frozen=True, slots=True)
class View:
    """What one operation sees: the segments, the totals, and a store in which their document versions stay readable."""

    snapshot: Snapshot
    state: State
    store: Readable


class Serving(Protocol):
    """A generation of a collection, as far as reads need it."""

    folder: Path
    schema: CollectionSchema
    encoder: QueryEncoder
    recent: RecentQueries

    def weights(self) -> dict[str, float]:
        """The fusion weights by leg, as of the latest view."""
        ...

    def view(self) -> AbstractContextManager[View]:
        """What was last committed; it stays readable until the block ends."""
        ...


class CollectionReader(CollectionApi):
    """The reading half of a collection. Thread-safe.

    Args:
        reranker: for queries that ask for one; None: there is none.
    """

    def __init__(self, reranker: RerankerModel | None) -> None:
        self._reranker = RerankerModel(None) if reranker is None else reranker

    @abstractmethod
    def reading(self) -> AbstractContextManager[Serving]:
        """The generation that serves; it stays open until the block ends."""

    @abstractmethod
    def close(self) -> None:
        """Release everything; a second call does nothing."""

    @property
    def schema(self) -> CollectionSchema:
        """What is fixed about the collection; a migration gives it another one."""
        with self.reading() as serving:
            return serving.schema

    @property
    def name(self) -> str:
        """The collection's name."""
        return self.schema.name

    def prepare(self) -> None:
        """Load what the first query would wait for; see `QueryEncoder.prepare`."""
        with self.reading() as serving:
            serving.encoder.prepare()

    def get(self, doc_ids: Sequence[str], *, vectors: bool = False) -> list[Document | None]:
        """See `CollectionApi.get`. With ``vectors``, a document of one passage carries its stored vectors."""
        for doc_id in doc_ids:
            check_doc_id(doc_id)
        with self.reading() as serving, serving.view() as view, view.store.read() as transaction:
            versions = [find(transaction, doc_id) for doc_id in doc_ids]
            return [None if n is None else _document(transaction, n, vectors=vectors) for n in versions]

    def scroll(
        self, *, filter: str | None = None, params: Params | None = None, limit: int = 100, after: str | None = None
    ) -> Page:
        """See `CollectionApi.scroll`."""
        if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MAX_LIMIT:
            raise InvalidArgument("limit", f"must be between 1 and {MAX_LIMIT:,}, got {limit!r}")
        with self.reading() as serving, serving.view() as view, view.store.read() as transaction:
            chosen = list(itertools.islice(matching(view, transaction, filter, params, after), limit + 1))
            documents = [_document(transaction, doc_no, vectors=False) for _, doc_no in chosen[:limit]]
        return Page(documents, chosen[limit - 1][0] if len(chosen) > limit else None)

    def count(self, *, filter: str | None = None, params: Params | None = None) -> int:
        """See `CollectionApi.count`."""
        with self.reading() as serving, serving.view() as view:
            if filter is None:
                return view.state.documents
            return len(_matching_versions(view.snapshot, Filter.parse(filter, params)))

    def answer(self, query: Query) -> QueryResult:
        """See `CollectionApi.answer`."""
        return self.query_batch([query])[0]

    def query_batch(self, queries: Sequence[Query]) -> list[QueryResult]:
        """See `CollectionApi.query_batch`. All queries are embedded in one batch and run on one snapshot."""
        with self.reading() as serving:
            return _answers(serving, queries, self._reranker)

    def info(self) -> CollectionInfo:
        """See `CollectionApi.info`."""
        with self.reading() as serving, serving.view() as view:
            return _info(serving, view.state)

    def stats(self) -> CollectionStats:
        """See `CollectionApi.stats`."""
        with self.reading() as serving, serving.view() as view:
            state = view.state
            return CollectionStats(
                info=_info(serving, state),
                segments=[_segment_stats(serving.folder / SEGMENTS_FOLDER, live) for live in view.snapshot.segments],
                store_bytes=folder_size(serving.folder / STORE_FOLDER),
                tokens=Coverage(state.read, state.embedded, state.dropped),
            )


def _answers(serving: Serving, queries: Sequence[Query], reranker: RerankerModel) -> list[QueryResult]:
    for query in queries:
        check_query(query, serving.schema)
        if query.rerank is not None:
            reranker.check_present()
        if query.filter is not None:
            Filter.parse(query.filter, query.params)
    watch = Stopwatch()
    if any(query.expansion for query in queries):
        with watch.stage("generate"):
            written = serving.encoder.write(queries)
    else:
        written = []
    with watch.stage("embed"):
        encoded = serving.encoder.encode(queries, written)
        asked = [None if query.rerank is None else serving.encoder.instruction(query) for query in queries]
    before_ms = {stage: ms / max(1, len(queries)) for stage, ms in watch.ms.items()}
    results = []
    with serving.view() as view, answering():
        weights = serving.weights()
        for query, one, task in zip(queries, encoded, asked, strict=True):
            watch = Stopwatch()
            decided = plan(query, serving.schema, one.legs, weights)
            if one.dense is not None:
                serving.recent.add(one.dense)
            with watch.stage("total"):
                search = Search(view.snapshot, query, one, decided, watch)
                hits = search.run(view.store, partial(reranker.score, task=task))
            timings = {**before_ms, **watch.ms, "total": watch.ms["total"] + sum(before_ms.values())}
            results.append(
                QueryResult(
                    hits,
                    timings if query.returns("timings_ms") else {},
                    search.describe() if query.returns("plan") else {},
                )
            )
    return results


def _info(serving: Serving, state: State) -> CollectionInfo:
    schema = serving.schema
    return CollectionInfo(
        name=schema.name,
        model=schema.model,
        fingerprint=None if schema.fingerprint is None else schema.fingerprint.get("digest"),
        dim=schema.dim,
        coarse_dim=schema.coarse_dim,
        legs=schema.legs,
        language=schema.language,
        weights=serving.weights(),
        documents=state.documents,
        passages=state.passages,
        sequence=state.sequence,
        expansion=schema.expansion,
        generator=schema.generator,
        multi_dim=schema.multi_dim,
        task=schema.task,
        dtype=None if schema.fingerprint is None else schema.fingerprint.get("dtype"),
    )


def _segment_stats(folder: Path, live: LiveSegment) -> SegmentStats:
    segment = live.segment
    folder = folder / segment.name
    return SegmentStats(
        name=segment.name or "head",
        passages=segment.n_rows,
        deleted=segment.n_rows - live.n_live,
        dense_kind="none" if segment.dense is None else segment.dense.kind,
        size_bytes=folder_size(folder) if segment.name and folder.exists() else 0,
        multi_bytes=0 if segment.multi is None else segment.multi.nbytes,
        recall=_recall(segment.dense),
    )


def _recall(index: DenseIndex | None) -> RecallEstimate | None:
    """The certificate of a segment at the default target, for ten passages; None where it was not measured."""
    promise = None if index is None else index.promise(DEFAULT_RECALL_TARGET, 10)
    if promise is None or promise.recall is None or promise.lower is None:
        return None
    return RecallEstimate(recall=promise.recall, lower=promise.lower, sample=promise.sample, asked=promise.asked)


def matching(
    view: View,
    transaction: Transaction,
    expression: str | None,
    params: Params | None,
    after: str | None = None,
) -> Iterator[tuple[str, int]]:
    """(doc_id, version) of live documents that match, in doc_id order."""
    pairs = documents_after(transaction, after)
    if expression is None:
        return pairs
    chosen = set(_matching_versions(view.snapshot, Filter.parse(expression, params)).tolist())
    return (pair for pair in pairs if pair[1] in chosen)


def _document(transaction: Transaction, doc_no: int, *, vectors: bool) -> Document:
    record = read_document(transaction, doc_no)
    vector: list[float] | None = None
    sparse: dict[int, float] | None = None
    multi: list[list[float]] | None = None
    if vectors and record.n_passages == 1:
        block = read_block(transaction, doc_no)
        vector = block.dense[0].astype(float).tolist() if block.dense.shape[1] else None
        if block.sparse is not None:
            ids, weights = block.sparse.row(0)
            sparse = dict(zip(ids.tolist(), weights.tolist(), strict=True))
        if block.multi is not None:
            multi = block.multi.row(0).tolist()
    return Document(
        doc_id=record.doc_id,
        text=read_text(transaction, doc_no),
        title=record.title,
        metadata=record.metadata,
        vector=vector,
        sparse=sparse,
        multi=multi,
    )


def _matching_versions(snapshot: Snapshot, condition: Filter) -> np.ndarray:
    """uint64: the live versions that match."""
    found = [
        live.segment.doc_nos[condition.evaluate(live.segment.columns) & live.kept_docs] for live in snapshot.segments
    ]
    return np.concatenate([np.empty(0, np.uint64), *found])
