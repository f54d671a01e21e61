"""The head is a few segments, however its documents came, and merging them stays cheap."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from engine import head
from engine.head import HEAD_FANOUT, compacted
from engine.snapshot import LiveSegment


class Rows:
    """Stands for a segment of which only the size matters."""

    def __init__(self, n_rows, name=""):
        self.n_rows = self.n_docs = n_rows
        self.name = name
        self.row_docs = np.arange(n_rows)
        self.bm25 = SimpleNamespace(lengths=np.ones(n_rows))


@pytest.fixture
def merged(monkeypatch):
    """How many passages were merged so far."""
    count = SimpleNamespace(rows=0)

    def merge(schema, name, parts):
        rows = sum(int(keep.sum()) for _, keep in parts)
        count.rows += rows
        return Rows(rows)

    monkeypatch.setattr(head, "Segment", SimpleNamespace(merge=merge))
    return count


@pytest.mark.parametrize("size", [1, 10, 100, 700, 3_000])
def test_a_head_of_any_commits_has_few_segments_and_passages_are_merged_few_times(merged, size):
    n = 30_000 if size > 1 else 3_000
    segments, most = (LiveSegment(Rows(50_000, "sealed")),), 0
    for _ in range(n // size):
        segments = compacted(None, (*segments, LiveSegment(Rows(size))))
        most = max(most, len(segments) - 1)
    assert segments[0].segment.name == "sealed"
    assert sum(live.n_live for live in segments[1:]) == n // size * size
    levels = math.ceil(math.log(n / size, HEAD_FANOUT))
    assert most <= HEAD_FANOUT * levels
    assert merged.rows <= n * levels


def test_segments_that_are_being_sealed_are_left_alone(merged):
    frozen = LiveSegment(Rows(5)).freeze(True)
    fresh = tuple(LiveSegment(Rows(5)) for _ in range(HEAD_FANOUT))
    assert compacted(None, (frozen, *fresh[1:])) == (frozen, *fresh[1:])
    segments = compacted(None, (frozen, *fresh))
    assert [live.n_live for live in segments] == [5, 5 * HEAD_FANOUT]
    assert segments[0] is frozen
