"""Which methods do an embedded engine and a remote engine share?

``engine.embedded`` (this process owns the data folder), ``engine.followed`` (it reads a folder that another one owns) and
``engine.client`` (gRPC) satisfy these Protocols over the same values and raise the same errors, so the command line, the
integrations and most tests are written once and run on any.

    EngineApi ──create_collection / get_collection──► CollectionApi
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Protocol, Self, runtime_checkable

from engine.values import (
    Acknowledgement,
    CollectionInfo,
    CollectionStats,
    Document,
    Embedding,
    EngineInfo,
    Expansion,
    FusionMethod,
    Mode,
    Page,
    Query,
    QueryExpansion,
    QueryResult,
    ResultField,
    Scalar,
)

Params = Mapping[str, "Scalar | Sequence[Scalar]"]
MetadataChanges = Mapping[str, "Scalar | Sequence[Scalar] | None"]


@runtime_checkable
class CollectionApi(Protocol):
    """One collection, embedded or remote. Every method may be called from several threads.

    Implementations inherit from it: ``query`` is written once, here, and asks their ``answer``.
    """

    @property
    def name(self) -> str:
        """The collection's name."""
        ...

    def upsert(self, documents: Iterable[Document | Mapping[str, object]]) -> list[Acknowledgement]:
        """Adds or replaces documents, all or none; returns after fsync, one acknowledgement a document, in input order.

        Raises:
            InvalidDocument: one document cannot be stored; nothing was written.
        """
        ...

    def ingest(self, documents: Iterable[Document | Mapping[str, object]]) -> Iterator[Acknowledgement]:
        """Adds or replaces a stream of documents; yields one acknowledgement a document, in input order, after fsync.

        An invalid document is acknowledged with status "failed" and the stream goes on.
        """
        ...

    def delete(
        self, doc_ids: Sequence[str] | None = None, *, filter: str | None = None, params: Params | None = None
    ) -> int:
        """Deletes documents by id or by filter (exactly one of the two); returns how many were there."""
        ...

    def update_metadata(self, doc_id: str, changes: MetadataChanges, *, replace: bool = False) -> int:
        """Merges ``changes`` into a document's metadata (None removes a key); nothing is embedded again.

        Returns:
            The sequence number of the commit.

        Raises:
            DocumentNotFound: the id is not in the collection.
        """
        ...

    def get(self, doc_ids: Sequence[str], *, vectors: bool = False) -> list[Document | None]:
        """Returns the documents in the order asked, None where an id is not there."""
        ...

    def scroll(
        self, *, filter: str | None = None, params: Params | None = None, limit: int = 100, after: str | None = None
    ) -> Page:
        """Returns up to ``limit`` documents in ``doc_id`` order, those after ``after``."""
        ...

    def count(self, *, filter: str | None = None, params: Params | None = None) -> int:
        """Counts the documents that match, or all."""
        ...

    def query(
        self,
        text: str | None = None,
        *,
        task: str | None = None,
        vector: Sequence[float] | None = None,
        sparse: Mapping[int, float] | None = None,
        multi: Sequence[Sequence[float]] | None = None,
        mode: Mode = "hybrid",
        limit: int = 10,
        offset: int = 0,
        filter: str | None = None,
        params: Params | None = None,
        fusion: FusionMethod = "convex",
        weights: Mapping[str, float] | None = None,
        depth: Mapping[str, int] | None = None,
        recall_target: float | None = None,
        exact: bool = False,
        passages: int = 3,
        score_threshold: float | None = None,
        rerank: int | None = None,
        explain: bool = True,
        expansion: QueryExpansion | None = None,
        examples: Sequence[tuple[str, str]] = (),
        fields: Sequence[ResultField] | None = None,
    ) -> QueryResult:
        """Answers one question; the arguments are the fields of ``engine.values.Query``.

        Raises:
            InvalidQuery: an argument cannot be used (InvalidFilter, DimensionMismatch: more exactly).
            LegMissing: ``mode`` names a leg that the collection has not.
            RerankerMissing: ``rerank`` is asked for, and the engine was opened without a reranker.
        """
        return self.answer(
            Query(
                text=text,
                task=task,
                vector=vector,
                sparse=sparse,
                multi=multi,
                mode=mode,
                limit=limit,
                offset=offset,
                filter=filter,
                params=params or {},
                fusion=fusion,
                weights=weights,
                depth=depth,
                recall_target=recall_target,
                exact=exact,
                passages=passages,
                score_threshold=score_threshold,
                rerank=rerank,
                explain=explain,
                expansion=expansion,
                examples=examples,
                fields=fields,
            )
        )

    def answer(self, query: Query) -> QueryResult:
        """Answers one question, as ``query`` does."""
        ...

    def query_batch(self, queries: Sequence[Query]) -> list[QueryResult]:
        """Answers several questions on one snapshot; results in input order."""
        ...

    def info(self) -> CollectionInfo:
        """What the collection was created with, and what it holds now."""
        ...

    def stats(self) -> CollectionStats:
        """The state of the collection's storage and index."""
        ...

    def optimize(self) -> None:
        """Seals, merges what is due or small, reclaims deletions, chooses fusion weights. Returns when all is on disk.

        Never necessary; useful after a large ingest, before measuring, or before the process ends.
        """
        ...


@runtime_checkable
class EngineApi(Protocol):
    """A set of collections and a model. A context manager: leaving it closes it."""

    def create_collection(
        self,
        name: str,
        *,
        dim: int | None = None,
        sparse: bool | None = None,
        multi: bool = False,
        multi_dim: int | None = None,
        language: str = "english",
        dense_kind: str = "auto",
        weights: Mapping[str, float] | None = None,
        expansion: Expansion | None = None,
        task: str | None = None,
    ) -> CollectionApi:
        """Creates a collection.

        Args:
            name: its name.
            dim: the width of the caller's own vectors (no model is used); None: the model's.
            sparse: keep a learned sparse leg; None: if the model has one.
            multi: keep a vector of every token, by which what the other legs find is scored. Costs storage: a token takes
                as many bytes as the vectors have dimensions.
            multi_dim: the width of the caller's own token vectors, without a model; None: the model's.
            language: the analyser's language, a Snowball algorithm name or "none".
            dense_kind: "auto", "flat", "hnsw", "faiss" or "gpu".
            weights: leg → default fusion weight; None: the engine's defaults.
            expansion: what the engine's generator writes about each passage before it is embedded; None: nothing.
            task: what its queries ask for unless they say otherwise, for a model that takes an instruction: a name that the
                model's recipe knows, or the instruction; None: the recipe's default.

        Raises:
            CollectionExists: the name is taken.
            InvalidArgument: an option is unknown, or the model has not what is asked for.
        """
        ...

    def get_collection(self, name: str) -> CollectionApi:
        """Opens an existing collection.

        Raises:
            CollectionNotFound: there is none of this name.
        """
        ...

    def list_collections(self) -> list[CollectionInfo]:
        """Describes every collection, by name."""
        ...

    def drop_collection(self, name: str) -> None:
        """Deletes a collection with all its documents."""
        ...

    def embed(self, texts: Sequence[str], *, task: str | None = None, query: bool = False) -> list[Embedding]:
        """Embeds texts with the engine's model, as documents or (``query``) as queries.

        Args:
            texts: what to embed.
            task: a name that the model's recipe knows, or an instruction; None: its default.
            query: use the query side of the model.
        """
        ...

    def info(self) -> EngineInfo:
        """What is running: version, model, device, limits."""
        ...

    def close(self) -> None:
        """Releases everything; later calls raise EngineClosed."""
        ...

    def __enter__(self) -> Self:
        """Returns the engine itself."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes the engine."""
        ...
