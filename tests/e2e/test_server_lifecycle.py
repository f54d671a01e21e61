"""Starting, draining and stopping; a second server; signals."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from engine import errors
from engine.client import connect
from engine.server import Server, ServerConfig
from engine.server.config import CannotBind
from engine.v1 import engine_pb2 as pb
from engine.v1.engine_pb2_grpc import EngineStub
from tests.support.fake_engine import FakeEngine
from tests.support.serving import LOCAL, raw_channel, served, serving

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
PROGRAM = """
import sys, threading
from engine.server import ServerConfig, serve
from tests.support.fake_engine import FakeEngine
fake = FakeEngine()
fake.create_collection("docs")
if "stuck" in sys.argv:
    fake.gate.clear()
real_close = fake.close
fake.close = lambda: (real_close(), print("closed", flush=True))
serve(fake, ServerConfig(address="127.0.0.1:0"), on_ready=lambda server: print(server.address, flush=True))
print("returned", flush=True)
"""


def test_what_calls_would_wait_for_is_prepared_before_any_is_accepted():
    program = PROGRAM.replace("on_ready=", 'prepare=lambda: print("prepared", flush=True), on_ready=')
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "prepared\n"
        assert process.stdout.readline().startswith("127.0.0.1:")
        process.send_signal(signal.SIGTERM)


def test_a_second_server_on_the_port_is_refused_and_the_first_goes_on():
    with served() as running:
        before = time.monotonic()
        with pytest.raises(CannotBind) as caught:
            Server(FakeEngine(), replace(LOCAL, address=running.server.address)).start()
        assert time.monotonic() - before < 2
        assert running.server.address in str(caught.value)
        assert running.engine.info()


def test_an_address_of_another_machine_is_refused():
    with pytest.raises(CannotBind):
        Server(FakeEngine(), ServerConfig(address="192.0.2.1:50051", insecure=True)).start()


def test_a_taken_metrics_port_is_refused():
    with served(replace(LOCAL, metrics_port=0)) as running:
        taken = replace(LOCAL, metrics_port=running.server.metrics_port)
        with pytest.raises(errors.InvalidArgument, match="metrics_port"):
            Server(FakeEngine(), taken).start()


def test_stop_is_repeatable_and_harmless_before_start():
    server = Server(FakeEngine(), LOCAL)
    server.stop()
    server.start()
    server.stop()
    server.stop()


def test_the_server_stops_while_clients_are_connected_and_idle():
    with serving(FakeEngine()) as server, connect(server.address) as engine:
        engine.info()
        began = time.monotonic()
        server.stop()
        assert time.monotonic() - began < 3


def test_calls_in_flight_end_before_the_server_does():
    with served() as running:
        running.fake.gate.clear()
        answers = []
        caller = threading.Thread(target=lambda: answers.append(running.engine.info()))
        caller.start()
        assert running.fake.entered.acquire(timeout=5)
        stopper = threading.Thread(target=running.server.stop)
        stopper.start()
        time.sleep(0.2)
        assert stopper.is_alive()
        running.fake.gate.set()
        stopper.join(5)
        caller.join(5)
        assert len(answers) == 1
        with pytest.raises(errors.RemoteFailure):
            running.engine.info()


def test_the_grace_is_not_exceeded_by_clients_that_never_end():
    with served() as running, raw_channel(running.server.address) as channel:
        running.fake.gate.clear()
        call = EngineStub(channel).Info.future(pb.InfoRequest(), timeout=30)
        assert running.fake.entered.acquire(timeout=5)
        stopper = threading.Thread(target=lambda: running.server.stop(0.2))
        stopper.start()
        assert call.exception(timeout=5) is not None
        running.fake.gate.set()
        stopper.join(5)
        assert not stopper.is_alive()


def test_an_ingest_stream_is_acknowledged_and_ended_by_a_drain():
    with served() as running:
        docs = running.engine.create_collection("docs")
        stored = running.fake.get_collection("docs").documents

        def stop_when_some_are_stored():
            while len(stored) < 1000:
                time.sleep(0.001)
            running.server.stop()

        stopper = threading.Thread(target=stop_when_some_are_stored)
        stopper.start()
        acknowledged = []
        endless = ({"doc_id": f"d{i}", "text": "x"} for i in range(10_000_000))
        with pytest.raises(errors.EngineClosed):
            acknowledged.extend(answer.doc_id for answer in docs.ingest(endless))
        stopper.join(10)
        assert len(acknowledged) >= 1000
        assert list(stored) == acknowledged


def test_health_watchers_are_told_and_let_go():
    with serving(FakeEngine()) as server, raw_channel(server.address) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=20)
        assert next(watch).status == SERVING
        began = time.monotonic()
        stopper = threading.Thread(target=server.stop)
        stopper.start()
        assert next(watch).status == NOT_SERVING
        stopper.join(5)
        assert time.monotonic() - began < 3


def start_program(*arguments: str) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_closes_the_engine_and_exits_with_0(number: signal.Signals):
    process, address = start_program()
    with connect(address, timeout_s=10) as engine:
        assert len(list(engine.get_collection("docs").ingest([{"doc_id": "a", "text": "x"}]))) == 1
        process.send_signal(number)
        out, err = process.communicate(timeout=10)
    assert process.returncode == 0, err
    assert out.split() == ["closed", "returned"]


def test_a_second_signal_ends_the_process_at_once():
    process, address = start_program("stuck")
    with raw_channel(address) as channel:
        call = EngineStub(channel).Info.future(pb.InfoRequest(), timeout=30)
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=5)
        assert call.exception(timeout=5) is not None
    assert process.returncode == 128 + signal.SIGTERM


def test_the_kernels_are_loaded_before_the_first_call():
    program = """
import os, signal
from engine.server import ServerConfig, serve
from index.sparse_kernels import search
from tests.support.fake_engine import FakeEngine
def ready(server):
    print(len(search.signatures))
    os.kill(os.getpid(), signal.SIGTERM)
assert not search.signatures
serve(FakeEngine(), ServerConfig(address="127.0.0.1:0"), on_ready=ready)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert int(done.stdout) > 0


def test_serve_closes_the_engine_when_it_cannot_start():
    from engine.server import serve

    fake = FakeEngine()
    with pytest.raises(errors.InvalidArgument):
        serve(fake, ServerConfig(address="0.0.0.0:0"))
    assert fake.closed


def test_no_thread_is_left_behind():
    before = {thread.name for thread in threading.enumerate()}
    with served(replace(LOCAL, metrics_port=0)) as running:
        running.engine.info()
    deadline = time.monotonic() + 5
    while {t.name for t in threading.enumerate() if t.name.startswith("landmark")} and time.monotonic() < deadline:
        time.sleep(0.01)
    assert {thread.name for thread in threading.enumerate()} <= before


def test_health_check_over_a_plain_channel():
    with serving(FakeEngine()) as server, raw_channel(server.address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        assert stub.Check(health_pb2.HealthCheckRequest(), timeout=5).status == SERVING
        with pytest.raises(grpc.RpcError) as caught:
            stub.Check(health_pb2.HealthCheckRequest(service="nothing"), timeout=5)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
