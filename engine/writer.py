"""Who writes, and when is a write done?

One thread a collection applies jobs in the order in which they were submitted. It takes all that are waiting (group commit),
applies them in one LMDB transaction, builds one in-memory segment of the new versions, publishes the new snapshot, and only
then resolves the jobs' futures: what is acknowledged is on the disk and visible to the next query.

A job first checks, then changes: `Job.apply` raises before its first change, or not at all, so one refused job does not
spoil the group. An error of the store itself fails the whole group, of which nothing is stored.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import msgspec
import numpy as np

from engine.errors import EngineClosed, EngineError
from engine.head import compacted
from engine.schema import CollectionSchema
from engine.segment import Segment
from engine.snapshot import LiveSegment, Snapshot
from engine.storage.kv import Store, Transaction
from engine.storage.records import DocumentRecord, PassageBlock, encode_blocks
from engine.storage.store import (
    State,
    find,
    find_many,
    forget_id,
    mark_dead,
    put_versions,
    read_document,
    reap,
    write_state,
)

log = logging.getLogger(__name__)

T = TypeVar("T")
GROUP_BYTES = 64 << 20
QUEUE_BYTES = 256 << 20
REAPED_PER_COMMIT = 2_000


@dataclass(slots=True)
class Commit:
    """What the jobs of one group have changed so far; the jobs write to it.

    doc_nos, metadata, lengths: the new versions in order, each with its number of passages. blocks: their passages, one
    version after the other. dead: versions that are no longer live.
    """

    transaction: Transaction
    state: State
    doc_nos: list[int] = field(default_factory=list)
    metadata: list[Mapping[str, object]] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    blocks: list[PassageBlock] = field(default_factory=list)
    dead: list[int] = field(default_factory=list)

    def put(self, records: Sequence[DocumentRecord], texts: Sequence[str], block: PassageBlock) -> list[bool]:
        """Store new versions of different documents, whose passages follow one another in ``block``.

        Returns:
            For each, whether it replaces a live version.
        """
        known = find_many(self.transaction, [record.doc_id for record in records])
        replaced = [doc_no is not None for doc_no in known]
        for record, doc_no in zip(records, known, strict=True):
            if doc_no is not None:
                self._kill(record.doc_id, doc_no)
        lengths = [record.n_passages for record in records]
        indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        first, end = self.state.next_doc_no, self.state.next_doc_no + len(records)
        put_versions(self.transaction, first, records, texts, encode_blocks(block, indptr))
        self.state = msgspec.structs.replace(self.state.counting(records, 1), next_doc_no=end)
        self.doc_nos += range(first, end)
        self.metadata += [record.metadata for record in records]
        self.lengths += lengths
        self.blocks.append(block)
        return replaced

    def kill(self, doc_id: str) -> bool:
        """Make the live version of ``doc_id`` dead; False when there is none."""
        doc_no = find(self.transaction, doc_id)
        if doc_no is not None:
            self._kill(doc_id, doc_no)
        return doc_no is not None

    def _kill(self, doc_id: str, doc_no: int) -> None:
        self.state = self.state.counting([read_document(self.transaction, doc_no)], -1)
        forget_id(self.transaction, doc_id)
        mark_dead(self.transaction, doc_no)
        self.dead.append(doc_no)

    def next_sequences(self, n: int) -> range:
        """The numbers of ``n`` more operations."""
        first = self.state.sequence + 1
        self.state = msgspec.structs.replace(self.state, sequence=self.state.sequence + n)
        return range(first, first + n)


@dataclass(slots=True)
class Job(Generic[T]):
    """One unit of work for the writer.

    apply: changes the store through the commit and returns the job's result. publish: optionally changes the list of
    segments once the commit is on the disk. size_bytes: how much memory the job holds while it waits.
    """

    apply: Callable[[Commit], T]
    publish: Callable[[tuple[LiveSegment, ...]], tuple[LiveSegment, ...]] | None = None
    size_bytes: int = 1024
    future: Future[T] = field(default_factory=Future)


class Writer:
    """The writing thread of one collection, and the keeper of its current snapshot.

    Args:
        store, schema: the collection's.
        state: as read from the store.
        segments: the live segments as opened.
        dead: versions that are dead already; they are reaped as soon as possible.
    """

    def __init__(
        self,
        store: Store,
        schema: CollectionSchema,
        state: State,
        segments: tuple[LiveSegment, ...],
        dead: list[int],
    ) -> None:
        self._store = store
        self._schema = schema
        self.state = state
        self._snapshot = Snapshot(state.sequence, segments)
        self._generation = 0
        self._in_use: Counter[int] = Counter()
        self._snapshot_lock = threading.Lock()
        # (generation, doc_no): no snapshot of that generation or a later one holds the version.
        self._to_reap: list[tuple[int, int]] = [(0, doc_no) for doc_no in dead]
        self._jobs: queue.SimpleQueue[Job[object] | None] = queue.SimpleQueue()
        self._waiting_bytes = 0
        self._room = threading.Condition()
        self._closed = False
        self._suspended = False
        self._broken: BaseException | None = None
        self.published = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"writer-{schema.name}", daemon=True)
        self._thread.start()

    @property
    def snapshot(self) -> Snapshot:
        """The current snapshot; use `reading` when its document versions will be fetched."""
        return self._snapshot

    @contextmanager
    def reading(self) -> Iterator[Snapshot]:
        """The current snapshot, whose document versions stay in the store until the block ends."""
        with self._snapshot_lock:
            snapshot, generation = self._snapshot, self._generation
            self._in_use[generation] += 1
        try:
            yield snapshot
        finally:
            with self._snapshot_lock:
                self._in_use[generation] -= 1
                if not self._in_use[generation]:
                    del self._in_use[generation]

    @property
    def closed(self) -> bool:
        """Whether jobs are refused."""
        return self._closed

    def submit(self, job: Job[T]) -> Future[T]:
        """Queue a job; waits while too much is queued already.

        Raises:
            EngineClosed: the collection is closed.
        """
        with self._room:
            self._room.wait_for(lambda: self._closed or (self._waiting_bytes < QUEUE_BYTES and not self._suspended))
            return self._enqueued(job)

    def _enqueued(self, job: Job[T]) -> Future[T]:
        if self._closed:
            raise EngineClosed(f"Collection {self._schema.name!r}") from self._broken
        self._waiting_bytes += job.size_bytes
        self._jobs.put(job)  # type: ignore[arg-type]  # the queue is heterogeneous
        return job.future

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """Every job that was submitted is done when the block begins, and later ones wait until it ends.

        When the writer is closed inside the block, those that wait are refused.
        """
        with self._room:
            self._suspended = True
            last = self._enqueued(Job(lambda _: None))
        try:
            last.result()
            yield
        finally:
            with self._room:
                self._suspended = False
                self._room.notify_all()

    def pending_reaps(self) -> set[int]:
        """Dead versions whose rows are still in the store. For jobs: only the writing thread may call it."""
        return {doc_no for _, doc_no in self._to_reap}

    def close(self) -> None:
        """Finish what is queued and end the thread; a second call does nothing."""
        with self._room:
            if not self._closed:
                self._closed = True
                self._jobs.put(None)
            self._room.notify_all()
        self._thread.join()

    def _run(self) -> None:
        while (group := self._next_group()) is not None:
            try:
                self._commit(group)
            except BaseException as error:
                # The thread's root: the error goes to every waiting caller.
                self._fail(group, error)

    def _next_group(self) -> list[Job[object]] | None:
        """All jobs that wait, up to GROUP_BYTES of them; None when the queue is closed and empty."""
        job = self._jobs.get()
        group: list[Job[object]] = []
        size = 0
        while job is not None:
            group.append(job)
            size += job.size_bytes
            if size >= GROUP_BYTES or self._jobs.empty():
                break
            job = self._jobs.get()
        if job is None:
            if not group:
                return None
            self._jobs.put(None)
        with self._room:
            self._waiting_bytes -= size
            self._room.notify_all()
        return group

    def _commit(self, group: list[Job[object]]) -> None:
        done: list[tuple[Job[object], object]] = []
        refused: list[tuple[Job[object], EngineError]] = []
        self._store.release_dead_readers()  # else pages that a killed process read would never be used again
        with self._store.write() as transaction:
            commit = Commit(transaction, self.state)
            for job in group:
                before = (commit.state, len(commit.dead))
                try:
                    done.append((job, job.apply(commit)))
                except EngineError as error:
                    if (commit.state, len(commit.dead)) != before:
                        raise
                    refused.append((job, error))
            reaped = self._reap(transaction)
            write_state(transaction, commit.state)
        self._to_reap = self._to_reap[reaped:]
        try:
            self._publish(commit, [job for job, _ in done])
        except BaseException as error:
            # The store is ahead of the snapshot: nothing more may be built on it. Reopening rebuilds it from the store.
            self._broken, self._closed = error, True
            raise
        for job, refusal in refused:
            job.future.set_exception(refusal)
        for job, result in done:
            job.future.set_result(result)

    def _publish(self, commit: Commit, jobs: list[Job[object]]) -> None:
        segments = self._snapshot.segments
        for job in jobs:
            if job.publish is not None:
                segments = job.publish(segments)
        if commit.doc_nos:
            new = Segment.build(self._schema, commit.doc_nos, commit.metadata, commit.lengths, commit.blocks)
            segments = (*segments, LiveSegment(new))
        if commit.dead:
            dead = np.array(commit.dead, np.uint64)
            segments = tuple(live.without(dead) for live in segments)
        segments = compacted(self._schema, segments)
        with self._snapshot_lock:
            self._generation += 1
            self._snapshot = Snapshot(commit.state.sequence, segments)
        self._to_reap += [(self._generation, doc_no) for doc_no in commit.dead]
        self.state = commit.state
        self.published.set()

    def _reap(self, transaction: Transaction) -> int:
        """Delete rows of dead versions that no running query can reach; returns how many of ``_to_reap`` are done."""
        with self._snapshot_lock:
            oldest = min(self._in_use, default=self._generation)
        reaped = 0
        for generation, doc_no in self._to_reap[:REAPED_PER_COMMIT]:
            if generation > oldest:
                break
            reap(transaction, doc_no)
            reaped += 1
        return reaped

    def _fail(self, group: list[Job[object]], error: BaseException) -> None:
        if not isinstance(error, EngineError):
            log.exception("a commit of collection %r failed", self._schema.name)
        for job in group:
            if not job.future.done():
                job.future.set_exception(error)
