"""Is this document, its metadata or this vector fit to be stored?

The edge of the engine: everything from outside passes here or through `engine.query_validation` once, and nothing behind them
checks again. Each refusal names the field, the value and what is allowed.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import msgspec
import numpy as np

from engine.errors import DimensionMismatch, InvalidArgument, InvalidDocument
from engine.schema import CollectionSchema
from engine.values import (
    Document,
)

MAX_ID_BYTES = 511  # LMDB's longest key
MAX_TITLE_BYTES = 1 << 16
MAX_TEXT_BYTES = 1 << 26
MAX_METADATA_BYTES = 1 << 16
MAX_SPARSE_TERMS = 4096
MAX_MULTI_TOKENS = 8192
MAX_QUERY_MULTI_TOKENS = 1024

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
        check_text("title", document.title, MAX_TITLE_BYTES)
        check_text("text", document.text, MAX_TEXT_BYTES)
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
    check_text("doc_id", doc_id, MAX_ID_BYTES)
    if not doc_id:
        raise InvalidArgument("doc_id", "is empty")
    if "\0" in str(doc_id):
        raise InvalidArgument("doc_id", "contains a NUL character")


def check_text(field: str, value: object, max_bytes: int) -> None:
    """Refuse what is no string, no valid Unicode, or longer than ``max_bytes`` in UTF-8."""
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
        check_text(field, value, MAX_METADATA_BYTES)
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
