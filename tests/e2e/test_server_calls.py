"""Bad input, overload, deadlines and failures of the engine: the right status, at the edge."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from urllib.request import urlopen

import grpc
import numpy as np
import pytest

from engine import errors
from engine.v1 import engine_pb2 as pb
from engine.wire.failures import ERROR_KEY, error_from_wire
from tests.support.serving import LOCAL, Served, call_raw, served

GOOD = {"text": "x", "mode": pb.MODE_HYBRID, "fusion": pb.FUSION_CONVEX}
NAN = np.array([1, np.nan, 0, 0], "<f4").tobytes()
INF = np.array([1, np.inf, 0, 0], "<f4").tobytes()


def query(**changes):
    return pb.QueryRequest(collection="docs", query=pb.Query(**{**GOOD, **changes}))


def upsert(**fields):
    return pb.UpsertRequest(collection="docs", documents=[pb.Document(**{"doc_id": "a", "text": "x", **fields})])


BAD_REQUESTS = {
    "mode unspecified": ("Query", query(mode=0), "mode: is unspecified"),
    "fusion unspecified": ("Query", query(fusion=0), "fusion: is unspecified"),
    "mode unknown": ("Query", query(mode=99), "mode: is 99"),
    "no query at all": ("Query", pb.QueryRequest(collection="docs"), "mode: is unspecified"),
    "NaN in a query vector": ("Query", query(vector=NAN), "NaN or infinity"),
    "infinity in a query vector": ("Query", query(vector=INF), "NaN or infinity"),
    "odd bytes in a query vector": ("Query", query(vector=b"12345"), "4 bytes a dimension, got 5 bytes"),
    "empty query vector": ("Query", query(vector=b""), "got 0 bytes"),
    "wrong dimension": ("Query", query(vector=bytes(8)), "expected 4 dimensions, got 2"),
    "limit of 10^9": ("Query", query(limit=10**9), "limit"),
    "limit of 0": ("Query", query(limit=0), "limit"),
    "negative limit": ("Query", query(limit=-1), "limit"),
    "NaN threshold": ("Query", query(score_threshold=float("nan")), "score_threshold"),
    "infinite recall target": ("Query", query(recall_target=float("inf")), "recall_target"),
    "NaN weight": ("Query", query(weights=pb.LegWeights(values={"dense": float("nan")})), "weights"),
    "NaN parameter": ("Query", query(params={"a": pb.Value(double_value=float("nan"))}), "params.a"),
    "parameter without a kind": ("Query", query(params={"a": pb.Value()}), "params.a"),
    "malformed filter": ("Query", query(filter="a === b"), "filter"),
    "duplicate sparse ids": (
        "Query",
        query(sparse=pb.SparseVector(ids=[3, 3], weights=bytes(8))),
        "an id occurs twice",
    ),
    "sparse lengths differ": (
        "Query",
        query(sparse=pb.SparseVector(ids=[3], weights=bytes(8))),
        "4 bytes of weight an id",
    ),
    "too many queries": (
        "QueryBatch",
        pb.QueryBatchRequest(collection="docs", queries=[pb.Query(**GOOD)] * 257),
        "at most 256",
    ),
    "too many texts": ("Embed", pb.EmbedRequest(texts=["x"] * 257, input=pb.EMBED_INPUT_QUERY), "at most 256"),
    "embed input unspecified": ("Embed", pb.EmbedRequest(texts=["x"]), "input: is unspecified"),
    "dense kind unspecified": (
        "CreateCollection",
        pb.CreateCollectionRequest(name="new"),
        "dense_kind: is unspecified",
    ),
    "NaN in a document vector": ("Upsert", upsert(vector=NAN), "NaN or infinity"),
    "odd bytes in a document vector": ("Upsert", upsert(vector=b"1"), "got 1 bytes"),
    "NaN in metadata": ("Upsert", upsert(metadata={"k": pb.Value(double_value=float("nan"))}), "metadata.k"),
    "metadata without a kind": ("Upsert", upsert(metadata={"k": pb.Value()}), "metadata.k"),
    "NaN deep in metadata": (
        "Upsert",
        upsert(metadata={"k": pb.Value(list_value=pb.ValueList(values=[pb.Value(double_value=float("inf"))]))}),
        "metadata.k",
    ),
    "empty id": ("Upsert", upsert(doc_id=""), "doc_id: is empty"),
    "metadata change without a kind": (
        "UpdateMetadata",
        pb.UpdateMetadataRequest(collection="docs", doc_id="a", changes={"k": pb.Value()}),
        "changes.k",
    ),
}


@pytest.fixture(scope="module")
def remote():
    with served(replace(LOCAL, max_message_mb=1)) as running:
        running.fake.create_collection("docs")
        yield running


def failure(remote: Served, method: str, body: bytes) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as caught:
        call_raw(remote.server.address, f"/engine.v1.Engine/{method}", body)
    return caught.value


@pytest.mark.parametrize("name", BAD_REQUESTS)
def test_bad_input_is_an_invalid_argument_that_names_the_field(remote: Served, name: str):
    method, request, expected = BAD_REQUESTS[name]
    error = failure(remote, method, request.SerializeToString())
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert expected in error.details()
    typed = error_from_wire(dict(error.trailing_metadata())[ERROR_KEY], "X")
    assert isinstance(typed, errors.InvalidArgument)
    assert remote.fake.get_collection("docs").documents == {}


@pytest.mark.parametrize("method", ["Query", "Upsert", "Info", "Get", "Embed"])
@pytest.mark.parametrize("body", [b"\xff", b"\x0a\xff\xff\xff\xff\x0f", b"\x0b"])
def test_bytes_that_are_no_message_are_an_invalid_argument(remote: Served, method: str, body: bytes):
    error = failure(remote, method, body)
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "no valid" in error.details()


def test_deeply_nested_values_are_refused(remote: Served):
    # By hand, since protobuf would not write it either: Value.list_value is field 5, ValueList.values is field 1.
    value = pb.Value(int_value=1).SerializeToString()
    for _ in range(500):
        value = _field(5, _field(1, value))
    document = _field(1, b"a") + _field(4, _field(1, b"k") + _field(2, value))
    request = _field(1, b"docs") + _field(2, document)
    assert failure(remote, "Upsert", request).code() is grpc.StatusCode.INVALID_ARGUMENT


def _field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def test_a_message_above_the_limit_is_refused(remote: Served):
    error = failure(remote, "Upsert", bytes(2 << 20))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_an_unknown_method_is_unimplemented(remote: Served):
    assert failure(remote, "Nothing", b"").code() is grpc.StatusCode.UNIMPLEMENTED


def test_an_unknown_collection_is_not_found(remote: Served):
    request = pb.QueryRequest(collection="nothing", query=pb.Query(**GOOD))
    assert failure(remote, "Query", request.SerializeToString()).code() is grpc.StatusCode.NOT_FOUND


def test_a_bug_of_the_engine_is_internal_with_an_incident_and_no_traceback(remote: Served, caplog):
    remote.fake.error = KeyError("secret detail")
    try:
        error = failure(remote, "Info", b"")
    finally:
        remote.fake.error = None
    assert error.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in str(error)
    assert "secret detail" in caplog.text
    assert error.details().split("incident ")[1][:12] in caplog.text


def test_a_full_queue_is_refused_with_retry_information():
    with served(replace(LOCAL, search_workers=1, search_queue=1)) as running:
        running.fake.gate.clear()
        threads = [threading.Thread(target=running.engine.info) for _ in range(2)]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + 5
        while 'pool_waiting{pool="search"} 1.0' not in exposed(running) and time.monotonic() < deadline:
            time.sleep(0.01)
        with pytest.raises(errors.Overloaded) as caught:
            running.engine.list_collections()
        assert caught.value.retry_after_s > 0
        error = failure(running, "Info", b"")
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert int(dict(error.trailing_metadata())["grpc-retry-pushback-ms"]) > 0
        running.fake.gate.set()
        for thread in threads:
            thread.join()
        assert running.engine.info()


def exposed(running: Served) -> str:
    from prometheus_client import generate_latest

    return generate_latest(running.server.metrics.registry).decode()


def test_a_read_that_the_server_finds_too_long_is_a_deadline_exceeded():
    with served(replace(LOCAL, search_timeout_s=0.05)) as running:
        running.fake.gate.clear()
        error = failure(running, "Info", b"")
        running.fake.gate.set()
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert "Info" in error.details()


def test_a_cancelled_call_that_waits_is_never_begun():
    with served(replace(LOCAL, search_workers=1)) as running:
        running.fake.gate.clear()
        first = threading.Thread(target=running.engine.info)
        first.start()
        assert running.fake.entered.acquire(timeout=5)
        with pytest.raises(grpc.RpcError):
            call_raw(running.server.address, "/engine.v1.Engine/Info", timeout_s=0.2)
        time.sleep(0.1)
        running.fake.gate.set()
        first.join()
        assert running.fake.calls == 1


def test_metrics_are_served_on_loopback_when_asked():
    with served(replace(LOCAL, metrics_port=0)) as running:
        docs = running.engine.create_collection("docs")
        docs.upsert([{"doc_id": "a", "text": "one two"}])
        with pytest.raises(errors.CollectionNotFound):
            running.engine.get_collection("nothing")
        with pytest.raises(grpc.RpcError):
            call_raw(running.server.address, "/engine.v1.Engine/Nothing")
        text = urlopen(f"http://127.0.0.1:{running.server.metrics_port}/metrics", timeout=5).read().decode()
        assert 'landmark_calls_total{code="OK",method="Upsert"} 1.0' in text
        assert 'landmark_calls_total{code="NOT_FOUND",method="GetCollection"} 1.0' in text
        assert 'landmark_documents_total{status="added"} 1.0' in text
        assert 'landmark_tokens_total{fate="embedded"} 2.0' in text
        assert 'landmark_call_seconds_count{method="Upsert"} 1.0' in text
        assert "landmark_calls_in_flight 0.0" in text
        port = running.server.metrics_port
    with pytest.raises(OSError, match=r"refused|reset"):
        urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5)


def test_no_metrics_port_by_default(remote: Served):
    assert remote.server.metrics_port is None
