"""What can be done with one collection of this process's data folder?

`Collection` implements `engine.api.CollectionApi` on one store: it joins the write path (`engine.ingest`, `engine.writer`), the
read path (`engine.planner`, `engine.searcher`) and the background work (`engine.sealing`).
"""

from __future__ import annotations

import itertools
import shutil
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from engine.api import MetadataChanges, Params
from engine.calibration import calibrate
from engine.encoding import Model, QueryEncoder
from engine.errors import CorruptData, InvalidArgument
from engine.filters import Filter
from engine.fusion import DEFAULT_LEXICAL_WEIGHT, default_weights
from engine.ingest import DocumentLike, Ingestor
from engine.planner import plan
from engine.preparation import Preparer
from engine.recovery import open_segments
from engine.schema import CollectionSchema
from engine.sealing import SEAL_ROWS, Sealer
from engine.searcher import Search, Stopwatch
from engine.snapshot import LiveSegment, Snapshot
from engine.storage.durable import folder_size
from engine.storage.kv import Store, Transaction
from engine.storage.store import (
    Calibration,
    State,
    documents_after,
    find,
    read_block,
    read_calibration,
    read_document,
    read_schema,
    read_text,
    write_calibration,
    write_schema,
    write_state,
)
from engine.validation import MAX_LIMIT, check_doc_id, check_metadata, check_query
from engine.values import (
    Acknowledgement,
    CollectionInfo,
    CollectionStats,
    Coverage,
    Document,
    FusionMethod,
    Mode,
    Page,
    Query,
    QueryResult,
    SegmentStats,
)
from engine.writer import Commit, Job, Writer
from index.analyzer import Analyzer

STORE_FOLDER = "store"
SEGMENTS_FOLDER = "segments"
# Below this the pseudo-queries are too few to say anything.
CALIBRATION_MIN_PASSAGES = 64


class Collection:
    """One open collection. Thread-safe.

    Args:
        folder: of the collection; holds ``store/`` and ``segments/``.
        model: the engine's model; used only by collections that were made with it.
        seal_rows: head size at which it is sealed.

    Raises:
        CorruptData: the store itself is damaged. Damaged segments are rebuilt.
        UnsupportedFormat: another version wrote it.
    """

    def __init__(self, folder: Path, model: Model, *, seal_rows: int = SEAL_ROWS) -> None:
        self.folder = folder
        self._store = Store(folder / STORE_FOLDER)
        try:
            with self._store.read() as transaction:
                schema = read_schema(transaction)
            if schema is None:
                raise CorruptData(str(folder), "its store has no schema")
            segments_folder = folder / SEGMENTS_FOLDER
            segments_folder.mkdir(exist_ok=True)
            state, segments, dead = open_segments(self._store, segments_folder, schema)
        except BaseException:
            self._store.close()
            raise
        self.schema = schema
        analyzer = Analyzer(schema.language)
        self._encoder = QueryEncoder(schema, analyzer, model)
        self._writer = Writer(self._store, schema, state, segments, dead)
        embed = self._encoder.embed_documents if schema.model else None
        self._ingestor = Ingestor(schema, Preparer(schema, self._store, analyzer, embed), self._writer)
        with self._store.read() as transaction:
            self._calibration = read_calibration(transaction)
        self._calibrating = threading.Lock()
        self._sealer = Sealer(segments_folder, schema, self._writer, seal_rows, on_idle=self._calibrate_if_due)

    @staticmethod
    def create(folder: Path, schema: CollectionSchema) -> None:
        """Initialise an empty collection in ``folder``, durable when this returns."""
        store = Store(folder / STORE_FOLDER)
        try:
            with store.write() as transaction:
                write_schema(transaction, schema)
                write_state(transaction, State())
        finally:
            store.close()

    @property
    def name(self) -> str:
        """The collection's name."""
        return self.schema.name

    def upsert(self, documents: Iterable[DocumentLike]) -> list[Acknowledgement]:
        """See `CollectionApi.upsert`."""
        return self._ingestor.upsert(documents)

    def ingest(self, documents: Iterable[DocumentLike]) -> Iterator[Acknowledgement]:
        """See `CollectionApi.ingest`."""
        return self._ingestor.ingest(documents)

    def delete(
        self, doc_ids: Sequence[str] | None = None, *, filter: str | None = None, params: Params | None = None
    ) -> int:
        """See `CollectionApi.delete`."""
        if (doc_ids is None) == (filter is None):
            raise InvalidArgument("delete", "give doc_ids or a filter, exactly one of the two")
        if doc_ids is None:
            with self._store.read() as transaction:
                doc_ids = [doc_id for doc_id, _ in self._matching(transaction, filter, params)]
        for doc_id in doc_ids:
            check_doc_id(doc_id)
        return self._ingestor.delete(doc_ids) if doc_ids else 0

    def update_metadata(self, doc_id: str, changes: MetadataChanges, *, replace: bool = False) -> int:
        """See `CollectionApi.update_metadata`. The new version shares the stored vectors."""
        check_doc_id(doc_id)
        check_metadata({key: value for key, value in changes.items() if value is not None})
        return self._ingestor.update_metadata(doc_id, changes, replace=replace)

    def get(self, doc_ids: Sequence[str], *, vectors: bool = False) -> list[Document | None]:
        """See `CollectionApi.get`. With ``vectors``, a document of one passage carries its stored vectors."""
        for doc_id in doc_ids:
            check_doc_id(doc_id)
        with self._store.read() as transaction:
            versions = [find(transaction, doc_id) for doc_id in doc_ids]
            return [None if n is None else _document(transaction, n, vectors=vectors) for n in versions]

    def scroll(
        self, *, filter: str | None = None, params: Params | None = None, limit: int = 100, after: str | None = None
    ) -> Page:
        """See `CollectionApi.scroll`."""
        if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MAX_LIMIT:
            raise InvalidArgument("limit", f"must be between 1 and {MAX_LIMIT:,}, got {limit!r}")
        with self._store.read() as transaction:
            chosen = list(itertools.islice(self._matching(transaction, filter, params, after), limit + 1))
            documents = [_document(transaction, doc_no, vectors=False) for _, doc_no in chosen[:limit]]
        return Page(documents, chosen[limit - 1][0] if len(chosen) > limit else None)

    def count(self, *, filter: str | None = None, params: Params | None = None) -> int:
        """See `CollectionApi.count`."""
        if filter is None:
            return self._writer.state.documents
        return len(_matching_versions(self._writer.snapshot, Filter.parse(filter, params)))

    def _matching(
        self, transaction: Transaction, expression: str | None, params: Params | None, after: str | None = None
    ) -> Iterator[tuple[str, int]]:
        """(doc_id, version) of live documents that match, in doc_id order."""
        pairs = documents_after(transaction, after)
        if expression is None:
            return pairs
        matching = set(_matching_versions(self._writer.snapshot, Filter.parse(expression, params)).tolist())
        return (pair for pair in pairs if pair[1] in matching)

    def query(
        self,
        text: str | None = None,
        *,
        vector: Sequence[float] | None = None,
        sparse: Mapping[int, float] | None = None,
        mode: Mode = "hybrid",
        limit: int = 10,
        offset: int = 0,
        filter: str | None = None,
        params: Params | None = None,
        fusion: FusionMethod = "convex",
        weights: Mapping[str, float] | None = None,
        depth: Mapping[str, int] | None = None,
        recall_target: float | None = None,
        exact: bool = False,
        passages: int = 3,
        score_threshold: float | None = None,
        explain: bool = True,
    ) -> QueryResult:
        """See `CollectionApi.query`."""
        query = Query(
            text=text,
            vector=vector,
            sparse=sparse,
            mode=mode,
            limit=limit,
            offset=offset,
            filter=filter,
            params=params or {},
            fusion=fusion,
            weights=weights,
            depth=depth,
            recall_target=recall_target,
            exact=exact,
            passages=passages,
            score_threshold=score_threshold,
            explain=explain,
        )
        return self.query_batch([query])[0]

    def query_batch(self, queries: Sequence[Query]) -> list[QueryResult]:
        """See `CollectionApi.query_batch`. All queries are embedded in one batch and run on one snapshot."""
        for query in queries:
            check_query(query, self.schema)
            if query.filter is not None:
                Filter.parse(query.filter, query.params)
        watch = Stopwatch()
        with watch.stage("embed"):
            encoded = self._encoder.encode(queries)
        embed_ms = watch.ms["embed"] / max(1, len(queries))
        results = []
        weights = self._weights()
        with self._writer.reading() as snapshot:
            for query, one in zip(queries, encoded, strict=True):
                watch = Stopwatch()
                decided = plan(query, self.schema, one.legs, weights)
                with watch.stage("total"):
                    hits = Search(snapshot, query, one, decided, watch).run(self._store)
                timings = {"embed": embed_ms, **watch.ms, "total": watch.ms["total"] + embed_ms}
                described = {**decided.describe(), "sequence": snapshot.sequence, "segments": len(snapshot.segments)}
                results.append(QueryResult(hits, timings, described))
        return results

    def info(self) -> CollectionInfo:
        """See `CollectionApi.info`."""
        schema, state = self.schema, self._writer.state
        return CollectionInfo(
            name=schema.name,
            model=schema.model,
            fingerprint=None if schema.fingerprint is None else schema.fingerprint.get("digest"),
            dim=schema.dim,
            coarse_dim=schema.coarse_dim,
            legs=schema.legs,
            language=schema.language,
            weights=self._weights(),
            documents=state.documents,
            passages=state.passages,
            sequence=state.sequence,
        )

    def stats(self) -> CollectionStats:
        """See `CollectionApi.stats`."""
        state = self._writer.state
        return CollectionStats(
            info=self.info(),
            segments=[self._segment_stats(live) for live in self._writer.snapshot.segments],
            store_bytes=folder_size(self.folder / STORE_FOLDER),
            tokens=Coverage(state.read, state.embedded, state.dropped),
        )

    def _segment_stats(self, live: LiveSegment) -> SegmentStats:
        segment = live.segment
        folder = self.folder / SEGMENTS_FOLDER / segment.name
        return SegmentStats(
            name=segment.name or "head",
            passages=segment.n_rows,
            deleted=segment.n_rows - live.n_live,
            dense_kind="none" if segment.dense is None else segment.dense.kind,
            size_bytes=folder_size(folder) if segment.name and folder.exists() else 0,
        )

    def _weights(self) -> dict[str, float]:
        """The collection's fusion weights by leg: calibrated ones, under those that it was created with."""
        found = default_weights() if self._calibration is None else default_weights(self._calibration.bm25_weight)
        return {leg: weight for leg, weight in {**found, **self.schema.weights}.items() if leg in self.schema.legs}

    def _calibrate_if_due(self) -> None:
        """Calibrate a collection of enough passages, and again when it has doubled."""
        if self.schema.model is None or not self.schema.dim:
            return
        passages = self._writer.state.passages
        if passages < CALIBRATION_MIN_PASSAGES or (self._calibration and passages < 2 * self._calibration.passages):
            return
        with self._calibrating, self._writer.reading() as snapshot:
            found = calibrate(snapshot, self._store, self._encoder)
        # Too few prose sentences: remember that at this size there was nothing to find.
        found = found or Calibration(DEFAULT_LEXICAL_WEIGHT, 0, passages)

        def apply(commit: Commit) -> None:
            write_calibration(commit.transaction, found)

        self._writer.submit(Job(apply)).result()
        self._calibration = found

    def optimize(self) -> None:
        """Seal the head, do every merge and calibration that is due; returns when all is on disk."""
        self._sealer.run_until_idle(seal_rows=1)
        self._calibrate_if_due()

    def copy(self, folder: Path) -> None:
        """Write a copy of the whole collection, as of one commit, to a new ``folder``.

        A job of the writer, so that neither commits nor swaps of segments happen meanwhile.
        """

        def apply(commit: Commit) -> None:
            self._store.copy(folder / STORE_FOLDER)
            (folder / SEGMENTS_FOLDER).mkdir()
            for live in self._writer.snapshot.segments:
                if live.segment.name:
                    name = live.segment.name
                    shutil.copytree(self.folder / SEGMENTS_FOLDER / name, folder / SEGMENTS_FOLDER / name)

        self._writer.submit(Job(apply)).result()

    def close(self) -> None:
        """Finish queued writes, seal a head that is worth it, and release everything; a second call does nothing."""
        self._sealer.close()
        self._writer.close()
        self._store.close()


def _document(transaction: Transaction, doc_no: int, *, vectors: bool) -> Document:
    record = read_document(transaction, doc_no)
    vector: list[float] | None = None
    sparse: dict[int, float] | None = None
    if vectors and record.n_passages == 1:
        block = read_block(transaction, doc_no)
        vector = block.dense[0].astype(float).tolist() if block.dense.shape[1] else None
        if block.sparse is not None:
            ids, weights = block.sparse.row(0)
            sparse = dict(zip(ids.tolist(), weights.tolist(), strict=True))
    return Document(
        doc_id=record.doc_id,
        text=read_text(transaction, doc_no),
        title=record.title,
        metadata=record.metadata,
        vector=vector,
        sparse=sparse,
    )


def _matching_versions(snapshot: Snapshot, condition: Filter) -> np.ndarray:
    """uint64: the live versions that match."""
    found = [
        live.segment.doc_nos[condition.evaluate(live.segment.columns) & live.kept_docs] for live in snapshot.segments
    ]
    return np.concatenate([np.empty(0, np.uint64), *found])
