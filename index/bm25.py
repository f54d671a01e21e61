"""How does BM25 weigh a term? Lucene's formula with the saturation written out.

Robertson, Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond" (2009), with Lucene's idf, which is never
negative. Lucene 8 dropped the constant factor (k1 + 1); it is kept here, so that a term adds at most idf * (k1 + 1).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from index.arrays import Doubles, Floats, Rows
from index.errors import InvalidIndexInput


@dataclass(frozen=True, slots=True)
class Bm25:
    """The two constants of BM25.

    Attributes:
        k1: how slowly repeats of a term saturate; Lucene's default 1.2.
        b: how much a long passage is discounted, 0 to 1; Lucene's default 0.75.
    """

    k1: float = 1.2
    b: float = 0.75

    def __post_init__(self) -> None:
        """Refuse constants outside their range."""
        if not self.k1 >= 0.0:
            raise InvalidIndexInput("k1", f"it is {self.k1}, but must be 0 or more.")
        if not 0.0 <= self.b <= 1.0:
            raise InvalidIndexInput("b", f"it is {self.b}, but must lie between 0 and 1.")

    @property
    def saturation_limit(self) -> float:
        """What ``tf_part`` approaches when a term repeats for ever: k1 + 1."""
        return self.k1 + 1.0

    def idf(self, n_docs: int, df: Rows) -> Floats:
        """Inverse document frequency, ln(1 + (n_docs - df + 0.5) / (df + 0.5)), above zero.

        Args:
            n_docs: live passages.
            df: int64[m], live passages that hold each term; values above n_docs count as n_docs.

        Returns:
            float32[m].
        """
        held = np.minimum(df, n_docs).astype(np.float64)
        return np.log1p((n_docs - held + 0.5) / (held + 0.5)).astype(np.float32)

    def tf_part(self, tf: Floats, lengths: Floats, avg_len: float) -> Doubles:
        """What a term adds to a passage for each unit of its weight: between 0 and ``saturation_limit``.

        Args:
            tf: float32[m], how often the term occurs in each passage.
            lengths: float32[m], the terms of each passage, repeats counted.
            avg_len: mean length over the collection, above zero.

        Returns:
            float64[m].
        """
        counts = tf.astype(np.float64)
        norm = self.k1 * (1.0 - self.b + self.b * lengths.astype(np.float64) / avg_len)
        return (self.k1 + 1.0) * counts / (counts + norm)
