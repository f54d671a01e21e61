from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest

from embedder.errors import EmbedderClosed, SchedulerFull
from embedder.scheduler import Scheduler
from embedder.values import PassageVectors
from embedder.windows import Row


def rows(*lengths: int) -> list[Row]:
    span = np.array([[0, 1]], dtype=np.int32)
    return [Row(np.full(length, length, dtype=np.int32), span, span) for length in lengths]


def vectors(batch: Sequence[Row]) -> list[list[PassageVectors]]:
    return [[PassageVectors(row.ids[:1].astype(np.float32))] for row in batch]


class Gate:
    """A forward pass that stops until it is let through, and remembers what ran."""

    def __init__(self) -> None:
        self.ran: list[list[int]] = []
        self.entered = threading.Semaphore(0)
        self.opened = threading.Semaphore(0)
        self.pauses = 0

    def __call__(self, batch: Sequence[Row], pause: Callable[[], None]) -> list[list[PassageVectors]]:
        self.entered.release()
        assert self.opened.acquire(timeout=10)
        for _ in range(self.pauses):
            pause()
        self.ran.append([len(row.ids) for row in batch])
        return vectors(batch)

    def open(self, times: int = 100) -> None:
        self.opened.release(times)


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def scheduler(gate: Gate) -> Iterator[Scheduler]:
    made = Scheduler(gate, max_batch_tokens=10, max_waiting_tokens=20)
    yield made
    gate.open()
    made.close()


def test_rows_get_their_own_vectors_in_their_order(scheduler: Scheduler, gate: Gate) -> None:
    gate.open()
    result = scheduler.submit_ingest(rows(3, 1, 2)).result(10)
    assert [float(passages[0].dense[0]) for passages in result] == [3, 1, 2]


def test_a_query_overtakes_the_ingest_that_waits(scheduler: Scheduler, gate: Gate) -> None:
    tickets = [scheduler.submit_ingest(rows(7)), scheduler.submit_ingest(rows(8)), scheduler.submit_ingest(rows(9))]
    assert gate.entered.acquire(timeout=10)  # the first batch runs, the others wait
    query = scheduler.submit_query(rows(1))
    gate.open()
    query.result(10)
    for ticket in tickets:
        ticket.result(10)
    assert gate.ran == [[7], [1], [8], [9]]


def test_a_query_runs_inside_the_pause_of_an_ingest_batch(scheduler: Scheduler, gate: Gate) -> None:
    gate.pauses = 1
    ingest = scheduler.submit_ingest(rows(7))
    assert gate.entered.acquire(timeout=10)
    query = scheduler.submit_query(rows(1))
    gate.open()
    query.result(10)
    ingest.result(10)
    assert gate.ran == [[1], [7]]


def test_waiting_queries_run_together_up_to_the_budget(scheduler: Scheduler, gate: Gate) -> None:
    first = scheduler.submit_ingest(rows(2))
    assert gate.entered.acquire(timeout=10)
    queries = [scheduler.submit_query(rows(4)) for _ in range(3)]
    gate.open()
    for ticket in [first, *queries]:
        ticket.result(10)
    assert gate.ran == [[2], [4, 4], [4]]


def test_a_query_beyond_the_limit_is_refused_and_nothing_is_queued(scheduler: Scheduler, gate: Gate) -> None:
    scheduler.submit_ingest(rows(1))
    assert gate.entered.acquire(timeout=10)
    scheduler.submit_query(rows(15))
    with pytest.raises(SchedulerFull) as caught:
        scheduler.submit_query(rows(6))
    assert (caught.value.waiting_tokens, caught.value.limit_tokens) == (15, 20)
    scheduler.submit_query(rows(5))


def test_an_ingest_caller_blocks_until_there_is_room(scheduler: Scheduler, gate: Gate) -> None:
    scheduler.submit_ingest(rows(9))
    assert gate.entered.acquire(timeout=10)
    scheduler.submit_ingest(rows(15))
    done = threading.Event()

    def submit() -> None:
        scheduler.submit_ingest(rows(10))
        done.set()

    thread = threading.Thread(target=submit)
    thread.start()
    assert not done.wait(0.1)
    gate.open()
    assert done.wait(10)
    thread.join()


def test_a_batch_larger_than_the_limit_is_admitted_when_nothing_waits(scheduler: Scheduler, gate: Gate) -> None:
    gate.open()
    assert len(scheduler.submit_ingest(rows(100)).result(10)) == 1


def test_cancelled_work_is_skipped(scheduler: Scheduler, gate: Gate) -> None:
    first = scheduler.submit_ingest(rows(7))
    assert gate.entered.acquire(timeout=10)
    dropped, kept = scheduler.submit_ingest(rows(8)), scheduler.submit_ingest(rows(9))
    dropped.cancel()
    gate.open()
    first.result(10)
    kept.result(10)
    assert gate.ran == [[7], [9]]


def test_an_error_of_the_model_reaches_the_caller_and_the_worker_lives_on() -> None:
    def forward(batch: Sequence[Row], pause: Callable[[], None]) -> list[list[PassageVectors]]:
        if len(batch[0].ids) == 13:
            raise MemoryError("thirteen")
        return vectors(batch)

    scheduler = Scheduler(forward, max_batch_tokens=10, max_waiting_tokens=20)
    with pytest.raises(MemoryError, match="thirteen"):
        scheduler.submit_ingest(rows(13)).result(10)
    assert len(scheduler.submit_query(rows(2)).result(10)) == 1
    scheduler.close()


def test_closing_gives_up_what_waits_and_ends_the_threads(gate: Gate) -> None:
    scheduler = Scheduler(gate, max_batch_tokens=10, max_waiting_tokens=100, n_workers=2)
    running = [scheduler.submit_ingest(rows(1)), scheduler.submit_ingest(rows(2))]
    assert gate.entered.acquire(timeout=10)
    assert gate.entered.acquire(timeout=10)
    waiting = [scheduler.submit_ingest(rows(3)), scheduler.submit_query(rows(4))]
    closer = threading.Thread(target=scheduler.close)
    closer.start()
    for ticket in waiting:
        with pytest.raises(EmbedderClosed):
            ticket.result(10)
    gate.open()
    closer.join(10)
    assert not closer.is_alive()
    assert all(len(ticket.result(0)) == 1 for ticket in running)
    for submit in (scheduler.submit_ingest, scheduler.submit_query):
        with pytest.raises(EmbedderClosed):
            submit(rows(1))
    scheduler.close()


def test_closing_wakes_an_ingest_caller_that_waits_for_room(gate: Gate) -> None:
    scheduler = Scheduler(gate, max_batch_tokens=10, max_waiting_tokens=10)
    scheduler.submit_ingest(rows(5))
    assert gate.entered.acquire(timeout=10)
    scheduler.submit_ingest(rows(9))
    outcome: list[BaseException] = []

    def submit() -> None:
        try:
            scheduler.submit_ingest(rows(9))
        except EmbedderClosed as error:
            outcome.append(error)

    thread = threading.Thread(target=submit)
    thread.start()
    closer = threading.Thread(target=scheduler.close)
    closer.start()
    thread.join(10)
    assert len(outcome) == 1
    gate.open()
    closer.join(10)


def test_each_worker_is_prepared_once_before_its_first_batch() -> None:
    started: list[str] = []
    scheduler = Scheduler(
        lambda batch, pause: vectors(batch),
        max_batch_tokens=10,
        max_waiting_tokens=20,
        n_workers=3,
        on_start=lambda: started.append(threading.current_thread().name),
    )
    scheduler.submit_ingest(rows(1)).result(10)
    scheduler.close()
    assert sorted(started) == ["embedder-0", "embedder-1", "embedder-2"]
