"""What has been asked of a collection lately? The vectors of distinct recent queries.

Once there are enough of them, the recall of the segments' searches is measured with them (`index.recall`). They are stored
when the collection is closed, so that the next open measures with what its users ask, too.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np

from index.recall import ENOUGH, SAMPLE

CAPACITY = SAMPLE


class RecentQueries:
    """The last ``capacity`` distinct query vectors. Thread-safe.

    Args:
        dim: their width.
        capacity: how many are kept; the one that was asked longest ago goes first.
        known: float32[m, dim], what was asked before, the latest last.
    """

    def __init__(self, dim: int, capacity: int = CAPACITY, known: np.ndarray | None = None) -> None:
        self._dim = dim
        self._capacity = capacity
        self._vectors: dict[bytes, np.ndarray] = {}
        self._lock = threading.Lock()
        self._when_enough: Callable[[], None] = _nobody_waits
        for vector in () if known is None else known:
            self.add(vector)

    def add(self, vector: np.ndarray) -> None:
        """Remember a query, float32[dim]; one that is known becomes the latest."""
        key = vector.tobytes()
        with self._lock:
            is_new = self._vectors.pop(key, None) is None and len(self._vectors) < self._capacity
            self._vectors[key] = vector
            if len(self._vectors) > self._capacity:
                del self._vectors[next(iter(self._vectors))]
            grown_to = len(self._vectors) if is_new else 0
        if grown_to in (ENOUGH, SAMPLE):
            self._when_enough()

    def when_enough(self, call: Callable[[], None]) -> None:
        """Call when there are ``ENOUGH`` queries and again when there are ``SAMPLE``, in the thread that adds the last.

        Where there are enough already, it is called at once.
        """
        self._when_enough = call
        if len(self) >= ENOUGH:
            call()

    def __len__(self) -> int:
        """How many are known."""
        return len(self._vectors)

    def vectors(self) -> np.ndarray:
        """float32[m, dim], the latest last."""
        with self._lock:
            kept = list(self._vectors.values())
        return np.array(kept, np.float32).reshape(len(kept), self._dim)


def _nobody_waits() -> None:
    pass
