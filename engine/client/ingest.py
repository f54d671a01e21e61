"""How does the client stream documents and acknowledgements at the same time?

The caller's thread pulls documents and yields acknowledgements; gRPC's threads send and receive. Documents are packed
into messages by the sender: it takes whatever is ready, so packs are large when documents come fast and nothing waits
when they come slowly. A window bounds what is not acknowledged.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping

import grpc

from engine.client.channel import Channel, failure_of
from engine.errors import InvalidArgument, InvalidDocument, RemoteFailure
from engine.v1 import engine_pb2 as pb
from engine.validation import to_document
from engine.values import Acknowledgement, Document
from engine.wire.documents import acknowledgement_from_wire, document_to_wire, failed_acknowledgement

WINDOW_ITEMS = 4096  # the server's own default, so that neither waits for the other
WINDOW_BYTES = 32 << 20
PACK_ITEMS = 64
PACK_BYTES = 256 << 10
ENVELOPE_BYTES = 64  # a document's share of its message beyond its own bytes


def ingest(
    channel: Channel, collection: str, documents: Iterable[Document | Mapping[str, object]], max_message_bytes: int
) -> Iterator[Acknowledgement]:
    """Streams documents to a collection and yields an acknowledgement for each, in input order.

    Args:
        channel: the connection.
        collection: its name.
        documents: pulled on the caller's thread, at most a window ahead of the acknowledgements.
        max_message_bytes: what the server takes; a larger document is acknowledged as failed.

    Raises:
        EngineError: the stream failed; documents without an acknowledgement may or may not have been written.
    """
    stream = _Stream(channel, collection)
    try:
        for given in documents:
            stream.send(_encode(given, max_message_bytes))
            yield from stream.ready()
        yield from stream.finish()
    finally:
        stream.close()


def _encode(given: Document | Mapping[str, object], max_message_bytes: int) -> pb.Document | Acknowledgement:
    doc_id = given.get("doc_id") if isinstance(given, Mapping) else getattr(given, "doc_id", None)
    try:
        message = document_to_wire(to_document(given))
        size_bytes = message.ByteSize() + ENVELOPE_BYTES
        if size_bytes > max_message_bytes:
            problem = f"takes {size_bytes:,} bytes on the wire; this server takes {max_message_bytes:,}"
            raise InvalidDocument(f"document {doc_id!r:.80}", problem)
    except InvalidArgument as error:
        return failed_acknowledgement(doc_id, error)
    return message


class _Stream:
    """One open stream. All state is under one condition."""

    def __init__(self, channel: Channel, collection: str) -> None:
        self._changed = threading.Condition()
        self._waiting: deque[tuple[pb.Document, int]] = deque()  # encoded and not sent, with sizes
        self._order: deque[Acknowledgement | None] = deque()  # not yielded; None: the server acknowledges it
        self._sizes: deque[int] = deque()  # of what the server has to acknowledge
        self._held_bytes = 0
        self._received: deque[Acknowledgement] = deque()
        self._ended = False
        self._over = False  # the server ended the stream
        self._failure: Exception | None = None
        self._call = channel.stream(channel.stub.Ingest, self._requests(collection))
        self._receiver = threading.Thread(target=self._receive, name="landmark-ingest", daemon=True)
        self._receiver.start()

    def send(self, item: pb.Document | Acknowledgement) -> None:
        """Queues a document, or the acknowledgement of one that failed here."""
        with self._changed:
            if isinstance(item, Acknowledgement):
                self._order.append(item)
                return
            size_bytes = item.ByteSize()
            self._waiting.append((item, size_bytes))
            self._order.append(None)
            self._sizes.append(size_bytes)
            self._held_bytes += size_bytes
            self._changed.notify_all()

    def ready(self) -> Iterator[Acknowledgement]:
        """What can be yielded now; waits only while the window is full."""
        while True:
            with self._changed:
                while not self._has_next() and self._is_full() and not self._over:
                    self._changed.wait()
                if not self._has_next():
                    self._raise_if_over()
                    return
                item = self._next()
            yield item

    def finish(self) -> Iterator[Acknowledgement]:
        """Says that no more documents come, and yields the rest."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        while True:
            with self._changed:
                while not self._has_next() and self._order and not self._over:
                    self._changed.wait()
                if not self._order:
                    break
                if not self._has_next():
                    self._raise_if_over()
                item = self._next()
            yield item
        self._receiver.join()
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """Ends the stream, whatever its state."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        self._call.cancel()
        self._receiver.join()

    def _has_next(self) -> bool:
        return bool(self._order) and (self._order[0] is not None or bool(self._received))

    def _next(self) -> Acknowledgement:
        item = self._order.popleft()
        if item is None:
            item = self._received.popleft()
        return item

    def _is_full(self) -> bool:
        return len(self._sizes) >= WINDOW_ITEMS or self._held_bytes >= WINDOW_BYTES

    def _raise_if_over(self) -> None:
        if self._over:
            raise self._failure or RemoteFailure("INTERNAL", "the stream ended before every document was acknowledged")

    def _requests(self, collection: str) -> Iterator[pb.IngestRequest]:
        """On gRPC's sending thread."""
        yield pb.IngestRequest(start=pb.IngestStart(collection=collection))
        while pack := self._pack():
            yield pb.IngestRequest(documents=pb.IngestDocuments(documents=pack))

    def _pack(self) -> list[pb.Document]:
        """Waits for documents and takes what is there, up to a pack; none: the end."""
        with self._changed:
            while not self._waiting and not self._ended and not self._over:
                self._changed.wait()
            pack: list[pb.Document] = []
            size_bytes = 0
            while self._waiting and len(pack) < PACK_ITEMS:
                document, own_bytes = self._waiting[0]
                if pack and size_bytes + own_bytes > PACK_BYTES:
                    break
                self._waiting.popleft()
                pack.append(document)
                size_bytes += own_bytes
            return pack

    def _receive(self) -> None:
        """On our receiving thread."""
        failure: Exception | None = None
        try:
            for response in self._call:
                self._accept([acknowledgement_from_wire(message) for message in response.acknowledgements])
        except grpc.RpcError as error:
            failure = failure_of(error)
        except InvalidArgument as error:
            failure = RemoteFailure("INTERNAL", f"an acknowledgement could not be read: {error}")
        with self._changed:
            self._failure = failure
            self._over = True
            self._changed.notify_all()

    def _accept(self, acknowledgements: list[Acknowledgement]) -> None:
        with self._changed:
            self._received.extend(acknowledgements)
            for _ in acknowledgements:
                self._held_bytes -= self._sizes.popleft()
            self._changed.notify_all()
