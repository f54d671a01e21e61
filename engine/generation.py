"""What serves a collection: one store, its segments, and the threads that write and tend them?

A collection has one generation at a time. A migration to another model fills a second one beside it, and the collection
switches from one to the other between two operations (`engine.collection.Collection.switch`).
"""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np

from engine.calibration import calibrate
from engine.encoding import Model, QueryEncoder
from engine.errors import CorruptData, EngineError, FingerprintMismatch
from engine.fusion import DEFAULT_LEXICAL_WEIGHT, SPARSE_WEIGHT, default_weights
from engine.ingest import Ingestor
from engine.preparation import Preparer
from engine.reading import View
from engine.recent import RecentQueries
from engine.recovery import open_segments
from engine.schema import CollectionSchema
from engine.sealing import SEAL_ROWS, Sealer
from engine.storage.kv import Store
from engine.storage.layout import SEGMENTS_FOLDER, STORE_FOLDER
from engine.storage.store import (
    Calibration,
    State,
    read_calibration,
    read_queries,
    read_schema,
    write_calibration,
    write_queries,
    write_schema,
    write_state,
)
from engine.writer import Commit, Job, Writer
from index.analyzer import Analyzer

log = logging.getLogger(__name__)

# Below this the pseudo-queries are too few to say anything.
CALIBRATION_MIN_PASSAGES = 64


class Generation:
    """One open store with its segments. Thread-safe.

    Args:
        folder: holds ``store/`` and ``segments/``.
        model: the engine's model; used only when the schema names one.
        seal_rows: head size at which it is sealed.

    Attributes:
        schema, store, writer, ingestor, encoder, recent: what the collection's operations work with.

    Raises:
        CorruptData: the store itself is damaged. Damaged segments are rebuilt.
        UnsupportedFormat: another version wrote it.
    """

    def __init__(self, folder: Path, model: Model, *, seal_rows: int = SEAL_ROWS) -> None:
        self.folder = folder
        self.segments_folder = folder / SEGMENTS_FOLDER
        self.store = Store(folder / STORE_FOLDER)
        try:
            with self.store.read() as transaction:
                schema = read_schema(transaction)
                self._calibration = read_calibration(transaction)
                asked = None if schema is None else read_queries(transaction, schema.dim)
            if schema is None:
                raise CorruptData(str(folder), "its store has no schema")
            self.segments_folder.mkdir(exist_ok=True)
            state, segments, dead = open_segments(self.store, self.segments_folder, schema)
        except BaseException:
            self.store.close()
            raise
        self.schema = schema
        analyzer = Analyzer(schema.language)
        self.encoder = QueryEncoder(schema, analyzer, model)
        self.writer = Writer(self.store, schema, state, segments, dead)
        embed = None
        if schema.model:
            embed = self.encoder.expand_documents if schema.expansion else self.encoder.embed_documents
        self.ingestor = Ingestor(schema, Preparer(schema, self.store, analyzer, embed), self.writer)
        self.recent = RecentQueries(schema.dim, known=asked)
        self._stored_queries = self.recent.vectors()
        self._calibrating = threading.Lock()
        self._sealer = Sealer(
            self.segments_folder,
            schema,
            self.writer,
            self.recent,
            seal_rows,
            on_idle=self._calibrate_when_doubled,
        )

    @staticmethod
    def create(folder: Path, schema: CollectionSchema, *, sequence: int = 0) -> None:
        """Initialise an empty generation in ``folder``, durable when this returns.

        Args:
            folder: where it will live.
            schema: what is fixed about it.
            sequence: the number of the last operation before its first.
        """
        store = Store(folder / STORE_FOLDER)
        try:
            with store.write() as transaction:
                write_schema(transaction, schema)
                write_state(transaction, State(sequence=sequence))
        finally:
            store.close()

    def weights(self) -> dict[str, float]:
        """See `engine.reading.Serving`."""
        return fusion_weights(self.schema, self._calibration)

    @contextmanager
    def view(self) -> Iterator[View]:
        """See `engine.reading.Serving`."""
        with self.writer.reading() as snapshot:
            yield View(snapshot, self.writer.state, self.store)

    def optimize(self) -> None:
        """Seal the head, merge what is due or small, calibrate on all passages; returns when all is on disk."""
        self._sealer.settle()
        self._calibrate_if_grown(1.0)

    def _calibrate_when_doubled(self) -> None:
        self._calibrate_if_grown(2.0)

    def _calibrate_if_grown(self, factor: float) -> None:
        """Calibrate a collection of enough passages, and again when it has grown by this factor."""
        if self.schema.model is None or not self.schema.dim:
            return
        passages = self.writer.state.passages
        known = 0 if self._calibration is None else self._calibration.passages
        if passages < CALIBRATION_MIN_PASSAGES or passages == known or passages < factor * known:
            return
        try:
            with self._calibrating, self.writer.reading() as snapshot:
                found = calibrate(snapshot, self.store, self.encoder)
        except FingerprintMismatch:
            return  # with another model than its own, say during a migration, a collection cannot be measured
        # Too few prose sentences: remember that at this size there was nothing to find.
        found = found or Calibration(DEFAULT_LEXICAL_WEIGHT, 0, passages)

        def apply(commit: Commit) -> None:
            write_calibration(commit.transaction, found)

        self.writer.submit(Job(apply)).result()
        self._calibration = found

    def continue_from(self, sequence: int) -> None:
        """Number the operations from here on higher than ``sequence``; durable when this returns."""

        def apply(commit: Commit) -> None:
            commit.state = msgspec.structs.replace(commit.state, sequence=max(sequence, commit.state.sequence))

        self.writer.submit(Job(apply)).result()

    def end_writes(self) -> None:
        """Refuse writes and background work from now on; searches go on until `close`."""
        self._sealer.stop()
        self.writer.close()

    def copy(self, folder: Path) -> None:
        """Write a copy, as of one commit, to a new ``folder``.

        A job of the writer, so that neither commits nor swaps of segments happen meanwhile.
        """

        def apply(commit: Commit) -> None:
            self.store.copy(folder / STORE_FOLDER)
            (folder / SEGMENTS_FOLDER).mkdir()
            for live in self.writer.snapshot.segments:
                if live.segment.name:
                    name = live.segment.name
                    shutil.copytree(self.segments_folder / name, folder / SEGMENTS_FOLDER / name)

        self.writer.submit(Job(apply)).result()

    def close(self) -> None:
        """Finish queued writes, seal a head that is worth it, and release everything; a second call does nothing."""
        self._sealer.close()
        self._store_queries()
        self.writer.close()
        self.store.close()

    def _store_queries(self) -> None:
        """Keep the recent queries for the next open. They only sharpen certificates: a full disk does not fail the closing."""
        vectors = self.recent.vectors()
        if not self.writer.closed and not np.array_equal(vectors, self._stored_queries):
            try:
                self.writer.submit(Job(lambda commit: write_queries(commit.transaction, vectors))).result()
                self._stored_queries = vectors
            except EngineError:
                log.warning("the recent queries of %r could not be stored", self.schema.name, exc_info=True)


def fusion_weights(schema: CollectionSchema, calibration: Calibration | None) -> dict[str, float]:
    """The fusion weights by leg: calibrated ones, under those that the collection was created with."""
    bm25, sparse = DEFAULT_LEXICAL_WEIGHT, SPARSE_WEIGHT
    if calibration is not None:
        bm25, sparse = calibration.bm25_weight, calibration.sparse_weight or sparse
    return {**default_weights(bm25, sparse, legs=schema.legs), **schema.weights}
