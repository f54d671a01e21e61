"""The compiled loops of a sparse search: walk the postings, score rows exactly.

Scatter-add in windows as in SINDI (Li et al., PVLDB 2026) and in Qdrant's sparse index, made rank-safe: an 8-bit impact is
rounded up, so the sum over a row's postings bounds the row's score from above, and every row whose bound reaches the
k-th exact score is scored exactly from the forward index.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

from index.arrays import Doubles, Floats, Mask, Ordinals, Rows
from index.kernels import BLOCK, any_reaches, greatest, kernel, offer
from index.postings import Forward, Postings, Weighting, factor_of

LEAST = np.float32(1e-45)  # the least float32 above zero


Query: TypeAlias = tuple[Ordinals, Doubles]  # uint32[m] ascending, float64[m] above zero
Heap: TypeAlias = tuple[Floats, Rows, int]  # scores, rows, how many places are filled


@kernel
def lower_bound(values: Ordinals, low: int, high: int, wanted: int) -> int:
    """The first place in values[low:high], ascending, that is not below ``wanted``."""
    while low < high:
        middle = (low + high) >> 1
        if values[middle] < wanted:
            low = middle + 1
        else:
            high = middle
    return low


@kernel
def exact_score(forward: Forward, row: int, ordinals: Ordinals, weights: Doubles, weighting: Weighting) -> np.float32:
    """The score of one row, summed in float64 in ascending order of terms, rounded once to float32."""
    low, high = forward.indptr[row], forward.indptr[row + 1]
    total = 0.0
    for i in range(ordinals.size):
        low = lower_bound(forward.ordinals, low, high, ordinals[i])
        if low == high:
            break
        if forward.ordinals[low] == ordinals[i]:
            total += weights[i] * factor_of(forward.values[low], forward.lengths[row], weighting)
    return np.float32(total)


@kernel
def score_rows(forward: Forward, rows: Rows, ordinals: Ordinals, weights: Doubles, weighting: Weighting) -> Floats:
    """``exact_score`` of each row: float32[rows.size]."""
    scores = np.empty(rows.size, np.float32)
    for i in range(rows.size):
        scores[i] = exact_score(forward, rows[i], ordinals, weights, weighting)
    return scores


@kernel
def term_scores(forward: Forward, row: int, ordinals: Ordinals, weights: Doubles, weighting: Weighting) -> Floats:
    """What each term adds to ``exact_score``: float32[ordinals.size], 0 for a term that the row lacks."""
    scores = np.zeros(ordinals.size, np.float32)
    low, high = forward.indptr[row], forward.indptr[row + 1]
    for i in range(ordinals.size):
        low = lower_bound(forward.ordinals, low, high, ordinals[i])
        if low == high:
            break
        if forward.ordinals[low] == ordinals[i]:
            scores[i] = np.float32(weights[i] * factor_of(forward.values[low], forward.lengths[row], weighting))
    return scores


@kernel
def find_blocks(postings: Postings, ordinals: Ordinals, weights: Doubles) -> tuple[Rows, Doubles]:
    """Where each query term is in each window, and what a window's rows can reach at most.

    Returns:
        blocks int64[n_windows, m], -1 where the window lacks the term; bounds float64[n_windows].
    """
    n_windows = postings.window_ptr.size - 1
    blocks = np.full((n_windows, ordinals.size), -1, np.int64)
    bounds = np.zeros(n_windows, np.float64)
    for w in range(n_windows):
        low, high = postings.window_ptr[w], postings.window_ptr[w + 1]
        for i in range(ordinals.size):
            low = lower_bound(postings.block_terms, low, high, ordinals[i])
            if low < high and postings.block_terms[low] == ordinals[i]:
                blocks[w, i] = low
                bounds[w] += weights[i] * postings.block_max[low]
    return blocks, bounds


@kernel
def accumulate(postings: Postings, blocks: Rows, weights: Doubles, sums: Floats) -> None:
    """Add up what the postings of one window give each of its rows.

    Args:
        postings: of the segment.
        blocks: int64[m], one a query term, -1 for none.
        weights: float64[m].
        sums: float32[rows of the window], overwritten.
    """
    sums[:] = np.float32(0.0)
    for i in range(blocks.size):
        if blocks[i] < 0:
            continue
        unit = np.float32(weights[i] * postings.block_max[blocks[i]] / 255.0)
        for j in range(postings.block_ptr[blocks[i]], postings.block_ptr[blocks[i] + 1]):
            sums[postings.locals[j]] += unit * np.float32(postings.impacts[j])


@kernel
def search_window(
    forward: Forward,
    query: Query,
    weighting: Weighting,
    slack: float,
    allow: Mask,
    first: int,
    sums: Floats,
    heap: Heap,
) -> int:
    """Score exactly every row of one window whose bound reaches the k-th best, and keep the best.

    Args:
        forward: of the segment.
        query: ordinals uint32[m] and weights float64[m].
        weighting: of the query.
        slack: sums times this bound the scores from above.
        allow: bool[n_rows], or empty for all rows.
        first: the window's first row.
        sums: float32[rows of the window], from ``accumulate``; changed.
        heap: scores float32[k], rows int64[k] and how many are filled.

    Returns:
        How many places of the heap are filled now.
    """
    ordinals, weights = query
    scores, rows, size = heap
    k = scores.size
    if size < k:
        # The best bounds first: they give a k-th score near the final one, before the others are looked at.
        for i in greatest(sums, first, allow, k - size, LEAST):
            score = exact_score(forward, first + i, ordinals, weights, weighting)
            if score > 0.0:
                size = offer(scores, rows, size, score, first + i)
            sums[i] = np.float32(0.0)
    cut = LEAST if size < k else np.float32(scores[0] / slack)
    for start in range(0, sums.size, BLOCK):
        end = min(start + BLOCK, sums.size)
        if not any_reaches(sums, start, end, cut):
            continue
        for i in range(start, end):
            if sums[i] >= cut and (allow.size == 0 or allow[first + i]):
                score = exact_score(forward, first + i, ordinals, weights, weighting)
                if score > 0.0:
                    size = offer(scores, rows, size, score, first + i)
                if size == k:
                    cut = np.float32(scores[0] / slack)
    return size


@kernel
def search(
    postings: Postings,
    forward: Forward,
    query: Query,
    weighting: Weighting,
    slack: float,
    allow: Mask,
    k: int,
    room: Floats,
) -> tuple[Floats, Rows]:
    """The exact ``k`` best rows with a score above 0, in no order.

    Args:
        postings: of the segment.
        forward: of the segment.
        query: ordinals uint32[m] ascending, weights float64[m].
        weighting: of the query.
        slack: bounds times this are at least the exact scores, rounding included.
        allow: bool[n_rows], or empty for all rows.
        k: at least 1, at most n_rows.
        room: float32[window], scratch; changed.

    Returns:
        scores float32[<= k], rows int64[<= k].
    """
    scores, rows = np.empty(k, np.float32), np.empty(k, np.int64)
    size = 0
    n_rows = forward.indptr.size - 1
    blocks, bounds = find_blocks(postings, query[0], query[1])
    for w in np.argsort(-bounds):
        if bounds[w] == 0.0 or (size == k and bounds[w] * slack < scores[0]):
            break
        first = w * room.size
        sums = room[: min(room.size, n_rows - first)]
        accumulate(postings, blocks[w], query[1], sums)
        size = search_window(forward, query, weighting, slack, allow, first, sums, (scores, rows, size))
    return scores[:size], rows[:size]


@kernel
def live_counts(postings: Postings, ordinals: Ordinals, deleted: Mask, window: int) -> Rows:
    """How many rows that are not deleted hold each term, by walking the postings: int64[m]."""
    live = np.zeros(ordinals.size, np.int64)
    for w in range(postings.window_ptr.size - 1):
        low, high = postings.window_ptr[w], postings.window_ptr[w + 1]
        for i in range(ordinals.size):
            low = lower_bound(postings.block_terms, low, high, ordinals[i])
            if low < high and postings.block_terms[low] == ordinals[i]:
                for j in range(postings.block_ptr[low], postings.block_ptr[low + 1]):
                    live[i] += not deleted[w * window + postings.locals[j]]
    return live


@kernel
def deleted_counts(forward: Forward, ordinals: Ordinals, rows: Rows) -> Rows:
    """How many of ``rows`` hold each term, by looking into each row: int64[m]."""
    held = np.zeros(ordinals.size, np.int64)
    for row in rows:
        low, high = forward.indptr[row], forward.indptr[row + 1]
        for i in range(ordinals.size):
            low = lower_bound(forward.ordinals, low, high, ordinals[i])
            if low < high and forward.ordinals[low] == ordinals[i]:
                held[i] += 1
    return held
