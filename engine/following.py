"""How does a process read a collection that another process writes?

The store tells everything: which commit is the last, which segments are sealed, which versions are live. Before every
operation a `Follower` looks at the number of the last commit, which costs microseconds, and only when it has grown brings
its snapshot up to date. So a reader sees every write that was acknowledged, in whichever process. Its read transaction stays
open until the operation ends, and the writer reuses no page that it needs. Sealed segments are mapped, so their
memory is shared between processes; the head is made by each one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import numpy as np

from engine.encoding import Model, QueryEncoder
from engine.errors import CorruptData
from engine.generation import fusion_weights
from engine.head import compacted, outside_head, stored_head
from engine.reading import View
from engine.recent import RecentQueries
from engine.schema import CollectionSchema
from engine.segment import Segment
from engine.snapshot import LiveSegment, Snapshot
from engine.storage.kv import Store, Transaction
from engine.storage.layout import SEGMENTS_FOLDER, STORE_FOLDER
from engine.storage.store import (
    Calibration,
    State,
    read_calibration,
    read_schema,
    read_state,
    stored_versions,
)
from index.analyzer import Analyzer


class FollowedGeneration:
    """A generation that another process writes, with all that reads need. Implements `engine.reading.Serving`.

    Args:
        folder: of the generation.
        model_of: the model of a collection with this schema; used only when the schema names one.

    Raises:
        CorruptData: there is no store, or it is damaged.
    """

    def __init__(self, folder: Path, model_of: Callable[[CollectionSchema], Model]) -> None:
        self.folder = folder
        self._store = Store(folder / STORE_FOLDER, read_only=True)
        try:
            with self._store.read() as transaction:
                schema = read_schema(transaction)
            if schema is None:
                raise CorruptData(str(folder), "its store has no schema")
        except BaseException:
            self._store.close()
            raise
        self.schema = schema
        self.encoder = QueryEncoder(schema, Analyzer(schema.language), model_of(schema))
        self.recent = RecentQueries(schema.dim)  # of this process, for nobody: certificates are the writer's
        self._follower = Follower(self._store, folder / SEGMENTS_FOLDER, schema)

    def weights(self) -> dict[str, float]:
        """See `engine.reading.Serving`."""
        return fusion_weights(self.schema, self._follower.calibration)

    def view(self) -> AbstractContextManager[View]:
        """See `engine.reading.Serving`."""
        return self._follower.view()

    def close(self) -> None:
        """Release everything; a second call does nothing."""
        self._store.close()


class _Pinned:
    """One view of a store, which stays the same. Implements `engine.storage.kv.Readable`."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    def read(self) -> AbstractContextManager[Transaction]:
        return nullcontext(self._transaction)


class Follower:
    """Keeps a snapshot up with a store that somebody else writes. Thread-safe.

    Args:
        store, folder, schema: the collection's, its sealed segments' and its own.

    Attributes:
        calibration: as of the latest view.
    """

    def __init__(self, store: Store, folder: Path, schema: CollectionSchema) -> None:
        self._store = store
        self._folder = folder
        self._schema = schema
        self._lock = threading.Lock()
        self._commit = -1
        self._state = State()
        self._snapshot = Snapshot(0, ())
        self.calibration: Calibration | None = None

    @contextmanager
    def view(self) -> Iterator[View]:
        """What was last committed, by whomever; it stays readable until the block ends.

        Raises:
            CorruptData: a sealed segment is damaged; the process that writes rebuilds it when it is started again.
        """
        while True:
            with self._store.read() as transaction:
                if (seen := self._caught_up(transaction)) is not None:
                    yield View(*seen, _Pinned(transaction))
                    return

    def _caught_up(self, transaction: Transaction) -> tuple[Snapshot, State] | None:
        """The snapshot and the state as of ``transaction``; None when there is a later commit to look at instead."""
        with self._lock:
            if transaction.number < self._commit:
                return None
            if transaction.number > self._commit:
                try:
                    self._follow(transaction)
                except (CorruptData, FileNotFoundError):
                    # A segment whose files went because it was merged away since then is no damage.
                    with self._store.read() as later:
                        if later.number > transaction.number:
                            return None
                    raise
            return self._snapshot, self._state

    def _follow(self, transaction: Transaction) -> None:
        self.calibration = read_calibration(transaction)
        state = read_state(transaction)
        if state != self._state or self._commit < 0:
            self._snapshot = Snapshot(state.sequence, self._segments(transaction, state))
            self._state = state
        self._commit = transaction.number

    def _segments(self, transaction: Transaction, state: State) -> tuple[LiveSegment, ...]:
        """The segments as of ``state``; those that are known are kept."""
        known, before = self._snapshot.segments, self._state
        if state.watermark < before.watermark:  # the writer found a damaged segment, and what it held is in the head
            known, before = (), State()
        mapped = {live.segment.name: live for live in known if live.segment.name}
        sealed = [
            mapped.get(name) or LiveSegment(Segment.load(self._folder / name, self._schema)) for name in state.segments
        ]
        head = [live for live in known if not live.segment.name]
        skip: set[int] = set()
        if (state.segments, state.watermark, state.killed) != (before.segments, before.watermark, before.killed):
            dead, skip = outside_head(transaction, state.watermark, [live.segment for live in sealed])
            sealed = [live.without(dead) for live in sealed]
            # What was sealed is no longer in the head, nor what died, even if the store has forgotten that since.
            held = np.setdiff1d(np.array(stored_versions(transaction, state.watermark), np.uint64), dead)
            head = [live.without(np.setdiff1d(live.segment.doc_nos, held)) for live in head]
        start = max(before.next_doc_no, state.watermark)
        new = map(LiveSegment, stored_head(transaction, self._schema, start, skip))
        return compacted(self._schema, (*sealed, *head, *new))
