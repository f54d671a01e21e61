"""Which answered questions are most like this one? For models that are shown examples with a query.

A file of pairs (as `engine tune --pairs` reads it) is searched by BM25 over its questions, as RARe does: the question itself is
left out, and the most similar example comes last, next to the query.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from engine.errors import InvalidArgument
from index.analyzer import Analyzer
from index.bm25 import Bm25
from index.sparse import SparseIndex
from index.sparse_rows import SparseQuery


class Examples:
    """Pairs of a question and a passage that answers it, searchable by question. Thread-safe.

    Args:
        pairs: at least one.
        language: of the text analyser.

    Raises:
        InvalidArgument: there are none.
    """

    def __init__(self, pairs: Sequence[tuple[str, str]], *, language: str = "english") -> None:
        if not pairs:
            raise InvalidArgument("examples", "there are none; give at least one pair of a query and a passage")
        self._pairs = tuple(pairs)
        self._analyzer = Analyzer(language)
        self._index = SparseIndex.build(self._analyzer.count([question for question, _ in pairs]), bm25=Bm25())

    @classmethod
    def read(cls, path: Path, *, language: str = "english") -> Examples:
        """The pairs of a file: JSON Lines with ``query`` and ``positive``, plain or .zst; graded pairs are left out.

        Raises:
            InvalidExamples: the file or a line of it cannot be used.
            InvalidArgument: it has no pairs.
        """
        from embedder.tuning.examples import read_examples

        found = [(example.query, example.positive) for example in read_examples(path) if not example.is_graded]
        return cls(found, language=language)

    def nearest(self, question: str, n: int) -> tuple[tuple[str, str], ...]:
        """Up to n pairs whose questions share words with ``question`` but are not it, the most similar last.

        Ties: the earlier pair is the more similar.
        """
        counts = self._analyzer.count([question])
        df = self._index.doc_freq(counts.terms)
        weights = Bm25().idf(len(self._pairs), df) * counts.values
        known = (df > 0) & (weights > 0)
        if n < 1 or not known.any():
            return ()
        # Copies of the question may be many: all hits are looked at, and a file of pairs is small.
        hits = self._index.search(SparseQuery(counts.terms[known], weights[known].astype(np.float32)), len(self._pairs))
        same = question.strip().casefold()
        others = [self._pairs[row] for row in hits.rows.tolist() if self._pairs[row][0].strip().casefold() != same]
        return tuple(reversed(others[:n]))
