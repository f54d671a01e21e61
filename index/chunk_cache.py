"""Which terms does a chunk of text have, when it was seen before?

Analysing a word in Python takes microseconds, and most words of a text were seen before. The cache maps the 64-bit hash of a
chunk's bytes to its terms in flat arrays, so that a batch of texts is cut, looked up and gathered by compiled kernels which
release the interpreter; only chunks never seen before are analysed in Python.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import numpy as np

from index.arrays import Mask, Rows, Terms
from index.chunk_kernels import add_chunks, cut_chunks, find_chunks, gather_terms

SLOTS = 1 << 21  # about 40 MiB with the terms
MAX_CHUNKS = SLOTS // 2  # then the cache starts anew


class ChunkCache:
    """Chunk → term hashes; fills itself. Thread-safe.

    Args:
        analyse: the term hashes of a chunk that was not seen before.
        separators: bool[65536], the characters by code point that part chunks: no term holds them.
        fold: whether a word has the same terms in capitals, as in every language but Turkish.
    """

    def __init__(self, analyse: Callable[[str], Sequence[int]], separators: Mask, *, fold: bool) -> None:
        self._analyse = analyse
        self._separators = separators
        self._fold = fold
        self._lock = threading.Lock()
        self._reset()

    def _reset(self) -> None:
        self._keys: Terms = np.zeros(0, np.uint64)
        self._ordinals: Rows = np.full(1, -1, np.int64)
        self._starts: Rows = np.zeros(1, np.int64)
        self._terms: Terms = np.zeros(0, np.uint64)
        self._keys = np.zeros(1, np.uint64)

    def terms(self, texts: Sequence[str]) -> tuple[Rows, Terms]:
        """Indptr int64[n + 1] and term hashes uint64 of each text, in text order, repeats included."""
        encoded = [f"{text}\n".encode("utf-8", "surrogatepass") for text in texts]
        joined = b"".join(encoded)
        data = np.frombuffer(joined, np.uint8)
        offsets = np.zeros(len(encoded) + 1, np.int64)
        np.cumsum([len(one) for one in encoded], out=offsets[1:])
        starts, ends, hashes, indptr = cut_chunks(data, offsets, self._separators, self._fold)
        with self._lock:
            found = find_chunks(self._keys, self._ordinals, hashes)
            if len(found) and found.min() < 0:
                self._learn(joined, starts, ends, hashes, np.flatnonzero(found < 0))
                found = find_chunks(self._keys, self._ordinals, hashes)
            return gather_terms(found, indptr, self._starts, self._terms)

    def _learn(self, data: bytes, starts: Rows, ends: Rows, hashes: Terms, missing: Rows) -> None:
        """Analyse the chunks at ``missing`` and add them."""
        if len(self._starts) - 1 + len(missing) > MAX_CHUNKS:
            # Everything that this call needs is learnt again, in one go.
            self._reset()
            missing = np.arange(len(hashes))
        new, first = np.unique(hashes[missing], return_index=True)
        places = missing[first]
        analysed = [
            self._analyse(data[start:end].decode("utf-8", "surrogatepass"))
            for start, end in zip(starts[places].tolist(), ends[places].tolist(), strict=True)
        ]
        known = len(self._starts) - 1
        self._make_room(known + len(new))
        add_chunks(self._keys, self._ordinals, new, known)
        lengths = np.cumsum([len(terms) for terms in analysed])
        flat = np.array([term for terms in analysed for term in terms], np.uint64)
        self._starts = np.concatenate([self._starts, self._starts[-1] + lengths])
        self._terms = np.concatenate([self._terms, flat])

    def _make_room(self, chunks: int) -> None:
        """Grow the table so that it stays at most half full."""
        slots = len(self._keys)
        if 2 * chunks <= slots:
            return
        while 2 * chunks > slots:
            slots *= 2
        held = self._ordinals >= 0
        order = np.argsort(self._ordinals[held])
        old = self._keys[held][order]
        self._keys, self._ordinals = np.zeros(slots, np.uint64), np.full(slots, -1, np.int64)
        add_chunks(self._keys, self._ordinals, old, 0)
