"""How does a program talk to a running Landmark server?

``connect`` returns an engine with the methods, values and errors of the embedded one::

    with connect("127.0.0.1:50051", api_key="...") as engine:
        result = engine.get_collection("docs").query("how do landmarks work")
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Self

from engine.api import CollectionApi, MetadataChanges, Params
from engine.client.channel import Channel, Tls
from engine.client.ingest import ingest
from engine.errors import InvalidArgument
from engine.v1 import engine_pb2 as pb
from engine.validation import to_document
from engine.values import (
    Acknowledgement,
    CollectionInfo,
    CollectionStats,
    Document,
    Embedding,
    EngineInfo,
    Expansion,
    Page,
    Query,
    QueryResult,
)
from engine.wire.catalog import (
    DENSE_KIND,
    EMBED_INPUT,
    collection_from_wire,
    embedding_from_wire,
    engine_info_from_wire,
    stats_from_wire,
)
from engine.wire.documents import acknowledgement_from_wire, document_from_wire, document_to_wire, page_from_wire
from engine.wire.expansions import expansion_to_wire
from engine.wire.queries import query_to_wire, weights_to_wire
from engine.wire.results import expect_as_many, result_from_wire
from engine.wire.scalars import checked_types, values_to_wire

DEFAULT_TIMEOUT_S = 120.0
EMBED_CHUNK = 64  # texts a call
GET_CHUNK = 256  # documents a call


def connect(
    address: str, *, api_key: str | None = None, tls: Tls | None = None, timeout_s: float = DEFAULT_TIMEOUT_S
) -> RemoteEngine:
    """Opens a connection; the server is reached with the first call.

    Args:
        address: HOST:PORT.
        api_key: sent with every call. Without ``tls`` it crosses the network in the clear.
        tls: how to encrypt; None: not at all.
        timeout_s: for each call; streams have no deadline.

    Raises:
        InvalidArgument: the address, the key or the certificates cannot be used.
    """
    if not address or ":" not in address:
        raise InvalidArgument("address", f"expected HOST:PORT, say 127.0.0.1:50051, got {address!r}")
    if api_key is not None and not (api_key.isascii() and api_key.isprintable()):
        raise InvalidArgument("api_key", "expected printable ASCII characters")
    if timeout_s <= 0:
        raise InvalidArgument("timeout_s", f"must be above 0, got {timeout_s}")
    return RemoteEngine(Channel(address, api_key, tls, timeout_s))


class RemoteEngine:
    """A server's engine; satisfies ``engine.api.EngineApi``. Thread-safe."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._lock = threading.Lock()
        self._max_message_bytes = 0

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
    ) -> RemoteCollection:
        """Creates a collection; as ``EngineApi.create_collection``."""
        with checked_types("collection"):
            request = pb.CreateCollectionRequest(
                name=name,
                dim=dim,
                sparse=sparse,
                multi=multi,
                multi_dim=multi_dim,
                language=language,
                dense_kind=DENSE_KIND.to_wire(dense_kind),
                weights=None if weights is None else weights_to_wire(weights),
                expansion=None if expansion is None else expansion_to_wire(expansion),
                task=task,
            )
        self._channel.call(self._channel.stub.CreateCollection, request)
        return RemoteCollection(self, name)

    def get_collection(self, name: str) -> RemoteCollection:
        """Opens an existing collection; raises CollectionNotFound."""
        self.describe(name)
        return RemoteCollection(self, name)

    def list_collections(self) -> list[CollectionInfo]:
        """Describes every collection, by name."""
        response = self._channel.call(self._channel.stub.ListCollections, pb.ListCollectionsRequest())
        return list(map(collection_from_wire, response.collections))

    def drop_collection(self, name: str) -> None:
        """Deletes a collection with all its documents."""
        with checked_types("name"):
            request = pb.DropCollectionRequest(name=name)
        self._channel.call(self._channel.stub.DropCollection, request)

    def embed(self, texts: Sequence[str], *, task: str | None = None, query: bool = False) -> list[Embedding]:
        """Embeds texts with the server's model; as ``EngineApi.embed``."""
        side = EMBED_INPUT.to_wire("query" if query else "document")
        found: list[Embedding] = []
        for start in range(0, len(texts), EMBED_CHUNK):
            chunk = list(texts[start : start + EMBED_CHUNK])
            with checked_types("texts"):
                request = pb.EmbedRequest(texts=chunk, input=side, task=task)
            response = self._channel.call(self._channel.stub.Embed, request)
            expect_as_many(len(response.embeddings), len(chunk), "embeddings")
            found.extend(map(embedding_from_wire, response.embeddings))
        return found

    def info(self) -> EngineInfo:
        """What is running on the server."""
        return engine_info_from_wire(self._channel.call(self._channel.stub.Info, pb.InfoRequest()))

    def close(self) -> None:
        """Ends the connection; the server goes on. Later calls raise EngineClosed."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def channel(self) -> Channel:
        """The connection."""
        return self._channel

    def describe(self, name: str) -> CollectionInfo:
        """Describes one collection; raises CollectionNotFound."""
        with checked_types("name"):
            request = pb.GetCollectionRequest(name=name)
        return collection_from_wire(self._channel.call(self._channel.stub.GetCollection, request).collection)

    def max_message_bytes(self) -> int:
        """The largest request that the server takes; asked once."""
        with self._lock:
            if not self._max_message_bytes:
                response = self._channel.call(self._channel.stub.Info, pb.InfoRequest())
                self._max_message_bytes = response.max_message_bytes
            return self._max_message_bytes


class RemoteCollection(CollectionApi):
    """A collection of a server; satisfies ``engine.api.CollectionApi``. Thread-safe."""

    def __init__(self, engine: RemoteEngine, name: str) -> None:
        self._engine = engine
        self._channel = engine.channel
        self._stub = engine.channel.stub
        self._name = name

    @property
    def name(self) -> str:
        """The collection's name."""
        return self._name

    def upsert(self, documents: Iterable[Document | Mapping[str, object]]) -> list[Acknowledgement]:
        """Adds or replaces documents, all or none, in one message; as ``CollectionApi.upsert``.

        Raises:
            InvalidArgument: together they exceed what the server takes in one message: use ``ingest``.
        """
        messages = [document_to_wire(to_document(document)) for document in documents]
        request = pb.UpsertRequest(collection=self.name, documents=messages)
        limit_bytes = self._engine.max_message_bytes()
        if request.ByteSize() > limit_bytes:
            problem = f"take {request.ByteSize():,} bytes; the server takes {limit_bytes:,} at once. Use ingest"
            raise InvalidArgument("documents", problem)
        response = self._channel.call(self._stub.Upsert, request)
        expect_as_many(len(response.acknowledgements), len(messages), "acknowledgements")
        return list(map(acknowledgement_from_wire, response.acknowledgements))

    def ingest(self, documents: Iterable[Document | Mapping[str, object]]) -> Iterator[Acknowledgement]:
        """Streams documents; as ``CollectionApi.ingest``."""
        yield from ingest(self._channel, self.name, documents, self._engine.max_message_bytes())

    def delete(
        self, doc_ids: Sequence[str] | None = None, *, filter: str | None = None, params: Params | None = None
    ) -> int:
        """Deletes documents by id or by filter; as ``CollectionApi.delete``."""
        with checked_types("doc_ids, filter"):
            ids = None if doc_ids is None else pb.DocIds(values=_listed(doc_ids))
            request = pb.DeleteRequest(collection=self.name, ids=ids, filter=filter)
        values_to_wire(request.params, params or {}, "params", InvalidArgument)
        deleted: int = self._channel.call(self._stub.Delete, request).deleted
        return deleted

    def update_metadata(self, doc_id: str, changes: MetadataChanges, *, replace: bool = False) -> int:
        """Changes a document's metadata; as ``CollectionApi.update_metadata``."""
        with checked_types("doc_id"):
            request = pb.UpdateMetadataRequest(collection=self.name, doc_id=doc_id, replace=replace)
        values_to_wire(request.changes, changes, "metadata", InvalidArgument)
        sequence: int = self._channel.call(self._stub.UpdateMetadata, request).sequence
        return sequence

    def get(self, doc_ids: Sequence[str], *, vectors: bool = False) -> list[Document | None]:
        """Returns documents by id, None where there is none; as ``CollectionApi.get``."""
        ids = _listed(doc_ids)
        found: list[Document | None] = []
        for start in range(0, len(ids), GET_CHUNK):
            chunk = ids[start : start + GET_CHUNK]
            with checked_types("doc_ids"):
                request = pb.GetRequest(collection=self.name, doc_ids=chunk, vectors=vectors)
            lookups = self._channel.call(self._stub.Get, request).lookups
            expect_as_many(len(lookups), len(chunk), "documents")
            found.extend(document_from_wire(one.document) if one.HasField("document") else None for one in lookups)
        return found

    def scroll(
        self, *, filter: str | None = None, params: Params | None = None, limit: int = 100, after: str | None = None
    ) -> Page:
        """Returns one page in ``doc_id`` order, shorter than ``limit`` where it would exceed one message."""
        with checked_types("filter, limit, after"):
            request = pb.ScrollRequest(collection=self.name, filter=filter, limit=limit, after=after)
        values_to_wire(request.params, params or {}, "params", InvalidArgument)
        return page_from_wire(self._channel.call(self._stub.Scroll, request))

    def count(self, *, filter: str | None = None, params: Params | None = None) -> int:
        """Counts documents; as ``CollectionApi.count``."""
        with checked_types("filter"):
            request = pb.CountRequest(collection=self.name, filter=filter)
        values_to_wire(request.params, params or {}, "params", InvalidArgument)
        count: int = self._channel.call(self._stub.Count, request).count
        return count

    def answer(self, query: Query) -> QueryResult:
        """Answers one question; as ``CollectionApi.answer``."""
        request = pb.QueryRequest(collection=self.name, query=query_to_wire(query))
        return result_from_wire(self._channel.call(self._stub.Query, request).result)

    def query_batch(self, queries: Sequence[Query]) -> list[QueryResult]:
        """Answers several questions on one snapshot, in order; at most 256."""
        request = pb.QueryBatchRequest(collection=self.name, queries=map(query_to_wire, queries))
        response = self._channel.call(self._stub.QueryBatch, request)
        expect_as_many(len(response.results), len(queries), "results")
        return list(map(result_from_wire, response.results))

    def optimize(self) -> None:
        """Does the background work that is due; as ``CollectionApi.optimize``."""
        self._channel.call(self._stub.OptimizeCollection, pb.OptimizeCollectionRequest(name=self.name))

    def info(self) -> CollectionInfo:
        """What the collection was created with, and what it holds now."""
        return self._engine.describe(self.name)

    def stats(self) -> CollectionStats:
        """The state of the collection's storage and index."""
        request = pb.GetCollectionStatsRequest(name=self.name)
        return stats_from_wire(self._channel.call(self._stub.GetCollectionStats, request).stats)


def _listed(doc_ids: Sequence[str]) -> list[str]:
    if isinstance(doc_ids, str):
        raise InvalidArgument("doc_ids", f"expected a list of ids, got the text {doc_ids!r:.80}")
    return list(doc_ids)
