"""How will a query be run? `plan` turns a checked query and what is known of the collection into a `Plan`: pure, no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from engine.schema import CollectionSchema
from engine.snapshot import Snapshot
from engine.values import FusionMethod, Leg, Query

# Passages to take from each leg for every document asked for: a document's best passages crowd out other documents.
PASSAGES_PER_DOCUMENT = 3
MIN_DEPTH = 100
DEFAULT_RECALL_TARGET = 0.98


@dataclass(frozen=True, slots=True)
class Plan:
    """What the searcher will do.

    legs: the legs that rank, in the order of `values.LEGS`. sources: the legs that find candidates; token vectors only rank.
    depth: passages to take from each source. exact: scan every vector. want: documents to rank: offset + limit, or as many as
    are reranked. weights: by leg, for the fusion. recall_target: of the dense leg's search; each segment is searched with the
    cheapest setting that was measured to reach it.
    """

    legs: tuple[Leg, ...]
    sources: tuple[Leg, ...]
    depth: Mapping[str, int]
    exact: bool
    want: int
    fusion: FusionMethod
    weights: Mapping[str, float]
    recall_target: float

    def deeper(self) -> Plan:
        """The same plan with twice the depth, for when too few documents were found."""
        return replace(self, depth={leg: 2 * n for leg, n in self.depth.items()})

    def describe(self) -> dict[str, object]:
        """The plan as plain data, for the response."""
        return {
            "legs": list(self.legs),
            "depth": dict(self.depth),
            "exact": self.exact,
            "fusion": self.fusion if len(self.legs) > 1 else None,
            "weights": dict(self.weights),
            "recall_target": self.recall_target,
        }


def plan(
    query: Query, schema: CollectionSchema, available: tuple[Leg, ...], default_weights: Mapping[str, float]
) -> Plan:
    """The plan for a query that `validation.check_query` accepted.

    Args:
        query: the request.
        schema: the collection's.
        available: the legs for which the query has something to search with.
        default_weights: leg → weight, of the collection; those of its schema and of the request win over them.
    """
    legs = tuple(leg for leg in available if query.mode in ("hybrid", leg))
    sources = tuple(leg for leg in available if leg != "multi" and query.mode in ("hybrid", "multi", leg))
    want = max(query.offset + query.limit, query.rerank or 0)
    target = query.recall_target if query.recall_target is not None else DEFAULT_RECALL_TARGET
    asked = query.depth or {}
    depth: dict[str, int] = {leg: asked.get(leg, max(MIN_DEPTH, PASSAGES_PER_DOCUMENT * want)) for leg in sources}
    weights = dict(default_weights)
    weights.update(schema.weights)
    weights.update(query.weights or {})
    return Plan(
        legs=legs,
        sources=sources,
        depth=depth,
        exact=query.exact or target >= 1.0,
        want=want,
        fusion=query.fusion,
        weights={leg: weights[leg] for leg in legs} if len(legs) > 1 else {},
        recall_target=1.0 if query.exact else target,
    )


def dense_recall(plan: Plan, snapshot: Snapshot) -> dict[str, object]:
    """The recall certificate of a query's dense search, as plain data for the response.

    recall: the estimated share of the ``k`` passages nearest to the query that the search finds, without a filter, and lower:
    its lower bound with 95 % confidence, both over ``sample`` queries, of which ``asked`` were asked of the collection and the
    others are made of passages; 1 where every vector is scanned; None where no segment was measured. The estimate is the mean
    of the segments', weighted by passages; the bound is the least of them, and so holds wherever the nearest passages lie.
    scanned, measured, unmeasured: how many passages are searched in which way.
    """
    passages = {"scanned": 0, "measured": 0, "unmeasured": 0}
    estimates, bounds, samples, asked = [], [], [], []
    for live in snapshot.segments:
        if live.segment.dense is None or not live.n_live:
            continue
        promise = live.segment.dense.promise(plan.recall_target, plan.want)
        if promise.recall is None or promise.lower is None:
            passages["unmeasured"] += live.n_live
            continue
        passages["scanned" if promise.setting is None else "measured"] += live.n_live
        estimates.append(promise.recall * live.n_live)
        bounds.append(promise.lower)
        if promise.setting is not None:
            samples.append(promise.sample)
            asked.append(promise.asked)
    known = passages["scanned"] + passages["measured"]
    return {
        "k": plan.want,
        "recall": sum(estimates) / known if known else None,
        "lower": min(bounds, default=None),
        "sample": min(samples, default=0),
        "asked": min(asked, default=0),
        **passages,
    }
