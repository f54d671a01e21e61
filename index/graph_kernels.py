"""The compiled search of a graph whose rows are 4-bit codes."""

from __future__ import annotations

import numpy as np

from index.arrays import Bytes, Codes, Links, Ordinals, Rows
from index.kernels import kernel
from index.simd import nibble_dot, prefetch_row


@kernel
def nearest_in_graph(
    codes: Bytes,
    starts: Ordinals,
    links: Links,
    most: int,
    entries: Links,
    entry_codes: Bytes,
    query: Codes,
    width: int,
) -> Rows:
    """The rows that a best-first walk of the graph finds, best first.

    The walk keeps the ``width`` best rows seen, and ends when the links of all of them have been followed.

    Args:
        codes: uint8[n, w], w a multiple of ``simd.LANES``.
        starts: uint32[n + 1], where the links of each row begin.
        links: int32[l].
        most: no row has more links.
        entries: int32[e], rows of which the best is the first.
        entry_codes: uint8[e, w], the codes of ``entries``.
        query: int8[2 * w].
        width: at least 1.

    Returns:
        int64[<= width].
    """
    flat, w = codes.reshape(-1), codes.shape[1]
    seen = np.zeros((codes.shape[0] >> 6) + 1, np.uint64)
    scores, rows = np.empty(width, np.int32), np.empty(width, np.int64)  # ~row once its links were followed
    fresh = np.empty(most, np.int64)
    scores[0], rows[0] = _best_entry(entries, entry_codes, query)
    _mark(seen, rows[0])
    size, place = 1, 0
    while place < size:
        row = rows[place]
        if row < 0:
            place += 1
            continue
        rows[place] = ~row
        n_fresh = 0
        for at in range(starts[row], starts[row + 1]):
            linked = int(links[at])
            if _mark(seen, linked):
                prefetch_row(flat, linked * w, w)
                fresh[n_fresh] = linked
                n_fresh += 1
        for i in range(n_fresh):
            score = nibble_dot(flat, fresh[i] * w, query)
            if size < width or score > scores[size - 1]:
                size = min(size + 1, width)
                place = min(place, _insert(scores, rows, size, score, fresh[i]))
    for i in range(size):
        rows[i] = ~rows[i]
    return rows[:size]


@kernel
def _best_entry(entries: Links, entry_codes: Bytes, query: Codes) -> tuple[int, int]:
    """The score and the row of the entry that is nearest to the query."""
    flat, best, row = entry_codes.reshape(-1), -(2**31), 0
    for i in range(entries.size):
        score = nibble_dot(flat, i * entry_codes.shape[1], query)
        if score > best:
            best, row = score, int(entries[i])
    return best, row


@kernel
def _mark(seen: Rows, row: int) -> bool:
    """Set the row's bit in ``seen`` (uint64 words); whether it was not set."""
    word, bit = row >> 6, np.uint64(1) << np.uint64(row & 63)
    new = (seen[word] & bit) == 0
    seen[word] |= bit
    return new


@kernel
def _insert(scores: Links, rows: Rows, size: int, score: int, row: int) -> int:
    """Put a row into its place in the falling list of ``size`` with the new one (the last falls out); the place."""
    low, high = 0, size - 1
    while low < high:
        middle = (low + high) >> 1
        if scores[middle] >= score:
            low = middle + 1
        else:
            high = middle
    for at in range(size - 1, low, -1):
        scores[at] = scores[at - 1]
        rows[at] = rows[at - 1]
    scores[low] = score
    rows[low] = row
    return low
