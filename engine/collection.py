"""What can be done with one collection of this process's data folder?

`Collection` implements `engine.api.CollectionApi` on the generation that serves (`engine.generation`): reads and writes go to
its store, its write path (`engine.ingest`, `engine.writer`) and its read path (`engine.planner`, `engine.searcher`).
"""

from __future__ import annotations

import itertools
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np

from engine.api import CollectionApi, MetadataChanges, Params
from engine.encoding import Model
from engine.errors import EngineClosed, InvalidArgument
from engine.filters import Filter
from engine.generation import (
    STORE_FOLDER,
    Generation,
    current_folder,
    make_current,
    sweep_generations,
)
from engine.ingest import DocumentLike
from engine.planner import DEFAULT_RECALL_TARGET, plan
from engine.reranking import RerankerModel
from engine.schema import CollectionSchema
from engine.sealing import SEAL_ROWS
from engine.searcher import Search, Stopwatch
from engine.snapshot import LiveSegment, Snapshot
from engine.storage.durable import folder_size
from engine.storage.kv import Transaction
from engine.storage.store import documents_after, find, read_block, read_document, read_text
from engine.validation import MAX_LIMIT, check_doc_id, check_metadata, check_query
from engine.values import (
    Acknowledgement,
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

T = TypeVar("T")


class Collection(CollectionApi):
    """One open collection. Thread-safe.

    Args:
        folder: of the collection; `engine.generation` says what is in it.
        model: the engine's model; used only by collections that were made with it.
        seal_rows: head size at which it is sealed.
        reranker: the engine's, for queries that ask for one; None: there is none.

    Attributes:
        migrating: held by the one migration that may run.

    Raises:
        CorruptData: the store itself is damaged. Damaged segments are rebuilt.
        UnsupportedFormat: another version wrote it.
    """

    def __init__(
        self, folder: Path, model: Model, *, seal_rows: int = SEAL_ROWS, reranker: RerankerModel | None = None
    ) -> None:
        self.folder = folder
        self._reranker = RerankerModel(None) if reranker is None else reranker
        sweep_generations(folder)
        self._generation = Generation(current_folder(folder), model, seal_rows=seal_rows)
        self._readers: Counter[Generation] = Counter()
        self._reader_left = threading.Condition()
        self._switching = threading.Lock()
        self.migrating = threading.Lock()

    @staticmethod
    def create(folder: Path, schema: CollectionSchema, *, sequence: int = 0) -> None:
        """Initialise an empty collection in ``folder``, durable when this returns; see `Generation.create`."""
        Generation.create(folder, schema, sequence=sequence)

    @property
    def schema(self) -> CollectionSchema:
        """What is fixed about the collection; a migration gives it another one."""
        return self._generation.schema

    @contextmanager
    def reading(self) -> Iterator[Generation]:
        """The generation that serves; it stays open until the block ends."""
        with self._reader_left:
            generation = self._generation
            self._readers[generation] += 1
        try:
            yield generation
        finally:
            with self._reader_left:
                self._readers[generation] -= 1
                self._reader_left.notify_all()

    def switch(self, successor: Collection, finish: Callable[[], None]) -> None:
        """Let the generation of ``successor`` serve from now on, and remove the one that served, between two operations.

        Queries run on, on the old generation or on the new one. Writes wait, and then go to the new one.

        Args:
            successor: opened on `engine.generation.next_folder`; not to be used afterwards.
            finish: called while writes wait; brings the successor up to date. When it raises, nothing is switched.
        """
        old = self._generation
        with self._switching, old.writer.suspended():
            finish()
            make_current(self.folder, successor._generation.folder)
            with self._reader_left:
                self._generation = successor._generation
            old.end_writes()
        with self._reader_left:
            self._reader_left.wait_for(lambda: not self._readers[old])
            del self._readers[old]
        old.close()
        sweep_generations(self.folder)

    def _write(self, work: Callable[[Generation], T]) -> T:
        """Do a write on the generation that serves; one that a switch shut out is done on the next generation."""
        while True:
            generation = self._generation
            try:
                return work(generation)
            except EngineClosed:
                if not self._was_switched_from(generation):
                    raise

    def _was_switched_from(self, generation: Generation) -> bool:
        with self._switching:  # one in progress ends first
            return self._generation is not generation

    @property
    def name(self) -> str:
        """The collection's name."""
        return self.schema.name

    def upsert(self, documents: Iterable[DocumentLike]) -> list[Acknowledgement]:
        """See `CollectionApi.upsert`."""
        given = list(documents)
        return self._write(lambda generation: generation.ingestor.upsert(given))

    def ingest(self, documents: Iterable[DocumentLike]) -> Iterator[Acknowledgement]:
        """See `CollectionApi.ingest`. Documents that a switch of generations left unanswered are given to the next one."""
        source = iter(documents)
        unanswered: deque[DocumentLike] = deque()

        def given(again: Sequence[DocumentLike]) -> Iterator[DocumentLike]:
            yield from again
            for document in source:
                unanswered.append(document)
                yield document

        while True:
            generation = self._generation
            try:
                for answer in generation.ingestor.ingest(given(tuple(unanswered))):
                    unanswered.popleft()
                    yield answer
                return
            except EngineClosed:
                if not self._was_switched_from(generation):
                    raise

    def delete(
        self, doc_ids: Sequence[str] | None = None, *, filter: str | None = None, params: Params | None = None
    ) -> int:
        """See `CollectionApi.delete`."""
        if (doc_ids is None) == (filter is None):
            raise InvalidArgument("delete", "give doc_ids or a filter, exactly one of the two")
        for doc_id in doc_ids or ():
            check_doc_id(doc_id)

        def work(generation: Generation) -> int:
            chosen = doc_ids
            if chosen is None:
                with generation.store.read() as transaction:
                    chosen = [doc_id for doc_id, _ in _matching(generation, transaction, filter, params)]
            return generation.ingestor.delete(chosen) if chosen else 0

        return self._write(work)

    def update_metadata(self, doc_id: str, changes: MetadataChanges, *, replace: bool = False) -> int:
        """See `CollectionApi.update_metadata`. The new version shares the stored vectors."""
        check_doc_id(doc_id)
        check_metadata({key: value for key, value in changes.items() if value is not None})
        return self._write(lambda generation: generation.ingestor.update_metadata(doc_id, changes, replace=replace))

    def get(self, doc_ids: Sequence[str], *, vectors: bool = False) -> list[Document | None]:
        """See `CollectionApi.get`. With ``vectors``, a document of one passage carries its stored vectors."""
        for doc_id in doc_ids:
            check_doc_id(doc_id)
        with self.reading() as generation, generation.store.read() as transaction:
            versions = [find(transaction, doc_id) for doc_id in doc_ids]
            return [None if n is None else _document(transaction, n, vectors=vectors) for n in versions]

    def scroll(
        self, *, filter: str | None = None, params: Params | None = None, limit: int = 100, after: str | None = None
    ) -> Page:
        """See `CollectionApi.scroll`."""
        if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MAX_LIMIT:
            raise InvalidArgument("limit", f"must be between 1 and {MAX_LIMIT:,}, got {limit!r}")
        with self.reading() as generation, generation.store.read() as transaction:
            chosen = list(itertools.islice(_matching(generation, transaction, filter, params, after), limit + 1))
            documents = [_document(transaction, doc_no, vectors=False) for _, doc_no in chosen[:limit]]
        return Page(documents, chosen[limit - 1][0] if len(chosen) > limit else None)

    def count(self, *, filter: str | None = None, params: Params | None = None) -> int:
        """See `CollectionApi.count`."""
        writer = self._generation.writer
        if filter is None:
            return writer.state.documents
        return len(_matching_versions(writer.snapshot, Filter.parse(filter, params)))

    def answer(self, query: Query) -> QueryResult:
        """See `CollectionApi.answer`."""
        return self.query_batch([query])[0]

    def query_batch(self, queries: Sequence[Query]) -> list[QueryResult]:
        """See `CollectionApi.query_batch`. All queries are embedded in one batch and run on one snapshot."""
        with self.reading() as generation:
            return _answers(generation, queries, self._reranker)

    def info(self) -> CollectionInfo:
        """See `CollectionApi.info`."""
        return _info(self._generation)

    def stats(self) -> CollectionStats:
        """See `CollectionApi.stats`."""
        with self.reading() as generation:
            state = generation.writer.state
            return CollectionStats(
                info=_info(generation),
                segments=[_segment_stats(generation, live) for live in generation.writer.snapshot.segments],
                store_bytes=folder_size(generation.folder / STORE_FOLDER),
                tokens=Coverage(state.read, state.embedded, state.dropped),
            )

    def optimize(self) -> None:
        """Seal the head, do every merge and calibration that is due; returns when all is on disk."""
        self._write(Generation.optimize)

    def copy(self, folder: Path) -> None:
        """Write a copy of the whole collection, as of one commit, to a new ``folder``."""
        self._write(lambda generation: generation.copy(folder))

    def close(self) -> None:
        """Finish queued writes, seal a head that is worth it, and release everything; a second call does nothing."""
        self._generation.close()


def _answers(generation: Generation, queries: Sequence[Query], reranker: RerankerModel) -> list[QueryResult]:
    for query in queries:
        check_query(query, generation.schema)
        if query.rerank is not None:
            reranker.check_present()
        if query.filter is not None:
            Filter.parse(query.filter, query.params)
    watch = Stopwatch()
    if any(query.expansion for query in queries):
        with watch.stage("generate"):
            written = generation.encoder.write(queries)
    else:
        written = []
    with watch.stage("embed"):
        encoded = generation.encoder.encode(queries, written)
    before_ms = {stage: ms / max(1, len(queries)) for stage, ms in watch.ms.items()}
    results = []
    weights = generation.weights()
    with generation.writer.reading() as snapshot:
        for query, one in zip(queries, encoded, strict=True):
            watch = Stopwatch()
            decided = plan(query, generation.schema, one.legs, weights)
            if one.dense is not None:
                generation.recent.add(one.dense)
            with watch.stage("total"):
                search = Search(snapshot, query, one, decided, watch)
                hits = search.run(generation.store, reranker.score)
            timings = {**before_ms, **watch.ms, "total": watch.ms["total"] + sum(before_ms.values())}
            results.append(
                QueryResult(
                    hits,
                    timings if query.returns("timings_ms") else {},
                    search.describe() if query.returns("plan") else {},
                )
            )
    return results


def _info(generation: Generation) -> CollectionInfo:
    schema, state = generation.schema, generation.writer.state
    return CollectionInfo(
        name=schema.name,
        model=schema.model,
        fingerprint=None if schema.fingerprint is None else schema.fingerprint.get("digest"),
        dim=schema.dim,
        coarse_dim=schema.coarse_dim,
        legs=schema.legs,
        language=schema.language,
        weights=generation.weights(),
        documents=state.documents,
        passages=state.passages,
        sequence=state.sequence,
        expansion=schema.expansion,
        generator=schema.generator,
        multi_dim=schema.multi_dim,
        task=schema.task,
        dtype=None if schema.fingerprint is None else schema.fingerprint.get("dtype"),
    )


def _segment_stats(generation: Generation, live: LiveSegment) -> SegmentStats:
    segment = live.segment
    folder = generation.segments_folder / segment.name
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
    return RecallEstimate(recall=promise.recall, lower=promise.lower, sample=promise.sample)


def _matching(
    generation: Generation,
    transaction: Transaction,
    expression: str | None,
    params: Params | None,
    after: str | None = None,
) -> Iterator[tuple[str, int]]:
    """(doc_id, version) of live documents that match, in doc_id order."""
    pairs = documents_after(transaction, after)
    if expression is None:
        return pairs
    matching = set(_matching_versions(generation.writer.snapshot, Filter.parse(expression, params)).tolist())
    return (pair for pair in pairs if pair[1] in matching)


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
