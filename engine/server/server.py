"""How does a server start, serve and stop?

The composition root of the gRPC side. ``Server`` runs an event loop on a thread of its own, so it can stand in a test
or a notebook; ``serve`` is the process: it waits for a signal, drains and closes the engine.

Drain: health says NOT_SERVING → no new calls, streams finish what they read → calls in flight end or ``grace_s`` passes
→ pools end → the engine closes. A second signal ends the process at once; what was acknowledged is durable.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import FrameType, TracebackType
from typing import Self

import grpc
from google.protobuf.internal import api_implementation
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from engine.api import EngineApi
from engine.server.auth import ApiKeys, AuthInterceptor
from engine.server.config import CannotBind, ServerConfig, read_tls, split_address
from engine.server.methods import SERVICE
from engine.server.metrics import Metrics, MetricsEndpoint
from engine.server.rpc import AioServer, Context
from engine.server.servicer import EngineServicer
from index.warm import warm_kernels

log = logging.getLogger(__name__)

WATCH_LINGER_S = 0.1  # for a health watcher to be told NOT_SERVING before its stream ends


class Server:
    """A running server. It does not own the engine: close that after ``stop``."""

    def __init__(self, engine: EngineApi, config: ServerConfig) -> None:
        """Checks the configuration and starts nothing.

        Raises:
            InvalidArgument: keys or certificates cannot be used; UnsafeAddress: the server would be open to others.
        """
        self._engine = engine
        self._config = config
        self._keys = ApiKeys.load(config.api_keys_file, config.api_keys)
        config.check_exposure(bool(self._keys))
        self._tls: tuple[bytes, bytes, bytes | None] | None = None
        if config.tls_cert is not None and config.tls_key is not None:
            self._tls = read_tls(config.tls_cert, config.tls_key, config.tls_client_ca)
        self.metrics = Metrics()
        self._endpoint: MetricsEndpoint | None = None
        self._started = threading.Event()
        self._failure: BaseException | None = None
        self._port = 0
        self._grace_s = config.grace_s
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None

    @property
    def address(self) -> str:
        """Where the server listens, with the port that the system chose."""
        host, _ = split_address(self._config.address)
        return f"[{host}]:{self._port}" if ":" in host else f"{host}:{self._port}"

    @property
    def metrics_port(self) -> int | None:
        """Where the metrics are served on loopback; None: off."""
        return None if self._endpoint is None else self._endpoint.port

    def start(self) -> None:
        """Binds and serves; returns when calls are accepted.

        Raises:
            CannotBind: the address is taken or not ours.
            InvalidArgument: the metrics port is taken.
        """
        self._thread = threading.Thread(target=self._run, name="landmark-server", daemon=True)
        self._thread.start()
        self._started.wait()
        if self._failure is not None:
            self._thread.join()
            raise self._failure
        log.info("listening on %s", self.address)

    def stop(self, grace_s: float | None = None) -> None:
        """Drains and stops; returns when no call runs any more. A stopped server stays stopped.

        Args:
            grace_s: how long calls in flight may go on; None: as configured.
        """
        if self._thread is None or self._loop is None or self._stopping is None:
            return
        if grace_s is not None:
            self._grace_s = grace_s
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # a thread root: the starter raises it
            self._failure = error
            if self._started.is_set():
                log.exception("the server failed")
        finally:
            if self._endpoint is not None:
                self._endpoint.close()
            self._started.set()

    async def _serve(self) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        servicer = EngineServicer(self._engine, self._config, self.metrics)
        checks = DrainingHealth()
        server = self._build(servicer, checks)
        try:
            self._port = self._bind(server)
            if self._config.metrics_port is not None:
                self._endpoint = MetricsEndpoint(self.metrics, self._config.metrics_port)
            await server.start()
            self._started.set()
            await self._stopping.wait()
            log.info("draining")
            await checks.drain()
            servicer.draining.set()
        finally:
            await server.stop(self._grace_s)
            await servicer.close()

    def _build(self, servicer: EngineServicer, checks: DrainingHealth) -> AioServer:
        if api_implementation.Type() != "upb":
            log.warning("protobuf runs without its native code (%s): slow", api_implementation.Type())
        server = grpc.aio.server(
            interceptors=[AuthInterceptor(self._keys, self.metrics.count_refused)],
            options=_options(self._config),
            maximum_concurrent_rpcs=self._config.max_concurrent_calls,
        )
        server.add_generic_rpc_handlers((servicer.handler(),))
        health_pb2_grpc.add_HealthServicer_to_server(checks, server)
        if self._config.reflection:
            names = (SERVICE.full_name, health.SERVICE_NAME, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, server)
        return server

    def _bind(self, server: AioServer) -> int:
        if self._config.writer_socket is not None:
            server.add_insecure_port(f"unix:{self._config.writer_socket}")
        try:
            if self._tls is None:
                port: int = server.add_insecure_port(self._config.address)
                return port
            cert, key, client_ca = self._tls
            credentials = grpc.ssl_server_credentials(
                [(key, cert)], root_certificates=client_ca, require_client_auth=client_ca is not None
            )
            port = server.add_secure_port(self._config.address, credentials)
            return port
        except RuntimeError as error:
            raise CannotBind(self._config.address) from error


class DrainingHealth(health.aio.HealthServicer):  # type: ignore[misc]  # grpc is untyped
    """Health whose watchers are told NOT_SERVING on drain and then let go, so that they do not hold the server."""

    def __init__(self) -> None:
        super().__init__()
        self._drained = asyncio.Event()
        self._server_status[SERVICE.full_name] = self._server_status[""]

    async def drain(self) -> None:
        """Says NOT_SERVING from now on."""
        await self.enter_graceful_shutdown()
        self._drained.set()

    async def Watch(self, request: object, context: Context) -> None:  # noqa: N802  # gRPC's name
        """Streams the status until the client goes or the server drains."""
        watch = asyncio.create_task(super().Watch(request, context))
        drained = asyncio.create_task(self._drained.wait())
        try:
            await asyncio.wait({watch, drained}, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait({watch}, timeout=WATCH_LINGER_S)
        finally:
            watch.cancel()
            drained.cancel()


def serve(
    engine: EngineApi,
    config: ServerConfig,
    *,
    prepare: Callable[[], None] = lambda: None,
    on_ready: Callable[[Server], None] | None = None,
    beside: Callable[[Server], AbstractContextManager[None]] | None = None,
) -> None:
    """Serves until SIGTERM or SIGINT, drains, and closes the engine. For the main thread.

    Args:
        engine: what to serve; closed on return, whatever happens.
        config: how.
        prepare: called before calls are accepted: what the first one would wait for.
        on_ready: called once with the running server, say to print its address.
        beside: what runs beside the server: entered before ``on_ready``, left before the server drains.

    Raises:
        CannotBind: the address is taken. InvalidArgument: the configuration cannot be used.
    """
    stop = threading.Event()
    try:
        server = Server(engine, config)
        with _signals(stop):
            warm_kernels()  # else the first query would pay for it
            prepare()
            gc.freeze()  # what is loaded now lives as long as the process: no collection need visit it again
            server.start()
            try:
                with nullcontext() if beside is None else beside(server):
                    if on_ready is not None:
                        on_ready(server)
                    stop.wait()
            finally:
                server.stop()
    finally:
        engine.close()


@contextmanager
def _signals(stop: threading.Event) -> Iterator[None]:
    """Sets ``stop`` on the first SIGTERM or SIGINT; the second ends the process."""

    def on_signal(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            log.warning("second signal: ending without draining")
            os._exit(128 + number)
        stop.set()

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _options(config: ServerConfig) -> list[tuple[str, int]]:
    """The channel arguments. Timings and sizes: gRPC's keepalive guide and the OWASP gRPC sheet."""
    return [
        ("grpc.max_receive_message_length", config.max_message_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_concurrent_streams", config.max_concurrent_streams),
        ("grpc.so_reuseport", config.shared_port),  # else a second server binds the same port, silently
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", 0),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 30_000),
        ("grpc.http2.max_ping_strikes", 2),
        ("grpc.max_connection_idle_ms", 300_000),
        ("grpc.max_connection_age_ms", 3_600_000),
        ("grpc.max_connection_age_grace_ms", 30_000),
    ]
