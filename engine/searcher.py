"""How is a query answered on one snapshot?

    search each leg in each segment → union of candidates → exact scores in all legs → fuse → group by document →
    complete the documents' passages → rank → rerank, if asked → fetch text and metadata → explain

Every step is a call into a module of that name; this one only joins them and takes the time.
"""

from __future__ import annotations

import itertools
import time
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import TracebackType

import numpy as np

from engine.filters import Filter
from engine.fusion import fuse, ranks
from engine.grouping import BLEND, Groups, best_rows, group
from engine.planner import Plan, dense_recall
from engine.reranking import Rerank
from engine.rescoring import Candidates, EncodedQuery, Found, LexicalQuery, MultiQuery, rescore, weigh
from engine.selection import Selection, select
from engine.snapshot import Snapshot
from engine.storage.kv import Readable, Transaction
from engine.storage.records import DocumentRecord
from engine.storage.store import read_documents, read_text, read_texts
from engine.values import Hit, Leg, PassageHit, Query, ScoreDetail, TermContribution
from index.hits import Hits

# Documents whose remaining passages are scored too, for each document wanted: enough that none of the rest can rise.
COMPLETED_PER_DOCUMENT = 2
MAX_COMPLETED_ROWS = 20_000
_NO_DETAIL = ScoreDetail()


class Stopwatch:
    """Milliseconds by stage."""

    def __init__(self) -> None:
        self.ms: dict[str, float] = {}

    def stage(self, name: str) -> _Stage:
        """A block whose time is added to ``name``."""
        return _Stage(self.ms, name)


class _Stage:
    """One block; a class, because a generator's context costs as much as some of the stages."""

    __slots__ = ("_ms", "_name", "_start")

    def __init__(self, ms: dict[str, float], name: str) -> None:
        self._ms = ms
        self._name = name

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ms[self._name] = self._ms.get(self._name, 0.0) + (time.perf_counter() - self._start) * 1e3


@dataclass(frozen=True, slots=True)
class _Ranking:
    """Scored candidates and the documents they make."""

    candidates: Candidates
    fused: np.ndarray
    groups: Groups


@dataclass(frozen=True, slots=True)
class _Ranked:
    """One document in its place: its group, its version and its record; ``fused`` is its score before reranking."""

    group: int
    doc_no: int
    record: DocumentRecord
    score: float
    fused: float | None = None


def _best_first(places: Sequence[_Ranked]) -> list[_Ranked]:
    """By score descending, then ``doc_id``."""
    return sorted(places, key=lambda place: (-place.score, place.record.doc_id))


class Search:
    """One query on one snapshot.

    Attributes:
        selection: what the query's filter lets it find.
        ways: leg → how its segments were searched → how many of them.
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
        self.selection = Selection((), 0)
        self.ways: dict[str, Counter[str]] = {}
        self.reranked: dict[str, object] = {}

    def run(self, store: Readable, rerank: Rerank) -> list[Hit]:
        """The hits, best first; ties by ``doc_id``."""
        with self.watch.stage("filter"):
            condition = None if self.query.filter is None else Filter.parse(self.query.filter, self.query.params)
            self.selection = select(self.snapshot, condition)
        ranking = self._ranking()
        if self.query.rerank is None:
            with self.watch.stage("fetch"), store.read() as transaction:
                return self._hits(ranking, self._order(ranking.groups, transaction), transaction)
        with self.watch.stage("fetch"), store.read() as transaction:
            ranked = self._order(ranking.groups, transaction)
        ranked = self._rerank(ranking, ranked, store, rerank)
        with self.watch.stage("fetch"), store.read() as transaction:
            return self._hits(ranking, ranked, transaction)

    def describe(self) -> dict[str, object]:
        """What was done, as plain data for the response."""
        return {
            **self.plan.describe(),
            **({"dense": dense_recall(self.plan, self.snapshot)} if "dense" in self.plan.sources else {}),
            "matching": self.selection.n_matching,
            "search": {leg: dict(ways) for leg, ways in self.ways.items()},
            **self.reranked,
            "sequence": self.snapshot.sequence,
            "segments": len(self.snapshot.segments),
        }

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

    def _candidates(self, plan: Plan) -> tuple[list[Found], bool]:
        """What of each segment is among the best ``depth`` of some leg, and whether no leg has more to give."""
        segments = [live.segment for live in self.snapshot.segments]
        found: list[dict[Leg, Hits]] = [{} for _ in segments]
        exhausted = True
        for leg in plan.sources:
            query, depth = self.queries[leg], plan.depth[leg]
            assert not isinstance(query, MultiQuery), "token vectors find nothing by themselves"
            hits = query.search(segments, self.selection.allowed, depth, exact=plan.exact)
            self.ways[leg] = Counter(h.how for h in hits if h.how)
            total = sum(map(len, hits))
            exhausted = exhausted and total < depth
            for by_leg, h in zip(found, self._best_overall(hits, depth) if total > depth else hits, strict=True):
                by_leg[leg] = h
        return [Found.by(by_leg) for by_leg in found], exhausted

    def _best_overall(self, hits: Sequence[Hits], depth: int) -> list[Hits]:
        """The ``depth`` best of what was found in all segments, more than that; ties by version, however segments are cut."""
        scores = np.concatenate([h.scores for h in hits])
        cut = np.partition(scores, len(scores) - depth)[len(scores) - depth]
        of_segment = np.repeat(np.arange(len(hits)), [len(h) for h in hits])
        kept = scores >= cut
        excess = int(np.count_nonzero(kept)) - depth
        if excess:
            # Rows are in the order of versions, and those of one version lie in one segment.
            tied = np.flatnonzero(scores == cut)
            rows = np.concatenate([h.rows for h in hits])
            versions = np.empty(len(tied), np.uint64)
            for position, live in enumerate(self.snapshot.segments):
                here = of_segment[tied] == position
                versions[here] = live.segment.doc_nos[live.segment.row_docs[rows[tied[here]]]]
            kept[tied[np.argsort(versions, kind="stable")[len(tied) - excess :]]] = False
        counts = np.bincount(of_segment[kept], minlength=len(hits)).tolist()
        return [h.head(n) for h, n in zip(hits, counts, strict=True)]

    def _rank(self, found: Sequence[Found]) -> _Ranking:
        legs = self.plan.legs
        with self.watch.stage("rescore"):
            candidates = rescore(self.snapshot, self.legs, found)
        with self.watch.stage("fuse"):
            scales = {leg: query.scale for leg, query in self.legs.items()}
            fused = fuse(candidates.scores, legs, self.plan.fusion, self.plan.weights, scales)
            kept = best_rows(candidates, self._starts, fused)
            if kept is not None:
                candidates, fused = candidates.take(kept), fused[kept]
            return _Ranking(candidates, fused, group(candidates, fused, blend=self._blend))

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
        known = np.diff(groups.first)[leading]
        begin, end = self._spans(groups, leading)
        missing = np.flatnonzero(end - begin > known)
        # Each is scored whole as long as the budget lasts before it.
        missing = missing[np.cumsum((end - begin)[missing]) - (end - begin)[missing] < MAX_COMPLETED_ROWS]
        if not len(missing):
            return ranking
        found = [ranking.candidates.found(position) for position in range(len(self.snapshot.segments))]
        for place in missing.tolist():
            position = int(groups.segments[leading[place]])
            found[position] = found[position].adding(np.arange(begin[place], end[place]))
        return self._rank(found)

    def _spans(self, groups: Groups, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The rows of the documents ``places`` in their segments: int64 first and end of each."""
        begin, end = np.empty(len(places), np.int64), np.empty(len(places), np.int64)
        segments, docs = groups.segments[places], groups.docs[places]
        for position in set(segments.tolist()):
            here = segments == position
            indptr = self.snapshot.segments[position].segment.doc_indptr
            begin[here], end[here] = indptr[docs[here]], indptr[docs[here] + 1]
        return begin, end

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
        doc_nos = self._versions(groups, order)
        places = zip(order.tolist(), doc_nos, read_documents(transaction, doc_nos), scores[order].tolist(), strict=True)
        return _best_first(list(itertools.starmap(_Ranked, places)))[: self.plan.want]

    def _versions(self, groups: Groups, places: np.ndarray) -> list[int]:
        """The document versions of ``places``."""
        segments, docs = groups.segments[places].tolist(), groups.docs[places].tolist()
        return [
            int(self.snapshot.segments[position].segment.doc_nos[doc])
            for position, doc in zip(segments, docs, strict=True)
        ]

    def _rerank(self, ranking: _Ranking, ranked: list[_Ranked], store: Readable, rerank: Rerank) -> list[_Ranked]:
        """The first documents by the reranker's score of their best passage, then the others as they were."""
        first = ranked[: self.query.rerank]
        with self.watch.stage("rerank"):
            with store.read() as transaction:  # closed again before the model runs: it pins pages
                texts = [self._best_text(ranking, place, transaction) for place in first]
            scores, self.reranked = rerank(self.query.text or "", texts)
        scored = [
            replace(place, score=score, fused=place.score) for place, score in zip(first, scores.tolist(), strict=True)
        ]
        return _best_first(scored) + ranked[len(first) :]

    def _best_text(self, ranking: _Ranking, place: _Ranked, transaction: Transaction) -> str:
        """The title and the best passage of a document."""
        best = int(ranking.groups.members(place.group)[0])
        passage = self._passage(ranking, best, read_text(transaction, place.doc_no)).text
        return f"{place.record.title} {passage}".strip()

    def _hits(self, ranking: _Ranking, ranked: list[_Ranked], transaction: Transaction) -> list[Hit]:
        """The hits of the page that was asked for."""
        query = self.query
        page = ranked[query.offset : query.offset + query.limit]
        detailed = query.returns("score_detail")
        texts = [""] * len(page)
        if query.passages or (detailed and query.explain and "sparse" in self.legs):
            texts = read_texts(transaction, [place.doc_no for place in page])
        details = self._details(ranking, page, texts) if detailed else itertools.repeat(_NO_DETAIL)
        return [
            Hit(
                doc_id=place.record.doc_id,
                score=place.score,
                title=place.record.title if query.returns("title") else "",
                metadata=place.record.metadata if query.returns("metadata") else {},
                passages=self._passages(ranking, place, text) if query.passages else (),
                score_detail=detail,
            )
            for place, text, detail in zip(page, texts, details, strict=False)
        ]

    def _passages(self, ranking: _Ranking, place: _Ranked, text: str) -> tuple[PassageHit, ...]:
        members = ranking.groups.members(place.group)[: self.query.passages]
        return tuple(self._passage(ranking, member, text) for member in members.tolist())

    def _passage(self, ranking: _Ranking, member: int, text: str) -> PassageHit:
        segment = self.snapshot.segments[int(ranking.candidates.segments[member])].segment
        row = int(ranking.candidates.rows[member])
        start, end = int(segment.starts[row]), int(segment.ends[row])
        return PassageHit(text[start:end], start, end, float(ranking.fused[member]))

    def _details(self, ranking: _Ranking, page: Sequence[_Ranked], texts: Sequence[str]) -> list[ScoreDetail]:
        """The scores of the best passage of each document on the page."""
        legs = self.plan.legs
        best = [int(ranking.groups.order[ranking.groups.first[place.group]]) for place in page]
        scores = ranking.candidates.scores[best].tolist()
        in_leg = ranks(ranking.candidates.scores, legs)[best].tolist()
        return [
            ScoreDetail(
                **dict(zip(legs, scores[i], strict=True)),
                ranks={leg: rank for leg, rank in zip(legs, in_leg[i], strict=True) if rank},
                weights=self.plan.weights,
                terms=self._terms(ranking, best[i], place.record.title, texts[i]) if self.query.explain else (),
                rerank=None if place.fused is None else place.score,
                fused=place.fused,
            )
            for i, place in enumerate(page)
        ]

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
