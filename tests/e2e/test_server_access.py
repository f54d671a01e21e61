"""Who gets in: keys on every kind of method, TLS, client certificates."""

from __future__ import annotations

import shutil
import threading
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from engine import errors
from engine.client import Tls, connect
from engine.server.methods import METHODS, Role
from tests.support.fake_engine import FakeEngine
from tests.support.serving import LOCAL, Certificates, Served, call_raw, make_certificates, raw_channel, served, serving

READ, WRITE, ADMIN = "read-key-read-key", "write-key-write-key", "admin-key-admin-key"
GUARDED = replace(LOCAL, api_keys=(f"read:{READ}", f"write:{WRITE}", f"admin:{ADMIN}"), reflection=True)
WRONG_KEYS = [None, "", "wrong", READ[:-1], READ + "x", READ.upper()]
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
PATHS = [
    *(f"/engine.v1.Engine/{name}" for name in METHODS),
    "/engine.v1.Engine/Nothing",
    "/no.Service/Method",
    REFLECTION,
]
needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="makes certificates with openssl")


@pytest.fixture(scope="module")
def guarded():
    with served(GUARDED, api_key=ADMIN) as running:
        running.fake.create_collection("docs")
        running.fake.calls = 0
        yield running


def code_of(address: str, path: str, key: str | None, *, stream: bool = False) -> grpc.StatusCode:
    metadata = (("authorization", f"Bearer {key}"),) if key is not None else ()
    with raw_channel(address) as channel:
        try:
            if stream:
                for _ in channel.stream_stream(path)(iter([]), timeout=10, metadata=metadata):
                    pass
            else:
                channel.unary_unary(path)(b"", timeout=10, metadata=metadata)
        except grpc.RpcError as error:
            return error.code()
    return grpc.StatusCode.OK


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", PATHS)
def test_without_a_right_key_no_method_is_reached(guarded: Served, path: str, stream: bool):
    before = guarded.fake.calls
    for key in WRONG_KEYS:
        assert code_of(guarded.server.address, path, key, stream=stream) is grpc.StatusCode.UNAUTHENTICATED
    assert guarded.fake.calls == before


@pytest.mark.parametrize("name", sorted(METHODS))
def test_a_role_opens_what_is_its_own_and_nothing_above(guarded: Served, name: str):
    path = f"/engine.v1.Engine/{name}"
    for key, role in ((READ, Role.READ), (WRITE, Role.WRITE), (ADMIN, Role.ADMIN)):
        code = code_of(guarded.server.address, path, key)
        assert (code is grpc.StatusCode.PERMISSION_DENIED) == (role < METHODS[name].role)
        assert code is not grpc.StatusCode.UNAUTHENTICATED


def test_a_stream_is_refused_without_a_single_message(guarded: Served):
    hold = threading.Event()

    def never():
        hold.wait(10)
        yield b""

    with raw_channel(guarded.server.address) as channel:
        call = channel.stream_stream("/engine.v1.Engine/Ingest")(never(), timeout=10)
        with pytest.raises(grpc.RpcError) as caught:
            next(call)
        hold.set()
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_health_needs_no_key(guarded: Served):
    for service in ("", "engine.v1.Engine"):
        body = health_pb2.HealthCheckRequest(service=service).SerializeToString()
        answer = call_raw(guarded.server.address, "/grpc.health.v1.Health/Check", body)
        assert health_pb2.HealthCheckResponse.FromString(answer).status == health_pb2.HealthCheckResponse.SERVING


def test_reflection_answers_a_key_holder_and_only_if_asked_for(guarded: Served):
    request = reflection_pb2.ServerReflectionRequest(list_services="").SerializeToString()
    with raw_channel(guarded.server.address) as channel:
        call = channel.stream_stream(REFLECTION)(
            iter([request]), timeout=10, metadata=(("authorization", f"Bearer {READ}"),)
        )
        answer = reflection_pb2.ServerReflectionResponse.FromString(next(call))
    names = {service.name for service in answer.list_services_response.service}
    assert {"engine.v1.Engine", "grpc.health.v1.Health"} <= names
    with served() as running:
        assert code_of(running.server.address, REFLECTION, None, stream=True) is grpc.StatusCode.UNIMPLEMENTED


def test_the_client_raises_typed_errors_for_keys(guarded: Served):
    with connect(guarded.server.address) as nobody, pytest.raises(errors.Unauthenticated):
        nobody.info()
    with connect(guarded.server.address, api_key=READ) as reader:
        assert reader.info()
        with pytest.raises(errors.PermissionDenied) as caught:
            reader.create_collection("new")
        assert (caught.value.role, caught.value.needed) == ("read", "admin")
        with pytest.raises(errors.PermissionDenied):
            list(reader.get_collection("docs").ingest([{"doc_id": "a", "text": "x"}]))
    with connect(guarded.server.address, api_key=WRITE) as writer:
        assert len(list(writer.get_collection("docs").ingest([{"doc_id": "a", "text": "x"}]))) == 1


def test_refused_calls_are_counted(guarded: Served):
    from prometheus_client import generate_latest

    code_of(guarded.server.address, "/engine.v1.Engine/Query", None)
    code_of(guarded.server.address, "/made.up/Name" + "x" * 50, None)
    text = generate_latest(guarded.server.metrics.registry).decode()
    assert 'landmark_calls_total{code="UNAUTHENTICATED",method="Query"}' in text
    assert 'landmark_calls_total{code="UNAUTHENTICATED",method="unknown"}' in text
    assert "xxxx" not in text


# ---- TLS ----


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


def outcome(address: str, tls: Tls | None) -> str:
    with connect(address, tls=tls, timeout_s=10) as engine:
        try:
            engine.info()
        except errors.RemoteFailure as failure:
            return failure.code
    return "OK"


@needs_openssl
def test_tls_serves_who_trusts_the_authority_and_nobody_else(certificates: Certificates, tmp_path: Path):
    config = replace(LOCAL, tls_cert=certificates.server_cert, tls_key=certificates.server_key)
    stranger = make_certificates(tmp_path / "other")
    with serving(FakeEngine(), config) as server:
        assert outcome(server.address, Tls(ca=certificates.ca)) == "OK"
        assert outcome(server.address, Tls(ca=certificates.ca, server_name="localhost")) == "OK"
        assert outcome(server.address, Tls(ca=certificates.ca, server_name="elsewhere")) == "UNAVAILABLE"
        assert outcome(server.address, Tls(ca=stranger.ca)) == "UNAVAILABLE"
        assert outcome(server.address, None) == "UNAVAILABLE"


@needs_openssl
def test_mutual_tls_wants_a_certificate_of_its_authority(certificates: Certificates, tmp_path: Path):
    config = replace(
        LOCAL, tls_cert=certificates.server_cert, tls_key=certificates.server_key, tls_client_ca=certificates.ca
    )
    stranger = make_certificates(tmp_path / "other")
    known = Tls(ca=certificates.ca, cert=certificates.client_cert, key=certificates.client_key)
    with serving(FakeEngine(), config) as server:
        assert outcome(server.address, known) == "OK"
        assert outcome(server.address, Tls(ca=certificates.ca)) == "UNAVAILABLE"
        unknown = Tls(ca=certificates.ca, cert=stranger.client_cert, key=stranger.client_key)
        assert outcome(server.address, unknown) == "UNAVAILABLE"


@needs_openssl
def test_keys_work_over_tls(certificates: Certificates):
    config = replace(GUARDED, tls_cert=certificates.server_cert, tls_key=certificates.server_key)
    with serving(FakeEngine(), config) as server:
        with connect(server.address, api_key=READ, tls=Tls(ca=certificates.ca), timeout_s=10) as engine:
            assert engine.info()
        nobody = connect(server.address, tls=Tls(ca=certificates.ca), timeout_s=10)
        with nobody, pytest.raises(errors.Unauthenticated):
            nobody.info()


@needs_openssl
def test_a_key_of_another_certificate_is_refused_at_start(certificates: Certificates):
    config = replace(LOCAL, tls_cert=certificates.server_cert, tls_key=certificates.client_key)
    with pytest.raises(errors.InvalidArgument, match="cannot be used"):
        serving(FakeEngine(), config).__enter__()


def test_client_files_that_are_missing_or_half_are_refused(tmp_path: Path):
    for tls in (Tls(ca=tmp_path / "nothing"), Tls(cert=tmp_path / "cert")):
        with pytest.raises(errors.InvalidArgument):
            connect("127.0.0.1:1", tls=tls)
