"""Is this document, metadata or query fit to be stored or run?

The edge of the engine: everything from outside passes here once, and nothing behind it checks again. Each refusal names the
field, the value and what is allowed.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from engine.errors import DimensionMismatch, InvalidArgument, InvalidDocument, InvalidQuery, LegMissing
from engine.schema import CollectionSchema, check_weights
from engine.values import (
    FUSIONS,
    MODES,
    QUERY_EXPANSION_METHODS,
    RESULT_FIELDS,
    Document,
    Query,
    QueryExpansion,
    Scalar,
)

MAX_ID_BYTES = 511  # LMDB's longest key
MAX_TITLE_BYTES = 1 << 16
MAX_TEXT_BYTES = 1 << 26
MAX_METADATA_BYTES = 1 << 16
MAX_QUERY_BYTES = 1 << 16
MAX_SPARSE_TERMS = 4096
MAX_MULTI_TOKENS = 8192
MAX_QUERY_MULTI_TOKENS = 1024
MAX_LIMIT = 1_000
MAX_WINDOW = 10_000
MAX_DEPTH = 100_000
MAX_QUERY_EXPANSION = 16
MAX_EXAMPLES = 64
MAX_TASK_BYTES = 1 << 12
MAX_RERANK = 1_000

_FIELDS = {field.name for field in dataclasses.fields(Document)}


def to_document(value: Document | Mapping[str, object]) -> Document:
    """A `Document` from itself or from a mapping of its fields.

    Raises:
        InvalidDocument: not a mapping, an unknown field, or no ``doc_id``.
    """
    if isinstance(value, Document):
        return value
    if not isinstance(value, Mapping):
        raise InvalidDocument("document", f"must be a Document or a mapping, got {type(value).__name__}")
    unknown = value.keys() - _FIELDS
    if unknown:
        raise InvalidDocument("document", f"unknown fields {sorted(unknown)}; known are {sorted(_FIELDS)}")
    if "doc_id" not in value:
        raise InvalidDocument("doc_id", "is missing")
    return Document(**value)  # type: ignore[arg-type]  # checked field by field in check_document


def check_document(document: Document, schema: CollectionSchema) -> None:
    """Refuse a document that cannot be stored in a collection of this schema.

    Raises:
        InvalidDocument: names the field; DimensionMismatch for a vector of another width.
    """
    try:
        check_doc_id(document.doc_id)
        _check_text("title", document.title, MAX_TITLE_BYTES)
        _check_text("text", document.text, MAX_TEXT_BYTES)
        check_metadata(document.metadata)
        _check_boundaries(document)
    except InvalidArgument as error:
        raise InvalidDocument(f"{_shown(document.doc_id)}.{error.field}", error.problem) from error
    has_text = bool(document.text.strip() or document.title.strip())
    has_vectors = brings_vectors(document)
    if not has_text and not has_vectors:
        raise InvalidDocument(f"{_shown(document.doc_id)}.text", "is empty, and there is no title and no vector")
    if has_vectors or schema.model is None:
        _check_own_vectors(document, schema)


def brings_vectors(document: Document) -> bool:
    """Whether the document comes with vectors of the caller's own, and is not embedded."""
    return document.vector is not None or document.sparse is not None or document.multi is not None


def _check_boundaries(document: Document) -> None:
    previous = -1
    for offset in document.boundaries:
        if isinstance(offset, bool) or not isinstance(offset, int) or not previous < offset <= len(document.text):
            raise InvalidArgument(
                "boundaries", f"must be ascending offsets into the text, got {offset!r} after {previous}"
            )
        previous = offset


def _check_own_vectors(document: Document, schema: CollectionSchema) -> None:
    where = _shown(document.doc_id)
    if schema.dim and document.vector is None:
        hint = "the collection has no model, so every document brings its own"
        raise InvalidDocument(f"{where}.vector", f"is missing: {hint}, {schema.dim} dimensions")
    if not schema.dim and document.vector is not None:
        raise InvalidDocument(f"{where}.vector", "the collection has no dense leg")
    if schema.sparse and document.sparse is None:
        raise InvalidDocument(f"{where}.sparse", "is missing: the collection has a learned sparse leg")
    if not schema.sparse and document.sparse is not None:
        raise InvalidDocument(f"{where}.sparse", "the collection has no learned sparse leg")
    if schema.multi_dim and document.multi is None:
        hint = f"the collection keeps token vectors of {schema.multi_dim} dimensions"
        raise InvalidDocument(f"{where}.multi", f"is missing: {hint}")
    if not schema.multi_dim and document.multi is not None:
        raise InvalidDocument(f"{where}.multi", "the collection keeps no token vectors; create it with multi=True")
    if document.vector is not None:
        check_vector(document.vector, schema.dim, f"{where}.vector")
    if document.sparse is not None:
        check_sparse(document.sparse, f"{where}.sparse")
    if document.multi is not None:
        check_document_tokens(document.multi, schema.multi_dim, f"{where}.multi")


def _shown(doc_id: object) -> str:
    return f"document {doc_id!r:.80}"


def check_doc_id(doc_id: object) -> None:
    """Refuse an id that is not a string of 1 to 511 bytes of UTF-8 without NUL."""
    _check_text("doc_id", doc_id, MAX_ID_BYTES)
    if not doc_id:
        raise InvalidArgument("doc_id", "is empty")
    if "\0" in str(doc_id):
        raise InvalidArgument("doc_id", "contains a NUL character")


def _check_text(field: str, value: object, max_bytes: int) -> None:
    if not isinstance(value, str):
        raise InvalidArgument(field, f"must be a string, got {type(value).__name__}")
    if value.isascii() and len(value) <= max_bytes:
        return
    try:
        size = len(value.encode())
    except UnicodeEncodeError as error:
        raise InvalidArgument(field, f"is not valid Unicode: {error.reason} at character {error.start}") from error
    if size > max_bytes:
        raise InvalidArgument(field, f"has {size:,} bytes; at most {max_bytes:,} are allowed")


def check_metadata(metadata: object) -> None:
    """Refuse metadata that is not an object of scalars and lists of scalars, at most 64 KiB as JSON."""
    if not isinstance(metadata, Mapping):
        raise InvalidArgument("metadata", f"must be an object, got {type(metadata).__name__}")
    for key, value in metadata.items():
        if not isinstance(key, str) or not key:
            raise InvalidArgument("metadata", f"keys must be non-empty strings, got {key!r}")
        items = value if isinstance(value, list | tuple) else [value]
        for item in items:
            check_scalar(f"metadata.{key}", item)
    if metadata and len(msgspec.json.encode(metadata)) > MAX_METADATA_BYTES:
        raise InvalidArgument("metadata", f"has more than {MAX_METADATA_BYTES:,} bytes as JSON")


def check_scalar(field: str, value: object) -> None:
    """Refuse what is not a string, a boolean, a 64-bit integer or a finite number."""
    if isinstance(value, bool):
        return
    if isinstance(value, str):
        _check_text(field, value, MAX_METADATA_BYTES)
    elif isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            raise InvalidArgument(field, f"{value} does not fit in 64 bits")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidArgument(field, f"{value} is not a finite number")
    else:
        kind = type(value).__name__
        raise InvalidArgument(field, f"must be a string, a number, a boolean or a list of these, got {kind}")


def check_vector(vector: object, dim: int, field: str = "vector") -> np.ndarray:
    """The vector as unit-length float32[dim].

    Raises:
        DimensionMismatch: another width. InvalidArgument: not numbers, not finite, or all zero.
    """
    try:
        array = np.asarray(vector, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise InvalidArgument(field, f"is not a list of numbers ({error})") from error
    if array.shape != (dim,):
        raise DimensionMismatch(dim, array.shape[0] if array.ndim == 1 else array.size, field)
    wide = array.astype(np.float64)
    norm = math.sqrt(np.dot(wide, wide))  # one pass: a value that is not finite makes the norm so
    if not math.isfinite(norm):
        where = int(np.flatnonzero(~np.isfinite(array))[0])
        raise InvalidArgument(field, f"has {array[where]} at position {where}; every value must be finite")
    if norm < 1e-12:
        raise InvalidArgument(field, "is all zero; a direction is needed")
    return (wide / norm).astype(np.float32)


def check_sparse(sparse: object, field: str = "sparse") -> tuple[np.ndarray, np.ndarray]:
    """The sparse vector as (ids uint64[m] ascending, weights float32[m] > 0).

    Raises:
        InvalidArgument: not a mapping, ids outside 32 bits, weights that are not positive and finite, too many terms.
    """
    if not isinstance(sparse, Mapping):
        raise InvalidArgument(field, f"must map term ids to weights, got {type(sparse).__name__}")
    if len(sparse) > MAX_SPARSE_TERMS:
        raise InvalidArgument(field, f"has {len(sparse):,} terms; at most {MAX_SPARSE_TERMS:,} are allowed")
    for term, weight in sparse.items():
        if isinstance(term, bool) or not isinstance(term, int) or not 0 <= term < 2**32:
            raise InvalidArgument(field, f"term ids must be integers in 0..2^32-1, got {term!r}")
        if not isinstance(weight, int | float) or not 0 < weight < float("inf"):
            raise InvalidArgument(field, f"the weight of term {term} must be positive and finite, got {weight!r}")
    ids = np.fromiter(sparse.keys(), np.uint64, len(sparse))
    order = np.argsort(ids)
    return ids[order], np.fromiter(sparse.values(), np.float32, len(sparse))[order]


def check_tokens(tokens: object, dim: int, most: int, field: str = "multi") -> np.ndarray:
    """Token vectors as float32[m, dim], 1 to ``most`` of them.

    Raises:
        DimensionMismatch: another width. InvalidArgument: not numbers, not finite, none or too many.
    """
    try:
        with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite, which is refused below
            array = np.asarray(tokens, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise InvalidArgument(field, f"is not a list of vectors of one width ({error})") from error
    if array.ndim != 2 or not len(array):
        raise InvalidArgument(field, f"must hold one vector a token, got an array of shape {array.shape}")
    if len(array) > most:
        raise InvalidArgument(field, f"has {len(array):,} token vectors; at most {most:,} are allowed")
    if array.shape[1] != dim:
        raise DimensionMismatch(dim, array.shape[1], field)
    if not np.isfinite(array).all():
        token, place = np.argwhere(~np.isfinite(array))[0].tolist()
        raise InvalidArgument(field, f"has {array[token, place]} at token {token}, position {place}")
    return array


def check_document_tokens(tokens: object, dim: int, field: str = "multi") -> np.ndarray:
    """The token vectors of a document as unit-length float32[m, dim].

    Raises:
        InvalidArgument: see `check_tokens`; or a vector is all zero.
    """
    wide = check_tokens(tokens, dim, MAX_MULTI_TOKENS, field).astype(np.float64)
    norms = np.linalg.norm(wide, axis=1)
    if norms.min() < 1e-12:
        raise InvalidArgument(field, f"is all zero at token {int(norms.argmin())}; a direction is needed")
    return (wide / norms[:, None]).astype(np.float32)


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
            _check_text("text", query.text, MAX_QUERY_BYTES)
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
    _check_text("task", task, MAX_TASK_BYTES)
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
            _check_text("examples", text, MAX_QUERY_BYTES)


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
