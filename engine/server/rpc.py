"""What are the types of gRPC's server objects? gRPC ships none; these names say what is meant."""

from __future__ import annotations

from typing import Any

AioServer = Any  # grpc.aio.Server
CallDetails = Any  # grpc.HandlerCallDetails: method, invocation_metadata
Context = Any  # grpc.aio.ServicerContext
Requests = Any  # asynchronous iterator of messages, as bytes
RpcHandler = Any  # grpc.RpcMethodHandler or grpc.GenericRpcHandler
