"""How is text cut into chunks and looked up, without the interpreter? Plain functions over arrays, compiled by numba."""

from __future__ import annotations

import numpy as np
from numba import njit

from index.arrays import Rows, Terms

_FNV_OFFSET = np.uint64(0xCBF29CE484222325)  # FNV-1a, http://www.isthe.com/chongo/tech/comp/fnv/
_FNV_PRIME = np.uint64(0x100000001B3)
_MIX = np.uint64(0xFF51AFD7ED558CCD)  # MurmurHash3's finaliser: FNV leaves the high bits of short inputs alike


@njit(nogil=True, cache=True)
def is_edge(byte: int) -> bool:
    """Whether it is an apostrophe, a comma or a point: terms may hold them, and none begins with them."""
    return byte == 39 or byte == 44 or byte == 46


@njit(nogil=True, cache=True)
def trimmed(data: np.ndarray, start: int, end: int) -> tuple[int, int]:
    """The bounds of a chunk without the apostrophes, commas and points around it, where they change none of its terms.

    Behind a chunk with a comma or a point inside they stay: "U.S." and "U.S", "1,000," and "1,000" have different terms.
    """
    first, last = start, end
    while first < last and is_edge(data[first]):
        first += 1
    while last > first and is_edge(data[last - 1]):
        last -= 1
    for place in range(first, last):
        if data[place] != 39 and is_edge(data[place]):
            return first, end
    return first, last


@njit(nogil=True, cache=True)
def folded_hash(data: np.ndarray, start: int, end: int, fold: bool) -> np.uint64:
    """64-bit FNV-1a of the bytes; with ``fold``, of the small letters of a word of ASCII letters written in one way.

    In one way: all small, all capitals, or a capital first; others may be identifiers, whose parts the case tells apart.
    """
    letters, capitals = 0, 0
    for place in range(start, end):
        letters += 97 <= data[place] | 32 <= 122
        capitals += 65 <= data[place] <= 90
    small = capitals == 0 or capitals == letters or (capitals == 1 and data[start] < 97)
    bits = np.uint64(32 if fold and small and letters == end - start else 0)
    value = _FNV_OFFSET
    for place in range(start, end):
        value = (value ^ (np.uint64(data[place]) | bits)) * _FNV_PRIME
    value = (value ^ (value >> np.uint64(33))) * _MIX
    return value ^ (value >> np.uint64(29))


@njit(nogil=True, cache=True)
def cut_chunks(data: np.ndarray, offsets: Rows, separators: np.ndarray, fold: bool) -> tuple[Rows, Rows, Terms, Rows]:
    """Cut rows of UTF-8 at separators.

    Args:
        data: uint8[n], the rows one after the other; each ends with a separator.
        offsets: int64[n_rows + 1], where each row begins.
        separators: bool[65536] by code point; a character beyond them separates nothing.
        fold: hash a word whose case says nothing in small letters.

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
        start = place = offsets[row]
        while place < offsets[row + 1]:
            lead = int(data[place])
            # Decoded here: a call would count references to the arrays, at ten times the price of the byte.
            if lead < 0x80:
                width, separates = 1, separators[lead]
            elif lead < 0xE0:
                width, separates = 2, separators[(lead & 0x1F) << 6 | int(data[place + 1]) & 0x3F]
            elif lead < 0xF0:
                tail = (int(data[place + 1]) & 0x3F) << 6 | int(data[place + 2]) & 0x3F
                width, separates = 3, separators[(lead & 0x0F) << 12 | tail]
            else:
                width, separates = 4, False
            if separates:
                first, last = trimmed(data, start, place)
                if first < last:
                    starts[count], ends[count] = first, last
                    hashes[count] = folded_hash(data, first, last, fold)
                    count += 1
                start = place + width
            place += width
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
