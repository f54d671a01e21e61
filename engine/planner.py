"""How will a query be run? `plan` turns a checked query and what is known of the collection into a `Plan`: pure, no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

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

    legs: the legs to search, in the order of `values.LEGS`. depth: passages to take from each. exact: scan every vector.
    want: documents to rank (offset + limit). weights: by leg, for the fusion.
    """

    legs: tuple[Leg, ...]
    depth: Mapping[str, int]
    exact: bool
    want: int
    fusion: FusionMethod
    weights: Mapping[str, float]
    recall_target: float

    def deeper(self) -> Plan:
        """The same plan with twice the depth, for when too few documents were found."""
        depth = {leg: 2 * n for leg, n in self.depth.items()}
        return Plan(self.legs, depth, self.exact, self.want, self.fusion, self.weights, self.recall_target)

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
    want = query.offset + query.limit
    target = query.recall_target if query.recall_target is not None else DEFAULT_RECALL_TARGET
    asked = query.depth or {}
    depth: dict[str, int] = {leg: asked.get(leg, max(MIN_DEPTH, PASSAGES_PER_DOCUMENT * want)) for leg in legs}
    if "dense" in depth and "dense" not in asked and target > DEFAULT_RECALL_TARGET:
        depth["dense"] *= 2
    weights = dict(default_weights)
    weights.update(schema.weights)
    weights.update(query.weights or {})
    return Plan(
        legs=legs,
        depth=depth,
        exact=query.exact or target > EXACT_ABOVE,
        want=want,
        fusion=query.fusion,
        weights={leg: weights[leg] for leg in legs} if len(legs) > 1 else {},
        recall_target=1.0 if query.exact else target,
    )
