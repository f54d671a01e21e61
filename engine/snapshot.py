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

    ``live_rows``: bool[n_rows] of rows that may be found, None when all may. ``n_live`` rows are live; ``live_length`` is the
    sum of their BM25 lengths. ``frozen``: a background task is rebuilding the segment, so the writer must not merge it away.
    """

    segment: Segment
    deleted: np.ndarray | None = None
    frozen: bool = False
    live_rows: np.ndarray | None = field(init=False)
    n_live: int = field(init=False)
    live_length: float = field(init=False)

    def __post_init__(self) -> None:
        lengths = self.segment.bm25.lengths
        live = None if self.deleted is None else ~self.deleted[self.segment.row_docs]
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
        found = self.segment.find(doc_nos)
        if not len(found):
            return self
        deleted = np.zeros(self.segment.n_docs, bool) if self.deleted is None else self.deleted.copy()
        deleted[found] = True
        return LiveSegment(self.segment, deleted, self.frozen)

    def freeze(self, frozen: bool) -> LiveSegment:
        """This segment, marked as being rebuilt or not."""
        return replace(self, frozen=frozen)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The segments as of one commit, in the order in which they were made."""

    sequence: int
    segments: tuple[LiveSegment, ...]

    @property
    def n_passages(self) -> int:
        """Live passages."""
        return sum(live.n_live for live in self.segments)

    @property
    def avg_len(self) -> float:
        """The mean BM25 length of live passages, at least 1."""
        return max(1.0, sum(live.live_length for live in self.segments) / max(1, self.n_passages))

    def doc_freq(self, leg: Leg, terms: np.ndarray) -> np.ndarray:
        """int64[m]: the live passages that hold each term (uint64[m]) of a lexical leg."""
        total = np.zeros(len(terms), np.int64)
        for live in self.segments:
            deleted = None if live.live_rows is None else ~live.live_rows
            total += live.segment.lexical(leg).doc_freq(terms, deleted)
        return total

    @property
    def mean_sparse_norm(self) -> float:
        """The mean Euclidean norm of the passages' learned sparse vectors; deleted passages count until they are gone."""
        indexes = [live.segment.sparse for live in self.segments if live.segment.sparse is not None]
        n_rows = sum(index.n_rows for index in indexes)
        return sum(index.avg_len * index.n_rows for index in indexes) / n_rows if n_rows else 1.0
