"""The Ingest stream as a foreign client sees it: the protocol, back-pressure, cancellation."""

from __future__ import annotations

import queue
import threading
import time
from dataclasses import replace

import grpc
import pytest

from engine.errors import CollectionNotFound, InvalidArgument, Overloaded
from engine.v1 import engine_pb2 as pb
from engine.v1.engine_pb2_grpc import EngineStub
from engine.wire.failures import ERROR_KEY, error_from_wire
from tests.support.serving import LOCAL, Served, raw_channel, served

START = pb.IngestRequest(start=pb.IngestStart(collection="docs"))


@pytest.fixture
def remote():
    with served(replace(LOCAL, ingest_streams=2, ingest_window_items=50, write_workers=2, write_queue=1)) as running:
        running.fake.create_collection("docs")
        running.fake.entered = threading.Semaphore(0)
        yield running


class Stream:
    """A stream whose requests the test sends one by one."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.requests: queue.SimpleQueue[pb.IngestRequest | None] = queue.SimpleQueue()
        self.call = EngineStub(channel).Ingest(iter(self.requests.get, None), timeout=20)

    def send(self, *ids: str) -> None:
        documents = [pb.Document(doc_id=one, text="x") for one in ids]
        self.requests.put(pb.IngestRequest(documents=pb.IngestDocuments(documents=documents)))

    def receive(self, n: int) -> list[str]:
        found: list[str] = []
        while len(found) < n:
            found.extend(one.doc_id for one in next(self.call).acknowledgements)
        return found

    def error(self) -> Exception:
        with pytest.raises(grpc.RpcError) as caught:
            list(self.call)
        trailers = dict(caught.value.trailing_metadata())
        return error_from_wire(trailers[ERROR_KEY], caught.value.code().name)


def test_one_document_is_acknowledged_without_waiting_for_more(remote: Served):
    """Although the engine acknowledges only full batches, or the end of what it was given."""
    remote.fake.get_collection("docs").batch = 100
    with raw_channel(remote.server.address) as channel:
        stream = Stream(channel)
        stream.requests.put(START)
        for i in range(3):
            stream.send(f"d{i}")
            assert stream.receive(1) == [f"d{i}"]
        stream.requests.put(None)
        assert list(stream.call) == []


def test_an_idle_stream_holds_no_thread(remote: Served):
    with raw_channel(remote.server.address) as channel:
        streams = [Stream(channel) for _ in range(2)]
        for number, stream in enumerate(streams):
            stream.requests.put(START)
            stream.send(f"s{number}")
            stream.receive(1)
        for _ in range(4):
            remote.engine.get_collection("docs").upsert([{"doc_id": "x", "text": "y"}])
        for stream in streams:
            stream.requests.put(None)


@pytest.mark.parametrize(
    "requests",
    [
        [],
        [pb.IngestRequest()],
        [pb.IngestRequest(documents=pb.IngestDocuments(documents=[pb.Document(doc_id="a")]))],
        [START, START],
        [START, pb.IngestRequest()],
    ],
)
def test_a_stream_out_of_order_is_refused(remote: Served, requests: list[pb.IngestRequest]):
    with raw_channel(remote.server.address) as channel:
        stream = Stream(channel)
        for request in [*requests, None]:
            stream.requests.put(request)
        assert isinstance(stream.error(), InvalidArgument)


def test_an_unknown_collection_is_refused(remote: Served):
    with raw_channel(remote.server.address) as channel:
        stream = Stream(channel)
        stream.requests.put(pb.IngestRequest(start=pb.IngestStart(collection="nothing")))
        assert isinstance(stream.error(), CollectionNotFound)


def test_bytes_that_are_no_message_are_refused(remote: Served):
    with raw_channel(remote.server.address) as channel:
        call = channel.stream_stream("/engine.v1.Engine/Ingest")(iter([b"\xff\xff\xff"]), timeout=10)
        with pytest.raises(grpc.RpcError) as caught:
            list(call)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_documents_before_a_bad_message_are_acknowledged(remote: Served):
    with raw_channel(remote.server.address) as channel:
        stream = Stream(channel)
        stream.requests.put(START)
        stream.send("a", "b")
        stream.requests.put(pb.IngestRequest())
        stream.requests.put(None)
        assert stream.receive(2) == ["a", "b"]
        assert isinstance(stream.error(), InvalidArgument)


def test_more_streams_than_allowed_are_refused(remote: Served):
    with raw_channel(remote.server.address) as channel:
        open_streams = [Stream(channel) for _ in range(2)]
        for number, stream in enumerate(open_streams):
            stream.requests.put(START)
            stream.send(f"s{number}")
            stream.receive(1)
        third = Stream(channel)
        third.requests.put(START)
        assert isinstance(third.error(), Overloaded)
        for stream in open_streams:
            stream.requests.put(None)
            assert list(stream.call) == []
        fourth = Stream(channel)
        fourth.requests.put(START)
        fourth.send("again")
        assert fourth.receive(1) == ["again"]
        fourth.requests.put(None)
        third.requests.put(None)


def test_the_server_reads_no_more_than_its_window(remote: Served):
    """While nothing is acknowledged the server takes 50 documents; gRPC's own buffers hold the rest back."""
    remote.fake.gate.clear()
    sent = 0
    done = threading.Event()

    def requests():
        nonlocal sent
        yield START
        for i in range(500):
            sent += 1
            documents = [pb.Document(doc_id=f"d{i}", text="x" * 100_000)]
            yield pb.IngestRequest(documents=pb.IngestDocuments(documents=documents))
        done.set()

    with raw_channel(remote.server.address) as channel:
        call = EngineStub(channel).Ingest(requests(), timeout=30)
        assert not done.wait(0.7)
        assert sent < 500
        remote.fake.gate.set()
        found = [one.doc_id for response in call for one in response.acknowledgements]
        assert found == [f"d{i}" for i in range(500)]


def test_a_cancelled_stream_drops_what_no_thread_has_taken(remote: Served):
    remote.fake.gate.clear()
    with raw_channel(remote.server.address) as channel:
        stream = Stream(channel)
        stream.requests.put(START)
        stream.send(*(f"d{i}" for i in range(40)))
        assert remote.fake.entered.acquire(timeout=5)
        stream.call.cancel()
        stream.requests.put(None)
        time.sleep(0.2)
        remote.fake.gate.set()
        deadline = time.monotonic() + 5
        while remote.engine.get_collection("docs").count() < 1 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.1)
        assert len(remote.fake.get_collection("docs").documents) == 1
