"""What happens between a call's arrival and its answer?

Every method takes one way: count it, run its blocking work on its pool, answer with bytes, or turn the error into a
status. Messages are parsed and written on the pool's thread: the event loop only moves bytes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from engine.api import EngineApi
from engine.errors import InvalidArgument, Overloaded
from engine.server.calls import Calls
from engine.server.config import MIB, ServerConfig
from engine.server.forwarding import Forwarder
from engine.server.ingest import IngestStream, parse_request
from engine.server.limits import Pool, Window
from engine.server.methods import METHODS, SERVICE
from engine.server.metrics import Metrics
from engine.server.rpc import Context, Requests, RpcHandler
from engine.server.status import abort_with, code_of

Work = Callable[[Any], Any]


class EngineServicer:
    """The service ``engine.v1.Engine`` over one engine. Lives on the event loop's thread."""

    def __init__(self, engine: EngineApi, config: ServerConfig, metrics: Metrics) -> None:
        self._config = config
        self._metrics = metrics
        self._calls = Calls(engine, metrics, config.max_message_bytes)
        self._pools = {
            "search": Pool("search", config.search_workers, config.search_queue),
            "write": Pool("write", config.write_workers, config.write_queue),
            "model": Pool("model", config.model_workers, config.model_queue),
        }
        self._timeouts_s = {
            "search": config.search_timeout_s,
            "write": config.write_timeout_s,
            "model": config.model_timeout_s,
        }
        self._forwarder = None if config.forward_to is None else Forwarder(f"unix:{config.forward_to}")
        self._n_streams = 0
        self.draining = asyncio.Event()
        metrics.watch_pools(self._pools.values())

    def handler(self) -> RpcHandler:
        """The service's methods in gRPC's form, from bytes to bytes."""
        handlers = {method.name: self._handler(method) for method in SERVICE.methods}
        return grpc.method_handlers_generic_handler(SERVICE.full_name, handlers)

    def _handler(self, method: MethodDescriptor) -> RpcHandler:
        if self._forwarder is not None and not METHODS[method.name].follows:
            return self._forwarder.handler(method.name, streaming=method.client_streaming)
        if method.client_streaming:
            return grpc.stream_stream_rpc_method_handler(self._ingest)
        work = self._calls.by_name()[method.name]
        return grpc.unary_unary_rpc_method_handler(self._unary(method.name, GetMessageClass(method.input_type), work))

    async def close(self) -> None:
        """Waits for the work in hand."""
        if self._forwarder is not None:
            await self._forwarder.close()
        for pool in self._pools.values():
            await asyncio.to_thread(pool.close)

    def _unary(self, name: str, request_class: type[Message], work: Work) -> Callable[[bytes, Any], Any]:
        pool = self._pools[METHODS[name].pool]
        timeout_s = self._timeouts_s[pool.name]

        async def answer(raw: bytes, context: Context) -> bytes:
            async with self._counted(name, context):
                return await pool.run(lambda: _answer(raw, request_class, work), timeout_s)

        return answer

    async def _ingest(self, requests: Requests, context: Context) -> None:
        async with self._counted("Ingest", context):
            if self._n_streams >= self._config.ingest_streams:
                raise Overloaded("The number of open Ingest streams")
            self._n_streams += 1
            try:
                await self._serve_stream(requests, context)
            finally:
                self._n_streams -= 1

    async def _serve_stream(self, requests: Requests, context: Context) -> None:
        messages = aiter(requests)
        first = parse_request(await anext(messages, b""))
        if first.WhichOneof("item") != "start":
            raise InvalidArgument("item", "the first message of a stream carries start")
        pool = self._pools["write"]
        collection = await pool.run(
            lambda: self._calls.collection(first.start.collection), self._config.search_timeout_s
        )
        window = Window(self._config.ingest_window_items, self._config.ingest_window_mb * MIB)
        await IngestStream(pool, window, self._metrics).run(collection, messages, context, self.draining)

    @asynccontextmanager
    async def _counted(self, name: str, context: Context) -> AsyncIterator[None]:
        """Counts a call and its time, and ends it with the status of whatever it raises."""
        began, code = time.perf_counter(), grpc.StatusCode.CANCELLED
        self._metrics.count_begun()
        try:
            yield
            code = grpc.StatusCode.OK
        except Exception as error:
            code = code_of(error)
            await abort_with(context, error, name)
        finally:
            self._metrics.count_finished(name, code.name, time.perf_counter() - began)


def _answer(raw: bytes, request_class: type[Message], work: Work) -> bytes:
    """On the pool's thread: from request bytes to response bytes."""
    try:
        request = request_class.FromString(raw)
    except DecodeError as error:
        raise InvalidArgument("request", f"is no valid {request_class.DESCRIPTOR.name}: {error}") from error
    response: bytes = work(request).SerializeToString()
    return response
