"""How is a query answered on one snapshot?

    search each leg in each segment → union of candidates → exact scores in all legs → fuse → group by document →
    complete the documents' passages → rank → rerank, if asked → fetch text and metadata → explain

Every step is a call into a module of that name; this one only joins them and takes the time.
"""

from __future__ import annotations

import time
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np

from engine.filters import Filter
from engine.fusion import fuse, ranks
from engine.grouping import BLEND, Groups, best_rows, group
from engine.planner import Plan
from engine.reranking import Rerank
from engine.rescoring import Candidates, EncodedQuery, LexicalQuery, MultiQuery, rescore, weigh
from engine.snapshot import LiveSegment, Snapshot
from engine.storage.kv import Store, Transaction
from engine.storage.store import read_document, read_text
from engine.values import Hit, PassageHit, Query, ScoreDetail, TermContribution

# Documents whose remaining passages are scored too, for each document wanted: enough that none of the rest can rise.
COMPLETED_PER_DOCUMENT = 2
MAX_COMPLETED_ROWS = 20_000


class Stopwatch:
    """Milliseconds by stage."""

    def __init__(self) -> None:
        self.ms: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the block's time to ``name``."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.ms[name] = self.ms.get(name, 0.0) + (time.perf_counter() - start) * 1e3


@dataclass(frozen=True, slots=True)
class _Ranking:
    """Scored candidates and the documents they make; ``ranks`` int64[m, n_legs]."""

    candidates: Candidates
    fused: np.ndarray
    ranks: np.ndarray
    groups: Groups


@dataclass(frozen=True, slots=True)
class _Ranked:
    """One document in its place: its group, its version and its record's id; ``fused`` is its score before reranking."""

    group: int
    doc_no: int
    doc_id: str
    score: float
    fused: float | None = None


class Search:
    """One query on one snapshot.

    Attributes:
        reranked: what the reranker did, for the plan; empty before it ran.
    """

    def __init__(self, snapshot: Snapshot, query: Query, encoded: EncodedQuery, plan: Plan, watch: Stopwatch) -> None:
        self.snapshot = snapshot
        self.query = query
        self.plan = plan
        self.watch = watch
        legs = tuple(dict.fromkeys((*plan.sources, *plan.legs)))
        self.queries = weigh(encoded, snapshot, legs, recall_target=plan.recall_target, want=plan.want)
        self.legs = {leg: self.queries[leg] for leg in plan.legs}
        self.allowed: list[np.ndarray | None] = []
        self.reranked: dict[str, object] = {}

    def run(self, store: Store, rerank: Rerank) -> list[Hit]:
        """The hits, best first; ties by ``doc_id``."""
        with self.watch.stage("filter"):
            self.allowed = self._allowed_rows()
        ranking = self._ranking()
        with self.watch.stage("fetch"), store.read() as transaction:
            ranked = self._order(ranking.groups, transaction)
        if self.query.rerank is not None:
            ranked = self._rerank(ranking, ranked, store, rerank)
        page = ranked[self.query.offset : self.query.offset + self.query.limit]
        with self.watch.stage("fetch"), store.read() as transaction:
            return [self._hit(ranking, place, transaction) for place in page]

    def _allowed_rows(self) -> list[np.ndarray | None]:
        """For each segment bool[n_rows] of rows that may be found, None for all."""
        if self.query.filter is None:
            return [live.live_rows for live in self.snapshot.segments]
        condition = Filter.parse(self.query.filter, self.query.params)
        return [self._matching_rows(condition, live) for live in self.snapshot.segments]

    @staticmethod
    def _matching_rows(condition: Filter, live: LiveSegment) -> np.ndarray:
        rows = condition.evaluate(live.segment.columns)[live.segment.row_docs]
        return rows if live.live_rows is None else rows & live.live_rows

    def _ranking(self) -> _Ranking:
        """The ranking at the first depth that yields enough documents, or at the depth that exhausts every leg."""
        plan = self.plan
        while True:
            with self.watch.stage("search"):
                found, exhausted = self._candidates(plan)
            ranking = self._rank(found)
            if exhausted or len(ranking.groups.scores) >= plan.want:
                return self._completed(ranking)
            plan = plan.deeper()

    def _candidates(self, plan: Plan) -> tuple[list[np.ndarray], bool]:
        """Rows of each segment that are among the best ``depth`` of some leg, and whether no leg has more to give."""
        found: list[list[np.ndarray]] = [[] for _ in self.snapshot.segments]
        exhausted = True
        for leg in plan.sources:
            query, depth = self.queries[leg], plan.depth[leg]
            assert not isinstance(query, MultiQuery), "token vectors find nothing by themselves"
            hits = [
                query.search(live.segment, depth, allow, exact=plan.exact)
                for live, allow in zip(self.snapshot.segments, self.allowed, strict=True)
            ]
            total = sum(len(h.rows) for h in hits)
            cut = -np.inf
            if total > depth:
                scores = np.concatenate([h.scores for h in hits])
                cut = np.partition(scores, total - depth)[total - depth]
            exhausted = exhausted and total < depth
            for rows, h in zip(found, hits, strict=True):
                rows.append(h.rows[h.scores >= cut])
        return [np.concatenate(rows) if rows else np.empty(0, np.int64) for rows in found], exhausted

    def _rank(self, found: list[np.ndarray], known: Candidates | None = None) -> _Ranking:
        legs = self.plan.legs
        with self.watch.stage("rescore"):
            candidates = rescore(self.snapshot, self.legs, found, known)
        with self.watch.stage("fuse"):
            scales = {leg: query.scale for leg, query in self.legs.items()}
            fused = fuse(candidates.scores, legs, self.plan.fusion, self.plan.weights, scales)
            kept = best_rows(candidates, self._starts(candidates), fused)
            if kept is not None:
                candidates, fused = candidates.take(kept), fused[kept]
            groups = group(candidates, fused, blend=self._blend)
            return _Ranking(candidates, fused, ranks(candidates.scores, legs), groups)

    def _starts(self, candidates: Candidates) -> np.ndarray:
        """int[m]: where each candidate's passage begins in its document."""
        starts = np.empty(len(candidates.rows), np.int64)
        for position in np.unique(candidates.segments).tolist():
            here = candidates.segments == position
            starts[here] = self.snapshot.segments[position].segment.starts[candidates.rows[here]]
        return starts

    @property
    def _blend(self) -> float:
        # Ranks and candidate statistics are relative to the candidate set: means over them say nothing.
        return BLEND if self.plan.fusion == "convex" or len(self.plan.legs) == 1 else 0.0

    def _completed(self, ranking: _Ranking) -> _Ranking:
        """The ranking with every passage of the leading documents scored, when their score needs it."""
        if not self._blend:
            return ranking
        groups = ranking.groups
        leading = np.argsort(-groups.scores, kind="stable")[: COMPLETED_PER_DOCUMENT * self.plan.want]
        found: list[list[np.ndarray]] = [[] for _ in self.snapshot.segments]
        budget = MAX_COMPLETED_ROWS
        grows = False
        for place in leading.tolist():
            position = int(groups.segments[place])
            indptr = self.snapshot.segments[position].segment.doc_indptr
            start, stop = indptr[groups.docs[place] : groups.docs[place] + 2].tolist()
            known = int(groups.first[place + 1] - groups.first[place])
            if stop - start > known and budget > 0:
                budget -= stop - start
                grows = True
                found[position].append(np.arange(start, stop))
        if not grows:
            return ranking
        for position, rows in enumerate(found):
            rows.append(ranking.candidates.rows[ranking.candidates.segments == position])
        return self._rank([np.concatenate(rows) for rows in found], ranking.candidates)

    def _order(self, groups: Groups, transaction: Transaction) -> list[_Ranked]:
        """The best ``plan.want`` documents, by score descending, then ``doc_id``."""
        scores = groups.scores
        threshold = self.query.score_threshold
        order = np.argsort(-scores, kind="stable")
        if threshold is not None:
            order = order[scores[order] >= threshold]
        if len(order) > self.plan.want:
            # Everything that ties with the last wanted document competes for its place by doc_id.
            order = order[scores[order] >= scores[order[self.plan.want - 1]]]
        ranked = []
        for place in order.tolist():
            segment = self.snapshot.segments[int(groups.segments[place])].segment
            doc_no = int(segment.doc_nos[groups.docs[place]])
            ranked.append(_Ranked(place, doc_no, read_document(transaction, doc_no).doc_id, float(scores[place])))
        ranked.sort(key=lambda entry: (-entry.score, entry.doc_id))
        return ranked[: self.plan.want]

    def _rerank(self, ranking: _Ranking, ranked: list[_Ranked], store: Store, rerank: Rerank) -> list[_Ranked]:
        """The first documents by the reranker's score of their best passage, then the others as they were."""
        first = ranked[: self.query.rerank]
        with self.watch.stage("rerank"):
            with store.read() as transaction:  # closed again before the model runs: it pins pages
                texts = [self._best_text(ranking, place, transaction) for place in first]
            scores, self.reranked = rerank(self.query.text or "", texts)
        scored = [
            replace(place, score=score, fused=place.score) for place, score in zip(first, scores.tolist(), strict=True)
        ]
        return sorted(scored, key=lambda entry: (-entry.score, entry.doc_id)) + ranked[len(first) :]

    def _best_text(self, ranking: _Ranking, place: _Ranked, transaction: Transaction) -> str:
        """The title and the best passage of a document."""
        best = int(ranking.groups.members(place.group)[0])
        passage = self._passage(ranking, best, read_text(transaction, place.doc_no)).text
        return f"{read_document(transaction, place.doc_no).title} {passage}".strip()

    def _hit(self, ranking: _Ranking, place: _Ranked, transaction: Transaction) -> Hit:
        record = read_document(transaction, place.doc_no)
        members = ranking.groups.members(place.group)
        passages: tuple[PassageHit, ...] = ()
        names_terms = self.query.explain and "sparse" in self.legs
        text = read_text(transaction, place.doc_no) if self.query.passages or names_terms else ""
        if self.query.passages:
            passages = tuple(self._passage(ranking, member, text) for member in members[: self.query.passages].tolist())
        return Hit(
            doc_id=record.doc_id,
            score=place.score,
            title=record.title,
            metadata=record.metadata,
            passages=passages,
            score_detail=self._detail(ranking, place, record.title, text),
        )

    def _passage(self, ranking: _Ranking, member: int, text: str) -> PassageHit:
        segment = self.snapshot.segments[int(ranking.candidates.segments[member])].segment
        row = int(ranking.candidates.rows[member])
        start, end = int(segment.starts[row]), int(segment.ends[row])
        return PassageHit(text[start:end], start, end, float(ranking.fused[member]))

    def _detail(self, ranking: _Ranking, place: _Ranked, title: str, text: str) -> ScoreDetail:
        legs = self.plan.legs
        member = int(ranking.groups.members(place.group)[0])
        scores = dict(zip(legs, ranking.candidates.scores[member].tolist(), strict=True))
        return ScoreDetail(
            dense=scores.get("dense"),
            sparse=scores.get("sparse"),
            bm25=scores.get("bm25"),
            multi=scores.get("multi"),
            ranks={leg: rank for leg, rank in zip(legs, ranking.ranks[member].tolist(), strict=True) if rank},
            weights=self.plan.weights,
            terms=self._terms(ranking, member, title, text) if self.query.explain else (),
            rerank=None if place.fused is None else place.score,
            fused=place.fused,
        )

    def _terms(self, ranking: _Ranking, member: int, title: str, text: str) -> tuple[TermContribution, ...]:
        """The terms that the query and the passage share, greatest contribution first; those the model added are marked."""
        segment = self.snapshot.segments[int(ranking.candidates.segments[member])].segment
        row = int(ranking.candidates.rows[member])
        lexical = [query for query in self.legs.values() if isinstance(query, LexicalQuery)]
        terms = [term for query in lexical for term in query.contributions(segment, row)]
        if "sparse" in self.legs and self.query.sparse is None:  # a caller's own terms are numbers
            passage = _plain(f"{title} {text[int(segment.starts[row]) : int(segment.ends[row])]}")
            asked = _plain(self.query.text or "")
            terms = [_marked(term, asked, passage) if term.leg == "sparse" else term for term in terms]
        return tuple(sorted(terms, key=lambda term: (-term.contribution, term.term)))


def _marked(term: TermContribution, asked: str, passage: str) -> TermContribution:
    """The term, marked as an expansion when the query or the passage does not have it."""
    piece = _plain(term.term.removeprefix("##"))  # a WordPiece inside a word
    return replace(term, expansion=piece not in asked or piece not in passage)


def _plain(text: str) -> str:
    """Without case and accents, as the vocabularies of most models are."""
    return "".join(mark for mark in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(mark))
