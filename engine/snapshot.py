"""What does a running query see?

A `Snapshot` is a frozen list of segments with their deletions. Commits, seals and merges make a new one; a query that holds
an older one is not touched by them, and the store keeps the document versions it may still ask for.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from engine.segment import Segment
from engine.values import Leg


@dataclass(frozen=True, slots=True)
class LiveSegment:
    """A segment and the documents of it that are deleted.

    ``live_rows``: bool[n_rows] of rows that may be found, None when all may; ``dead_rows`` the others. ``n_live`` rows are
    live; ``live_length`` is the sum of their BM25 lengths. ``frozen``: a background task is rebuilding the segment, so the
    writer must not merge it away. ``dead_norm``: the sum of the norms of the dead rows' learned sparse vectors.
    """

    segment: Segment
    deleted: np.ndarray | None = None
    frozen: bool = False
    dead_norm: float = 0.0
    live_rows: np.ndarray | None = field(init=False)
    dead_rows: np.ndarray | None = field(init=False)
    n_live: int = field(init=False)
    live_length: float = field(init=False)

    def __post_init__(self) -> None:
        lengths = self.segment.bm25.lengths
        dead = None if self.deleted is None else self.deleted[self.segment.row_docs]
        live = None if dead is None else ~dead
        object.__setattr__(self, "dead_rows", dead)
        object.__setattr__(self, "live_rows", live)
        object.__setattr__(self, "n_live", self.segment.n_rows if live is None else int(live.sum()))
        kept = lengths if live is None else lengths[live]
        object.__setattr__(self, "live_length", float(np.sum(kept, dtype=np.float64)))

    @property
    def kept_docs(self) -> np.ndarray:
        """bool[n_docs] of the documents that are not deleted."""
        return np.ones(self.segment.n_docs, bool) if self.deleted is None else ~self.deleted

    def without(self, doc_nos: np.ndarray) -> LiveSegment:
        """This segment with ``doc_nos`` (uint64[m]) deleted too; itself when it holds none of them."""
        fresh = np.zeros(self.segment.n_docs, bool)
        fresh[self.segment.find(doc_nos)] = True
        if self.deleted is not None:
            fresh &= ~self.deleted
        if not fresh.any():
            return self
        norm = self.dead_norm
        if self.segment.sparse is not None:
            norm += self.segment.sparse.norm_sum(np.flatnonzero(fresh[self.segment.row_docs]))
        return LiveSegment(self.segment, fresh if self.deleted is None else self.deleted | fresh, self.frozen, norm)

    def freeze(self, frozen: bool) -> LiveSegment:
        """This segment, marked as being rebuilt or not."""
        return replace(self, frozen=frozen)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The segments as of one commit, in the order in which they were made.

    ``n_passages``: live ones. ``avg_len``: their mean BM25 length, at least 1. ``mean_sparse_norm``: the mean Euclidean norm
    of their learned sparse vectors, 1 without any.
    """

    sequence: int
    segments: tuple[LiveSegment, ...]
    n_passages: int = field(init=False)
    avg_len: float = field(init=False)
    mean_sparse_norm: float = field(init=False)

    def __post_init__(self) -> None:
        n_passages = sum(live.n_live for live in self.segments)
        length = sum(live.live_length for live in self.segments)
        held = [(live.segment.sparse, live) for live in self.segments if live.segment.sparse is not None]
        norm = sum(index.avg_len * index.n_rows - live.dead_norm for index, live in held)
        object.__setattr__(self, "n_passages", n_passages)
        object.__setattr__(self, "avg_len", max(1.0, length / max(1, n_passages)))
        object.__setattr__(self, "mean_sparse_norm", norm / n_passages if held and n_passages else 1.0)

    def doc_freq(self, leg: Leg, terms: np.ndarray) -> np.ndarray:
        """int64[m]: the live passages that hold each term (uint64[m]) of a lexical leg."""
        total = np.zeros(len(terms), np.int64)
        for live in self.segments:
            total += live.segment.lexical(leg).doc_freq(terms, live.dead_rows)
        return total
