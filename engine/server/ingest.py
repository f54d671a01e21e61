"""How does one Ingest stream run?

Three tasks on the event loop and, while there is work, one thread::

    gRPC ──_read──► Inbox ──thread: collection.ingest(burst)──► Outbox ──_write──► gRPC
           ▲                                                              │
           └───────────────────── Window (items, bytes) ◄─────────────────┘

The window holds what is read and not yet acknowledged to the client; when it is full the stream is not read, and gRPC's
flow control stops the sender. A *burst* is one run of the engine's blocking ``ingest``: it ends when no document came
for a moment, so that the engine commits and acknowledges what it has, and an idle stream occupies no thread.
"""

from __future__ import annotations

import asyncio
import queue
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator

from google.protobuf.message import DecodeError

from engine.api import CollectionApi
from engine.errors import EngineClosed, InvalidArgument, InvalidDocument, Overloaded
from engine.server.limits import Pool, Window
from engine.server.metrics import Metrics
from engine.server.rpc import Context, Requests
from engine.v1 import engine_pb2 as pb
from engine.values import Acknowledgement, Document
from engine.wire.documents import acknowledgement_to_wire, document_from_wire, failed_acknowledgement

LINGER_S = 0.02  # a burst ends when no document came for this long
TURN_S = 2.0  # a burst longer than this makes room when other writes wait
RETRY_S = 0.05  # between attempts to get a thread; the window holds the sender meanwhile
MAX_RESPONSE_ITEMS = 256


class Inbox:
    """Documents on their way from the event loop to the thread. The window bounds what is in it."""

    def __init__(self) -> None:
        self._items: queue.SimpleQueue[Document | Acknowledgement] = queue.SimpleQueue()
        self._arrived = asyncio.Event()
        self._ended = False

    def put(self, item: Document | Acknowledgement) -> None:
        """Adds a document, or the failed acknowledgement of one that could not be read."""
        self._items.put(item)
        self._arrived.set()

    def end(self) -> None:
        """Says that nothing more will come."""
        self._ended = True
        self._arrived.set()

    async def has_more(self) -> bool:
        """Waits for items; False when the end is reached."""
        while self._items.empty() and not self._ended:
            self._arrived.clear()
            await self._arrived.wait()
        return not self._items.empty()

    def take(self) -> Document | Acknowledgement | None:
        """On the thread: the next item, None when none comes for a moment or the end is reached."""
        try:
            return self._items.get(timeout=0 if self._ended else LINGER_S)
        except queue.Empty:
            return None

    def discard(self) -> None:
        """Drops what no thread has taken, and ends."""
        self.end()
        while self.take() is not None:
            pass


class Outbox:
    """Acknowledgements on their way from the thread to the event loop. The window bounds what is in it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._items: deque[Acknowledgement] = deque()
        self._changed = asyncio.Event()
        self._ended = False

    def put(self, item: Acknowledgement) -> None:
        """On the thread: adds one."""
        self._items.append(item)
        self._loop.call_soon_threadsafe(self._changed.set)

    def end(self) -> None:
        """Says that nothing more will come."""
        self._ended = True
        self._changed.set()

    async def batches(self) -> AsyncIterator[list[Acknowledgement]]:
        """Everything that is ready, again and again, until the end."""
        while True:
            batch = [self._items.popleft() for _ in range(min(len(self._items), MAX_RESPONSE_ITEMS))]
            if batch:
                yield batch
            elif self._ended:
                return
            else:
                self._changed.clear()
                await self._changed.wait()


class IngestStream:
    """One Ingest call."""

    def __init__(self, pool: Pool, window: Window, metrics: Metrics) -> None:
        """Takes the write pool, the stream's own window, and the server's metrics."""
        self._pool = pool
        self._window = window
        self._metrics = metrics
        self._inbox = Inbox()
        self._outbox = Outbox(asyncio.get_running_loop())

    async def run(
        self,
        collection: CollectionApi,
        requests: Requests,
        context: Context,
        draining: asyncio.Event,
    ) -> None:
        """Serves the stream after its first message, until the client ends it or the server drains.

        Raises:
            EngineClosed: the server drains; everything that was read is acknowledged.
            InvalidArgument: a message is malformed; everything before it is acknowledged.
            EngineError: the engine could not go on; what it acknowledged before is sent.
        """
        reader = asyncio.create_task(self._read(requests))
        indexer = asyncio.create_task(self._index(collection))
        writer = asyncio.create_task(self._write(context))
        drained = asyncio.create_task(draining.wait())
        try:
            await asyncio.wait({reader, indexer, drained}, return_when=asyncio.FIRST_COMPLETED)
            reader.cancel()
            self._inbox.end()
            outcomes = await asyncio.gather(reader, indexer, return_exceptions=True)
            self._outbox.end()
            await writer
        finally:
            self._inbox.discard()
            for task in (reader, indexer, writer, drained):
                task.cancel()
        _raise_first(*outcomes)

    async def _read(self, requests: Requests) -> None:
        async for raw in requests:
            message = parse_request(raw)
            if message.WhichOneof("item") != "documents":
                raise InvalidArgument("item", "expected documents after the first message")
            for document in message.documents.documents:
                await self._window.acquire(document.ByteSize())
                self._inbox.put(_readable(document))

    async def _index(self, collection: CollectionApi) -> None:
        while await self._inbox.has_more():
            try:
                await self._pool.run(lambda: self._burst(collection), None)
            except Overloaded:
                await asyncio.sleep(RETRY_S)

    async def _write(self, context: Context) -> None:
        async for batch in self._outbox.batches():
            response = pb.IngestResponse(acknowledgements=map(acknowledgement_to_wire, batch))
            await context.write(response.SerializeToString())
            self._metrics.count_documents(batch)
            self._window.release(len(batch))

    def _burst(self, collection: CollectionApi) -> None:
        """On the thread: one run of the engine's ingest. In ``order``, None is a document that the engine has."""
        order: deque[Acknowledgement | None] = deque()
        for acknowledgement in collection.ingest(self._documents(order)):
            self._pass_failures(order)
            order.popleft()
            self._outbox.put(acknowledgement)
        self._pass_failures(order)
        if order:
            raise RuntimeError(f"the engine left {len(order)} documents without an acknowledgement")

    def _documents(self, order: deque[Acknowledgement | None]) -> Iterator[Document]:
        began = time.monotonic()
        while time.monotonic() - began < TURN_S or not self._pool.waiting:
            item = self._inbox.take()
            if item is None:
                return
            if isinstance(item, Document):
                order.append(None)
                yield item
            else:
                order.append(item)

    def _pass_failures(self, order: deque[Acknowledgement | None]) -> None:
        while order and order[0] is not None:
            self._outbox.put(order[0])
            order.popleft()


def parse_request(raw: bytes) -> pb.IngestRequest:
    """Reads one message of the stream; raises InvalidArgument."""
    try:
        request: pb.IngestRequest = pb.IngestRequest.FromString(raw)
    except DecodeError as error:
        raise InvalidArgument("request", f"is no valid IngestRequest: {error}") from error
    return request


def _readable(document: pb.Document) -> Document | Acknowledgement:
    try:
        return document_from_wire(document)
    except InvalidDocument as error:
        return failed_acknowledgement(document.doc_id, error)


def _raise_first(read: BaseException | None, indexed: BaseException | None) -> None:
    """Raises what the indexer met, else what the reader met; a cancelled reader means that the server drains."""
    if indexed is not None:
        raise indexed
    if isinstance(read, asyncio.CancelledError):
        raise EngineClosed("The server")
    if read is not None:
        raise read
