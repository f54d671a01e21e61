"""Servers on port 0, raw channels and certificates, for tests of the gRPC rim."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import grpc

from engine.api import EngineApi
from engine.client import RemoteEngine, connect
from engine.server import Server, ServerConfig
from tests.support.fake_engine import FakeEngine

LOCAL = ServerConfig(address="127.0.0.1:0", search_workers=2, grace_s=5)


@dataclass(frozen=True)
class Served:
    """A fake engine, the server in front of it, and a client of that."""

    fake: FakeEngine
    server: Server
    engine: RemoteEngine


@contextmanager
def served(config: ServerConfig = LOCAL, *, api_key: str | None = None) -> Iterator[Served]:
    fake = FakeEngine()
    with serving(fake, config) as server, connect(server.address, api_key=api_key, timeout_s=20) as engine:
        try:
            yield Served(fake, server, engine)
        finally:
            fake.gate.set()


@contextmanager
def serving(engine: EngineApi, config: ServerConfig = LOCAL) -> Iterator[Server]:
    with Server(engine, replace(config, address="127.0.0.1:0")) as server:
        yield server


@contextmanager
def raw_channel(address: str) -> Iterator[grpc.Channel]:
    channel = grpc.insecure_channel(address)
    try:
        yield channel
    finally:
        channel.close()


def call_raw(address: str, path: str, body: bytes = b"", *, key: str | None = None, timeout_s: float = 10) -> bytes:
    """One unary call by path with raw bytes; raises grpc.RpcError."""
    metadata = (("authorization", f"Bearer {key}"),) if key else ()
    with raw_channel(address) as channel:
        return channel.unary_unary(path)(body, timeout=timeout_s, metadata=metadata)


@dataclass(frozen=True)
class Certificates:
    """An authority and, signed by it, a server and a client."""

    ca: Path
    server_cert: Path
    server_key: Path
    client_cert: Path
    client_key: Path


def make_certificates(folder: Path) -> Certificates:
    """Makes certificates for 127.0.0.1 with the openssl program."""
    folder.mkdir(parents=True, exist_ok=True)
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    _openssl(
        folder, "req", "-x509", *curve, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=test-ca"
    )
    (folder / "san.cnf").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    for name in ("server", "client"):
        _openssl(folder, "req", *curve, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        signing = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "san.cnf", "-days", "2"]
        _openssl(folder, "x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.pem", *signing)
    return Certificates(
        folder / "ca.pem", folder / "server.pem", folder / "server.key", folder / "client.pem", folder / "client.key"
    )


def _openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)
