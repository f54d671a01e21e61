"""How do expansions, and the examples that a query is shown with, cross the wire?"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from engine.errors import InvalidQuery
from engine.v1 import engine_pb2 as pb
from engine.values import Expansion, ExpansionMethod, ExpansionUse, QueryExpansion, QueryExpansionMethod
from engine.wire.enums import Vocabulary
from engine.wire.scalars import checked_types

METHOD: Vocabulary[ExpansionMethod, pb.ExpansionMethod] = Vocabulary(
    "expansion.method",
    {"questions": pb.EXPANSION_METHOD_QUESTIONS, "rewrites": pb.EXPANSION_METHOD_REWRITES},
)
USE: Vocabulary[ExpansionUse, pb.ExpansionUse] = Vocabulary(
    "expansion.use", {"fuse": pb.EXPANSION_USE_FUSE, "vectors": pb.EXPANSION_USE_VECTORS}
)
QUERY_METHOD: Vocabulary[QueryExpansionMethod, pb.QueryExpansionMethod] = Vocabulary(
    "expansion.method",
    {
        "hyde": pb.QUERY_EXPANSION_METHOD_HYDE,
        "thoughts": pb.QUERY_EXPANSION_METHOD_THOUGHTS,
        "rewrites": pb.QUERY_EXPANSION_METHOD_REWRITES,
    },
    InvalidQuery,
)
_DEFAULT = Expansion()
_QUERY_DEFAULT = QueryExpansion()


def expansion_to_wire(expansion: Expansion) -> pb.Expansion:
    """Writes the expansion of a collection; raises InvalidArgument."""
    with checked_types("expansion"):
        return pb.Expansion(
            method=METHOD.to_wire(expansion.method),
            n=expansion.n,
            use=USE.to_wire(expansion.use),
            bm25=expansion.bm25,
        )


def expansion_from_wire(message: pb.Expansion) -> Expansion:
    """Reads the expansion of a collection; raises InvalidArgument."""
    return Expansion(
        method=METHOD.from_wire(message.method),
        n=message.n if message.HasField("n") else _DEFAULT.n,
        use=USE.from_wire(message.use),
        bm25=message.bm25,
    )


def query_expansion_to_wire(expansion: QueryExpansion) -> pb.QueryExpansion:
    """Writes the expansion of a query; raises InvalidQuery."""
    with checked_types("expansion", InvalidQuery):
        return pb.QueryExpansion(method=QUERY_METHOD.to_wire(expansion.method), n=expansion.n, weight=expansion.weight)


def query_expansion_from_wire(message: pb.QueryExpansion) -> QueryExpansion:
    """Reads the expansion of a query; raises InvalidQuery."""
    weight = message.weight if message.HasField("weight") else _QUERY_DEFAULT.weight
    if not math.isfinite(weight):
        raise InvalidQuery("expansion.weight", "is NaN or infinite; send a finite number")
    return QueryExpansion(
        method=QUERY_METHOD.from_wire(message.method),
        n=message.n if message.HasField("n") else _QUERY_DEFAULT.n,
        weight=weight,
    )


def examples_to_wire(examples: Sequence[tuple[str, str]]) -> list[pb.Example]:
    """Writes answered queries; raises InvalidQuery where one is no pair of strings."""
    try:
        return [pb.Example(query=query, passage=passage) for query, passage in examples]
    except (TypeError, ValueError) as error:
        raise InvalidQuery("examples", f"must be pairs of a query and a passage: {error}") from error


def examples_from_wire(examples: Iterable[pb.Example]) -> tuple[tuple[str, str], ...]:
    """Reads answered queries."""
    return tuple((example.query, example.passage) for example in examples)
