"""How is text cut at white space and looked up, without the interpreter? Plain functions over arrays, compiled by numba."""

from __future__ import annotations

import numpy as np
from numba import njit

from index.arrays import Rows, Terms

_FNV_OFFSET = np.uint64(0xCBF29CE484222325)  # FNV-1a, http://www.isthe.com/chongo/tech/comp/fnv/
_FNV_PRIME = np.uint64(0x100000001B3)
_MIX = np.uint64(0xFF51AFD7ED558CCD)  # MurmurHash3's finaliser: FNV leaves the high bits of short inputs alike


@njit(nogil=True, cache=True)
def is_space(byte: int) -> bool:
    """Whether an ASCII byte is white space for ``str.split``."""
    return byte == 32 or 9 <= byte <= 13 or 28 <= byte <= 31


@njit(nogil=True, cache=True)
def plain_word(data: np.ndarray, start: int, end: int, punctuation: np.ndarray) -> tuple[int, int]:
    """The bounds of the one plain English word in a chunk, or (start, start) when there is none.

    Plain: ASCII letters, small ones from the second on, at least two, with nothing but punctuation around them.
    """
    first, last = start, end
    while first < last and punctuation[data[first]]:
        first += 1
    while last > first and punctuation[data[last - 1]]:
        last -= 1
    if last - first < 2 or not 97 <= data[first] | 32 <= 122:
        return start, start
    for place in range(first + 1, last):
        if not 97 <= data[place] <= 122:
            return start, start
    return first, last


@njit(nogil=True, cache=True)
def cut_chunks(data: np.ndarray, offsets: Rows, punctuation: np.ndarray, fold: bool) -> tuple[Rows, Rows, Terms, Rows]:
    """Cut rows of bytes at white space.

    Args:
        data: uint8[n], the rows one after the other.
        offsets: int64[n_rows + 1], where each row begins.
        punctuation: bool[256], the bytes that may surround a plain word.
        fold: reduce a chunk with a plain word to that word, and hash it in small letters.

    Returns:
        starts, ends int64[m] into ``data``, hashes uint64[m] of each chunk's bytes, indptr int64[n_rows + 1].
    """
    capacity = len(data) // 2 + len(offsets) + 1
    starts = np.empty(capacity, np.int64)
    ends = np.empty(capacity, np.int64)
    hashes = np.empty(capacity, np.uint64)
    indptr = np.zeros(len(offsets), np.int64)
    count = 0
    for row in range(len(offsets) - 1):
        place, stop = offsets[row], offsets[row + 1]
        while place < stop:
            if is_space(data[place]):
                place += 1
                continue
            start = place
            while place < stop and not is_space(data[place]):
                place += 1
            first, last = plain_word(data, start, place, punctuation) if fold else (start, start)
            letter_case = np.uint64(32 if last > first else 0)
            if last == first:
                first, last = start, place
            starts[count], ends[count] = first, last
            value = _FNV_OFFSET
            for i in range(first, last):
                value = (value ^ (np.uint64(data[i]) | letter_case)) * _FNV_PRIME
            value = (value ^ (value >> np.uint64(33))) * _MIX
            hashes[count] = value ^ (value >> np.uint64(29))
            count += 1
        indptr[row + 1] = count
    return starts[:count], ends[:count], hashes[:count], indptr


@njit(nogil=True, cache=True)
def find_chunks(keys: Terms, ordinals: Rows, hashes: Terms) -> Rows:
    """int64[m]: the ordinal of each hash in an open-addressing table of a power of two slots; -1 where it is not."""
    mask = np.uint64(len(keys) - 1)
    found = np.empty(len(hashes), np.int64)
    for i in range(len(hashes)):
        slot = hashes[i] & mask
        while ordinals[slot] >= 0 and keys[slot] != hashes[i]:
            slot = (slot + np.uint64(1)) & mask
        found[i] = ordinals[slot]
    return found


@njit(nogil=True, cache=True)
def add_chunks(keys: Terms, ordinals: Rows, hashes: Terms, first: int) -> None:
    """Put new hashes into the table, with ordinals from ``first`` on. The table must have room."""
    mask = np.uint64(len(keys) - 1)
    for i in range(len(hashes)):
        slot = hashes[i] & mask
        while ordinals[slot] >= 0:
            slot = (slot + np.uint64(1)) & mask
        keys[slot] = hashes[i]
        ordinals[slot] = first + i


@njit(nogil=True, cache=True)
def gather_terms(found: Rows, indptr: Rows, starts: Rows, terms: Terms) -> tuple[Rows, Terms]:
    """The terms of every row of chunks.

    Args:
        found: int64[m], each chunk's ordinal.
        indptr: int64[n_rows + 1], the chunks of each row.
        starts: int64[n_ordinals + 1], the terms of each ordinal.
        terms: uint64, the terms of all ordinals.

    Returns:
        indptr int64[n_rows + 1] and terms uint64 of the rows, in text order, repeats included.
    """
    total = 0
    for ordinal in found:
        total += starts[ordinal + 1] - starts[ordinal]
    gathered = np.empty(total, np.uint64)
    rows = np.zeros(len(indptr), np.int64)
    count = 0
    for row in range(len(indptr) - 1):
        for i in range(indptr[row], indptr[row + 1]):
            for place in range(starts[found[i]], starts[found[i] + 1]):
                gathered[count] = terms[place]
                count += 1
        rows[row + 1] = count
    return rows, gathered
