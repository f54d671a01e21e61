"""What does the inverted index look like, and how is it built?

Two halves over the same values: the forward index (what each row holds) and the postings (which rows hold a term), in
windows of up to 65,536 rows so that a local row fits uint16. Terms are numbered by ordinals, their places in the sorted
vocabulary. Building is a counting sort within each window; every loop is compiled (see ``index/kernels.py``).
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from index.arrays import Bits, Bytes, Doubles, Floats, Ordinals, Rows, Terms, freeze
from index.kernels import kernel
from index.sparse_rows import SparseRows


class Postings(NamedTuple):
    """The inverted index. A block is one term in one window; blocks are sorted by (window, term ordinal).

    ``impact / 255 * block_max`` of a posting is at least the true impact.
    """

    window_ptr: Rows  # int64[n_windows + 1]: the blocks of each window
    block_terms: Ordinals  # uint32[n_blocks]: ordinal in the segment's vocabulary
    block_ptr: Rows  # int64[n_blocks + 1]: the postings of each block
    block_max: Floats  # float32[n_blocks]: the greatest impact
    locals: Bits  # uint16[nnz]: row minus the window's first row
    impacts: Bytes  # uint8[nnz]: rounded up


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


Room: TypeAlias = tuple[Rows, Floats]  # by term: where its next posting goes, its greatest impact


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
    """Invert a forward index.

    Args:
        forward: read-only arrays.
        weighting: turns values into impacts.
        n_terms: size of the vocabulary.
        window: rows a window, at most 65,536.

    Returns:
        The postings, doc_freq int64[n_terms], and term_max float32[n_terms] (greatest impact).
    """
    parts, doc_freq, term_max = invert(forward, weighting, n_terms, window)
    return Postings._make(freeze(part) for part in parts), freeze(doc_freq), freeze(term_max)


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
def invert(forward: Forward, weighting: Weighting, n_terms: int, window: int) -> tuple[Postings, Rows, Floats]:
    """Build the postings by a counting sort within each window. O(nnz + n_windows * n_terms).

    Returns:
        The postings, doc_freq int64[n_terms] and term_max float32[n_terms] (greatest impact).
    """
    window_ptr, doc_freq = count_blocks(forward, n_terms, window)
    nnz, n_blocks = forward.ordinals.size, window_ptr[-1]
    postings = Postings(
        window_ptr,
        np.empty(n_blocks, np.uint32),
        np.full(n_blocks + 1, nnz, np.int64),
        np.empty(n_blocks, np.float32),
        np.empty(nnz, np.uint16),
        np.empty(nnz, np.uint8),
    )
    term_max = np.zeros(n_terms, np.float32)
    room = (np.empty(n_terms, np.int64), np.empty(n_terms, np.float32))
    for w in range(window_ptr.size - 1):
        rows = (w * window, min(forward.indptr.size - 1, (w + 1) * window))
        lay_out_blocks(postings, forward, weighting, w, rows, room)
        fill_blocks(postings, forward, weighting, rows, room)
        np.maximum(term_max, room[1], term_max)
    return postings, doc_freq, term_max


@kernel
def count_blocks(forward: Forward, n_terms: int, window: int) -> tuple[Rows, Rows]:
    """How many distinct terms each window has, summed up (int64[n_windows + 1]), and doc_freq int64[n_terms]."""
    n_rows = forward.indptr.size - 1
    n_windows = (n_rows + window - 1) // window
    window_ptr = np.zeros(n_windows + 1, np.int64)
    doc_freq = np.zeros(n_terms, np.int64)
    last = np.full(n_terms, -1, np.int64)
    for w in range(n_windows):
        window_ptr[w + 1] = window_ptr[w]
        for j in range(forward.indptr[w * window], forward.indptr[min(n_rows, (w + 1) * window)]):
            term = forward.ordinals[j]
            doc_freq[term] += 1
            if last[term] != w:
                last[term] = w
                window_ptr[w + 1] += 1
    return window_ptr, doc_freq


@kernel
def lay_out_blocks(
    postings: Postings, forward: Forward, weighting: Weighting, w: int, rows: tuple[int, int], room: Room
) -> None:
    """Write the blocks of window ``w``; leave in ``room`` where each term's first posting goes, and its greatest impact.

    Args:
        postings: block arrays, changed.
        forward: of the segment.
        weighting: at build.
        w: the window.
        rows: its first row and the row after its last.
        room: int64[n_terms] and float32[n_terms], overwritten.
    """
    places, maxima = room
    places[:] = 0
    maxima[:] = np.float32(0.0)
    for row in range(rows[0], rows[1]):
        for j in range(forward.indptr[row], forward.indptr[row + 1]):
            impact = np.float32(factor_of(forward.values[j], forward.lengths[row], weighting))
            places[forward.ordinals[j]] += 1
            maxima[forward.ordinals[j]] = max(maxima[forward.ordinals[j]], impact)
    block, place = postings.window_ptr[w], forward.indptr[rows[0]]
    for term in range(places.size):
        count = places[term]
        if count > 0:
            postings.block_terms[block] = term
            postings.block_ptr[block] = place
            postings.block_max[block] = maxima[term]
            places[term] = place
            place += count
            block += 1


@kernel
def fill_blocks(postings: Postings, forward: Forward, weighting: Weighting, rows: tuple[int, int], room: Room) -> None:
    """Write the postings of one window, whose blocks ``lay_out_blocks`` laid out; arguments as there."""
    places, maxima = room
    for row in range(rows[0], rows[1]):
        for j in range(forward.indptr[row], forward.indptr[row + 1]):
            term = forward.ordinals[j]
            impact = factor_of(forward.values[j], forward.lengths[row], weighting)
            postings.locals[places[term]] = row - rows[0]
            postings.impacts[places[term]] = min(255, max(1, int(np.ceil(impact / maxima[term] * 255.0))))
            places[term] += 1
