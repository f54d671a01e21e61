"""Several processes serve one data folder on one port: no client can tell which of them answers."""

import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import pytest

from engine.client import connect
from engine.errors import CollectionNotFound, InvalidArgument, Unauthenticated
from engine.v1 import engine_pb2 as pb
from engine.v1.engine_pb2_grpc import EngineStub

PROCESSES = 3
KEY = "a key of more than sixteen characters"


@contextmanager
def serving(folder: Path, *options: str, env: dict[str, str] | None = None):
    """The address of `engine serve` with several processes, and the process that writes."""
    command = ["serve", "--model", "none", "--data", str(folder), "--address", "127.0.0.1:0", "--log-level", "warning"]
    server = subprocess.Popen(
        [sys.executable, "-c", "from cli.main import main; main()", *command, "--processes", str(PROCESSES), *options],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **(env or {})},
        start_new_session=True,
    )
    with server:
        try:
            yield server.stdout.readline().split()[3].rstrip("."), server
        finally:
            server.terminate()


def readers_of(server: subprocess.Popen) -> set[int]:
    """The processes that read."""
    tasks = Path(f"/proc/{server.pid}/task").glob("*/children")
    children = [int(child) for task in tasks for child in task.read_text().split()]
    return {child for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()}


@contextmanager
def connections(address: str, count: int):
    """Stubs with a connection each, so that the system gives them to different processes."""
    with ExitStack() as stack:
        alone = [("grpc.use_local_subchannel_pool", 1)]
        channels = [stack.enter_context(grpc.insecure_channel(address, options=alone)) for _ in range(count)]
        yield [EngineStub(channel) for channel in channels]


def ids(stub: EngineStub, text: str) -> list[str]:
    query = pb.Query(text=text, mode=pb.MODE_BM25, fusion=pb.FUSION_CONVEX, limit=50)
    return [hit.doc_id for hit in stub.Query(pb.QueryRequest(collection="c", query=query)).result.hits]


def test_whoever_answers_sees_what_was_acknowledged_by_whomever(tmp_path):
    with serving(tmp_path) as (address, _), connections(address, 12) as stubs:
        stubs[0].CreateCollection(pb.CreateCollectionRequest(name="c", dense_kind=pb.DENSE_KIND_AUTO))
        for n, stub in enumerate(stubs):
            document = pb.Document(doc_id=f"d{n}", text="cat")
            stub.Upsert(pb.UpsertRequest(collection="c", documents=[document]))
            for other in stubs:
                assert sorted(ids(other, "cat")) == sorted(f"d{i}" for i in range(n + 1))
        stubs[1].DropCollection(pb.DropCollectionRequest(name="c"))
        for stub in stubs:
            with pytest.raises(grpc.RpcError) as caught:
                ids(stub, "cat")
            assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_a_stream_of_documents_and_typed_errors_pass_through_a_process_that_reads(tmp_path):
    with serving(tmp_path) as (address, server):
        assert len(readers_of(server)) == PROCESSES - 1
        for attempt in range(4):  # each its own process, so its own connection
            code = (
                "from engine.client import connect\n"
                f"with connect({address!r}) as engine:\n"
                f"    c = engine.create_collection('c{attempt}')\n"
                "    answers = list(c.ingest({'doc_id': f'd{n}', 'text': 'cat'} for n in range(700)))\n"
                "    assert sum(a.status == 'added' for a in answers) == 700\n"
                "    assert c.count() == 700\n"
            )
            subprocess.run([sys.executable, "-c", code], check=True)
        with connect(address) as engine:
            with pytest.raises(CollectionNotFound, match="nothing"):
                engine.get_collection("nothing")
            with pytest.raises(InvalidArgument):
                engine.get_collection("c1").update_metadata("d1", {"": 1})


def test_keys_are_asked_for_by_every_process(tmp_path):
    with serving(tmp_path, env={"LANDMARK_API_KEYS": f"admin:{KEY}"}) as (address, _):
        with connect(address, api_key=KEY) as engine:
            engine.create_collection("c")
        with connections(address, 8) as stubs:
            for stub in stubs:
                with pytest.raises(grpc.RpcError) as caught:
                    stub.Upsert(pb.UpsertRequest(collection="c"))
                assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        with connect(address) as engine, pytest.raises(Unauthenticated):
            engine.list_collections()


def test_a_reader_that_dies_is_replaced_and_none_outlives_the_writer(tmp_path):
    with serving(tmp_path) as (address, server):
        with connect(address) as engine:
            engine.create_collection("c").upsert([{"doc_id": "a", "text": "cat"}])
        before = readers_of(server)
        os.kill(min(before), signal.SIGKILL)
        assert eventually(lambda: len(readers_of(server)) == PROCESSES - 1 and readers_of(server) != before)
        with connections(address, 8) as stubs:
            assert all(ids(stub, "cat") == ["a"] for stub in stubs)
        last = readers_of(server)
        server.kill()
        assert eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in last))
    with serving(tmp_path) as (address, _), connections(address, 4) as stubs:
        assert all(ids(stub, "cat") == ["a"] for stub in stubs)


def test_all_processes_end_with_the_server_and_a_taken_port_is_refused(tmp_path):
    with serving(tmp_path / "one") as (address, server):
        command = [
            "serve",
            "--model",
            "none",
            "--data",
            str(tmp_path / "two"),
            "--address",
            address,
            "--processes",
            "2",
        ]
        second = [sys.executable, "-c", "from cli.main import main; main()", *command]
        refused = subprocess.run(second, capture_output=True, text=True, check=False)
        assert refused.returncode != 0
        assert f"Cannot listen on {address}" in refused.stderr
        last = readers_of(server)
        os.killpg(server.pid, signal.SIGINT)  # as Ctrl-C does
        assert server.wait(30) == 0
        assert not any(Path(f"/proc/{pid}").exists() for pid in last)


def eventually(holds, within_s: float = 30.0) -> bool:
    """Whether it holds before the time is over."""
    end = time.monotonic() + within_s
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True
