"""The compiled search of a graph whose rows are 8-bit codes."""

from __future__ import annotations

import numpy as np

from index.arrays import Codes, Links, Rows, Shorts
from index.kernels import kernel
from index.simd import byte_distance, prefetch

LINE = 64  # bytes of a cache line


@kernel
def nearest_in_graph(codes: Codes, links: Links, entries: Links, entry_codes: Codes, query: Shorts, width: int) -> Rows:
    """The rows that a best-first walk of the graph finds, nearest first.

    The walk keeps the ``width`` nearest rows seen, and ends when the links of all of them have been followed.

    Args:
        codes: int8[n, w], w a multiple of ``simd.WIDTH``.
        links: int32[n, m], filled up with the row's own number.
        entries: int32[e], rows of which the nearest is the first.
        entry_codes: int8[e, w], the codes of ``entries``.
        query: int16[w], in steps of the codes.
        width: at least 1.

    Returns:
        int64[<= width].
    """
    flat, flat_links, w, m = codes.reshape(-1), links.reshape(-1), codes.shape[1], links.shape[1]
    seen = np.zeros((codes.shape[0] >> 6) + 1, np.uint64)
    near, rows = np.empty(width, np.int32), np.empty(width, np.int64)  # ~row once its links were followed
    fresh = np.empty(m, np.int64)
    near[0], rows[0] = _nearest_entry(entries, entry_codes, query)
    _mark(seen, rows[0])
    size, place = 1, 0
    while place < size:
        row = rows[place]
        if row < 0:
            place += 1
            continue
        rows[place] = ~row
        n_fresh = 0
        for at in range(row * m, row * m + m):
            linked = int(flat_links[at])
            if _mark(seen, linked):
                for byte in range(0, w, LINE):
                    prefetch(flat, linked * w + byte)
                fresh[n_fresh] = linked
                n_fresh += 1
        for i in range(n_fresh):
            distance = byte_distance(flat, fresh[i] * w, query)
            if size < width or distance < near[size - 1]:
                size = min(size + 1, width)
                place = min(place, _insert(near, rows, size, distance, fresh[i]))
    for i in range(size):
        rows[i] = ~rows[i]
    return rows[:size]


@kernel
def _nearest_entry(entries: Links, entry_codes: Codes, query: Shorts) -> tuple[int, int]:
    """The distance and the row of the entry nearest to the query."""
    flat, best, row = entry_codes.reshape(-1), 2**31 - 1, 0
    for i in range(entries.size):
        distance = byte_distance(flat, i * entry_codes.shape[1], query)
        if distance < best:
            best, row = distance, int(entries[i])
    return best, row


@kernel
def _mark(seen: Rows, row: int) -> bool:
    """Set the row's bit in ``seen`` (uint64 words); whether it was not set."""
    word, bit = row >> 6, np.uint64(1) << np.uint64(row & 63)
    new = (seen[word] & bit) == 0
    seen[word] |= bit
    return new


@kernel
def _insert(near: Links, rows: Rows, size: int, distance: int, row: int) -> int:
    """Put a row into its place in the ascending list of ``size`` with the new one (the last falls out); the place."""
    low, high = 0, size - 1
    while low < high:
        middle = (low + high) >> 1
        if near[middle] <= distance:
            low = middle + 1
        else:
            high = middle
    for at in range(size - 1, low, -1):
        near[at] = near[at - 1]
        rows[at] = rows[at - 1]
    near[low] = distance
    rows[low] = row
    return low
