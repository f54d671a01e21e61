"""Which passages may a query find, and how many are they?

A filter is evaluated on the metadata columns of each segment, so the number of passages that match is counted, not
estimated, before any leg is searched: each leg of each segment then decides whether to score the matches alone or to
search among all rows and skip the others (`index.dense`, `index.sparse`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine.filters import Filter
from engine.snapshot import LiveSegment, Snapshot


@dataclass(frozen=True, slots=True)
class Selection:
    """The rows of each segment that a query may find: bool[n_rows], None for all. ``n_matching``: how many, in all segments."""

    allowed: tuple[np.ndarray | None, ...]
    n_matching: int


def select(snapshot: Snapshot, condition: Filter | None) -> Selection:
    """The live rows, or (``condition``) those of them whose documents match."""
    if condition is None:
        return Selection(tuple(live.live_rows for live in snapshot.segments), snapshot.n_passages)
    masks = [_matching(condition, live) for live in snapshot.segments]
    return Selection(tuple(masks), sum(map(int, map(np.count_nonzero, masks))))


def _matching(condition: Filter, live: LiveSegment) -> np.ndarray:
    docs = condition.evaluate(live.segment.columns)
    rows = docs if live.segment.n_docs == live.segment.n_rows else docs[live.segment.row_docs]
    return rows if live.live_rows is None else rows & live.live_rows
