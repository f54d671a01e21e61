"""What does a search give back? Rows with their scores, best first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from index.arrays import Floats, Rows


@dataclass(frozen=True, slots=True)
class Hits:
    """The best rows of one segment for one query: score descending, equal scores by row ascending.

    Attributes:
        rows: int64[k].
        scores: float32[k]; greater is better.
        how: in a few words, how the segment was searched for them; "" for hits that are no search's.
    """

    rows: Rows
    scores: Floats
    how: str = ""

    def __len__(self) -> int:
        """How many hits there are."""
        return int(self.rows.size)

    @classmethod
    def none(cls) -> Hits:
        """No hit at all."""
        return cls(np.empty(0, np.int64), np.empty(0, np.float32))

    def head(self, n: int) -> Hits:
        """The first ``n``."""
        return Hits(self.rows[:n], self.scores[:n], self.how)

    def by(self, how: str) -> Hits:
        """These hits, with how they were found."""
        return Hits(self.rows, self.scores, how)

    @classmethod
    def best(cls, rows: Rows, scores: Floats, k: int) -> Hits:
        """The ``k`` best of the given pairs, in order. Copies; O(n + k log k).

        Args:
            rows: int64[n], without duplicates, in any order.
            scores: float32[n], finite.
            k: at most this many; 0 or less gives none.
        """
        if k <= 0 or rows.size == 0:
            return cls.none()
        if k < rows.size:
            # Everything above the k-th score, plus every row that ties with it: the tie is then broken by row.
            kth = np.partition(scores, rows.size - k)[rows.size - k]
            kept = np.flatnonzero(scores >= kth)
            rows, scores = rows[kept], scores[kept]
        order = np.lexsort((rows, -scores))[:k]
        return cls(rows[order], scores[order])
