"""The compiled loops: what they take and give is plain arrays and tuples of arrays.

Every kernel is serial, releases the GIL and is cached on disk by numba; threads come from whoever serves requests.
(``parallel=True`` under a threaded server aborts the process with numba's default threading layer.) ``py_func`` of each
is the same function uncompiled: the tests run both. The kernels of the inverted index are in
``index/sparse_kernels.py``, ``index/sparse_sums.py`` and ``index/sparse_scores.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar, cast

import numpy as np
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from index.arrays import Bits, Bytes, Codes, Floats, Mask, Real, Rows, Terms
from index.simd import converts_halves, fetches_ahead, float_of_half, nibble_dot, prefetch_row

Score: TypeAlias = Real | np.uint16
Function = TypeVar("Function", bound=Callable[..., Any])


def kernel(function: Function) -> Function:
    """Compile on first call with these argument types, release the GIL while running, keep the code on disk."""
    return cast(Function, njit(nogil=True, cache=True)(function))


def fast_kernel(function: Function) -> Function:
    """As ``kernel``, with sums that the compiler may reorder (needed to use SIMD); inputs must be finite."""
    return cast(Function, njit(nogil=True, cache=True, fastmath=True)(function))


@kernel
def worse(score: Score, row: int, other_score: Score, other_row: int) -> bool:
    """Whether (score, row) ranks after the other: a lesser score, or the same score and a greater row."""
    return bool(score < other_score or (score == other_score and row > other_row))


@kernel
def offer(scores: NDArray[Any], rows: Rows, size: int, score: Score, row: int) -> int:
    """Put (score, row) into the heap of the best; the worst is on top, at 0.

    Args:
        scores: float32[k] or uint16[k], heap storage, changed.
        rows: int64[k], heap storage, changed.
        size: how many places are filled.
        score: of the newcomer.
        row: of the newcomer.

    Returns:
        How many places are filled now.
    """
    k = scores.size
    if size < k:
        place = size
        size += 1
        while place > 0:
            parent = (place - 1) >> 1
            if not worse(score, row, scores[parent], rows[parent]):
                break
            scores[place] = scores[parent]
            rows[place] = rows[parent]
            place = parent
    else:
        if k == 0 or not worse(scores[0], rows[0], score, row):
            return size
        place = 0
        while True:
            child = 2 * place + 1
            if child >= size:
                break
            if child + 1 < size and worse(scores[child + 1], rows[child + 1], scores[child], rows[child]):
                child += 1
            if not worse(scores[child], rows[child], score, row):
                break
            scores[place] = scores[child]
            rows[place] = rows[child]
            place = child
    scores[place] = score
    rows[place] = row
    return size


@kernel
def count_terms(indptr: Rows, hashes: Terms) -> tuple[Rows, Terms, Floats]:
    """Sort the terms of each row and count repeats.

    Args:
        indptr: int64[n + 1] into ``hashes``.
        hashes: uint64[nnz], in any order within a row; not changed.

    Returns:
        indptr int64[n + 1], terms uint64[unique], counts float32[unique].
    """
    n = indptr.size - 1
    out_indptr = np.zeros(n + 1, np.int64)
    terms = np.empty(hashes.size, np.uint64)
    counts = np.empty(hashes.size, np.float32)
    filled = 0
    for row in range(n):
        ordered = np.sort(hashes[indptr[row] : indptr[row + 1]])
        for i in range(ordered.size):
            if i > 0 and ordered[i] == ordered[i - 1]:
                counts[filled - 1] += np.float32(1.0)
            else:
                terms[filled] = ordered[i]
                counts[filled] = np.float32(1.0)
                filled += 1
        out_indptr[row + 1] = filled
    return out_indptr, terms[:filled].copy(), counts[:filled].copy()


def _bitcast(_typing_context: object, _bits: object) -> tuple[object, object]:
    """What numba compiles ``float_of_bits`` to: one LLVM bitcast."""

    def generate(context: Any, builder: Any, _signature: object, arguments: Any) -> object:  # noqa: ANN401
        return builder.bitcast(arguments[0], context.get_value_type(types.float32))

    return types.float32(types.uint32), generate


# The float32 that has the given 32 bits; only inside kernels.
float_of_bits = cast(Callable[[np.uint32], np.float32], intrinsic(_bitcast))


@fast_kernel
def moved_half(half: np.uint16) -> np.float32:
    """The value of a finite float16 from its 16 bits, for processors that cannot convert."""
    # Sign, exponent and fraction move to their float32 places; 2^112 makes up for the two exponent biases.
    bits = np.uint32(half)
    moved = ((bits & np.uint32(0x7FFF)) << np.uint32(13)) | ((bits & np.uint32(0x8000)) << np.uint32(16))
    return float_of_bits(np.uint32(moved)) * np.float32(2.0**112)


# Asked for this far ahead, memory answers half as fast again: a row's arithmetic alone keeps too few reads under way.
BYTES_AHEAD = 4_096  # of a scan, in the order of memory; a place behind the end is harmless
ASKS_AHEAD = not fetches_ahead()  # in a scan
ROWS_AHEAD = 4  # of rows that lie anywhere

_value_of_half = float_of_half if converts_halves() else moved_half


@fast_kernel
def half_dots(bits: Bits, query: Floats, rows: Rows) -> Floats:
    """Dot products of stored float16 rows with a query, in float32: the same bits for a row in whatever company.

    Args:
        bits: uint16[n, dim], the bit patterns of the float16 values (numba has no float16 on CPUs).
        query: float32[dim].
        rows: int64[m].

    Returns:
        float32[m].
    """
    scores = np.empty(rows.size, np.float32)
    flat, dim = bits.reshape(-1), bits.shape[1]
    for i in range(min(ROWS_AHEAD, rows.size)):
        prefetch_row(flat, rows[i] * dim, dim)
    for i in range(rows.size):
        if i + ROWS_AHEAD < rows.size:
            prefetch_row(flat, rows[i + ROWS_AHEAD] * dim, dim)
        scores[i] = _half_dot(bits[rows[i]], query)
    return scores


@fast_kernel
def _half_dot(bits: Bits, query: Floats) -> np.float32:
    """The dot product of one float16 row with a query."""
    total = np.float32(0.0)
    for j in range(query.size):
        total += _value_of_half(bits[j]) * query[j]
    return total


@kernel
def half_scan(bits: Bits, query: Floats, k: int) -> tuple[Floats, Rows]:
    """The ``k`` best float16 rows by exact dot product, in no order.

    Args:
        bits: uint16[n, dim], the bit patterns of the float16 values.
        query: float32[dim].
        k: at least 1.

    Returns:
        scores float32[<= k], rows int64[<= k].
    """
    scores, rows = np.empty(k, np.float32), np.empty(k, np.int64)
    flat, dim = bits.reshape(-1), bits.shape[1]
    ahead = 1 + BYTES_AHEAD // (2 * dim)
    size = 0
    for row in range(bits.shape[0]):
        if ASKS_AHEAD:
            prefetch_row(flat, (row + ahead) * dim, dim)
        score = _half_dot(bits[row], query)
        if size < k or score > scores[0]:  # an equal score of a later row ranks after
            size = offer(scores, rows, size, score, row)
    return scores[:size], rows[:size]


@kernel
def code_scan(codes: Bytes, query: Codes, k: int) -> Rows:
    """The ``k`` rows of 4-bit codes with the greatest dot products, best first.

    Args:
        codes: uint8[n, width], width a multiple of ``simd.LANES``; see ``simd.nibble_dot``.
        query: int8[2 * width].
        k: at least 1.

    Returns:
        int64[<= k].
    """
    scores, rows = np.empty(k, np.float32), np.empty(k, np.int64)
    flat, width = codes.reshape(-1), codes.shape[1]
    ahead = 1 + BYTES_AHEAD // width
    size = 0
    for row in range(codes.shape[0]):
        if ASKS_AHEAD:
            prefetch_row(flat, (row + ahead) * width, width)
        score = np.float32(nibble_dot(flat, row * width, query))
        if size < k or score > scores[0]:
            size = offer(scores, rows, size, score, row)
    return rows[:size][np.argsort(-scores[:size])]


STRETCH = 1 << 16  # rows of a mask whose places are listed at a time: the list stays in the cache


@kernel
def code_scan_allowed(codes: Bytes, query: Codes, allow: Mask, k: int) -> Rows:
    """``code_scan`` of the rows that a mask marks True: a list of them is asked for ahead, where a mask leaves gaps.

    The list is made without branches, since where a tenth is True half of the guesses would be wrong.
    """
    scores, rows = np.empty(k, np.float32), np.empty(k, np.int64)
    flat, width = codes.reshape(-1), codes.shape[1]
    ahead = 1 + BYTES_AHEAD // width
    listed = np.empty(min(STRETCH, allow.size) + 1, np.int64)  # room for what is written behind the last
    size = 0
    for start in range(0, allow.size, STRETCH):
        n = 0
        for row in range(start, min(start + STRETCH, allow.size)):
            listed[n] = row
            n += allow[row]
        for i in range(n):
            prefetch_row(flat, listed[min(i + ahead, n - 1)] * width, width)
            score = np.float32(nibble_dot(flat, listed[i] * width, query))
            if size < k or score > scores[0]:
                size = offer(scores, rows, size, score, listed[i])
    return rows[:size][np.argsort(-scores[:size])]


BLOCK = 64  # values looked at together: one SIMD comparison loop tells whether any of them matters


@kernel
def any_reaches(values: Floats, start: int, end: int, cut: Real) -> bool:
    """Whether any of values[start:end] is at least ``cut``; without branches, so that it becomes SIMD code."""
    reached = 0
    for i in range(start, end):
        reached += values[i] >= cut
    return reached > 0


@kernel
def greatest(values: Floats, first: int, allow: Mask, k: int, cut: Real) -> Rows:
    """The places of the ``k`` greatest values that are at least ``cut``, in no order.

    Args:
        values: float32[n].
        first: the row of values[0].
        allow: bool[n_rows] by row, or empty for all rows.
        k: at least 1.
        cut: Real32.

    Returns:
        int64[<= k].
    """
    scores, rows = np.empty(k, np.float32), np.empty(k, np.int64)
    size = 0
    for start in range(0, values.size, BLOCK):
        end = min(start + BLOCK, values.size)
        if not any_reaches(values, start, end, cut):
            continue
        for i in range(start, end):
            if values[i] >= cut and (allow.size == 0 or allow[first + i]):
                size = offer(scores, rows, size, values[i], i)
                if size == k:
                    cut = scores[0]
    return rows[:size]
