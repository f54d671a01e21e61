"""How do questions cross the wire?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import cast

from engine.errors import InvalidArgument, InvalidQuery
from engine.v1 import engine_pb2 as pb
from engine.values import FusionMethod, Mode, Query, ResultField, Scalar
from engine.wire.enums import Vocabulary
from engine.wire.expansions import (
    examples_from_wire,
    examples_to_wire,
    query_expansion_from_wire,
    query_expansion_to_wire,
)
from engine.wire.scalars import Rejection, checked_types, values_from_wire, values_to_wire
from engine.wire.vectors import (
    sparse_from_wire,
    sparse_to_wire,
    tokens_from_wire,
    tokens_to_wire,
    vector_from_wire,
    vector_to_wire,
)

Params = dict[str, "Scalar | list[Scalar]"]

MODE: Vocabulary[Mode, pb.Mode] = Vocabulary(
    "mode",
    {
        "hybrid": pb.MODE_HYBRID,
        "dense": pb.MODE_DENSE,
        "sparse": pb.MODE_SPARSE,
        "bm25": pb.MODE_BM25,
        "multi": pb.MODE_MULTI,
    },
    InvalidQuery,
)
FUSION: Vocabulary[FusionMethod, pb.Fusion] = Vocabulary(
    "fusion", {"convex": pb.FUSION_CONVEX, "rrf": pb.FUSION_RRF, "dbsf": pb.FUSION_DBSF}, InvalidQuery
)
RESULT_FIELD: Vocabulary[ResultField, pb.ResultField] = Vocabulary(
    "fields",
    {
        "title": pb.RESULT_FIELD_TITLE,
        "metadata": pb.RESULT_FIELD_METADATA,
        "score_detail": pb.RESULT_FIELD_SCORE_DETAIL,
        "plan": pb.RESULT_FIELD_PLAN,
        "timings_ms": pb.RESULT_FIELD_TIMINGS_MS,
    },
    InvalidQuery,
)
_DEFAULTS = Query()


def query_to_wire(query: Query) -> pb.Query:
    """Writes one question.

    Raises:
        InvalidQuery: a field has a type or a size that the wire cannot carry.
    """
    with checked_types("query", InvalidQuery):
        message = pb.Query(
            text=query.text,
            task=query.task,
            mode=MODE.to_wire(query.mode),
            limit=query.limit,
            offset=query.offset,
            filter=query.filter,
            fusion=FUSION.to_wire(query.fusion),
            recall_target=query.recall_target,
            exact=query.exact,
            passages=query.passages,
            score_threshold=query.score_threshold,
            rerank=query.rerank,
            explain=query.explain,
        )
    if query.expansion is not None:
        message.expansion.CopyFrom(query_expansion_to_wire(query.expansion))
    if query.examples:
        message.examples.extend(examples_to_wire(query.examples))
    if query.vector is not None:
        message.vector = vector_to_wire(query.vector, "vector", InvalidQuery)
    if query.sparse is not None:
        sparse_to_wire(message.sparse, query.sparse, "sparse", InvalidQuery)
    if query.multi is not None:
        message.multi.CopyFrom(tokens_to_wire(query.multi, "multi", InvalidQuery))
    if query.params:
        values_to_wire(message.params, query.params, "params", InvalidQuery)
    if query.weights is not None:
        message.weights.CopyFrom(weights_to_wire(query.weights, InvalidQuery))
    if query.depth is not None:
        message.depth.CopyFrom(_depths_to_wire(query.depth))
    if query.fields is not None:
        message.fields.CopyFrom(pb.ResultFields(values=map(RESULT_FIELD.to_wire, query.fields)))
    return message


def query_from_wire(message: pb.Query) -> Query:
    """Reads one question; absent fields take the defaults of ``engine.values.Query``.

    Raises:
        InvalidQuery: an enum is unspecified, a number is NaN or infinite, or a vector is malformed.
    """
    has = message.HasField
    return Query(
        text=message.text if has("text") else None,
        task=message.task if has("task") else None,
        vector=vector_from_wire(message.vector, "vector", InvalidQuery) if has("vector") else None,
        sparse=sparse_from_wire(message.sparse, "sparse", InvalidQuery) if has("sparse") else None,
        multi=tokens_from_wire(message.multi, "multi", InvalidQuery) if has("multi") else None,
        mode=MODE.from_wire(message.mode),
        limit=message.limit if has("limit") else _DEFAULTS.limit,
        offset=message.offset,
        filter=message.filter if has("filter") else None,
        params=params_from_wire(message.params, InvalidQuery),
        fusion=FUSION.from_wire(message.fusion),
        weights=weights_from_wire(message.weights, InvalidQuery) if has("weights") else None,
        depth=dict(message.depth.values) if has("depth") else None,
        recall_target=_finite(message.recall_target, "recall_target") if has("recall_target") else None,
        exact=message.exact,
        passages=message.passages if has("passages") else _DEFAULTS.passages,
        score_threshold=_finite(message.score_threshold, "score_threshold") if has("score_threshold") else None,
        rerank=message.rerank if has("rerank") else None,
        explain=message.explain if has("explain") else _DEFAULTS.explain,
        expansion=query_expansion_from_wire(message.expansion) if has("expansion") else None,
        examples=examples_from_wire(message.examples),
        fields=tuple(map(RESULT_FIELD.from_wire, message.fields.values)) if has("fields") else None,
    )


def params_from_wire(params: Mapping[str, pb.Value], reject: Rejection = InvalidArgument) -> Params:
    """Reads the bound parameters of a filter."""
    return cast("Params", values_from_wire(params, "params", reject)) if params else {}


def weights_to_wire(weights: Mapping[str, float], reject: Rejection = InvalidArgument) -> pb.LegWeights:
    """Writes leg → weight."""
    try:
        return pb.LegWeights(values=weights)
    except (AttributeError, TypeError, ValueError) as error:
        raise reject("weights", f"expected legs and numbers: {error}") from error


def weights_from_wire(weights: pb.LegWeights, reject: Rejection = InvalidArgument) -> dict[str, float]:
    """Reads leg → weight; NaN and infinity are refused."""
    found = dict(weights.values)
    if not all(map(math.isfinite, found.values())):
        raise reject("weights", "a weight is NaN or infinite; send finite numbers")
    return found


def _depths_to_wire(depth: Mapping[str, int]) -> pb.LegDepths:
    try:
        return pb.LegDepths(values=depth)
    except (AttributeError, TypeError, ValueError) as error:
        raise InvalidQuery("depth", f"expected legs and whole numbers: {error}") from error


def _finite(number: float, field: str) -> float:
    if not math.isfinite(number):
        raise InvalidQuery(field, "is NaN or infinite; send a finite number")
    return number
