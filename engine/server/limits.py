"""How much work may wait, and what happens to the rest?

A pool is a few threads with a bounded queue before them: the event loop never blocks, and what does not fit is refused
at once with the time after which a retry makes sense. A window bounds what one stream may have in flight.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from engine.errors import Overloaded

Answer = TypeVar("Answer")
SMOOTHING = 0.1  # weight of the newest duration in the running mean
MIN_RETRY_S, MAX_RETRY_S = 0.1, 30.0


class Pool:
    """``workers`` threads, and at most ``queue_limit`` calls waiting for one."""

    def __init__(self, name: str, workers: int, queue_limit: int) -> None:
        self.name = name
        self.workers = workers
        self._limit = workers + queue_limit
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix=f"landmark-{name}")
        self._lock = threading.Lock()
        self._held = 0
        self._mean_s = 0.0

    @property
    def waiting(self) -> int:
        """Calls that wait for a thread."""
        return max(0, self._held - self.workers)

    @property
    def running(self) -> int:
        """Calls that have a thread."""
        return min(self._held, self.workers)

    async def run(self, work: Callable[[], Answer], timeout_s: float | None) -> Answer:
        """Runs ``work`` on a thread. A cancelled call that still waits for a thread is dropped.

        Args:
            work: blocking; what it raises is raised here.
            timeout_s: after this the caller is freed. Work that has begun goes on, and keeps its place, until it ends.

        Raises:
            Overloaded: the queue is full; ``work`` was not begun.
            TimeoutError: ``timeout_s`` passed.
        """
        with self._lock:
            if self._held >= self._limit:
                raise Overloaded(f"The {self.name} queue", self._retry_after_s())
            self._held += 1
        try:
            future = self._executor.submit(self._timed, work)
        except BaseException:
            self._release()
            raise
        future.add_done_callback(self._release)
        async with asyncio.timeout(timeout_s):
            return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Waits for the work in hand, and ends the threads."""
        self._executor.shutdown(wait=True, cancel_futures=True)

    def _timed(self, work: Callable[[], Answer]) -> Answer:
        began = time.perf_counter()
        try:
            return work()
        finally:
            self._mean_s += SMOOTHING * (time.perf_counter() - began - self._mean_s)

    def _release(self, future: Future[Answer] | None = None) -> None:
        with self._lock:
            self._held -= 1

    def _retry_after_s(self) -> float:
        expected = self._mean_s * self._held / self.workers
        return round(min(max(expected, MIN_RETRY_S), MAX_RETRY_S), 2)


class Window:
    """Items and bytes that one stream may have in flight. For the event loop's thread only, one waiter."""

    def __init__(self, max_items: int, max_bytes: int) -> None:
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._sizes: deque[int] = deque()
        self._held_bytes = 0
        self._freed = asyncio.Event()

    async def acquire(self, size_bytes: int) -> None:
        """Waits until an item fits. An item larger than the window passes when nothing else is in flight."""
        while not self._fits(size_bytes):
            self._freed.clear()
            await self._freed.wait()
        self._sizes.append(size_bytes)
        self._held_bytes += size_bytes

    def release(self, n_items: int) -> None:
        """Frees the oldest items."""
        for _ in range(n_items):
            self._held_bytes -= self._sizes.popleft()
        self._freed.set()

    def _fits(self, size_bytes: int) -> bool:
        if not self._sizes:
            return True
        return len(self._sizes) < self._max_items and self._held_bytes + size_bytes <= self._max_bytes
