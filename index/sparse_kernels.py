"""The compiled loops of a sparse search: walk the postings, and score exactly what they cannot decide.

Scatter-add in windows as in SINDI (Li et al., PVLDB 2026) and in Qdrant's sparse index, made rank-safe: impacts are rounded up,
so what the walked terms add to a row, plus the most that the others can add, bounds the row's score from above. As in MaxScore
(Turtle, Flood 1995), long lists that add little are not walked but looked up, in the forward index, for the few rows
whose bound reaches the k-th exact score; here the split is the same for all rows, and chosen by its estimated cost: again
after every walk, since only the sums tell how many rows a longer walk really leaves.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

from index.arrays import Bits, Doubles, Floats, Mask, Rows
from index.kernels import BLOCK, kernel, offer
from index.postings import LEVELS, Forward, Postings, Weighting
from index.simd import prefetch
from index.sparse_scores import AHEAD, LINE, Query, score_rows
from index.sparse_sums import STRETCH, forget, greatest_sums, rows_reaching, stretch_maxima

MOST_TERMS = 16_384  # of a query whose postings are walked: each may round a 16-bit sum up by one
# The part of the query's reach that is walked first; and how many rows, as a multiple of k, are then scored: on a million real
# passages their k-th best score is 0.99 of the final one (benchmarks/sparse_search.py), for a twentieth of the postings.
FIRST_COVER, SEEDS = 0.65, 4
# A query is walked whole at once where that costs at most so many times the scoring of those rows; 4 to 16 measure the same.
WHOLE = 8
# What decides how far to walk, in nanoseconds: a posting, a block of a term in a window, scoring a row exactly.
POSTING_COST, BLOCK_COST, ROW_COST = 0.9, 80.0, 600.0
TYPICAL_GAIN = 0.15  # of the reach still unwalked, what a row near the top gets on average
TOGETHER = 64  # rows scored one after the other before the k-th score is looked at again
SAMPLE = 64  # one block of rows in so many is counted to estimate how many rows reach a sum

Heap: TypeAlias = tuple[Floats, Rows, int]  # scores, rows, how many places are filled
# Terms by yield: ordinals' places int64[m]; rest float64[m + 1], what the terms from i on can add, in steps; doc_freq int64[m];
# steps uint16[m, LEVELS + 1] by level; cursors int64[m, 2] into the words; how much score a step is worth.
Walk: TypeAlias = tuple[Rows, Doubles, Rows, Bits, Rows, float]


@kernel
def plan_walk(postings: Postings, doc_freq: Rows, term_max: Floats, query: Query) -> Walk:
    """Order a query's terms by what they can add for each posting, and say what each run adds.

    Sums are 16-bit counts of steps: the query's whole reach, with a step more a term for rounding up, just fits.
    """
    ordinals, weights = query[0], query[1]
    m = ordinals.size
    reach = np.empty(m, np.float64)
    for i in range(m):
        reach[i] = weights[i] * term_max[ordinals[i]]
    order = np.argsort(np.array([-reach[i] / doc_freq[ordinals[i]] for i in range(m)]), kind="mergesort")
    worth = max(reach.sum() / (65_535 - m - 1), 1e-300)
    rest, df = np.zeros(m + 1, np.float64), np.empty(m, np.int64)
    steps, cursors = np.zeros((m, LEVELS + 1), np.uint16), np.empty((m, 2), np.int64)
    for i in range(m - 1, -1, -1):
        ordinal, most = ordinals[order[i]], reach[order[i]] / worth
        rest[i] = rest[i + 1] + most
        df[i] = doc_freq[ordinal]
        cursors[i, 0], cursors[i, 1] = postings.term_ptr[ordinal], postings.term_ptr[ordinal + 1]
        for level in range(1, LEVELS + 1):
            steps[i, level] = int(np.ceil(most * level / LEVELS))
    return order, rest, df, steps, cursors, worth


@kernel
def covering(rest: Doubles, part: float) -> int:
    """How many of the first terms make up ``part`` of the query's reach; at least one."""
    count = 1
    while count < rest.size - 1 and rest[count] > (1.0 - part) * rest[0]:
        count += 1
    return count


@kernel
def first_stop(walk: Walk, n_windows: int, seeds: int) -> int:
    """How many terms to walk before rows are scored: all of them, where the walk costs little beside scoring the seeds."""
    rest, df = walk[1], walk[2]
    whole = df.sum() * POSTING_COST + df.size * n_windows * BLOCK_COST
    return df.size if whole <= WHOLE * seeds * ROW_COST else covering(rest, FIRST_COVER)


@kernel
def add_terms(words: Bits, walk: Walk, terms: tuple[int, int], window: int, allow: Mask, sums: Bits) -> None:
    """Add the postings of the terms [first, last) of a walk to the rows' sums; sums of the first terms begin at zero.

    A row that is not allowed ends with nothing, so that whatever looks at the sums afterwards needs no mask.

    Args:
        words: of the postings.
        walk: its cursors are moved.
        terms: first and last.
        window: rows a window.
        allow: bool[n_rows], or empty for all rows.
        sums: uint16[n_blocks, BLOCK] by row, changed; those behind the last row stay zero.
    """
    steps, cursors = walk[3], walk[4]
    flat = sums.reshape(-1)
    for start in range(0, flat.size, window):
        part = flat[start : start + window]
        if terms[0] == 0:
            part[:] = np.uint16(0)
        for i in range(terms[0], terms[1]):
            if i + AHEAD < terms[1]:
                prefetch(words, cursors[i + AHEAD, 0])
                prefetch(words, cursors[i + AHEAD, 0] + 2 * LINE)
            at = cursors[i, 0]
            if at == cursors[i, 1] or words[at] != start // window:
                continue
            n_runs = np.int64(words[at + 1])
            at += 2
            for _ in range(n_runs):
                step = steps[i, words[at]]
                count = np.int64(words[at + 1]) + 1
                run = words[at + 2 : at + 2 + count]  # a slice of known length: the inner loop has no other arithmetic
                for j in range(count):
                    part[run[j]] += step
                at += 2 + count
            cursors[i, 0] = at
        allowed = allow[start : start + window]
        for j in range(allowed.size):
            part[j] *= np.uint16(allowed[j])


@kernel
def choose_stop(walk: Walk, sums: Bits, done: int, wanted: float, window: int) -> int:
    """How many terms to walk before the remaining rows are scored one by one, by what both are estimated to cost.

    Args:
        walk: of the query.
        sums: uint16[n_blocks, BLOCK] of the first ``done`` terms.
        done: terms walked.
        wanted: the score that a row must reach, in steps.
        window: rows a window.
    """
    n_windows = (sums.size + window - 1) // window
    rest, df = walk[1], walk[2]
    counts = np.zeros(258, np.int64)  # of sampled rows by the upper byte of their sums
    for block in range(0, sums.shape[0], SAMPLE):
        for lane in range(BLOCK):
            if sums[block, lane] > 0:
                counts[sums[block, lane] >> 8] += 1
    for i in range(255, -1, -1):
        counts[i] += counts[i + 1]
    m = df.size
    best, least, walked = m, np.inf, 0.0
    for stop in range(done, m + 1):
        if stop > done:
            walked += df[stop - 1] * POSTING_COST + n_windows * BLOCK_COST
        cut = wanted - rest[stop]
        if cut < 1.0 and stop < m:
            continue
        likely = int(max(0.0, min(65_535.0, cut - TYPICAL_GAIN * (rest[done] - rest[stop])))) >> 8
        cost = walked + counts[likely] * SAMPLE * ROW_COST
        if cost < least:
            best, least = stop, cost
    return best


@kernel
def offer_all(heap: Heap, exact: Floats, found: Rows, least: np.float32) -> int:
    """Put the rows that score above 0 and at least ``least`` into the heap; how many of its places are filled now."""
    scores, rows, size = heap
    for i in range(found.size):
        if exact[i] > 0.0 and exact[i] >= least:
            size = offer(scores, rows, size, exact[i], found[i])
    return size


@kernel
def score_to_reach(heap: Heap, least: np.float32) -> np.float32:
    """What a row must score to be among the best: as much as the k-th, when there are k, and ``least``."""
    return max(least, heap[0][0]) if heap[2] == heap[0].size else least


@kernel
def score_reaching(
    forward: Forward,
    query: Query,
    weighting: Weighting,
    sums: Bits,
    maxima: Bits,
    heap: Heap,
    scale: tuple[float, float],
    least: np.float32,
) -> int:
    """Score every row whose sum reaches the k-th best, which rises meanwhile; places of the heap that are filled.

    Args:
        forward: of the segment.
        query: of the search.
        weighting: of the query.
        sums: uint16[n_blocks, BLOCK] by row; 0 for rows that are not to be scored.
        maxima: uint16[n_stretches], at least the greatest sum of each stretch.
        heap: the best so far.
        scale: how much score a step is worth at most, and how many steps the terms that were not walked can add.
        least: rows that score less are not wanted.
    """
    scores, rows, size = heap
    cut = least_sum(score_to_reach(heap, least), scale)
    waiting = np.empty(TOGETHER + STRETCH * BLOCK, np.int64)
    n_waiting = 0
    for stretch in range(maxima.size):
        if maxima[stretch] >= cut:
            n_waiting += rows_reaching(sums, stretch, cut, waiting[n_waiting:])
        if n_waiting >= TOGETHER or (n_waiting > 0 and stretch == maxima.size - 1):
            exact = score_rows(forward, waiting[:n_waiting], query, weighting)
            size = offer_all((scores, rows, size), exact, waiting[:n_waiting], least)
            cut = max(cut, least_sum(score_to_reach((scores, rows, size), least), scale))
            n_waiting = 0
    return size


@kernel
def least_sum(score: np.float32, scale: tuple[float, float]) -> np.uint16:
    """The least sum, at least 1, of a row that may reach ``score``; a step less, for the rounding of this division."""
    return np.uint16(max(1.0, min(65_535.0, np.floor(score / scale[0] - scale[1]) - 1.0)))


@kernel
def search(
    postings: Postings,
    forward: Forward,
    statistics: tuple[Rows, Floats],
    query: Query,
    weighting: Weighting,
    slack: float,
    allow: Mask,
    k: int,
    least: float,
    window: int,
    room: Bits,
) -> tuple[Floats, Rows]:
    """The exact ``k`` best rows with a score above 0 and at least ``least``, in no order.

    Args:
        postings: of the segment.
        forward: of the segment.
        statistics: doc_freq int64[n_terms] and term_max float32[n_terms].
        query: at least one term, at most ``MOST_TERMS``.
        weighting: of the query.
        slack: bounds times this are at least the exact scores, rounding included.
        allow: bool[n_rows], or empty for all rows.
        k: at least 1, at most n_rows.
        least: a float32; what other segments gave already, so that nothing less is wanted.
        window: rows a window.
        room: uint16[n_blocks, BLOCK], scratch for all rows; changed.

    Returns:
        scores float32[<= k], rows int64[<= k].
    """
    scores, rows, bar = np.empty(k, np.float32), np.empty(k, np.int64), np.float32(least)
    walk = plan_walk(postings, statistics[0], statistics[1], query)
    rest, worth = walk[1], walk[5] * slack
    m = rest.size - 1
    stop = first_stop(walk, (room.size + window - 1) // window, SEEDS * k)
    add_terms(postings.words, walk, (0, stop), window, allow, room)
    # Whole sums favour the right rows; those that reach a score given from elsewhere are few.
    wide = SEEDS * k if stop < m or bar > 0.0 else k
    maxima = stretch_maxima(room)
    seeds = greatest_sums(room, maxima, wide, least_sum(bar, (worth, rest[stop])))
    size = offer_all((scores, rows, 0), score_rows(forward, seeds, query, weighting), seeds, bar)
    if stop == m and seeds.size < wide:
        return scores[:size], rows[:size]  # no other row reaches
    wanted = float(score_to_reach((scores, rows, size), bar)) / worth
    done = 0
    while done < stop < m:
        done, stop = stop, choose_stop(walk, room, stop, wanted, window)
        add_terms(postings.words, walk, (done, stop), window, allow, room)
    forget(room, seeds)  # scored already
    if done > 0:
        maxima = stretch_maxima(room)
    scale = (worth, rest[stop])
    size = score_reaching(forward, query, weighting, room, maxima, (scores, rows, size), scale, bar)
    return scores[:size], rows[:size]


@kernel
def search_roughly(
    postings: Postings,
    statistics: tuple[Rows, Floats],
    query: Query,
    part: float,
    depth: int,
    allow: Mask,
    window: int,
    room: Bits,
) -> Rows:
    """The ``depth`` rows to which the terms that make up ``part`` of the query's reach add most, in no order.

    Args are those of ``search``.
    """
    walk = plan_walk(postings, statistics[0], statistics[1], query)
    add_terms(postings.words, walk, (0, covering(walk[1], part)), window, allow, room)
    return greatest_sums(room, stretch_maxima(room), depth, np.uint16(1))
