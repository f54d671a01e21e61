"""What has been asked of a collection lately? The vectors of distinct recent queries.

When a segment is sealed, the recall of its search is measured with them beside its own passages (`index.recall`). They are
stored when the collection is closed, so that the next open measures with what its users ask, too.
"""

from __future__ import annotations

import threading

import numpy as np

CAPACITY = 256


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
        for vector in () if known is None else known:
            self.add(vector)

    def add(self, vector: np.ndarray) -> None:
        """Remember a query, float32[dim]; one that is known becomes the latest."""
        key = vector.tobytes()
        with self._lock:
            self._vectors.pop(key, None)
            self._vectors[key] = vector
            if len(self._vectors) > self._capacity:
                del self._vectors[next(iter(self._vectors))]

    def vectors(self) -> np.ndarray:
        """float32[m, dim], the latest last."""
        with self._lock:
            kept = list(self._vectors.values())
        return np.array(kept, np.float32).reshape(len(kept), self._dim)
