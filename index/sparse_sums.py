"""The compiled loops that find the few rows with great sums among all rows of a segment.

After a walk every row has a 16-bit sum, and nearly all of them are too small to matter. So the greatest sum of each stretch
of rows is taken once, at the speed of the cache; what follows looks only into stretches, and in those into blocks, that hold
a row worth looking at. Sums: uint16[n_blocks, BLOCK] by row, 0 behind the last row and for rows that may not be found.
"""

from __future__ import annotations

import numpy as np

from index.arrays import Bits, Rows
from index.kernels import BLOCK, kernel, offer

STRETCH = 8  # blocks that share a maximum: fewer cost more in taking it, more hold a great sum too often


@kernel
def stretch_maxima(sums: Bits) -> Bits:
    """The greatest sum of each stretch of rows: uint16[n_stretches]."""
    flat, size = sums.reshape(-1), STRETCH * BLOCK
    maxima = np.empty((flat.size + size - 1) // size, np.uint16)
    for stretch in range(maxima.size):
        maxima[stretch] = greatest_of(flat[stretch * size : (stretch + 1) * size])
    return maxima


@kernel
def greatest_of(sums: Bits) -> np.uint16:
    """The greatest of some sums, 0 of none; without branches, so that it becomes SIMD code."""
    greatest = np.uint16(0)
    for i in range(sums.size):
        greatest = max(greatest, sums[i])
    return greatest


@kernel
def any_sum_reaches(sums: Bits, block: int, cut: np.uint16) -> bool:
    """Whether any of the 64 sums of a block is at least ``cut``; without branches, so that it becomes SIMD code."""
    reached = np.uint8(0)
    for lane in range(BLOCK):
        reached |= np.uint8(sums[block, lane] >= cut)
    return bool(reached > 0)


@kernel
def rows_reaching(sums: Bits, stretch: int, cut: np.uint16, found: Rows) -> int:
    """The rows of a stretch whose sums are at least ``cut``.

    Args:
        sums: of all rows.
        stretch: which one.
        cut: at least 1.
        found: int64[>= STRETCH * BLOCK], changed: begins with these rows, ascending.

    Returns:
        How many there are.
    """
    count = 0
    for block in range(stretch * STRETCH, min((stretch + 1) * STRETCH, sums.shape[0])):
        if any_sum_reaches(sums, block, cut):
            for lane in range(BLOCK):
                if sums[block, lane] >= cut:
                    found[count] = block * BLOCK + lane
                    count += 1
    return count


@kernel
def greatest_sums(sums: Bits, maxima: Bits, count: int, cut: np.uint16) -> Rows:
    """The ``count`` rows with the greatest sums of at least ``cut``, in no order; of equal sums the earlier rows.

    Args:
        sums: of all rows.
        maxima: uint16[n_stretches], the greatest sum of each stretch.
        count: at least 1.
        cut: at least 1.

    Returns:
        int64[<= count].
    """
    if maxima.size >= count:  # so many stretches have a row each with at least this sum
        cut = max(cut, np.partition(maxima, maxima.size - count)[maxima.size - count])
    best, rows, found = np.empty(count, np.uint16), np.empty(count, np.int64), np.empty(STRETCH * BLOCK, np.int64)
    size = 0
    for stretch in range(maxima.size):
        if maxima[stretch] < cut:
            continue
        for row in found[: rows_reaching(sums, stretch, cut, found)]:
            size = offer(best, rows, size, sums[row // BLOCK, row % BLOCK], row)
        if size == count:
            cut = max(cut, np.uint16(min(65_534, best[0]) + 1))
    return rows[:size]


@kernel
def forget(sums: Bits, rows: Rows) -> None:
    """Set the sums of ``rows`` to zero."""
    for row in rows:
        sums[row // BLOCK, row % BLOCK] = np.uint16(0)
