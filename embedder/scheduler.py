"""In what order do batches reach the model?

One scheduler stands before the model. Worker threads take batches: waiting queries first, all of them together up to the
token budget, then ingest batches in the order of their submission. A forward pass of ingest also pauses between half layers
where the model can: the waiting queries run there, so a query waits for half a layer and not for a batch. Ingest callers
block while too many tokens wait; queries are refused instead (``SchedulerFull``), since a caller with a deadline is
better told at once. A ticket that nobody waits for any more is cancelled and skipped.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future

from embedder.errors import EmbedderClosed, SchedulerFull
from embedder.values import PassageVectors
from embedder.windows import Row

RowVectors = list[PassageVectors]
Pause = Callable[[], None]
Forward = Callable[[Sequence[Row], Pause], list[RowVectors]]


class Ticket:
    """Rows that wait for the model together, and the promise of their vectors."""

    __slots__ = ("future", "is_query", "n_tokens", "rows")

    def __init__(self, rows: Sequence[Row], *, is_query: bool) -> None:
        self.rows = rows
        self.is_query = is_query
        self.n_tokens = sum(len(row.ids) for row in rows)
        self.future: Future[list[RowVectors]] = Future()

    def result(self, timeout_s: float | None = None) -> list[RowVectors]:
        """Wait for the vectors, one list of passages a row, in the order of the rows.

        Raises:
            EmbedderClosed: the embedder was closed before the rows ran.
            TimeoutError: they were not ready in time; the ticket still waits.
        """
        try:
            return self.future.result(timeout_s)
        except CancelledError as error:
            raise EmbedderClosed from error

    def cancel(self) -> None:
        """Give up the rows if they have not begun to run."""
        self.future.cancel()


class Scheduler:
    """Worker threads before the model. Thread-safe.

    Args:
        forward: runs rows; called from the worker threads. It may call its second argument at any point where another
            batch can run in the same thread; that call runs the queries that wait.
        max_batch_tokens: the most tokens of waiting queries that are run together.
        max_waiting_tokens: the most ingest tokens, and separately the most query tokens, that may wait.
        n_workers: worker threads.
        on_start: called once in each worker thread before its first batch.
    """

    def __init__(
        self,
        forward: Forward,
        *,
        max_batch_tokens: int,
        max_waiting_tokens: int,
        n_workers: int = 1,
        on_start: Callable[[], None] | None = None,
    ) -> None:
        self._forward = forward
        self._on_start = on_start
        self._max_batch_tokens = max_batch_tokens
        self._max_waiting_tokens = max_waiting_tokens
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._room = threading.Condition(self._lock)
        self._queries: deque[Ticket] = deque()
        self._ingest: deque[Ticket] = deque()
        self._query_tokens = 0
        self._ingest_tokens = 0
        self._closed = False
        self._workers = [
            threading.Thread(target=self._run, name=f"embedder-{i}", daemon=True) for i in range(n_workers)
        ]
        for worker in self._workers:
            worker.start()

    def submit_query(self, rows: Sequence[Row]) -> Ticket:
        """Queue rows before all ingest.

        Raises:
            SchedulerFull: too many query tokens wait; nothing was queued.
            EmbedderClosed: the scheduler is closed.
        """
        ticket = Ticket(rows, is_query=True)
        with self._lock:
            self._check_open()
            if self._queries and self._query_tokens + ticket.n_tokens > self._max_waiting_tokens:
                raise SchedulerFull(self._query_tokens, self._max_waiting_tokens)
            self._queries.append(ticket)
            self._query_tokens += ticket.n_tokens
            self._work.notify()
        return ticket

    def submit_ingest(self, rows: Sequence[Row]) -> Ticket:
        """Queue one batch of rows behind the ingest that waits already; block while too much of it does.

        Raises:
            EmbedderClosed: the scheduler is closed, or was closed while this call waited.
        """
        ticket = Ticket(rows, is_query=False)
        with self._lock:
            while (
                not self._closed and self._ingest and self._ingest_tokens + ticket.n_tokens > self._max_waiting_tokens
            ):
                self._room.wait()
            self._check_open()
            self._ingest.append(ticket)
            self._ingest_tokens += ticket.n_tokens
            self._work.notify()
        return ticket

    def close(self) -> None:
        """Finish the batches that run, give up those that wait, and end the threads. May be called again."""
        with self._lock:
            self._closed = True
            waiting = [*self._queries, *self._ingest]
            self._queries.clear()
            self._ingest.clear()
            self._work.notify_all()
            self._room.notify_all()
        for ticket in waiting:
            ticket.cancel()
        for worker in self._workers:
            if worker is not threading.current_thread():
                worker.join()

    def _check_open(self) -> None:
        if self._closed:
            raise EmbedderClosed

    def _run(self) -> None:
        if self._on_start is not None:
            self._on_start()
        while tickets := self._next():
            running = [ticket for ticket in tickets if ticket.future.set_running_or_notify_cancel()]
            if running:
                self._run_batch(running, pause=self._nothing if tickets[0].is_query else self._run_waiting_queries)

    def _run_waiting_queries(self) -> None:
        """Called between the layers of an ingest batch."""
        if not self._queries:  # read without the lock: a query that this misses is seen after the next layer
            return
        with self._lock:
            tickets = self._take_queries() if self._queries and not self._closed else []
        running = [ticket for ticket in tickets if ticket.future.set_running_or_notify_cancel()]
        if running:
            self._run_batch(running, pause=self._nothing)

    @staticmethod
    def _nothing() -> None:
        """The pause of a query's own batch."""

    def _next(self) -> list[Ticket]:
        """The tickets to run next; waits for some. Empty once the scheduler is closed."""
        with self._lock:
            while not self._closed and not self._queries and not self._ingest:
                self._work.wait()
            if self._closed:
                return []
            if self._queries:
                return self._take_queries()
            ticket = self._ingest.popleft()
            self._ingest_tokens -= ticket.n_tokens
            self._room.notify_all()
            return [ticket]

    def _take_queries(self) -> list[Ticket]:
        taken = [self._queries.popleft()]
        n_tokens = taken[0].n_tokens
        while self._queries and n_tokens + self._queries[0].n_tokens <= self._max_batch_tokens:
            taken.append(self._queries.popleft())
            n_tokens += taken[-1].n_tokens
        self._query_tokens -= n_tokens
        return taken

    def _run_batch(self, tickets: list[Ticket], *, pause: Pause) -> None:
        try:
            vectors = iter(self._forward([row for ticket in tickets for row in ticket.rows], pause))
            results = [[next(vectors) for _ in ticket.rows] for ticket in tickets]
        except BaseException as error:  # a thread's root: the waiting callers get the error, the thread lives on
            for ticket in tickets:
                ticket.future.set_exception(error)
            return
        for ticket, result in zip(tickets, results, strict=True):
            ticket.future.set_result(result)
