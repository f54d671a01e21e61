"""What does every candidate score in every leg?

Exact joint rescoring: whichever leg found a passage, it gets the true score of all legs that were asked. Nothing is
zero-filled, so a fused score does not depend on which leg found what, on the limit, or on how segments are cut.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from engine.fusion import bm25_scale, sparse_scale
from engine.segment import BM25, Segment
from engine.snapshot import Snapshot
from engine.values import Leg, TermContribution
from index.hits import Hits
from index.sparse_rows import SparseQuery

_NO_ROWS, _NO_SCORES = np.empty(0, np.int64), np.empty(0, np.float32)
Allowed = Sequence[np.ndarray | None]  # of each segment bool[n_rows], the rows that may be found; None: all


@dataclass(frozen=True, slots=True)
class EncodedQuery:
    """A query as the legs read it; None where it has nothing for that leg.

    dense: float32[dim], unit length. sparse: learned weights, with their terms as text in ``sparse_terms``; the index
    multiplies them by its inverse document frequencies when ``sparse_idf``. terms: the analysed BM25 terms as text, in
    hash order, with their 64-bit ``hashes`` (uint64[m] ascending) and ``counts`` (float32[m]) in the query. multi:
    float32[n, multi_dim], a vector a token, whose lengths sum to 1.
    """

    dense: np.ndarray | None
    sparse: SparseQuery | None
    sparse_terms: tuple[str, ...]
    terms: tuple[str, ...]
    hashes: np.ndarray
    counts: np.ndarray
    multi: np.ndarray | None = None
    sparse_idf: bool = False

    @property
    def legs(self) -> tuple[Leg, ...]:
        """The legs that this query can be searched by."""
        present: list[Leg] = []
        if self.dense is not None:
            present.append("dense")
        if self.sparse is not None:
            present.append("sparse")
        if len(self.hashes):
            present.append("bm25")
        if self.multi is not None:
            present.append("multi")
        return tuple(present)


@dataclass(frozen=True, slots=True)
class DenseQuery:
    """A query in the dense leg: float32[dim], unit length. A cosine is fused as it is: its ``scale`` is 1.

    Each segment is searched with its cheapest setting that reaches ``recall_target`` for the ``want`` best passages.
    """

    vector: np.ndarray
    recall_target: float
    want: int
    scale: float = 1.0

    def search(self, segments: Sequence[Segment], allowed: Allowed, depth: int, *, exact: bool) -> list[Hits]:
        """The best ``depth`` allowed rows of each segment, with exact scores; ``exact``: scan every vector."""
        return [self._search(segment, allow, depth, exact) for segment, allow in zip(segments, allowed, strict=True)]

    def _search(self, segment: Segment, allow: np.ndarray | None, depth: int, exact: bool) -> Hits:
        assert segment.dense is not None
        setting = segment.dense.promise(self.recall_target, self.want).setting
        return segment.dense.search(self.vector, depth, allow=allow, exact=exact or setting is None, setting=setting)

    def score(self, segment: Segment, rows: np.ndarray) -> np.ndarray:
        """float32[m]: the exact score of each row (int64[m])."""
        assert segment.dense is not None
        return segment.dense.score(self.vector, rows)


@dataclass(frozen=True, slots=True)
class LexicalQuery:
    """A query in the BM25 or the learned sparse leg, weighed against one snapshot.

    query: weights by term; for BM25 idf times query count, from live counts, and so for a model that asks for it. terms:
    the same terms as text. avg_len: the snapshot's mean passage length, for BM25. scale: the score that counts as 1 in
    a convex fusion, see `engine.fusion`.
    """

    leg: Leg
    query: SparseQuery
    terms: tuple[str, ...]
    avg_len: float | None
    scale: float

    def search(self, segments: Sequence[Segment], allowed: Allowed, depth: int, *, exact: bool) -> list[Hits]:
        """The allowed rows of each segment that match a term and may be among the best ``depth`` of all; always exact.

        What scores less than ``depth`` rows of the segments before is left out; what scores the same is not, since equal
        scores are cut by version. The largest segment is searched first, since its scores leave out most.
        """
        hits = [Hits.none()] * len(segments)
        best, least = _NO_SCORES, 0.0
        for position in sorted(range(len(segments)), key=lambda position: -segments[position].n_rows):
            index, allow = segments[position].lexical(self.leg), allowed[position]
            hits[position] = index.search(self.query, depth, allow=allow, avg_len=self.avg_len, least=least)
            best = np.concatenate([best, hits[position].scores])
            if len(best) >= depth:
                best = np.partition(best, len(best) - depth)[len(best) - depth :]
                least = float(best[0])
        return hits

    def score(self, segment: Segment, rows: np.ndarray) -> np.ndarray:
        """float32[m]: the exact score of each row (int64[m])."""
        return segment.lexical(self.leg).score(self.query, rows, avg_len=self.avg_len)

    def contributions(self, segment: Segment, row: int) -> list[TermContribution]:
        """The terms that the query and one row share."""
        parts = segment.lexical(self.leg).contributions(self.query, row, avg_len=self.avg_len).tolist()
        return [
            TermContribution(term, self.leg, part) for term, part in zip(self.terms, parts, strict=True) if part > 0
        ]


@dataclass(frozen=True, slots=True)
class MultiQuery:
    """A query in the multi-vector leg, which ranks what other legs find: float32[n, multi_dim], lengths summing to 1.

    A score is the mean over the query's tokens, weighted by their lengths, of their greatest cosine with a token of the
    passage: at most 1, and fused as it is.
    """

    vectors: np.ndarray
    scale: float = 1.0

    def score(self, segment: Segment, rows: np.ndarray) -> np.ndarray:
        """float32[m]: the exact score, on the stored vectors, of each row (int64[m])."""
        assert segment.multi is not None
        return segment.multi.score(self.vectors, rows)


FindingQuery = DenseQuery | LexicalQuery
LegQueries = dict[Leg, FindingQuery | MultiQuery]


def weigh(
    query: EncodedQuery, snapshot: Snapshot, legs: tuple[Leg, ...], *, recall_target: float, want: int
) -> LegQueries:
    """The query in each of ``legs`` (all of them legs of the query), weighed against one snapshot.

    ``recall_target`` and ``want`` are those of the dense leg, see `DenseQuery`.
    """
    weighed: LegQueries = {}
    for leg in legs:
        if leg == "dense":
            assert query.dense is not None
            weighed[leg] = DenseQuery(query.dense, recall_target, want)
        elif leg == "multi":
            assert query.multi is not None
            weighed[leg] = MultiQuery(query.multi)
        else:
            weighed[leg] = weigh_lexical(query, snapshot, leg)
    return weighed


def weigh_lexical(query: EncodedQuery, snapshot: Snapshot, leg: Leg) -> LexicalQuery:
    """The query in the BM25 or the learned sparse leg, one of its legs, weighed against one snapshot."""
    if leg == "bm25":
        lexical, terms = _weighed_by_idf(snapshot, leg, SparseQuery(query.hashes, query.counts), query.terms)
        scale = bm25_scale(lexical.weights, snapshot.n_passages)
        return LexicalQuery(leg, lexical, terms, snapshot.avg_len, scale)
    assert query.sparse is not None
    lexical, terms = query.sparse, query.sparse_terms
    if query.sparse_idf:
        lexical, terms = _weighed_by_idf(snapshot, leg, lexical, terms)
    return LexicalQuery(leg, lexical, terms, None, sparse_scale(lexical.weights, snapshot.mean_sparse_norm))


def _weighed_by_idf(
    snapshot: Snapshot, leg: Leg, query: SparseQuery, terms: tuple[str, ...]
) -> tuple[SparseQuery, tuple[str, ...]]:
    """The terms that some live passage holds, times their idf; a term that none holds says nothing about any."""
    df = snapshot.doc_freq(leg, query.terms)
    held = df > 0
    weights = (BM25.idf(snapshot.n_passages, df) * query.weights)[held]
    return SparseQuery(query.terms[held], weights), tuple(
        term for term, known in zip(terms, held.tolist(), strict=True) if known
    )


@dataclass(frozen=True, slots=True)
class Candidates:
    """Passages with their exact scores, sorted by (segment, row), without duplicates.

    segments: int32[m], positions in the snapshot. rows: int64[m] of the segment. docs: int64[m], positions in the segment.
    scores: float32[m, n_legs] in the order of ``legs``.
    """

    legs: tuple[Leg, ...]
    segments: np.ndarray
    rows: np.ndarray
    docs: np.ndarray
    scores: np.ndarray

    def found(self, segment: int) -> Found:
        """Those of one segment, by position, with all their scores."""
        first, end = np.searchsorted(self.segments, (segment, segment + 1)).tolist()
        rows, scores = self.rows[first:end], self.scores[first:end]
        return Found(rows, {leg: Hits(rows, scores[:, column]) for column, leg in enumerate(self.legs)})

    def take(self, kept: np.ndarray) -> Candidates:
        """Those at the places ``kept`` (int64[k] ascending)."""
        return Candidates(self.legs, self.segments[kept], self.rows[kept], self.docs[kept], self.scores[kept])


@dataclass(frozen=True, slots=True)
class Found:
    """Candidates of one segment: int64 ``rows`` in any order, possibly repeated.

    ``known``: leg → rows of the segment, among ``rows``, whose exact score in that leg is known already: a leg's own
    search gives the same bits as a rescoring.
    """

    rows: np.ndarray
    known: Mapping[Leg, Hits]

    @staticmethod
    def by(hits: Mapping[Leg, Hits]) -> Found:
        """What the legs found."""
        return Found(np.concatenate([_NO_ROWS, *(found.rows for found in hits.values())]), hits)

    def adding(self, rows: np.ndarray) -> Found:
        """These candidates and more (int64[m])."""
        return Found(np.concatenate([self.rows, rows]), self.known)


def rescore(snapshot: Snapshot, queries: LegQueries, found: Sequence[Found]) -> Candidates:
    """The exact scores of candidate passages in all legs.

    Args:
        snapshot: where they are.
        queries: weighed against this snapshot, at least one.
        found: the candidates of each segment.
    """
    legs = tuple(queries)
    # An empty part keeps the concatenation below defined when nothing was found.
    segments = [np.empty(0, np.int32)]
    rows, docs = [_NO_ROWS], [_NO_ROWS]
    scores = [np.empty((0, len(legs)), np.float32)]
    for position, here in enumerate(found):
        if not len(here.rows):
            continue
        segment = snapshot.segments[position].segment
        ascending = np.sort(here.rows)
        unique = ascending[changes(ascending)]  # of some hundreds; np.unique hashes them first, in four times as long
        segments.append(np.full(len(unique), position, np.int32))
        rows.append(unique)
        docs.append(segment.row_docs[unique].astype(np.int64))
        scores.append(_scores(segment, queries, unique, here.known))
    return Candidates(
        legs, np.concatenate(segments), np.concatenate(rows), np.concatenate(docs), np.concatenate(scores)
    )


def changes(values: np.ndarray) -> np.ndarray:
    """bool[m]: which values differ from the one before; the first does."""
    changed = np.ones(len(values), bool)
    np.not_equal(values[1:], values[:-1], out=changed[1:])
    return changed


def _scores(segment: Segment, queries: LegQueries, rows: np.ndarray, known: Mapping[Leg, Hits]) -> np.ndarray:
    """float32[m, n_legs] of ``rows`` (ascending), those of ``known`` copied."""
    scores = np.empty((len(rows), len(queries)), np.float32)
    for column, (leg, query) in enumerate(queries.items()):
        hits = known.get(leg)
        if hits is None:
            scores[:, column] = query.score(segment, rows)
            continue
        places = np.searchsorted(rows, hits.rows)
        fresh = np.ones(len(rows), bool)
        fresh[places] = False
        scores[places, column] = hits.scores
        if len(hits) < len(rows):
            scores[fresh, column] = query.score(segment, rows[fresh])
    return scores
