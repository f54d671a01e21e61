"""How is the server set up, and is that safe?"""

from __future__ import annotations

import ipaddress
import os
import ssl
from dataclasses import dataclass, field
from pathlib import Path

from engine.errors import EngineError, InvalidArgument

MIB = 1 << 20


class CannotBind(EngineError):
    """The address is taken, or is none of this machine's."""

    def __init__(self, address: str) -> None:
        self.address = address
        super().__init__(
            f"Cannot listen on {address}: another process has the port, or the address is not of this machine. "
            "Stop the other server, or choose another --address."
        )


class UnsafeAddress(InvalidArgument):
    """The address can be reached from outside, and the server would be open or unencrypted."""

    def __init__(self, address: str, missing: str) -> None:
        self.address = address
        self.missing = missing
        super().__init__(
            "address",
            f"{address} can be reached from other machines, and there is no {missing}. Configure it, listen on "
            "127.0.0.1, or say --insecure if the network itself is trusted",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """What one server process is told at start.

    Args:
        address: HOST:PORT; port 0 lets the system choose. IPv6 in brackets.
        api_keys_file: one ``role:key`` or ``role:sha256:HEX`` a line; roles are read, write, admin.
        api_keys: the same entries given directly, say from an environment variable. Never shown.
        tls_cert: PEM certificate chain; needs ``tls_key``.
        tls_key: PEM private key.
        tls_client_ca: PEM authorities; given: every client must show a certificate that one of them signed.
        insecure: allow an address beyond loopback without TLS or without keys.
        reflection: serve the gRPC reflection service (to holders of a key, if there are keys).
        metrics_port: Prometheus metrics over HTTP on 127.0.0.1; 0 lets the system choose; None: off.
        max_message_mb: largest request, MiB.
        max_concurrent_streams: calls in flight on one connection; more wait in the client.
        max_concurrent_calls: calls in flight on the server; more are refused with RESOURCE_EXHAUSTED.
        search_workers: threads for reads and queries.
        search_queue: reads and queries that may wait for a thread; more are refused.
        write_workers: threads for writes; several share one commit.
        write_queue: writes that may wait for a thread.
        model_workers: threads for Embed; the model has its own scheduler behind them.
        model_queue: Embed calls that may wait for a thread.
        search_timeout_s: longest read or query; a client's shorter deadline wins.
        write_timeout_s: longest unary write.
        model_timeout_s: longest Embed call.
        ingest_streams: open Ingest streams; more are refused.
        ingest_window_items: documents of one stream that are read and not yet acknowledged.
        ingest_window_mb: the same in MiB.
        grace_s: how long calls in flight may go on after SIGTERM.
        shared_port: other processes of this server have the same port; the system chooses one for every connection.
        writer_socket: the process that writes listens here, too, for calls that the others forward.
        forward_to: this process only reads, and forwards all other calls to this writer_socket.
    """

    address: str = "127.0.0.1:50051"
    api_keys_file: Path | None = None
    api_keys: tuple[str, ...] = field(default=(), repr=False)
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    insecure: bool = False
    reflection: bool = False
    metrics_port: int | None = None
    max_message_mb: int = 16
    max_concurrent_streams: int = 64
    max_concurrent_calls: int = 1024
    search_workers: int = field(default_factory=lambda: max(4, os.cpu_count() or 1))
    search_queue: int = 256
    write_workers: int = 4
    write_queue: int = 64
    model_workers: int = 2
    model_queue: int = 64
    search_timeout_s: float = 30.0
    write_timeout_s: float = 600.0
    model_timeout_s: float = 120.0
    ingest_streams: int = 32
    ingest_window_items: int = 4096
    ingest_window_mb: int = 32
    grace_s: float = 30.0
    shared_port: bool = False
    writer_socket: Path | None = None
    forward_to: Path | None = None

    def __post_init__(self) -> None:
        split_address(self.address)
        if (self.tls_cert is None) != (self.tls_key is None):
            raise InvalidArgument("tls_cert", "a certificate and its key (tls_key) are given together or not at all")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise InvalidArgument("tls_client_ca", "needs tls_cert and tls_key: client certificates are part of TLS")
        for name in _POSITIVE:
            if getattr(self, name) <= 0:
                raise InvalidArgument(name, f"must be above 0, got {getattr(self, name)}")
        if self.metrics_port is not None and not 0 <= self.metrics_port < 1 << 16:
            raise InvalidArgument("metrics_port", f"must be a port from 0 to 65535, got {self.metrics_port}")

    @property
    def max_message_bytes(self) -> int:
        """Largest request in bytes."""
        return self.max_message_mb * MIB

    def check_exposure(self, has_keys: bool) -> None:
        """Refuses to be reachable from other machines without encryption and authentication.

        Args:
            has_keys: API keys are configured. Client certificates authenticate too.

        Raises:
            UnsafeAddress: the address is beyond loopback, something is missing, and ``insecure`` was not said.
        """
        if self.insecure or is_loopback(self.address):
            return
        if self.tls_cert is None:
            raise UnsafeAddress(self.address, "TLS certificate")
        if not has_keys and self.tls_client_ca is None:
            raise UnsafeAddress(self.address, "API key and no client certificate authority")


_POSITIVE = (
    "max_message_mb",
    "max_concurrent_streams",
    "max_concurrent_calls",
    "search_workers",
    "search_queue",
    "write_workers",
    "write_queue",
    "model_workers",
    "model_queue",
    "search_timeout_s",
    "write_timeout_s",
    "model_timeout_s",
    "ingest_streams",
    "ingest_window_items",
    "ingest_window_mb",
)


def split_address(address: str) -> tuple[str, int]:
    """Splits HOST:PORT.

    Raises:
        InvalidArgument: it has another form.
    """
    host, colon, port = address.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    known = colon and host and (bracketed or ":" not in host)
    if not known or not (port.isascii() and port.isdecimal()) or int(port) >= 1 << 16:
        raise InvalidArgument("address", f"expected HOST:PORT, say 127.0.0.1:50051 or [::1]:50051, got {address!r}")
    return host.strip("[]"), int(port)


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach an address."""
    host, _ = split_address(address)
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def read_tls(cert: Path, key: Path, client_ca: Path | None) -> tuple[bytes, bytes, bytes | None]:
    """Reads certificate chain, private key and client authorities as PEM, and checks that they fit.

    gRPC itself would start with unusable files and fail every handshake.

    Raises:
        InvalidArgument: a file cannot be read, is no PEM, or the key is of another certificate.
    """
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key, password=_no_password)
        if client_ca is not None:
            context.load_verify_locations(client_ca)
        return cert.read_bytes(), key.read_bytes(), None if client_ca is None else client_ca.read_bytes()
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        files = ", ".join(str(path) for path in (cert, key, client_ca) if path is not None)
        raise InvalidArgument("tls_cert", f"the files {files} cannot be used: {error}") from error


def _no_password() -> str:
    raise ValueError("the private key is encrypted; give one without a passphrase")
