"""When does the head become a segment on disk, and when do segments merge?

One background thread a collection. It looks at the snapshot after every commit and does one task at a time:

    seal    the head has SEAL_ROWS passages: write them as one segment
    merge   MERGE_FANOUT sealed segments are of one size class: make one of them (tiered, so a passage is rewritten
            log4(n / SEAL_ROWS) times)
    vacuum  more than a fifth of a sealed segment is deleted: rewrite it without
    settle  asked to (`optimize`): make one segment of the small ones, since each costs every query about half a millisecond,
            and drop what is deleted
    measure nothing was written for a while, and enough was asked: measure the recall of a segment with these queries

Building happens beside queries and writes; only the swap is a job of the writer. A crash before the swap leaves a folder
that the next open sweeps away.
"""

from __future__ import annotations

import logging
import math
import threading
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from engine.recent import RecentQueries
from engine.schema import CollectionSchema
from engine.segment import GRAPH_MIN_ROWS, Segment
from engine.snapshot import LiveSegment, Snapshot
from engine.storage.durable import remove_folder
from engine.storage.store import dead_versions, forget_dead
from engine.writer import Commit, Job, Writer

log = logging.getLogger(__name__)

SEAL_ROWS = 32_768
# At close the head is sealed from this size on, so that the next open maps it instead of rebuilding it.
SEAL_ROWS_AT_CLOSE = 2_000
MERGE_FANOUT = 4
VACUUM_SHARE = 0.2
# What may settle into one segment, which may be a graph then: segments too small for one, a tenth of all that new or deleted,
# so that frequent calls after small changes rewrite a passage about ten times. Graphs take minutes to build, and stay.
SETTLED_ROWS = GRAPH_MIN_ROWS - 1
SETTLED_SHARE = 0.1
RETRY_S = 30.0
IDLE_S = 3.0


@dataclass(frozen=True, slots=True)
class Task:
    """Segments to replace by one; ``reason`` is seal, merge, vacuum, settle or measure."""

    reason: str
    sources: tuple[Segment, ...]


def choose(snapshot: Snapshot, seal_rows: int = SEAL_ROWS) -> Task | None:
    """The most useful task for a snapshot, or None. Pure."""
    head = [live for live in snapshot.segments if not live.segment.name]
    if sum(live.segment.n_rows for live in head) >= seal_rows:
        return Task("seal", tuple(live.segment for live in head))
    sealed = [live for live in snapshot.segments if live.segment.name]
    for live in sealed:
        if live.segment.n_rows - live.n_live > VACUUM_SHARE * live.segment.n_rows:
            return Task("vacuum", (live.segment,))
    classes: dict[int, list[Segment]] = {}
    for live in sealed:
        classes.setdefault(_size_class(live.n_live, seal_rows), []).append(live.segment)
    for members in classes.values():
        if len(members) >= MERGE_FANOUT:
            return Task("merge", tuple(members))
    return None


def choose_to_settle(snapshot: Snapshot) -> Task | None:
    """The sealed segments that should become one when nothing else is due, or None. Pure."""
    small = [live for live in snapshot.segments if live.segment.name and live.n_live <= SETTLED_ROWS]
    small.sort(key=lambda live: -live.n_live)
    for place, largest in enumerate(small):
        rows = sum(live.n_live for live in small[place:])
        changed = rows - largest.n_live + largest.segment.n_rows - largest.n_live
        if changed >= max(1, SETTLED_SHARE * rows):
            return Task("settle", tuple(live.segment for live in small[place:]))
    return None


def choose_to_measure(snapshot: Snapshot, asked: int) -> Task | None:
    """A sealed segment whose recall should be measured with the ``asked`` queries that are known, or None. Pure."""
    for live in snapshot.segments:
        dense = live.segment.dense
        if live.segment.name and dense is not None and dense.improves_by(asked):
            return Task("measure", (live.segment,))
    return None


def _size_class(rows: int, seal_rows: int) -> int:
    return max(0, round(math.log(max(rows, 1) / seal_rows, MERGE_FANOUT)))


class Sealer:
    """The background thread of one collection.

    Args:
        folder: where sealed segments live.
        schema, writer, recent: the collection's.
        seal_rows: head size at which it is sealed.
        on_idle: called when there were no writes for IDLE_S seconds.
    """

    def __init__(
        self,
        folder: Path,
        schema: CollectionSchema,
        writer: Writer,
        recent: RecentQueries,
        seal_rows: int = SEAL_ROWS,
        on_idle: Callable[[], None] = lambda: None,
    ) -> None:
        self._folder = folder
        self._schema = schema
        self._writer = writer
        self._recent = recent
        self._seal_rows = seal_rows
        self._on_idle = on_idle
        self._closing = False
        self._busy = threading.Lock()
        self._thread = threading.Thread(target=self._loop, name=f"sealer-{schema.name}", daemon=True)
        self._thread.start()
        recent.when_enough(writer.published.set)

    def settle(self) -> None:
        """Seal the head, do every task that is due, merge small segments and measure, in the calling thread."""
        with self._busy:
            self._seal_head(1)
            while task := choose(self._writer.snapshot, self._seal_rows) or choose_to_settle(self._writer.snapshot):
                self._run(task)
            self._measure()

    def _measure(self) -> None:
        while not self._closing and (task := choose_to_measure(self._writer.snapshot, len(self._recent))) is not None:
            self._run(task)

    def stop(self) -> None:
        """Take no more tasks; the one in progress may still end."""
        self._closing = True
        self._writer.published.set()

    def close(self, *, wait_s: float = 5.0) -> None:
        """Stop, wait a little for the task in progress (a longer one's folder is swept later), and seal the head."""
        stopped = self._closing
        self.stop()
        self._thread.join(wait_s)
        if not self._thread.is_alive() and not stopped:
            self._seal_head(SEAL_ROWS_AT_CLOSE)  # merges can wait for the next open

    def _seal_head(self, least_rows: int) -> None:
        """Seal a head of at least so many live passages."""
        head = [live for live in self._writer.snapshot.segments if not live.segment.name and live.n_live]
        if sum(live.n_live for live in head) >= least_rows:
            self._run(Task("seal", tuple(live.segment for live in head)))

    def _loop(self) -> None:
        while not self._closing:
            wrote = self._writer.published.wait(IDLE_S)
            self._writer.published.clear()
            try:
                if not wrote:
                    self._on_idle()
                    with self._busy:
                        self._measure()
                    self._writer.published.wait()
                    continue
                with self._busy:
                    while not self._closing and (task := choose(self._writer.snapshot, self._seal_rows)) is not None:
                        self._run(task)
            except Exception:
                # The thread's root. The collection works without sealed segments, only slower: say so, and try again.
                if self._closing:
                    return
                log.exception("background work on collection %r failed; trying again", self._schema.name)
                retry = threading.Timer(RETRY_S, self._writer.published.set)
                retry.daemon = True
                retry.start()

    def _run(self, task: Task) -> None:
        sources = self._freeze(task)
        if not sources:
            return
        parts = [(live.segment, live.kept_docs) for live in sources]
        name = uuid.uuid4().hex[:12]
        new: Segment | None = None
        if any(keep.any() for _, keep in parts):
            log.info("%s: %s of %d segments", self._schema.name, task.reason, len(parts))
            if task.reason == "measure":
                (segment,) = task.sources
                segment.save_measured(self._folder / segment.name, self._folder / name, self._recent.vectors())
            else:
                Segment.merge(self._schema, name, parts, self._recent.vectors()).save(self._folder / name)
            # The loaded form maps the files; the built one is dropped with its memory.
            new = Segment.load(self._folder / name, self._schema)
        self._swap(sources, new)
        for live in sources:
            if live.segment.name:
                remove_folder(self._folder / live.segment.name)

    def _freeze(self, task: Task) -> tuple[LiveSegment, ...]:
        """The sources as they are now, protected from the writer's own merging."""
        frozen: list[LiveSegment] = []

        def publish(segments: tuple[LiveSegment, ...]) -> tuple[LiveSegment, ...]:
            chosen = tuple(live.freeze(any(live.segment is source for source in task.sources)) for live in segments)
            frozen.extend(live for live in chosen if live.frozen)
            return chosen

        self._writer.submit(Job(lambda _: None, publish)).result()
        return tuple(frozen)

    def _swap(self, sources: Sequence[LiveSegment], new: Segment | None) -> None:
        """Put ``new`` in the place of ``sources``, in the store and in the snapshot, with the deletions since."""
        gone = {id(live.segment) for live in sources}
        removed = {live.segment.name for live in sources if live.segment.name}
        head_end = max((int(live.segment.doc_nos[-1]) + 1 for live in sources if not live.segment.name), default=0)

        def apply(commit: Commit) -> None:
            names = tuple(name for name in commit.state.segments if name not in removed)
            commit.state = msgspec.structs.replace(
                commit.state,
                segments=names if new is None else (*names, new.name),
                watermark=max(commit.state.watermark, head_end),
            )
            kept = [live.segment for live in self._writer.snapshot.segments if live.segment.name]
            kept = [segment for segment in kept if id(segment) not in gone]
            dead = np.array(dead_versions(commit.transaction), np.uint64)
            held = np.zeros(len(dead), bool)
            for segment in kept if new is None else (*kept, new):
                held |= np.isin(dead, segment.doc_nos)
            unreaped = self._writer.pending_reaps() | set(commit.dead)
            forget_dead(commit.transaction, [n for n in dead[~held].tolist() if n not in unreaped])

        def publish(segments: tuple[LiveSegment, ...]) -> tuple[LiveSegment, ...]:
            replaced = [live for live in segments if id(live.segment) in gone]
            place = next(i for i, live in enumerate(segments) if id(live.segment) in gone)
            result = [live for live in segments if id(live.segment) not in gone]
            if new is not None:
                deleted = [live.segment.doc_nos[live.deleted] for live in replaced if live.deleted is not None]
                fresh = LiveSegment(new)
                result.insert(place, fresh.without(np.concatenate(deleted)) if deleted else fresh)
            return tuple(result)

        self._writer.submit(Job(apply, publish)).result()
