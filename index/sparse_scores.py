"""The compiled loops that look into the forward index: what a row scores exactly, and which rows hold a term."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

from index.arrays import Doubles, Floats, Mask, Ordinals, Rows
from index.kernels import kernel
from index.postings import Forward, Postings, Weighting, factor_of
from index.simd import prefetch

LINE, AHEAD = 16, 2  # values of 32 bits in a cache line; how many rows or blocks ahead memory is asked for

# A query: ordinals uint32[m] ascending; weights float64[m] above zero; a hash table of the ordinals (``make_slots``); and
# the weights in place, float32[n_terms], empty where the vocabulary is large or values are saturated before they are weighted.
Query: TypeAlias = tuple[Ordinals, Doubles, Ordinals, Floats]


@kernel
def make_slots(ordinals: Ordinals) -> Ordinals:
    """A hash table of a query's terms: uint32[a power of two], place plus one, 0 where free; linear probing."""
    size = 64
    while size < 8 * ordinals.size:
        size *= 2
    slots = np.zeros(size, np.uint32)
    for i in range(ordinals.size):
        slot = np.int64(ordinals[i]) & (size - 1)
        while slots[slot] > 0:
            slot = (slot + 1) & (size - 1)
        slots[slot] = i + 1
    return slots


@kernel
def place_of(ordinal: int, ordinals: Ordinals, slots: Ordinals) -> int:
    """The place plus one of a term in the query's, 0 when it is not there."""
    slot = np.int64(ordinal) & (slots.size - 1)
    while slots[slot] > 0 and ordinals[slots[slot] - 1] != ordinal:
        slot = (slot + 1) & (slots.size - 1)
    return slots[slot]


@kernel
def spread(ordinals: Ordinals, weights: Doubles, n_terms: int) -> Floats:
    """A query's weights by ordinal, float32[n_terms]; they were float32, so that nothing is lost."""
    by_ordinal = np.zeros(n_terms, np.float32)
    for i in range(ordinals.size):
        by_ordinal[ordinals[i]] = weights[i]
    return by_ordinal


@kernel
def exact_score(forward: Forward, row: int, query: Query, weighting: Weighting) -> np.float32:
    """The score of one row, summed in float64 in ascending order of terms, rounded once to float32."""
    ordinals, weights, slots, by_ordinal = query
    total = 0.0
    if by_ordinal.size > 0:
        for j in range(forward.indptr[row], forward.indptr[row + 1]):  # terms that the query lacks add an exact zero
            total += np.float64(by_ordinal[forward.ordinals[j]]) * np.float64(forward.values[j])
        return np.float32(total)
    for j in range(forward.indptr[row], forward.indptr[row + 1]):
        place = place_of(forward.ordinals[j], ordinals, slots)
        if place > 0:
            total += weights[place - 1] * factor_of(forward.values[j], forward.lengths[row], weighting)
    return np.float32(total)


@kernel
def prefetch_row(forward: Forward, row: int) -> None:
    """Ask for what ``exact_score`` reads of a row."""
    for j in range(forward.indptr[row], forward.indptr[row + 1], LINE):
        prefetch(forward.ordinals, j)
        prefetch(forward.values, j)


@kernel
def score_rows(forward: Forward, rows: Rows, query: Query, weighting: Weighting) -> Floats:
    """``exact_score`` of each row: float32[rows.size]."""
    scores = np.empty(rows.size, np.float32)
    for i in range(rows.size):
        # Where a row lies is read from memory too, and asking for the row would wait for that.
        if i + 2 * AHEAD < rows.size:
            prefetch(forward.indptr, rows[i + 2 * AHEAD])
            prefetch(forward.lengths, rows[i + 2 * AHEAD])
        if i + AHEAD < rows.size:
            prefetch_row(forward, rows[i + AHEAD])
        scores[i] = exact_score(forward, rows[i], query, weighting)
    return scores


@kernel
def term_scores(forward: Forward, row: int, query: Query, weighting: Weighting) -> Floats:
    """What each term adds to ``exact_score``: float32[m], 0 for a term that the row lacks."""
    ordinals, weights, slots, _ = query
    scores = np.zeros(ordinals.size, np.float32)
    for j in range(forward.indptr[row], forward.indptr[row + 1]):
        place = place_of(forward.ordinals[j], ordinals, slots)
        if place > 0:
            scores[place - 1] = np.float32(
                weights[place - 1] * factor_of(forward.values[j], forward.lengths[row], weighting)
            )
    return scores


@kernel
def live_counts(postings: Postings, ordinals: Ordinals, deleted: Mask, window: int) -> Rows:
    """How many rows that are not deleted hold each term, by walking the postings: int64[m]."""
    live = np.zeros(ordinals.size, np.int64)
    words = postings.words
    for i in range(ordinals.size):
        at, end = postings.term_ptr[ordinals[i]], postings.term_ptr[ordinals[i] + 1]
        while at < end:
            start, n_runs = np.int64(words[at]) * window, words[at + 1]
            at += 2
            for _ in range(n_runs):
                first = at + 2
                at = first + words[at + 1] + 1
                for j in range(first, at):
                    live[i] += not deleted[start + words[j]]
    return live


@kernel
def deleted_counts(forward: Forward, ordinals: Ordinals, slots: Ordinals, rows: Rows) -> Rows:
    """How many of ``rows`` hold each term, by looking into each row: int64[m]; ``slots`` are the terms' hash table."""
    held = np.zeros(ordinals.size, np.int64)
    last = slots.size - 1
    for row in rows:
        for j in range(forward.indptr[row], forward.indptr[row + 1]):
            slot = np.int64(forward.ordinals[j]) & last
            while slots[slot] > 0:
                if ordinals[slots[slot] - 1] == forward.ordinals[j]:
                    held[slots[slot] - 1] += 1
                    break
                slot = (slot + 1) & last
    return held
