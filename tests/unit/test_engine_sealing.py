"""Which segments become one, and when?"""

from types import SimpleNamespace

import pytest

from engine.sealing import SETTLED_ROWS, choose_to_settle


def snapshot(*live_rows, head=0, deleted=0):
    """``deleted``: rows of the first segment, beside its live ones."""
    segments = [SimpleNamespace(segment=SimpleNamespace(name=f"s{n}", n_rows=n), n_live=n) for n in live_rows]
    if deleted:
        segments[0].segment.n_rows += deleted
    segments.append(SimpleNamespace(segment=SimpleNamespace(name="", n_rows=head), n_live=head))
    return SimpleNamespace(segments=tuple(segments))


@pytest.mark.parametrize(
    ("rows", "merged"),
    [
        ((34, 34, 32), (34, 34, 32)),
        ((100, 12), (100, 12)),
        ((100, 11), None),
        ((100, 6, 5), (6, 5)),
        ((SETTLED_ROWS, 50, 40), (50, 40)),
        ((SETTLED_ROWS, SETTLED_ROWS // 3, SETTLED_ROWS // 3), (SETTLED_ROWS, SETTLED_ROWS // 3, SETTLED_ROWS // 3)),
        ((SETTLED_ROWS + 1, SETTLED_ROWS // 3), None),
        ((7,), None),
        ((), None),
    ],
    ids=str,
)
def test_small_segments_settle_into_one_where_enough_of_it_is_new(rows, merged):
    task = choose_to_settle(snapshot(*rows, head=1_000))
    if merged is None:
        assert task is None
    else:
        assert sorted(segment.n_rows for segment in task.sources) == sorted(merged)
        assert task.reason == "settle"


@pytest.mark.parametrize(("deleted", "settles"), [(0, False), (9, False), (10, True)])
def test_a_segment_settles_alone_when_a_tenth_of_it_is_deleted(deleted, settles):
    assert (choose_to_settle(snapshot(100, deleted=deleted)) is not None) == settles
