"""How do descriptions (collections, statistics, the engine) and embeddings cross the wire?"""

from __future__ import annotations

from typing import Literal

from engine.errors import InvalidArgument
from engine.v1 import engine_pb2 as pb
from engine.values import CollectionInfo, CollectionStats, Embedding, EngineInfo, RecallEstimate, SegmentStats
from engine.wire.documents import coverage_from_wire, coverage_to_wire
from engine.wire.enums import Vocabulary
from engine.wire.expansions import expansion_from_wire, expansion_to_wire
from engine.wire.results import LEG
from engine.wire.vectors import vector_from_wire, vector_to_wire

DENSE_KIND: Vocabulary[Literal["auto", "flat", "hnsw", "faiss", "gpu"], pb.DenseKind] = Vocabulary(
    "dense_kind",
    {
        "auto": pb.DENSE_KIND_AUTO,
        "flat": pb.DENSE_KIND_FLAT,
        "hnsw": pb.DENSE_KIND_HNSW,
        "faiss": pb.DENSE_KIND_FAISS,
        "gpu": pb.DENSE_KIND_GPU,
    },
)
EMBED_INPUT: Vocabulary[Literal["document", "query"], pb.EmbedInput] = Vocabulary(
    "input", {"document": pb.EMBED_INPUT_DOCUMENT, "query": pb.EMBED_INPUT_QUERY}
)


def collection_to_wire(info: CollectionInfo) -> pb.CollectionInfo:
    """Writes the description of a collection."""
    return pb.CollectionInfo(
        name=info.name,
        model=info.model,
        fingerprint=info.fingerprint,
        dim=info.dim,
        coarse_dim=info.coarse_dim,
        legs=[LEG.to_wire(leg) for leg in info.legs],
        language=info.language,
        weights=info.weights,
        documents=info.documents,
        passages=info.passages,
        sequence=info.sequence,
        expansion=None if info.expansion is None else expansion_to_wire(info.expansion),
        generator=info.generator,
        multi_dim=info.multi_dim,
        dtype=info.dtype,
        task=info.task,
    )


def collection_from_wire(message: pb.CollectionInfo) -> CollectionInfo:
    """Reads the description of a collection."""
    return CollectionInfo(
        name=message.name,
        model=message.model if message.HasField("model") else None,
        fingerprint=message.fingerprint if message.HasField("fingerprint") else None,
        dim=message.dim,
        coarse_dim=message.coarse_dim,
        legs=tuple(map(LEG.from_wire, message.legs)),
        language=message.language,
        weights=dict(message.weights),
        documents=message.documents,
        passages=message.passages,
        sequence=message.sequence,
        expansion=expansion_from_wire(message.expansion) if message.HasField("expansion") else None,
        generator=message.generator if message.HasField("generator") else None,
        multi_dim=message.multi_dim,
        dtype=message.dtype if message.HasField("dtype") else None,
        task=message.task if message.HasField("task") else None,
    )


def stats_to_wire(stats: CollectionStats) -> pb.CollectionStats:
    """Writes the state of a collection."""
    segments = [
        pb.SegmentStats(
            name=segment.name,
            passages=segment.passages,
            deleted=segment.deleted,
            dense_kind=segment.dense_kind,
            size_bytes=segment.size_bytes,
            multi_bytes=segment.multi_bytes,
            recall=None if segment.recall is None else _recall_to_wire(segment.recall),
        )
        for segment in stats.segments
    ]
    return pb.CollectionStats(
        info=collection_to_wire(stats.info),
        segments=segments,
        store_bytes=stats.store_bytes,
        tokens=coverage_to_wire(stats.tokens),
    )


def stats_from_wire(message: pb.CollectionStats) -> CollectionStats:
    """Reads the state of a collection."""
    segments = [
        SegmentStats(
            name=segment.name,
            passages=segment.passages,
            deleted=segment.deleted,
            dense_kind=segment.dense_kind,
            size_bytes=segment.size_bytes,
            multi_bytes=segment.multi_bytes,
            recall=_recall_from_wire(segment.recall) if segment.HasField("recall") else None,
        )
        for segment in message.segments
    ]
    return CollectionStats(
        info=collection_from_wire(message.info),
        segments=segments,
        store_bytes=message.store_bytes,
        tokens=coverage_from_wire(message.tokens),
    )


def _recall_to_wire(estimate: RecallEstimate) -> pb.RecallEstimate:
    return pb.RecallEstimate(recall=estimate.recall, lower=estimate.lower, sample=estimate.sample, asked=estimate.asked)


def _recall_from_wire(message: pb.RecallEstimate) -> RecallEstimate:
    return RecallEstimate(recall=message.recall, lower=message.lower, sample=message.sample, asked=message.asked)


def engine_info_to_wire(info: EngineInfo, max_message_bytes: int) -> pb.InfoResponse:
    """Writes the description of the engine, and of the server: the largest message that it takes."""
    return pb.InfoResponse(
        version=info.version,
        model=info.model,
        fingerprint=info.fingerprint,
        device=info.device,
        dim=info.dim,
        has_sparse=info.has_sparse,
        max_passage_tokens=info.max_passage_tokens,
        max_message_bytes=max_message_bytes,
        multi_dim=info.multi_dim,
        reranker=info.reranker,
    )


def engine_info_from_wire(message: pb.InfoResponse) -> EngineInfo:
    """Reads the description of the engine."""
    return EngineInfo(
        version=message.version,
        model=message.model if message.HasField("model") else None,
        fingerprint=message.fingerprint if message.HasField("fingerprint") else None,
        device=message.device,
        dim=message.dim,
        has_sparse=message.has_sparse,
        max_passage_tokens=message.max_passage_tokens,
        multi_dim=message.multi_dim,
        reranker=message.reranker if message.HasField("reranker") else None,
    )


def embedding_to_wire(embedding: Embedding) -> pb.Embedding:
    """Writes the vectors of one text."""
    message = pb.Embedding(
        dense=vector_to_wire(embedding.dense, "dense", InvalidArgument),
        landmarks=[
            pb.Landmark(start=start, end=end, vector=vector_to_wire(vector, "landmark", InvalidArgument))
            for start, end, vector in embedding.landmarks
        ],
        tokens=embedding.tokens,
    )
    if embedding.sparse is not None:
        message.sparse.CopyFrom(pb.SparseTerms(weights=embedding.sparse))
    return message


def embedding_from_wire(message: pb.Embedding) -> Embedding:
    """Reads the vectors of one text: float32[dim] arrays, read-only."""
    return Embedding(
        dense=vector_from_wire(message.dense, "dense", InvalidArgument),
        sparse=dict(message.sparse.weights) if message.HasField("sparse") else None,
        landmarks=tuple(
            (landmark.start, landmark.end, vector_from_wire(landmark.vector, "landmark", InvalidArgument))
            for landmark in message.landmarks
        ),
        tokens=message.tokens,
    )
