"""What is a sparse vector here? Rows of (term, value) pairs in CSR form, and a query of (term, weight) pairs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from index.arrays import Floats, Rows, Terms
from index.errors import InvalidIndexInput


@dataclass(frozen=True, slots=True)
class SparseRows:
    """Sparse vectors, one a row; terms ascending and unique within a row, values above zero.

    Attributes:
        indptr: int64[n + 1]; row i is the slice indptr[i]:indptr[i + 1], indptr[0] is 0.
        terms: uint64[nnz]; BM25: ``term_hash``; learned sparse: vocabulary id.
        values: float32[nnz]; BM25: how often the term occurs; learned sparse: its weight.
    """

    indptr: Rows
    terms: Terms
    values: Floats

    @property
    def n_rows(self) -> int:
        """How many rows there are, empty ones included."""
        return int(self.indptr.size) - 1

    def mean_norm(self) -> float:
        """The mean Euclidean norm of the rows, empty ones included; at least 1e-9."""
        sums = np.concatenate([np.zeros(1), np.cumsum(np.square(self.values, dtype=np.float64))])
        norms = np.sqrt(np.diff(sums[self.indptr]).clip(min=0.0))
        return max(float(norms.mean()), 1e-9) if norms.size else 1e-9

    def row(self, i: int) -> tuple[Terms, Floats]:
        """Views of the terms and the values of row ``i``."""
        part = slice(int(self.indptr[i]), int(self.indptr[i + 1]))
        return self.terms[part], self.values[part]

    def take(self, rows: Rows) -> SparseRows:
        """Copy the given rows, in the given order.

        Args:
            rows: int64[m]; repeats allowed.
        """
        starts = self.indptr[:-1][rows]
        lengths = self.indptr[1:][rows] - starts
        indptr = np.zeros(lengths.size + 1, np.int64)
        np.cumsum(lengths, out=indptr[1:])
        picked = np.repeat(starts - indptr[:-1], lengths) + np.arange(indptr[-1])
        return SparseRows(indptr, self.terms[picked], self.values[picked])

    @classmethod
    def concat(cls, parts: Sequence[SparseRows]) -> SparseRows:
        """Copy the rows of every part, one part after the other."""
        if not parts:
            return cls.from_rows([])
        sizes = np.cumsum([0] + [part.terms.size for part in parts])
        indptr = [part.indptr[1:] + size for part, size in zip(parts, sizes, strict=False)]
        return cls(
            np.concatenate([np.zeros(1, np.int64), *indptr]).astype(np.int64, copy=False),
            np.concatenate([part.terms for part in parts]).astype(np.uint64, copy=False),
            np.concatenate([part.values for part in parts]).astype(np.float32, copy=False),
        )

    @classmethod
    def from_rows(cls, rows: Iterable[tuple[Terms, Floats]]) -> SparseRows:
        """Copy rows given as (terms, values) arrays; each row's terms must be ascending and unique.

        Raises:
            InvalidIndexInput: a row has terms out of order or repeated, or as many values as terms it has not.
        """
        pairs = list(rows)
        indptr = np.zeros(len(pairs) + 1, np.int64)
        np.cumsum([len(terms) for terms, _ in pairs], out=indptr[1:])
        terms = np.concatenate([np.empty(0, np.uint64), *(np.asarray(pair[0], np.uint64) for pair in pairs)])
        values = np.concatenate([np.empty(0, np.float32), *(np.asarray(pair[1], np.float32) for pair in pairs)])
        if terms.size != values.size:
            raise InvalidIndexInput("rows", f"{terms.size} terms but {values.size} values. Give one value a term.")
        rising = terms[1:] > terms[:-1]
        rising[(indptr[1:-1] - 1)[(indptr[1:-1] > 0) & (indptr[1:-1] < terms.size)]] = True  # between rows
        if not rising.all():
            row = int(np.searchsorted(indptr, int(np.argmin(rising)) + 1, side="right")) - 1
            raise InvalidIndexInput(
                "rows", f"the terms of row {row} are not ascending and unique. Sort and merge them."
            )
        return cls(indptr, terms, values)


@dataclass(frozen=True, slots=True)
class SparseQuery:
    """What a sparse leg is asked.

    Attributes:
        terms: uint64[m], ascending, unique.
        weights: float32[m], above zero; BM25: idf times the term's count in the query.
    """

    terms: Terms
    weights: Floats
