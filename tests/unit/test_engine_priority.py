"""Writes give way to queries: for as long as one runs, but never for long, and without losing an item."""

import threading

import pytest

from engine import priority
from engine.priority import DOCUMENTS, answering, give_way, giving_way
from engine.storage import kv


@pytest.fixture
def patient(monkeypatch):
    monkeypatch.setattr(priority, "LONGEST_PAUSE_S", 60.0)


def test_work_waits_until_the_last_query_is_answered(patient):
    passed = threading.Event()
    with answering():
        with answering():
            thread = threading.Thread(target=lambda: (give_way(), passed.set()))
            thread.start()
        assert not passed.wait(0.05)
    assert passed.wait(30)
    thread.join()


def test_without_a_query_nothing_waits(patient):
    give_way()
    assert list(giving_way(range(1_000))) == list(range(1_000))


def test_a_query_that_fails_lets_work_go_on(patient):
    with pytest.raises(ValueError, match="no"), answering():
        raise ValueError("no")
    give_way()


def test_a_pause_ends_beside_queries_without_end():
    with answering():
        assert list(giving_way(range(3 * DOCUMENTS))) == list(range(3 * DOCUMENTS))


def test_there_is_a_pause_before_every_so_many_items(monkeypatch):
    pauses = []
    monkeypatch.setattr(priority, "give_way", lambda: pauses.append(1))
    seen = [len(pauses) for _ in giving_way(range(2 * DOCUMENTS + 1))]
    assert seen == [1] * DOCUMENTS + [2] * DOCUMENTS + [3]


def test_single_pairs_are_stored_without_a_pause_and_every_full_call_ends_with_one(tmp_path, monkeypatch):
    pauses = []
    monkeypatch.setattr(kv, "give_way", lambda: pauses.append(1))
    store = kv.Store(tmp_path / "store")
    try:
        with store.write() as transaction:
            transaction.put(kv.Table.DEAD, b"12345678", b"")
            assert not pauses
            pairs = [(f"{i:08d}".encode(), b"x") for i in range(2 * kv.AT_ONCE + 1)]
            transaction.put_many(kv.Table.TEXTS, pairs)
            assert len(pauses) == 2
            assert transaction.get_many(kv.Table.TEXTS, [key for key, _ in pairs]) == [b"x"] * len(pairs)
    finally:
        store.close()
