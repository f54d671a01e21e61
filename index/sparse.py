"""How is one sparse leg of one immutable segment stored and searched?

The same inverted index serves BM25 (terms are hashes, values are counts) and learned sparse vectors (terms are vocabulary
ids, values are weights). It has two halves: postings, with impacts rounded up to a few levels, find candidates; a
forward index scores them exactly. A search is exact (see ``index/sparse_kernels.py``) unless asked not to be.

The folder that ``save`` writes, format version 2 (``n`` rows, ``V`` terms, ``nnz`` stored values):

    sparse.json          version, window, BM25 constants (null for learned vectors) and the mean length or norm
    vocabulary.npy       uint64[V], ascending; a term's place is its ordinal
    doc_freq.npy         int64[V], rows that hold the term
    term_max.npy         float32[V], the term's greatest impact
    forward_*.npy        indptr int64[n + 1], ordinals uint32[nnz], values float32[nnz], lengths float32[n]
    postings_*.npy       term_ptr int64[V + 1], words uint16[]; see ``index.postings.Postings``

Version 1 had postings by window, with 8-bit impacts; the store rebuilds such a segment.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from index import sparse_kernels, sparse_scores
from index.arrays import (
    Bits,
    Doubles,
    Floats,
    Mask,
    Ordinals,
    Rows,
    Terms,
    freeze,
    load_array,
    load_facts,
    save_array,
    save_facts,
)
from index.bm25 import Bm25
from index.errors import CorruptIndexFile, InvalidIndexInput
from index.hits import Hits
from index.kernels import BLOCK
from index.postings import Forward, Postings, Weighting, build_forward, build_postings
from index.sparse_rows import SparseQuery, SparseRows
from index.sparse_scores import Query

FORMAT_VERSION = 2
WINDOW = 65_536  # what a 16-bit local row can name; its 128 KiB of sums stay in the second-level cache
FEW_ROWS = 256  # of an index with no more rows each is scored: cheaper than to begin a walk of postings
FEW_ALLOWED = 1_000  # so few allowed rows are scored one by one: cheaper than walking postings of all rows
# An approximate search walks the terms that make up so much of the query's greatest reachable score, and scores so many of
# the rows that they favour exactly: a multiple of k, and some. Measured by benchmarks/sparse_search.py.
APPROXIMATE_COVER = 0.8
APPROXIMATE_DEPTH = (8, 40)
APPROXIMATE_TERMS = 32  # shorter queries are searched exactly: that is as fast

MOST_IN_PLACE = 65_536  # terms of a vocabulary for which a query's weights are laid out: 256 KiB

_NO_WEIGHTS = np.empty(0, np.float32)
_NO_MASK = freeze(np.empty(0, np.bool_))
# sums: this thread's uint16 scratch for the rows of a segment, as large as any that it searched
_ROOM = threading.local()


@dataclass(frozen=True, slots=True)
class _Statistics:
    """Per term: vocabulary uint64[V] ascending, doc_freq int64[V], term_max float32[V]."""

    vocabulary: Terms
    doc_freq: Rows
    term_max: Floats


class SparseIndex:
    """One sparse leg of one segment; immutable, safe to search from many threads.

    Attributes:
        n_rows: rows of the segment.
        lengths: float32[n_rows], the sum of each row's values (BM25: its length in terms); read-only.
        bm25: the constants when values are term counts; None when they are learned weights.
        avg_len: the mean length that the postings' impacts were made with; for learned weights the mean Euclidean norm of
            the rows, at least 1e-9, which scores do not depend on.
        window: rows a window.
    """

    def __init__(self, forward: Forward, postings: Postings, statistics: _Statistics, setting: _Setting) -> None:
        """Keep the given arrays; use ``build`` or ``load``."""
        self._forward = forward
        self._postings = postings
        self._statistics = statistics
        self.n_rows = int(forward.indptr.size) - 1
        self.lengths = forward.lengths
        self.bm25 = setting.bm25
        self.avg_len = setting.avg_len
        self.window = setting.window

    @classmethod
    def build(
        cls, rows: SparseRows, *, bm25: Bm25 | None = None, avg_len: float | None = None, window: int = WINDOW
    ) -> SparseIndex:
        """Index ``rows``. O(nnz) plus sorting the vocabulary.

        Args:
            rows: kept only as copies; values above zero.
            bm25: the constants when values are term counts; None: scores are plain dot products.
            avg_len: BM25 only: the collection's mean length now. None: the mean over ``rows``.
            window: rows a window, 1 to 65,536; smaller ones are for tests.

        Raises:
            InvalidIndexInput: a value is not finite and above zero, ``avg_len`` is not above zero, or the window is out
                of range.
        """
        if not 1 <= window <= WINDOW:
            raise InvalidIndexInput("window", f"it is {window}, but must lie between 1 and {WINDOW}.")
        if rows.n_rows > window * WINDOW:
            raise InvalidIndexInput(
                "rows", f"there are {rows.n_rows}, but windows of {window} rows hold {window * WINDOW}."
            )
        if not (np.isfinite(rows.values).all() and (rows.values > 0.0).all()):
            raise InvalidIndexInput("rows", "a value is not a finite number above zero. Drop such terms.")
        setting = _Setting.of(rows, bm25, avg_len, window)
        forward, vocabulary = build_forward(rows)
        postings, doc_freq, term_max = build_postings(forward, setting.weighting(None), vocabulary.size, window)
        return cls(forward, postings, _Statistics(vocabulary, doc_freq, term_max), setting)

    def save(self, folder: Path) -> None:
        """Write the index into an existing folder; see the module for the files."""
        facts: dict[str, Any] = {"version": FORMAT_VERSION, "window": self.window, "avg_len": self.avg_len}
        facts["bm25"] = None if self.bm25 is None else {"k1": self.bm25.k1, "b": self.bm25.b}
        for name in ("vocabulary", "doc_freq", "term_max"):
            save_array(folder, name, getattr(self._statistics, name))
        for name in Forward._fields:
            save_array(folder, f"forward_{name}", getattr(self._forward, name))
        for name in Postings._fields:
            save_array(folder, f"postings_{name}", getattr(self._postings, name))
        save_facts(folder / "sparse.json", facts)

    @classmethod
    def load(cls, folder: Path) -> SparseIndex:
        """Map what ``save`` wrote; nothing is read before a search needs it.

        Raises:
            CorruptIndexFile: a file is missing, unreadable, or of another version; rebuild the segment.
        """
        path = folder / "sparse.json"
        facts = load_facts(path, FORMAT_VERSION)
        try:
            bm25 = None if facts["bm25"] is None else Bm25(float(facts["bm25"]["k1"]), float(facts["bm25"]["b"]))
            setting = _Setting(bm25, float(facts["avg_len"]), int(facts["window"]))
        except (KeyError, TypeError, ValueError, InvalidIndexInput) as error:
            raise CorruptIndexFile(path, f"a field is missing or wrong ({error})") from error
        forward = Forward(*(load_array(folder, f"forward_{name}") for name in Forward._fields))
        postings = Postings(*(load_array(folder, f"postings_{name}") for name in Postings._fields))
        statistics = _Statistics(*(load_array(folder, name) for name in ("vocabulary", "doc_freq", "term_max")))
        return cls(forward, postings, statistics, setting)

    def rows(self) -> SparseRows:
        """The rows as they were indexed: views, except for the terms (a copy, O(nnz))."""
        terms = self._statistics.vocabulary[self._forward.ordinals]
        return SparseRows(self._forward.indptr, terms, self._forward.values)

    def norm_sum(self, rows: Rows) -> float:
        """The sum of the Euclidean norms of ``rows``, int64[m], of learned weights."""
        starts = self._forward.indptr[rows]
        lengths = self._forward.indptr[rows + 1] - starts
        bounds = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        picked = self._forward.values[np.repeat(starts - bounds[:-1], lengths) + np.arange(bounds[-1])]
        sums = np.concatenate([np.zeros(1), np.cumsum(np.square(picked, dtype=np.float64))])
        return float(np.sqrt(np.diff(sums[bounds]).clip(min=0.0)).sum())

    def doc_freq(self, terms: Terms, deleted: Mask | None = None) -> Rows:
        """How many rows hold each term.

        Args:
            terms: uint64[m], ascending.
            deleted: bool[n_rows]; rows marked True do not count.

        Returns:
            int64[m].
        """
        known, ordinals = self._ordinals(terms)
        counts = np.zeros(terms.size, np.int64)
        counts[known] = self._statistics.doc_freq[ordinals]
        if deleted is None or ordinals.size == 0:
            return counts
        gone = np.flatnonzero(deleted)
        if gone.size == 0:
            return counts
        # A look into a deleted row costs as much as some ten postings.
        if 10 * gone.size * ordinals.size < int(counts.sum()):
            slots = sparse_scores.make_slots(ordinals)
            counts[known] -= sparse_scores.deleted_counts(self._forward, ordinals, slots, gone)
        else:
            counts[known] = sparse_scores.live_counts(self._postings, ordinals, freeze(deleted), self.window)
        return counts

    def search(
        self,
        query: SparseQuery,
        k: int,
        *,
        allow: Mask | None = None,
        avg_len: float | None = None,
        least: float = 0.0,
        approximate: bool = False,
    ) -> Hits:
        """The ``k`` best rows with a score above 0 and at least ``least``.

        Args:
            query: terms the index does not know are ignored.
            k: fewer come back when fewer rows match.
            allow: bool[n_rows]; only rows marked True may come back. None: all rows.
            avg_len: BM25 only: the collection's mean length now. None: as at build.
            least: a score of 32 bits, that of the k-th hit elsewhere: the greater it is, the less is looked at.
            approximate: walk only the terms that make up most of what the query can reach. The scores of what is found
                stay exact; of the exact ten best, 0.99 are found on average.
        """
        resolved = self._resolve(query)
        k = min(k, self.n_rows)
        if k <= 0 or resolved[0].size == 0:
            return Hits.none()
        n_allowed = self.n_rows if allow is None else np.count_nonzero(allow)
        if n_allowed <= (FEW_ROWS if allow is None else FEW_ALLOWED) or resolved[0].size > sparse_kernels.MOST_TERMS:
            rows = np.arange(self.n_rows) if allow is None else np.flatnonzero(allow)
            hits = self._best(rows, resolved, k, avg_len, least)
            return hits.by("scores of all" if allow is None else "scores of matches")
        mask = _NO_MASK if allow is None else freeze(allow)
        if not approximate or resolved[0].size <= APPROXIMATE_TERMS:
            return self._walk(resolved, k, mask, avg_len, least).by("postings")
        depth = min(self.n_rows, APPROXIMATE_DEPTH[0] * k + APPROXIMATE_DEPTH[1])
        return self._best(self._roughly(resolved, depth, mask), resolved, k, avg_len, least).by("strongest postings")

    def score(self, query: SparseQuery, rows: Rows, *, avg_len: float | None = None) -> Floats:
        """The exact score of each of ``rows``; 0 where nothing matches.

        Args:
            query: terms the index does not know are ignored.
            rows: int64[m].
            avg_len: BM25 only: the collection's mean length now. None: as at build.

        Returns:
            float32[m], the same bits that ``search`` gives for these rows.
        """
        return self._score(np.array(rows, np.int64), self._resolve(query), avg_len)

    def contributions(self, query: SparseQuery, row: int, *, avg_len: float | None = None) -> Floats:
        """What each term of the query adds to the score of ``row``.

        Returns:
            float32[query.terms.size]; 0 for terms the row lacks.
        """
        known, _ = self._ordinals(query.terms)
        added = np.zeros(query.terms.size, np.float32)
        resolved = self._resolve(query)
        added[known] = sparse_scores.term_scores(self._forward, row, resolved, self._weighting(avg_len))
        return added

    def _ordinals(self, terms: Terms) -> tuple[Mask, Ordinals]:
        """Which terms the vocabulary holds, bool[m], and the ordinals of those."""
        vocabulary = self._statistics.vocabulary
        if vocabulary.size == 0:
            return np.zeros(terms.size, np.bool_), np.empty(0, np.uint32)
        places = np.minimum(np.searchsorted(vocabulary, terms), vocabulary.size - 1)
        known = vocabulary[places] == terms
        return known, places[known].astype(np.uint32)

    def _resolve(self, query: SparseQuery) -> Query:
        """The query's known terms in the kernels' form."""
        known, ordinals = self._ordinals(query.terms)
        return self._query(ordinals, query.weights[known].astype(np.float64))

    def _query(self, ordinals: Ordinals, weights: Doubles) -> Query:
        """Known terms in the kernels' form."""
        n_terms = self._statistics.vocabulary.size
        in_place = self.bm25 is None and n_terms <= MOST_IN_PLACE
        by_ordinal = sparse_scores.spread(ordinals, weights, n_terms) if in_place else _NO_WEIGHTS
        return ordinals, weights, sparse_scores.make_slots(ordinals), by_ordinal

    def _weighting(self, avg_len: float | None) -> Weighting:
        return _Setting(self.bm25, self.avg_len, self.window).weighting(avg_len)

    def _score(self, rows: Rows, query: Query, avg_len: float | None) -> Floats:
        return sparse_scores.score_rows(self._forward, rows, query, self._weighting(avg_len))

    def _best(self, rows: Rows, query: Query, k: int, avg_len: float | None, least: float) -> Hits:
        """The best of the given rows, scored one by one."""
        scores = self._score(rows, query, avg_len)
        matching = (scores > 0.0) & (scores >= least)
        return Hits.best(rows[matching], scores[matching], k)

    def _walk(self, query: Query, k: int, allow: Mask, avg_len: float | None, least: float) -> Hits:
        """The exact best rows, by the postings."""
        weighting = self._weighting(avg_len)
        # Sums of m float32 products err by less than (m + 8) half-units in the last place, relatively. A greater mean
        # length lowers a term's norm at most by the factor of the means, so it raises the term part at most by that.
        slack = max(1.0, weighting.avg_len / self.avg_len) * (1.0 + (query[0].size + 8) * 2.0**-23)
        statistics = (self._statistics.doc_freq, self._statistics.term_max)
        scores, rows = sparse_kernels.search(
            self._postings,
            self._forward,
            statistics,
            query,
            weighting,
            slack,
            allow,
            k,
            least,
            self.window,
            self._sums(),
        )
        return Hits.best(rows, scores, k)

    def _roughly(self, query: Query, depth: int, allow: Mask) -> Rows:
        """The rows that the strongest terms add most to."""
        statistics = (self._statistics.doc_freq, self._statistics.term_max)
        return sparse_kernels.search_roughly(
            self._postings, statistics, query, APPROXIMATE_COVER, depth, allow, self.window, self._sums()
        )

    def _sums(self) -> Bits:
        """This thread's scratch, uint16[n_blocks, BLOCK], a sum a row."""
        n_blocks = -(-self.n_rows // BLOCK)
        room: Bits | None = getattr(_ROOM, "sums", None)
        if room is None or len(room) < n_blocks:
            room = _ROOM.sums = np.empty((n_blocks, BLOCK), np.uint16)
        return room[:n_blocks]


@dataclass(frozen=True, slots=True)
class _Setting:
    """What an index was built with."""

    bm25: Bm25 | None
    avg_len: float
    window: int

    @classmethod
    def of(cls, rows: SparseRows, bm25: Bm25 | None, avg_len: float | None, window: int) -> _Setting:
        """Fill in the mean over ``rows`` where none is given: of lengths in terms, or of the norms of learned weights."""
        if bm25 is None:
            return cls(None, rows.mean_norm(), window)
        mean = float(rows.values.sum(dtype=np.float64)) / max(1, rows.n_rows) if avg_len is None else float(avg_len)
        if avg_len is None and mean == 0.0:
            mean = 1.0  # no text at all: any length will do
        setting = cls(bm25, mean, window)
        setting.weighting(None)
        return setting

    def weighting(self, avg_len: float | None) -> Weighting:
        """The kernels' form of it, with the mean length of today when one is given.

        Raises:
            InvalidIndexInput: the mean length is not a number above zero.
        """
        if self.bm25 is None:
            return Weighting(False, 0.0, 0.0, 1.0)
        mean = self.avg_len if avg_len is None else float(avg_len)
        if not 0.0 < mean < float("inf"):
            raise InvalidIndexInput("avg_len", f"it is {mean}, but must be a number above zero.")
        return Weighting(True, float(self.bm25.k1), float(self.bm25.b), mean)
