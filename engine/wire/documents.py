"""How do documents, acknowledgements and pages cross the wire?"""

from __future__ import annotations

from typing import Literal, cast

from engine.errors import InvalidArgument, InvalidDocument
from engine.v1 import engine_pb2 as pb
from engine.values import Acknowledgement, Coverage, Document, Metadata, Page
from engine.wire.enums import Vocabulary
from engine.wire.scalars import values_from_wire, values_to_wire
from engine.wire.vectors import (
    sparse_from_wire,
    sparse_to_wire,
    tokens_from_wire,
    tokens_to_wire,
    vector_from_wire,
    vector_to_wire,
)

STATUS: Vocabulary[Literal["added", "updated", "unchanged", "failed"], pb.AcknowledgementStatus] = Vocabulary(
    "status",
    {
        "added": pb.ACKNOWLEDGEMENT_STATUS_ADDED,
        "updated": pb.ACKNOWLEDGEMENT_STATUS_UPDATED,
        "unchanged": pb.ACKNOWLEDGEMENT_STATUS_UNCHANGED,
        "failed": pb.ACKNOWLEDGEMENT_STATUS_FAILED,
    },
)


def document_to_wire(document: Document) -> pb.Document:
    """Writes one document.

    Raises:
        InvalidDocument: a field has a type that the wire cannot carry.
    """
    for field in ("doc_id", "title", "text"):
        if not isinstance(getattr(document, field), str):
            raise InvalidDocument(field, f"must be a string, got {type(getattr(document, field)).__name__}")
    try:
        message = pb.Document(doc_id=document.doc_id, title=document.title, text=document.text)
    except ValueError as error:
        raise InvalidDocument(f"document {document.doc_id!r:.80}", f"is not valid Unicode: {error}") from error
    if document.metadata:
        values_to_wire(message.metadata, document.metadata, "metadata", InvalidDocument)
    if document.vector is not None:
        message.vector = vector_to_wire(document.vector, "vector", InvalidDocument)
    if document.sparse is not None:
        sparse_to_wire(message.sparse, document.sparse, "sparse", InvalidDocument)
    if document.multi is not None:
        message.multi.CopyFrom(tokens_to_wire(document.multi, "multi", InvalidDocument))
    if document.boundaries:
        try:
            message.boundaries.extend(document.boundaries)
        except (TypeError, ValueError) as error:
            raise InvalidDocument("boundaries", f"must be offsets into the text ({error})") from error
    return message


def document_from_wire(message: pb.Document) -> Document:
    """Reads one document.

    Raises:
        InvalidDocument: a vector, a sparse vector or a metadata value is malformed.
    """
    return Document(
        doc_id=message.doc_id,
        text=message.text,
        title=message.title,
        metadata=cast("Metadata", values_from_wire(message.metadata, "metadata", InvalidDocument)),
        vector=vector_from_wire(message.vector, "vector", InvalidDocument) if message.HasField("vector") else None,
        sparse=sparse_from_wire(message.sparse, "sparse", InvalidDocument) if message.HasField("sparse") else None,
        multi=tokens_from_wire(message.multi, "multi", InvalidDocument) if message.HasField("multi") else None,
        boundaries=tuple(message.boundaries),
    )


def coverage_to_wire(tokens: Coverage) -> pb.Coverage:
    """Writes a coverage."""
    return pb.Coverage(
        read=tokens.read,
        embedded=tokens.embedded,
        dropped=tokens.dropped,
        reused=tokens.reused,
        generated=tokens.generated,
    )


def coverage_from_wire(message: pb.Coverage) -> Coverage:
    """Reads a coverage."""
    return Coverage(message.read, message.embedded, message.dropped, message.reused, message.generated)


def acknowledgement_to_wire(acknowledgement: Acknowledgement) -> pb.Acknowledgement:
    """Writes one acknowledgement."""
    return pb.Acknowledgement(
        doc_id=acknowledgement.doc_id,
        status=STATUS.to_wire(acknowledgement.status),
        passages=acknowledgement.passages,
        tokens=coverage_to_wire(acknowledgement.tokens),
        sequence=acknowledgement.sequence,
        error=acknowledgement.error,
    )


def acknowledgement_from_wire(message: pb.Acknowledgement) -> Acknowledgement:
    """Reads one acknowledgement."""
    return Acknowledgement(
        doc_id=message.doc_id,
        status=STATUS.from_wire(message.status),
        passages=message.passages,
        tokens=coverage_from_wire(message.tokens),
        sequence=message.sequence,
        error=message.error if message.HasField("error") else None,
    )


def failed_acknowledgement(doc_id: object, error: InvalidArgument) -> Acknowledgement:
    """The acknowledgement of a document that could not even be read."""
    named = doc_id if isinstance(doc_id, str) else repr(doc_id)
    return Acknowledgement(doc_id=named, status="failed", error=str(error))


def page_to_wire(page: Page, max_bytes: int) -> pb.ScrollResponse:
    """Writes a page, cut short where its documents would exceed ``max_bytes``; it always holds one, if there is one."""
    message = pb.ScrollResponse(next_after=page.next_after)
    size_bytes = 0
    for document in page.documents:
        encoded = document_to_wire(document)
        size_bytes += encoded.ByteSize()
        if message.documents and size_bytes > max_bytes:
            message.next_after = message.documents[-1].doc_id
            break
        message.documents.append(encoded)
    return message


def page_from_wire(message: pb.ScrollResponse) -> Page:
    """Reads a page."""
    return Page(
        documents=list(map(document_from_wire, message.documents)),
        next_after=message.next_after if message.HasField("next_after") else None,
    )
