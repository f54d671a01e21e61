"""Is this query fit to be run on a collection? The other half of the engine's edge, beside `engine.validation`."""

from __future__ import annotations

import math
from collections.abc import Sequence

from engine.errors import DimensionMismatch, InvalidArgument, InvalidQuery, LegMissing
from engine.schema import CollectionSchema, check_weights
from engine.validation import MAX_QUERY_MULTI_TOKENS, check_scalar, check_text, check_tokens
from engine.values import (
    FUSIONS,
    MODES,
    QUERY_EXPANSION_METHODS,
    RESULT_FIELDS,
    Query,
    QueryExpansion,
    Scalar,
)

MAX_QUERY_BYTES = 1 << 16
MAX_LIMIT = 1_000
MAX_WINDOW = 10_000
MAX_DEPTH = 100_000
MAX_QUERY_EXPANSION = 16
MAX_EXAMPLES = 64
MAX_TASK_BYTES = 1 << 12
MAX_RERANK = 1_000


def check_query(query: Query, schema: CollectionSchema) -> None:
    """Refuse a query that cannot be run on a collection of this schema.

    Raises:
        InvalidQuery: names the field. LegMissing: the mode names a leg that the collection has not.
    """
    try:
        _check_window(query)
        _check_options(query, schema)
        _check_task(query, schema)
        _check_fields(query)
        _check_examples(query)
        _check_expansion(query, schema)
        for name, value in query.params.items():
            _check_param(name, value)
        if query.text is not None:
            check_text("text", query.text, MAX_QUERY_BYTES)
        if query.multi is not None:
            if not schema.multi_dim:
                raise InvalidQuery("multi", "this collection keeps no token vectors")
            check_tokens(query.multi, schema.multi_dim, MAX_QUERY_MULTI_TOKENS)
    except (InvalidQuery, DimensionMismatch):
        raise
    except InvalidArgument as error:
        raise InvalidQuery(error.field, error.problem) from error
    if query.mode not in ("hybrid", *schema.legs):
        raise LegMissing(query.mode, _missing_reason(query.mode, schema))
    has_text = query.text is not None and bool(query.text.strip())
    if not has_text and query.vector is None and query.sparse is None:
        hint = " to find what multi then ranks" if query.multi is not None else ""
        raise InvalidQuery("text", f"is empty, and neither vector nor sparse is given{hint}")
    if query.rerank is not None and not has_text:
        raise InvalidQuery("text", "is empty: a reranker reads the query's text")


def _missing_reason(leg: str, schema: CollectionSchema) -> str:
    if leg == "dense":
        return "it was created without dense vectors."
    if leg == "multi":
        return "it keeps no token vectors. Create one with multi=True (`engine index --multi`)."
    model = f"the model {schema.model!r}" if schema.model else "its schema"
    return f"{model} has no learned sparse head. Use hybrid, dense or bm25, or a collection made with a SPLADE model."


def _check_window(query: Query) -> None:
    for field, value, low, high in (
        ("limit", query.limit, 1, MAX_LIMIT),
        ("offset", query.offset, 0, MAX_WINDOW),
        ("passages", query.passages, 0, MAX_LIMIT),
    ):
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise InvalidQuery(field, f"must be between {low:,} and {high:,}, got {value!r}")
    if query.offset + query.limit > MAX_WINDOW:
        raise InvalidQuery("offset", f"offset + limit must be at most {MAX_WINDOW:,}")


def _check_options(query: Query, schema: CollectionSchema) -> None:
    if query.mode not in MODES:
        raise InvalidQuery("mode", f"{query.mode!r} is unknown; choose from {', '.join(MODES)}")
    if query.fusion not in FUSIONS:
        raise InvalidQuery("fusion", f"{query.fusion!r} is unknown; choose from {', '.join(FUSIONS)}")
    if query.weights is not None:
        check_weights(query.weights, schema.legs)
    for leg, depth in (query.depth or {}).items():
        finding = [name for name in schema.legs if name != "multi"]  # which only ranks what the others find
        if leg not in finding:
            raise InvalidQuery(
                "depth", f"no leg {leg!r} finds passages here; the legs that do are {', '.join(finding)}"
            )
        if isinstance(depth, bool) or not isinstance(depth, int) or not 1 <= depth <= MAX_DEPTH:
            raise InvalidQuery("depth", f"{leg} must be between 1 and {MAX_DEPTH:,}, got {depth!r}")
    target = query.recall_target
    if target is not None and (not isinstance(target, int | float) or not 0 < target <= 1):
        raise InvalidQuery("recall_target", f"must be in (0, 1], got {target!r}")
    threshold = query.score_threshold
    if threshold is not None and (not isinstance(threshold, int | float) or not math.isfinite(threshold)):
        raise InvalidQuery("score_threshold", f"must be a finite number, got {threshold!r}")
    n = query.rerank
    if n is not None and (isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= MAX_RERANK):
        raise InvalidQuery("rerank", f"must be between 1 and {MAX_RERANK:,}, got {n!r}")


def check_task(task: object) -> None:
    """Refuse a task that is blank, no string, or longer than 4 KiB; whether the model has it, the model says."""
    check_text("task", task, MAX_TASK_BYTES)
    if not str(task).strip():
        raise InvalidArgument("task", "is blank; leave it out for the default")


def _check_task(query: Query, schema: CollectionSchema) -> None:
    if query.task is None:
        return
    check_task(query.task)
    if query.rerank is None and (schema.model is None or query.mode == "bm25"):
        raise InvalidQuery("task", "is for a model that embeds the query or reranks, and here none does")


def _check_fields(query: Query) -> None:
    for field in query.fields or ():
        if field not in RESULT_FIELDS:
            raise InvalidQuery("fields", f"{field!r} is unknown; choose from {', '.join(RESULT_FIELDS)}")


def _check_examples(query: Query) -> None:
    if len(query.examples) > MAX_EXAMPLES:
        raise InvalidQuery("examples", f"are {len(query.examples)}; at most {MAX_EXAMPLES} are allowed")
    for example in query.examples:
        if not isinstance(example, tuple | list) or len(example) != 2:
            raise InvalidQuery("examples", f"must be pairs of a query and a passage, got {example!r:.80}")
        for text in example:
            check_text("examples", text, MAX_QUERY_BYTES)


def _check_expansion(query: Query, schema: CollectionSchema) -> None:
    expansion = query.expansion
    if expansion is None:
        return
    if not isinstance(expansion, QueryExpansion) or expansion.method not in QUERY_EXPANSION_METHODS:
        raise InvalidQuery("expansion", f"{expansion!r} is none of {', '.join(QUERY_EXPANSION_METHODS)}")
    if isinstance(expansion.n, bool) or not isinstance(expansion.n, int) or not 1 <= expansion.n <= MAX_QUERY_EXPANSION:
        raise InvalidQuery("expansion.n", f"must be between 1 and {MAX_QUERY_EXPANSION}, got {expansion.n!r}")
    weight = expansion.weight
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight <= 1:
        raise InvalidQuery("expansion.weight", f"must be in [0, 1], got {weight!r}")
    if not (query.text or "").strip():
        raise InvalidQuery("expansion", "needs the query's text")
    if schema.model is None or not schema.dim or query.mode not in ("hybrid", "dense") or query.vector is not None:
        raise InvalidQuery(
            "expansion", "changes the dense vector that a model makes of the text, and here none is made"
        )


def _check_param(name: str, value: Scalar | Sequence[Scalar]) -> None:
    for item in value if isinstance(value, list | tuple) else [value]:
        check_scalar(f"params.{name}", item)
