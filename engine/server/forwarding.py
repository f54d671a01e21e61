"""What does a process that only reads do with a call that writes? It hands it to the process that writes, byte by byte.

The caller's metadata goes along, so that the writer checks its key; status, message and trailing metadata come back as
they are.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import NoReturn

import grpc

from engine.server.methods import SERVICE
from engine.server.rpc import Context, Requests, RpcHandler


class Forwarder:
    """A channel to the process that writes. Lives on the event loop's thread.

    Args:
        target: where that process listens, in gRPC's form.
    """

    def __init__(self, target: str) -> None:
        unlimited = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        self._channel = grpc.aio.insecure_channel(target, options=unlimited)

    def handler(self, name: str, *, streaming: bool) -> RpcHandler:
        """The handler of one method, from bytes to bytes."""
        path = f"/{SERVICE.full_name}/{name}"
        if streaming:
            return grpc.stream_stream_rpc_method_handler(self._stream(path))
        return grpc.unary_unary_rpc_method_handler(self._unary(path))

    def _unary(self, path: str) -> Callable[[bytes, Context], Awaitable[bytes]]:
        call = self._channel.unary_unary(path)

        async def forward(request: bytes, context: Context) -> bytes:
            try:
                answer: bytes = await call(request, metadata=_metadata(context), timeout=context.time_remaining())
                return answer
            except grpc.aio.AioRpcError as error:
                await _abort(context, error)

        return forward

    def _stream(self, path: str) -> Callable[[Requests, Context], AsyncIterator[bytes]]:
        call = self._channel.stream_stream(path)

        async def forward(requests: Requests, context: Context) -> AsyncIterator[bytes]:
            answers = call(requests, metadata=_metadata(context), timeout=context.time_remaining())
            try:
                async for answer in answers:
                    yield answer
            except grpc.aio.AioRpcError as error:
                await _abort(context, error)

        return forward

    async def close(self) -> None:
        """Ends the channel; calls in flight have ended."""
        await self._channel.close()


def _metadata(context: Context) -> list[tuple[str, str | bytes]]:
    """What the caller sent, without what the next connection says of itself."""
    sent = context.invocation_metadata() or ()
    return [(key, value) for key, value in sent if key != "user-agent" and not key.startswith("grpc-")]


async def _abort(context: Context, error: grpc.aio.AioRpcError) -> NoReturn:
    await context.abort(error.code(), error.details() or "", trailing_metadata=tuple(error.trailing_metadata() or ()))
    raise AssertionError("abort always raises")
