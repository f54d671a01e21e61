"""How many queries a second go over gRPC, and what does the wire itself cost? Server and clients are processes of their own."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from benchmarks.hybrid_data import Corpus
from engine.values import Query

ADDRESS, ECHO_ADDRESS = "127.0.0.1:50978", "127.0.0.1:50979"
CLIENTS = 8
TRIMMED: dict[str, object] = {"passages": 0, "explain": False, "fields": ()}  # ids and scores
Pair = tuple[str, np.ndarray]


def measure(folder: Path, corpus: Corpus, seconds: float) -> dict[str, object]:
    """Latency of one client and queries a second of eight, one by one and in batches; beside an echo of as many bytes.

    The loads are put on a server of one process, and on one with a process for every core.

    Args:
        folder: of the engine's data, with a collection "c"; no process has it open.
        corpus: whose queries are asked.
        seconds: of each load.
    """
    pairs = list(zip(corpus.queries, corpus.query_vectors, strict=True))
    result: dict[str, object] = {}
    loads = (("all", {}, 1), ("one by one", TRIMMED, 1), ("batches of 32", TRIMMED, 32))
    measured: list[dict[str, object]] = []
    for processes in sorted({1, os.cpu_count() or 1}):
        with _serving(folder, processes) as pids:
            if processes == 1:
                result |= _serial(pairs)
            for name, options, batch in loads:
                found = _load(pids, pairs, options, batch, seconds)
                measured.append({"load": f"{name}, processes: {processes}", **found})
    result["loads"] = measured
    with _echoing() as pids:
        result["echo"] = _run_clients(pids, _echo_client, (seconds,), seconds)
        result["echo_after_pause_p50_ms"] = _spaced_echo(float(str(result["inside_p50_ms"])) / 1e3)
    return result


@contextmanager
def _serving(folder: Path, processes: int) -> Iterator[list[int]]:
    """The server's processes."""
    command = ["serve", "--model", "none", "--data", str(folder), "--address", ADDRESS, "--log-level", "warning"]
    command += ["--processes", str(processes)]
    code = "from cli.main import main; main()"
    server = subprocess.Popen([sys.executable, "-c", code, *command], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        line = server.stdout.readline()
        assert "listens" in line, line
        children = Path(f"/proc/{server.pid}/task").glob("*/children")
        yield [server.pid, *(int(child) for task in children for child in task.read_text().split())]
    finally:
        server.terminate()
        server.wait(60)


def _serial(pairs: list[Pair]) -> dict[str, object]:
    """The median of one client's calls, and of what they take beyond the engine's own time."""
    from engine.client import connect

    queries = [
        Query(text=text, vector=vector, passages=0, explain=False, fields=("timings_ms",)) for text, vector in pairs
    ]  # type: ignore[arg-type]
    with connect(ADDRESS) as engine:
        collection = engine.get_collection("c")
        for query in queries[:20]:
            collection.answer(query)
        took, inside = [], []
        for query in queries:
            began = time.perf_counter()
            answer = collection.answer(query)
            took.append((time.perf_counter() - began) * 1e3)
            inside.append(answer.timings_ms["total"])
    over = np.array(took) - inside
    return {
        "serial_p50_ms": float(np.median(took)),
        "inside_p50_ms": float(np.median(inside)),
        "overhead_p50_ms": float(np.median(over)),
    }


def _spaced_echo(pause_s: float) -> float:
    """The median of an echo's milliseconds when the processors were idle as long as a query would take.

    Where idle processors of a virtual machine are slow to wake, this is most of what the wire costs.
    """
    call, took = _echo_client(0.0), []
    for _ in range(300):
        time.sleep(pause_s)
        began = time.perf_counter()
        next(call)
        took.append((time.perf_counter() - began) * 1e3)
    return float(np.median(took))


def _load(
    pids: list[int], pairs: list[Pair], options: dict[str, object], batch: int, seconds: float
) -> dict[str, float]:
    return _run_clients(pids, _query_client, (pairs, options, batch, seconds), seconds)


def _run_clients(
    pids: list[int],
    client: Callable[..., tuple[int, float, list[float]]],
    arguments: tuple[object, ...],
    seconds: float,
) -> dict[str, float]:
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(CLIENTS + 1)
    with ThreadPoolExecutor(CLIENTS) as waiting:
        pipes = [context.Pipe(duplex=False) for _ in range(CLIENTS)]
        clients = [context.Process(target=_client, args=(client, arguments, start, there)) for _, there in pipes]
        for process in clients:
            process.start()
        start.wait()
        cpu = sum(map(_cpu_s, pids))
        done = list(waiting.map(lambda pipe: pipe[0].recv(), pipes))
        cpu = sum(map(_cpu_s, pids)) - cpu
        for process in clients:
            process.join()
    n = sum(count for count, _, _ in done)
    took = np.concatenate([times for _, _, times in done])
    return {
        "qps": n / seconds,
        "p50_ms": float(np.median(took)),
        "p99_ms": float(np.percentile(took, 99)),
        "server_cpu_ms": cpu * 1e3 / n,
        "client_cpu_ms": sum(cpu_s for _, cpu_s, _ in done) * 1e3 / n,
    }


def _client(
    client: Callable[..., Iterator[int]], arguments: tuple[object, ...], start: threading.Barrier, there: object
) -> None:
    """In a process of its own: how many were answered, processor time, milliseconds of each call."""
    calls = client(*arguments)
    next(calls)  # connected and warm
    start.wait()
    seconds = arguments[-1]
    assert isinstance(seconds, float)
    n, took, cpu, end = 0, [], time.process_time(), time.perf_counter() + seconds
    while (began := time.perf_counter()) < end:
        n += next(calls)
        took.append((time.perf_counter() - began) * 1e3)
    there.send((n, time.process_time() - cpu, took))  # type: ignore[attr-defined]
    os._exit(0)


def _query_client(pairs: list[Pair], options: dict[str, object], batch: int, _seconds: float) -> Iterator[int]:
    from engine.client import connect

    rng = np.random.default_rng(os.getpid())
    queries = [Query(text=text, vector=vector, **options) for text, vector in pairs]  # type: ignore[arg-type]
    collection = connect(ADDRESS).get_collection("c")
    while True:
        if batch == 1:
            collection.answer(queries[int(rng.integers(len(queries)))])
        else:
            collection.query_batch([queries[i] for i in rng.integers(0, len(queries), batch).tolist()])
        yield batch


def _echo_client(_seconds: float) -> Iterator[int]:
    import grpc

    call = grpc.insecure_channel(ECHO_ADDRESS).unary_unary("/echo.Echo/Echo")
    while True:
        call(bytes(1_700))  # a query of 384 dimensions
        yield 1


ECHO = """
import asyncio, sys, grpc
async def echo(data, context):
    return data[:200]
async def main():
    server = grpc.aio.server()
    method = grpc.unary_unary_rpc_method_handler(echo)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("echo.Echo", {"Echo": method}),))
    server.add_insecure_port(sys.argv[1])
    await server.start()
    print("up", flush=True)
    await server.wait_for_termination()
asyncio.run(main())
"""


@contextmanager
def _echoing() -> Iterator[list[int]]:
    """A server of the same kind that does nothing: what gRPC itself costs on this machine."""
    server = subprocess.Popen([sys.executable, "-c", ECHO, ECHO_ADDRESS], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        assert server.stdout.readline() == "up\n"
        yield [server.pid]
    finally:
        server.kill()
        server.wait()


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
