"""How do answers cross the wire?"""

from __future__ import annotations

from typing import cast

from engine.errors import RemoteFailure
from engine.v1 import engine_pb2 as pb
from engine.values import Hit, Leg, Metadata, PassageHit, QueryResult, ScoreDetail, TermContribution
from engine.wire.enums import Vocabulary
from engine.wire.scalars import plan_from_wire, plan_to_wire

LEG: Vocabulary[Leg, pb.Leg] = Vocabulary(
    "leg", {"dense": pb.LEG_DENSE, "sparse": pb.LEG_SPARSE, "bm25": pb.LEG_BM25, "multi": pb.LEG_MULTI}
)


def result_to_wire(result: QueryResult) -> pb.QueryResult:
    """Writes the answer to one question."""
    message = pb.QueryResult(hits=map(_hit_to_wire, result.hits), timings_ms=result.timings_ms)
    plan_to_wire(message.plan, result.plan)
    return message


def result_from_wire(message: pb.QueryResult) -> QueryResult:
    """Reads the answer to one question."""
    return QueryResult(
        hits=tuple(map(_hit_from_wire, message.hits)),
        timings_ms=dict(sorted(message.timings_ms.items())),
        plan=plan_from_wire(message.plan),
    )


def _hit_to_wire(hit: Hit) -> pb.Hit:
    message = pb.Hit(
        doc_id=hit.doc_id,
        score=hit.score,
        title=hit.title,
        passages=[pb.PassageHit(text=p.text, start=p.start, end=p.end, score=p.score) for p in hit.passages],
        score_detail=_detail_to_wire(hit.score_detail),
    )
    if hit.metadata:
        plan_to_wire(message.metadata, hit.metadata)
    return message


def _hit_from_wire(message: pb.Hit) -> Hit:
    return Hit(
        doc_id=message.doc_id,
        score=message.score,
        title=message.title,
        metadata=cast("Metadata", plan_from_wire(message.metadata)),
        passages=tuple(PassageHit(p.text, p.start, p.end, p.score) for p in message.passages),
        score_detail=_detail_from_wire(message.score_detail),
    )


def _detail_to_wire(detail: ScoreDetail) -> pb.ScoreDetail:
    return pb.ScoreDetail(
        dense=detail.dense,
        sparse=detail.sparse,
        bm25=detail.bm25,
        multi=detail.multi,
        rerank=detail.rerank,
        fused=detail.fused,
        ranks=detail.ranks,
        weights=detail.weights,
        terms=[
            pb.TermContribution(term=t.term, leg=LEG.to_wire(t.leg), contribution=t.contribution, expansion=t.expansion)
            for t in detail.terms
        ],
    )


def _detail_from_wire(message: pb.ScoreDetail) -> ScoreDetail:
    return ScoreDetail(
        dense=message.dense if message.HasField("dense") else None,
        sparse=message.sparse if message.HasField("sparse") else None,
        bm25=message.bm25 if message.HasField("bm25") else None,
        multi=message.multi if message.HasField("multi") else None,
        rerank=message.rerank if message.HasField("rerank") else None,
        fused=message.fused if message.HasField("fused") else None,
        ranks=dict(message.ranks),
        weights=dict(message.weights),
        terms=tuple(TermContribution(t.term, LEG.from_wire(t.leg), t.contribution, t.expansion) for t in message.terms),
    )


def expect_as_many(found: int, wanted: int, what: str) -> None:
    """Refuses an answer that does not have one item an input; raises RemoteFailure."""
    if found != wanted:
        raise RemoteFailure("INTERNAL", f"expected {wanted} {what}, got {found}")
