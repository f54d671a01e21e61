"""What does the inverted index look like, and how is it built?

Two halves over the same values: the forward index (what each row holds) and the postings (which rows hold a term). Terms are
numbered by ordinals, their places in the sorted vocabulary. Rows are cut into windows of up to 65,536, so that a local row
fits 16 bits; within a window, a term's rows lie in runs of equal impact, so that a search adds one number to every row of a
run and reads nothing but the rows. Every loop is compiled (see ``index/kernels.py``).
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from index.arrays import Bits, Bytes, Doubles, Floats, Ordinals, Rows, Terms, freeze
from index.kernels import kernel
from index.sparse_rows import SparseRows


class Postings(NamedTuple):
    """The inverted index: one stream of 16-bit words, a term's blocks one after the other.

    A block is a term in one window, windows ascending: the window, how many runs there are, then the runs, levels descending.
    A run: the level (1 to LEVELS), the number of its rows less one, and the local rows (row minus the window's first), ascending.
    ``level / LEVELS * term_max`` of a posting is at least the true impact.
    """

    term_ptr: Rows  # int64[n_terms + 1]: the words of each term
    words: Bits  # uint16


class Forward(NamedTuple):
    """The forward index: what each row holds, term ordinals ascending."""

    indptr: Rows  # int64[n + 1]
    ordinals: Ordinals  # uint32[nnz]
    values: Floats  # float32[nnz]
    lengths: Floats  # float32[n]: sum of the row's values


class Weighting(NamedTuple):
    """How a stored value becomes a factor of the query's weight: saturated as in BM25, or as it is."""

    saturated: bool
    k1: float
    b: float
    avg_len: float


LEVELS = 16  # of impacts: rounding up to one raises a bound by 3 % of the greatest impact on average
BATCH = 1 << 25  # postings inverted at a time: 160 MB of scratch

Inverted: TypeAlias = tuple[
    Rows, Ordinals, Bytes
]  # ptr int64[terms + 1] of some terms; the rows of each, and their levels


def build_forward(rows: SparseRows) -> tuple[Forward, Terms]:
    """Copy ``rows`` into a forward index, and give its vocabulary, uint64[n_terms] ascending."""
    distinct, numbers = assign_ordinals(freeze(rows.terms))
    order = np.argsort(distinct)
    ordinal_of = np.empty(distinct.size, np.uint32)
    ordinal_of[order] = np.arange(distinct.size, dtype=np.uint32)
    sums: Doubles = np.concatenate([np.zeros(1), np.cumsum(rows.values, dtype=np.float64)])
    forward = Forward(
        freeze(rows.indptr.astype(np.int64)),
        freeze(ordinal_of[numbers]),
        freeze(rows.values.astype(np.float32)),
        freeze((sums[rows.indptr[1:]] - sums[rows.indptr[:-1]]).astype(np.float32)),
    )
    return forward, freeze(distinct[order])


def build_postings(forward: Forward, weighting: Weighting, n_terms: int, window: int) -> tuple[Postings, Rows, Floats]:
    """Invert a forward index. O(nnz), with scratch for ``BATCH`` postings.

    Args:
        forward: read-only arrays.
        weighting: turns values into impacts.
        n_terms: size of the vocabulary.
        window: rows a window, at most 65,536.

    Returns:
        The postings, doc_freq int64[n_terms], and term_max float32[n_terms] (greatest impact).
    """
    doc_freq, term_max = term_statistics(forward, weighting, n_terms)
    ends = np.cumsum(doc_freq)
    cursors = np.array(forward.indptr[:-1])
    sizes, parts, first = [np.zeros(1, np.int64)], [np.empty(0, np.uint16)], 0
    while first < n_terms:
        before = ends[first - 1] if first else 0
        last = max(first + 1, int(np.searchsorted(ends, before + BATCH, side="right")))
        ptr = np.concatenate([np.zeros(1, np.int64), ends[first:last] - before])
        inverted = invert(forward, weighting, term_max, cursors, first, ptr)
        counted = count_words(inverted, window)
        parts.append(write_words(inverted, window, int(counted.sum())))
        sizes.append(counted)
        first = last
    term_ptr = np.cumsum(np.concatenate(sizes))
    return Postings(freeze(term_ptr), freeze(np.concatenate(parts))), freeze(doc_freq), freeze(term_max)


@kernel
def factor_of(value: float, length: float, weighting: Weighting) -> float:
    """What one unit of query weight earns from a stored value: BM25's term part, or the value itself."""
    if not weighting.saturated:
        return float(value)
    norm = weighting.k1 * (1.0 - weighting.b + weighting.b * length / weighting.avg_len)
    return (weighting.k1 + 1.0) * value / (value + norm)


@kernel
def assign_ordinals(terms: Terms) -> tuple[Terms, Ordinals]:
    """Number the distinct terms in the order in which they first occur, with an open-addressing hash table.

    Args:
        terms: uint64[nnz].

    Returns:
        distinct uint64[n_terms], and the number of each of ``terms``, uint32[nnz].
    """
    capacity = 64
    while capacity < min(terms.size // 8, 1 << 20):
        capacity *= 2
    table = np.full(capacity, -1, np.int32)
    distinct = np.empty(capacity, np.uint64)
    numbers = np.empty(terms.size, np.uint32)
    n_distinct = 0
    for i in range(terms.size):
        term = terms[i]
        place = _slot(table, distinct, term)
        if table[place] < 0:
            if 2 * (n_distinct + 1) > capacity:
                capacity *= 2
                table = np.full(capacity, -1, np.int32)
                grown = np.empty(capacity, np.uint64)
                grown[:n_distinct] = distinct[:n_distinct]
                distinct = grown
                for j in range(n_distinct):
                    table[_slot(table, distinct, distinct[j])] = j
                place = _slot(table, distinct, term)
            table[place] = n_distinct
            distinct[n_distinct] = term
            n_distinct += 1
        numbers[i] = table[place]
    return distinct[:n_distinct].copy(), numbers


@kernel
def _slot(table: NDArray[np.int32], distinct: Terms, term: np.uint64) -> int:
    """The place of ``term`` in the table: where it is, or the free one where it belongs."""
    mask = np.uint64(table.size - 1)
    # Fibonacci hashing (Knuth, TAOCP 3, 6.4): learned terms are small consecutive ids.
    place = ((term * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(20)) & mask
    while table[place] >= 0 and distinct[table[place]] != term:
        place = (place + np.uint64(1)) & mask
    return int(place)


@kernel
def term_statistics(forward: Forward, weighting: Weighting, n_terms: int) -> tuple[Rows, Floats]:
    """How many rows hold each term, int64[n_terms], and its greatest impact, float32[n_terms]."""
    doc_freq = np.zeros(n_terms, np.int64)
    term_max = np.zeros(n_terms, np.float32)
    for row in range(forward.indptr.size - 1):
        for j in range(forward.indptr[row], forward.indptr[row + 1]):
            term = forward.ordinals[j]
            doc_freq[term] += 1
            impact = np.float32(factor_of(forward.values[j], forward.lengths[row], weighting))
            term_max[term] = max(term_max[term], impact)
    return doc_freq, term_max


@kernel
def invert(forward: Forward, weighting: Weighting, term_max: Floats, cursors: Rows, first: int, ptr: Rows) -> Inverted:
    """The rows, ascending, and the levels of the terms from ``first`` on.

    Args:
        forward: of the segment.
        weighting: at build.
        term_max: float32[n_terms].
        cursors: int64[n_rows]: where each row's ordinals reach ``first``; moved behind the last of these terms.
        first: the first term.
        ptr: int64[terms + 1], the postings of each of these terms.
    """
    n_terms = ptr.size - 1
    rows, levels = np.empty(ptr[n_terms], np.uint32), np.empty(ptr[n_terms], np.uint8)
    places = ptr[:n_terms].copy()
    for row in range(cursors.size):
        j = cursors[row]
        while j < forward.indptr[row + 1] and forward.ordinals[j] < first + n_terms:
            term = forward.ordinals[j]
            impact = factor_of(forward.values[j], forward.lengths[row], weighting)
            place = places[term - first]
            rows[place] = row
            levels[place] = min(LEVELS, max(1, int(np.ceil(impact / term_max[term] * LEVELS))))
            places[term - first] = place + 1
            j += 1
        cursors[row] = j
    return ptr, rows, levels


@kernel
def window_end(rows: Ordinals, start: int, end: int, window: int) -> int:
    """The first place in rows[start:end], ascending, of another window than that of rows[start]."""
    limit = (np.int64(rows[start]) // window + 1) * window
    while start < end and rows[start] < limit:
        start += 1
    return start


@kernel
def count_words(inverted: Inverted, window: int) -> Rows:
    """How many words each term's blocks take: int64[terms]."""
    ptr, rows, levels = inverted
    sizes = np.zeros(ptr.size - 1, np.int64)
    for term in range(sizes.size):
        start = ptr[term]
        while start < ptr[term + 1]:
            end = window_end(rows, start, ptr[term + 1], window)
            used = 0
            for j in range(start, end):
                used |= 1 << levels[j]
            sizes[term] += 2 + end - start
            while used > 0:  # two words a run
                sizes[term] += 2 * (used & 1)
                used >>= 1
            start = end
    return sizes


@kernel
def write_words(inverted: Inverted, window: int, size: int) -> Bits:
    """The blocks of all terms, uint16[size]; see ``Postings``."""
    ptr, rows, levels = inverted
    words = np.empty(size, np.uint16)
    counts, places = np.zeros(LEVELS + 1, np.int64), np.zeros(LEVELS + 1, np.int64)
    at = 0
    for term in range(ptr.size - 1):
        start = ptr[term]
        while start < ptr[term + 1]:
            end = window_end(rows, start, ptr[term + 1], window)
            counts[:] = 0
            for j in range(start, end):
                counts[levels[j]] += 1
            block = at
            words[block], words[block + 1] = rows[start] // window, 0
            at += 2
            for level in range(LEVELS, 0, -1):
                if counts[level] > 0:
                    words[block + 1] += np.uint16(1)
                    words[at], words[at + 1] = level, counts[level] - 1
                    places[level] = at + 2
                    at += 2 + counts[level]
            for j in range(start, end):
                words[places[levels[j]]] = rows[j] % window
                places[levels[j]] += 1
            start = end
    return words
