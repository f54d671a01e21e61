"""How is each unary call answered?

Plain blocking functions from request to response, run on a pool's thread: read the request, ask the engine, write the
answer. They know protobuf and the engine's Python surface, and neither gRPC nor asyncio.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from engine.api import CollectionApi, EngineApi
from engine.errors import InvalidArgument, InvalidQuery
from engine.server.metrics import Metrics
from engine.v1 import engine_pb2 as pb
from engine.wire.catalog import (
    DENSE_KIND,
    EMBED_INPUT,
    collection_to_wire,
    embedding_to_wire,
    engine_info_to_wire,
    stats_to_wire,
)
from engine.wire.documents import acknowledgement_to_wire, document_from_wire, document_to_wire, page_to_wire
from engine.wire.expansions import expansion_from_wire
from engine.wire.queries import params_from_wire, query_from_wire, weights_from_wire
from engine.wire.results import result_to_wire
from engine.wire.scalars import values_from_wire

MAX_BATCH = 256  # queries or texts of one call: one call must not hold a thread for long

Handler = Callable[..., object]


class Calls:
    """The unary methods of the service, over any engine."""

    def __init__(self, engine: EngineApi, metrics: Metrics, max_message_bytes: int) -> None:
        self._engine = engine
        self._metrics = metrics
        self._max_message_bytes = max_message_bytes

    def by_name(self) -> dict[str, Handler]:
        """Every unary method of the service by its name on the wire."""
        return {
            "Info": self.info,
            "CreateCollection": self.create_collection,
            "GetCollection": self.get_collection,
            "ListCollections": self.list_collections,
            "DropCollection": self.drop_collection,
            "GetCollectionStats": self.get_collection_stats,
            "OptimizeCollection": self.optimize_collection,
            "Upsert": self.upsert,
            "Delete": self.delete,
            "UpdateMetadata": self.update_metadata,
            "Get": self.get,
            "Scroll": self.scroll,
            "Count": self.count,
            "Query": self.query,
            "QueryBatch": self.query_batch,
            "Embed": self.embed,
        }

    def collection(self, name: str) -> CollectionApi:
        """The collection that a request names; raises CollectionNotFound."""
        return self._engine.get_collection(name)

    def info(self, request: pb.InfoRequest) -> pb.InfoResponse:
        """Answers Info."""
        return engine_info_to_wire(self._engine.info(), self._max_message_bytes)

    def create_collection(self, request: pb.CreateCollectionRequest) -> pb.CreateCollectionResponse:
        """Answers CreateCollection."""
        created = self._engine.create_collection(
            request.name,
            dim=request.dim if request.HasField("dim") else None,
            sparse=request.sparse if request.HasField("sparse") else None,
            multi=request.multi,
            multi_dim=request.multi_dim if request.HasField("multi_dim") else None,
            language=request.language if request.HasField("language") else "english",
            dense_kind=DENSE_KIND.from_wire(request.dense_kind),
            weights=weights_from_wire(request.weights) if request.HasField("weights") else None,
            expansion=expansion_from_wire(request.expansion) if request.HasField("expansion") else None,
            task=request.task if request.HasField("task") else None,
        )
        return pb.CreateCollectionResponse(collection=collection_to_wire(created.info()))

    def get_collection(self, request: pb.GetCollectionRequest) -> pb.GetCollectionResponse:
        """Answers GetCollection."""
        return pb.GetCollectionResponse(collection=collection_to_wire(self.collection(request.name).info()))

    def list_collections(self, request: pb.ListCollectionsRequest) -> pb.ListCollectionsResponse:
        """Answers ListCollections."""
        return pb.ListCollectionsResponse(collections=map(collection_to_wire, self._engine.list_collections()))

    def drop_collection(self, request: pb.DropCollectionRequest) -> pb.DropCollectionResponse:
        """Answers DropCollection."""
        self._engine.drop_collection(request.name)
        return pb.DropCollectionResponse()

    def get_collection_stats(self, request: pb.GetCollectionStatsRequest) -> pb.GetCollectionStatsResponse:
        """Answers GetCollectionStats."""
        return pb.GetCollectionStatsResponse(stats=stats_to_wire(self.collection(request.name).stats()))

    def optimize_collection(self, request: pb.OptimizeCollectionRequest) -> pb.OptimizeCollectionResponse:
        """Answers OptimizeCollection."""
        self.collection(request.name).optimize()
        return pb.OptimizeCollectionResponse()

    def upsert(self, request: pb.UpsertRequest) -> pb.UpsertResponse:
        """Answers Upsert."""
        collection = self.collection(request.collection)
        acknowledgements = collection.upsert([document_from_wire(document) for document in request.documents])
        self._metrics.count_documents(acknowledgements)
        return pb.UpsertResponse(acknowledgements=map(acknowledgement_to_wire, acknowledgements))

    def delete(self, request: pb.DeleteRequest) -> pb.DeleteResponse:
        """Answers Delete."""
        deleted = self.collection(request.collection).delete(
            list(request.ids.values) if request.HasField("ids") else None,
            filter=_optional(request),
            params=params_from_wire(request.params),
        )
        return pb.DeleteResponse(deleted=deleted)

    def update_metadata(self, request: pb.UpdateMetadataRequest) -> pb.UpdateMetadataResponse:
        """Answers UpdateMetadata."""
        changes = values_from_wire(request.changes, "changes", InvalidArgument)
        sequence = self.collection(request.collection).update_metadata(
            request.doc_id,
            changes,  # type: ignore[arg-type]  # the engine refuses what is no scalar
            replace=request.replace,
        )
        return pb.UpdateMetadataResponse(sequence=sequence)

    def get(self, request: pb.GetRequest) -> pb.GetResponse:
        """Answers Get."""
        found = self.collection(request.collection).get(list(request.doc_ids), vectors=request.vectors)
        return pb.GetResponse(
            lookups=[
                pb.Lookup(document=None if found_one is None else document_to_wire(found_one)) for found_one in found
            ]
        )

    def scroll(self, request: pb.ScrollRequest) -> pb.ScrollResponse:
        """Answers Scroll."""
        page = self.collection(request.collection).scroll(
            filter=_optional(request),
            params=params_from_wire(request.params),
            limit=request.limit if request.HasField("limit") else 100,
            after=request.after if request.HasField("after") else None,
        )
        return page_to_wire(page, self._max_message_bytes)

    def count(self, request: pb.CountRequest) -> pb.CountResponse:
        """Answers Count."""
        collection = self.collection(request.collection)
        found = collection.count(filter=_optional(request), params=params_from_wire(request.params))
        return pb.CountResponse(count=found)

    def query(self, request: pb.QueryRequest) -> pb.QueryResponse:
        """Answers Query."""
        result = self.collection(request.collection).answer(query_from_wire(request.query))
        return pb.QueryResponse(result=result_to_wire(result))

    def query_batch(self, request: pb.QueryBatchRequest) -> pb.QueryBatchResponse:
        """Answers QueryBatch."""
        _check_batch(request.queries, "queries")
        results = self.collection(request.collection).query_batch(list(map(query_from_wire, request.queries)))
        return pb.QueryBatchResponse(results=map(result_to_wire, results))

    def embed(self, request: pb.EmbedRequest) -> pb.EmbedResponse:
        """Answers Embed."""
        _check_batch(request.texts, "texts")
        side = EMBED_INPUT.from_wire(request.input)
        task = request.task if request.HasField("task") else None
        embeddings = self._engine.embed(list(request.texts), task=task, query=side == "query")
        return pb.EmbedResponse(embeddings=map(embedding_to_wire, embeddings))


def _optional(request: pb.DeleteRequest | pb.ScrollRequest | pb.CountRequest) -> str | None:
    return request.filter if request.HasField("filter") else None


def _check_batch(items: Sequence[object], field: str) -> None:
    if len(items) > MAX_BATCH:
        raise InvalidQuery(field, f"at most {MAX_BATCH} a call, got {len(items)}")
