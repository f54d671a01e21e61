"""How does one call reach the server and come back, or fail as the error that the engine raised?"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import grpc

from engine.errors import EngineClosed, InvalidArgument, RemoteFailure
from engine.v1 import engine_pb2 as pb
from engine.v1.engine_pb2_grpc import EngineStub
from engine.wire.failures import ERROR_KEY, error_from_wire

Response = TypeVar("Response")
# grpc has no types; these names say what is meant.
Call = Any
RpcError = Any
Credentials = Any
MAX_RESPONSE_BYTES = 256 << 20  # a page of long documents; the server is trusted more than its clients are
# Reads only: a write that was lost may have been done.
RETRIED = (
    "Info",
    "GetCollection",
    "ListCollections",
    "GetCollectionStats",
    "Get",
    "Scroll",
    "Count",
    "Query",
    "QueryBatch",
)
SERVICE_CONFIG = {
    "methodConfig": [
        {
            "name": [
                {"service": pb.DESCRIPTOR.services_by_name["Engine"].full_name, "method": name} for name in RETRIED
            ],
            "retryPolicy": {
                "maxAttempts": 3,
                "initialBackoff": "0.05s",
                "maxBackoff": "0.5s",
                "backoffMultiplier": 3,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """How to reach a server with TLS. PEM files.

    Args:
        ca: the authorities to trust; None: those of the system.
        cert: this client's certificate chain, where the server asks for one; needs ``key``.
        key: its private key.
        server_name: the name in the server's certificate, if it is not the host of the address.
    """

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    server_name: str | None = None


class Channel:
    """A connection with its deadline and key. Thread-safe; connects when first used."""

    def __init__(self, address: str, api_key: str | None, tls: Tls | None, timeout_s: float) -> None:
        options = [
            ("grpc.max_receive_message_length", MAX_RESPONSE_BYTES),
            ("grpc.max_send_message_length", -1),
            ("grpc.keepalive_time_ms", 60_000),
            ("grpc.keepalive_timeout_ms", 20_000),
            ("grpc.service_config", json.dumps(SERVICE_CONFIG)),
        ]
        if tls is not None and tls.server_name is not None:
            options.append(("grpc.ssl_target_name_override", tls.server_name))
        if tls is None:
            self._channel = grpc.insecure_channel(address, options=options)
        else:
            self._channel = grpc.secure_channel(address, _credentials(tls), options=options)
        self._metadata = (("authorization", f"Bearer {api_key}"),) if api_key else ()
        self._timeout_s = timeout_s
        self._closed = False
        self.stub: Any = EngineStub(self._channel)  # type: ignore[no-untyped-call]

    def call(self, method: Callable[..., Response], request: object) -> Response:
        """Makes one unary call.

        Raises:
            EngineError: what the engine raised; RemoteFailure where the server was not reached or failed untyped.
        """
        if self._closed:
            raise EngineClosed("The connection")
        try:
            return method(request, timeout=self._timeout_s, metadata=self._metadata)
        except grpc.RpcError as error:
            raise failure_of(error) from None

    def stream(self, method: Callable[..., Call], requests: Iterator[object]) -> Call:
        """Opens a bidirectional stream without a deadline."""
        if self._closed:
            raise EngineClosed("The connection")
        return method(requests, metadata=self._metadata)

    def close(self) -> None:
        """Ends the connection; calls in flight are cancelled."""
        self._closed = True
        self._channel.close()


def failure_of(error: RpcError) -> Exception:
    """The typed error that the server sent with a failed call, or RemoteFailure."""
    code = error.code().name
    for key, value in error.trailing_metadata() or ():
        if key == ERROR_KEY:
            return error_from_wire(value, code)
    return RemoteFailure(code, error.details() or "no details")


def _credentials(tls: Tls) -> Credentials:
    if (tls.cert is None) != (tls.key is None):
        raise InvalidArgument("tls", "a client certificate and its key are given together or not at all")
    return grpc.ssl_channel_credentials(_read(tls.ca), _read(tls.key), _read(tls.cert))


def _read(path: Path | None) -> bytes | None:
    try:
        return None if path is None else path.read_bytes()
    except OSError as error:
        raise InvalidArgument("tls", f"{path} cannot be read: {error}") from error
