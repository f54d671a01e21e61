"""What can go wrong in the engine, and what does the caller do about it?

Every error carries the offending value in typed fields and builds its own message: what was wrong, with which value, and
what to do. ``engine.server.status`` maps each leaf to one gRPC status; a test proves that the table is complete.

    EngineError
    ├── CollectionNotFound      create it, or name an existing one
    ├── CollectionExists        drop it first, or use another name
    ├── DocumentNotFound        the id is not in the collection
    ├── InvalidArgument         one argument of a call: change it
    │   ├── InvalidDocument     one document of a call: change it
    │   ├── InvalidQuery        the query: change it
    │   ├── InvalidFilter       the filter expression: change it
    │   └── DimensionMismatch   the vector has another width than the collection
    ├── LegMissing              the collection has no such leg (say, learned sparse vectors)
    ├── FingerprintMismatch     the model is not the one that made the stored vectors
    ├── GeneratorMismatch       the generator is not the one that expanded the stored passages
    ├── UnsupportedFormat       the data folder was written by another version
    ├── DataFolderLocked        another process owns the data folder
    ├── DataFolderReadOnly      the data folder cannot be written
    ├── Overloaded              retry later
    ├── StoreFull               free disk space, or delete documents
    ├── CorruptData             a checksum does not match: run ``engine check``
    ├── PermissionDenied        the API key lacks the role
    ├── Unauthenticated         no API key, or a wrong one
    ├── RemoteFailure           the server failed without a typed error, or could not be reached
    └── EngineClosed            the engine is closed or closing
"""

from __future__ import annotations

from collections.abc import Mapping


class EngineError(Exception):
    """The base of every error that the engine raises on purpose."""


class CollectionNotFound(EngineError):
    """No collection has this name."""

    def __init__(self, name: str, known: list[str] | None = None) -> None:
        self.name = name
        hint = f" Existing collections: {', '.join(known)}." if known else ""
        super().__init__(f"There is no collection named {name!r}.{hint}")


class CollectionExists(EngineError):
    """A collection of this name is already there."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"A collection named {name!r} exists already. Drop it first, or choose another name.")


class DocumentNotFound(EngineError):
    """A call that needs an existing document named one that is not there."""

    def __init__(self, doc_id: str) -> None:
        self.doc_id = doc_id
        super().__init__(f"There is no document with id {doc_id!r}.")


class InvalidArgument(EngineError):
    """One argument has a value that cannot be used."""

    def __init__(self, field: str, problem: str) -> None:
        self.field = field
        self.problem = problem
        super().__init__(f"{field}: {problem}")


class InvalidDocument(InvalidArgument):
    """A document cannot be stored as it is; nothing of the call was written."""


class InvalidQuery(InvalidArgument):
    """A query cannot be run as it is."""


class InvalidFilter(InvalidArgument):
    """A filter expression does not parse, or names a parameter that was not bound."""

    def __init__(self, expression: str, problem: str) -> None:
        self.expression = expression
        super().__init__("filter", f"{problem} in {expression!r}")


class DimensionMismatch(InvalidArgument):
    """A vector has another width than the collection's."""

    def __init__(self, expected: int, got: int, field: str = "vector") -> None:
        self.expected = expected
        self.got = got
        super().__init__(field, f"expected {expected} dimensions, got {got}")


class LegMissing(EngineError):
    """The collection has no such leg; ``leg`` is "dense", "sparse", "bm25" or "multi"."""

    def __init__(self, leg: str, reason: str) -> None:
        self.leg = leg
        self.reason = reason
        super().__init__(f"This collection cannot be searched by {leg}: {reason}")


class RerankerMissing(EngineError):
    """A query asks for reranking, and the engine was opened without a reranker."""

    def __init__(self) -> None:
        super().__init__(
            "This engine has no reranker. Open it with reranker=PATH (`engine serve --reranker PATH`, `engine query "
            "--rerank N --reranker PATH`): a cross-encoder, or a Qwen3-Reranker; or leave rerank out."
        )


class FingerprintMismatch(EngineError):
    """The loaded model is not the one that made the stored vectors.

    ``model`` is the name by which the stored vectors' model is opened; ``differences`` maps each part that differs to
    (stored, loaded).
    """

    def __init__(self, collection: str, model: str | None, differences: Mapping[str, tuple[object, object]]) -> None:
        self.collection = collection
        self.model = model
        self.differences = dict(differences)
        parts = "; ".join(f"{key}: stored {old!r}, loaded {new!r}" for key, (old, new) in self.differences.items())
        super().__init__(
            f"Collection {collection!r} was embedded with another model ({parts}). "
            f"Load that model ({model}), or run `engine migrate --collection {collection}` "
            "to embed the documents again with another."
        )


class GeneratorMismatch(EngineError):
    """The engine's generator is not the one that wrote about the collection's passages."""

    def __init__(self, collection: str, stored: str, loaded: str) -> None:
        self.collection = collection
        self.stored = stored
        self.loaded = loaded
        super().__init__(
            f"The passages of collection {collection!r} were expanded by the generator {stored}, and {loaded} is another "
            "model, or another version of it. Open the engine with the collection's own generator, or index the documents "
            "into a new collection."
        )


class UnsupportedFormat(EngineError):
    """The data folder was written in a format that this version does not read."""

    def __init__(self, path: str, found: object, supported: object) -> None:
        self.path = path
        self.found = found
        self.supported = supported
        super().__init__(f"{path} has format {found}; this version reads {supported}. The data was not touched.")


class DataFolderLocked(EngineError):
    """Another process owns the data folder."""

    def __init__(self, path: str, owner: str) -> None:
        self.path = path
        self.owner = owner
        super().__init__(
            f"{path} is in use by {owner}. Stop it, or talk to it with --server HOST:PORT if it is a Landmark server."
        )


class DataFolderReadOnly(EngineError):
    """The data folder cannot be written by this user."""

    def __init__(self, path: str, problem: str) -> None:
        self.path = path
        super().__init__(
            f"{path} cannot be written ({problem}). Choose another folder with --data, or fix its permissions."
        )


class Overloaded(EngineError):
    """A queue is full; nothing was done. Retry after ``retry_after_s`` seconds."""

    def __init__(self, what: str, retry_after_s: float = 1.0) -> None:
        self.what = what
        self.retry_after_s = retry_after_s
        super().__init__(f"{what} is full; retry in {retry_after_s:g} s.")


class StoreFull(EngineError):
    """The disk or the store's map is full; the write did not happen."""

    def __init__(self, path: str, problem: str) -> None:
        self.path = path
        super().__init__(f"{path} is full ({problem}). Nothing of the call was written; free space and retry.")


class CorruptData(EngineError):
    """Stored bytes do not match their checksum; ``engine check`` says what can be repaired."""

    def __init__(self, where: str, problem: str) -> None:
        self.where = where
        self.problem = problem
        super().__init__(
            f"{where} is damaged: {problem}. Run `engine check`; restore from a snapshot if it cannot repair."
        )


class Unauthenticated(EngineError):
    """The call carried no API key, or an unknown one."""

    def __init__(self) -> None:
        super().__init__("A valid API key is required (metadata `authorization: Bearer KEY`).")


class PermissionDenied(EngineError):
    """The API key is known but its role does not allow the call."""

    def __init__(self, role: str, needed: str) -> None:
        self.role = role
        self.needed = needed
        super().__init__(f"This call needs the role {needed!r}; the API key has {role!r}.")


class RemoteFailure(EngineError):
    """The server could not be reached, or failed without a typed error. ``code`` is the gRPC status name."""

    def __init__(self, code: str, detail: str) -> None:
        self.code = code
        self.detail = detail
        super().__init__(f"The server answered {code}: {detail}")


class EngineClosed(EngineError):
    """The engine is closed, or closing; open it again."""

    def __init__(self, what: str = "The engine") -> None:
        super().__init__(f"{what} is closed.")
