"""How will a query be run? `plan` turns a checked query and what is known of the collection into a `Plan`: pure, no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from engine.schema import CollectionSchema
from engine.values import FusionMethod, Leg, Query

# Passages to take from each leg for every document asked for: a document's best passages crowd out other documents.
PASSAGES_PER_DOCUMENT = 3
MIN_DEPTH = 100
DEFAULT_RECALL_TARGET = 0.98
# Above this target every vector is scanned: no graph promises it.
EXACT_ABOVE = 0.995


@dataclass(frozen=True, slots=True)
class Plan:
    """What the searcher will do.

    legs: the legs that rank, in the order of `values.LEGS`. sources: the legs that find candidates; token vectors only rank.
    depth: passages to take from each source. exact: scan every vector. want: documents to rank: offset + limit, or as many as
    are reranked. weights: by leg, for the fusion.
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
    if "dense" in depth and "dense" not in asked and target > DEFAULT_RECALL_TARGET:
        depth["dense"] *= 2
    weights = dict(default_weights)
    weights.update(schema.weights)
    weights.update(query.weights or {})
    return Plan(
        legs=legs,
        sources=sources,
        depth=depth,
        exact=query.exact or target > EXACT_ABOVE,
        want=want,
        fusion=query.fusion,
        weights={leg: weights[leg] for leg in legs} if len(legs) > 1 else {},
        recall_target=1.0 if query.exact else target,
    )
