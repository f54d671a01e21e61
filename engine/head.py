"""What is the head? The versions that no sealed segment holds, in a few small segments in memory.

It is made again from the store when a collection is opened, and kept to a few segments while it grows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from engine.schema import CollectionSchema
from engine.segment import Segment
from engine.snapshot import LiveSegment
from engine.storage.kv import Transaction
from engine.storage.records import PassageBlock
from engine.storage.store import dead_versions, read_documents, stored_blocks

# The head is rebuilt in segments of this many passages, to bound the memory of one build.
HEAD_CHUNK_ROWS = 16_384
# In the head, this many segments of one size class are merged into one, so a query meets few of them.
HEAD_FANOUT = 4


def outside_head(transaction: Transaction, watermark: int, sealed: Iterable[Segment]) -> tuple[np.ndarray, set[int]]:
    """The dead versions, uint64[m] ascending; and with them those from the watermark on that sealed segments hold."""
    dead = np.array(dead_versions(transaction), np.uint64)
    covered = [segment.doc_nos[segment.doc_nos >= watermark] for segment in sealed]
    return dead, set(np.concatenate([dead, *covered]).tolist())


def stored_head(transaction: Transaction, schema: CollectionSchema, start: int, skip: set[int]) -> Iterator[Segment]:
    """In-memory segments of every stored version from ``start`` on that is not in ``skip``."""
    pending: list[tuple[int, PassageBlock]] = []
    rows = 0
    for doc_no, block in stored_blocks(transaction, start):
        if doc_no in skip:
            continue
        pending.append((doc_no, block))
        rows += block.n_passages
        if rows >= HEAD_CHUNK_ROWS:
            yield _built(transaction, schema, pending)
            pending, rows = [], 0
    if pending:
        yield _built(transaction, schema, pending)


def _built(transaction: Transaction, schema: CollectionSchema, versions: list[tuple[int, PassageBlock]]) -> Segment:
    doc_nos = [doc_no for doc_no, _ in versions]
    metadata = [record.metadata for record in read_documents(transaction, doc_nos)]
    blocks = [block for _, block in versions]
    return Segment.build(schema, doc_nos, metadata, [block.n_passages for block in blocks], blocks)


def compacted(schema: CollectionSchema, segments: Iterable[LiveSegment]) -> tuple[LiveSegment, ...]:
    """The list with small head segments merged and empty ones dropped, the order kept."""
    kept = [live for live in segments if live.segment.name or live.frozen or live.n_live]
    while (run := _mergeable(kept)) is not None:
        parts = [(live.segment, live.kept_docs) for live in kept[run]]
        kept[run] = [LiveSegment(Segment.merge(schema, "", parts))]
    return tuple(kept)


def _mergeable(segments: list[LiveSegment]) -> slice | None:
    """The last HEAD_FANOUT segments, when all are free head segments and the oldest is not much larger than the newest.

    So a passage is merged about log8(head size) times, and a head of n passages has O(log n) segments.
    """
    tail = segments[-HEAD_FANOUT:]
    if len(tail) < HEAD_FANOUT or any(live.segment.name or live.frozen for live in tail):
        return None
    if tail[0].n_live >= HEAD_FANOUT * tail[-1].n_live:
        return None
    return slice(len(segments) - HEAD_FANOUT, len(segments))
