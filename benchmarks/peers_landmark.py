"""How does Landmark do the work of ``benchmarks.peers``: embedded, over gRPC, and after a SIGKILL?"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.peers_data import DataSet
from benchmarks.peers_measure import LIMIT, Dense, Hybrid, Passage, disk_mib, measure_dense, measure_hybrid, peak_mib
from engine import open_engine
from engine.api import CollectionApi
from engine.values import Document

ADDRESS = "127.0.0.1:50977"
NOTE = "prefixes searched, then full vectors; BM25 with stemming; convex fusion; fsync before each acknowledgement"
REOPEN = """
import sys, time, numpy as np
start = time.perf_counter()
from engine import open_engine
with open_engine(sys.argv[1], model=None) as engine:
    collection = engine.get_collection("c")
    opened = time.perf_counter() - start
    hits = collection.query(sys.argv[2], vector=np.load(sys.argv[3])).hits
    assert len(hits) == 10 and collection.count() == int(sys.argv[4]), (len(hits), collection.count())
    print(opened, time.perf_counter() - start)
"""


def ingest_and_wait(data_set: DataSet, folder: Path) -> None:
    """Ingests, says so on stdout, and goes on with the background work until it is killed."""
    engine = open_engine(folder, model=None)
    _ingest(engine.create_collection("c", dim=data_set.vectors.shape[1]), data_set)
    print("acknowledged", flush=True)
    time.sleep(600)


def measure(data_set: DataSet, folder: Path, seconds: float, base: float) -> dict[str, object]:
    """Ingest, background work, queries embedded and over gRPC, disk and memory.

    Args:
        data_set: stored whole.
        folder: empty.
        seconds: after which asking stops.
        base: resident MiB before this module, and with it the engine, was imported.
    """
    result: dict[str, object] = {"system": "landmark", "passages": len(data_set.texts)}
    with open_engine(folder, model=None) as engine:
        collection = engine.create_collection("c", dim=data_set.vectors.shape[1])
        ingest_s = _ingest(collection, data_set)
        started = time.perf_counter()
        collection.optimize()
        idle_s = time.perf_counter() - started
        result["ingest_per_s"] = len(data_set.texts) / ingest_s
        result["indexed_per_s"] = len(data_set.texts) / (ingest_s + idle_s)
        result["idle_s"] = idle_s
        segments = ", ".join(f"{s.passages} {s.dense_kind}" for s in collection.stats().segments)
        result["note"] = f"segments: {segments}; {NOTE}"
        result.update(measure_hybrid(data_set, _hybrid(collection, data_set), seconds))
        result.update(measure_dense(data_set, _dense(collection, data_set), seconds))
        result["stages_ms"] = _stages(collection, data_set)
        result["rss_mib"] = peak_mib() - base
    result["disk_mib"] = disk_mib(folder)
    with _served(folder):
        from engine.client import connect

        with connect(ADDRESS) as remote:
            over = measure_hybrid(data_set, _hybrid(remote.get_collection("c"), data_set), seconds)
    result["grpc_p50_ms"], result["grpc_p99_ms"] = over["p50_ms"], over["p99_ms"]
    return result


def reopen_after_kill(command: list[str], data_set: DataSet, folder: Path, scratch: Path) -> dict[str, object]:
    """Starts ``command``, which ends in `ingest_and_wait`; kills it when all is acknowledged; opens the folder twice."""
    import numpy as np

    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    try:
        while (line := child.stdout.readline()) and line.strip() != "acknowledged":
            pass
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    vector = scratch / "query.npy"
    np.save(vector, data_set.query_vectors[0])
    arguments = [str(folder), data_set.queries[0], str(vector), str(len(data_set.texts))]
    answer = subprocess.run([sys.executable, "-c", REOPEN, *arguments], check=True, capture_output=True, text=True)
    opened, first = map(float, answer.stdout.split())
    return {"reopen_open_s": opened, "reopen_s": first}


def _ingest(collection: CollectionApi, data_set: DataSet) -> float:
    """Seconds until the last passage is acknowledged, so durable."""
    started = time.perf_counter()
    failed = [answer for answer in collection.ingest(_documents(data_set)) if answer.status != "added"]
    assert not failed, failed[0]
    return time.perf_counter() - started


def _documents(data_set: DataSet) -> Iterator[Document]:
    for row, (text, vector) in enumerate(zip(data_set.texts, data_set.vectors, strict=True)):
        yield Document(doc_id=str(row), text=text, vector=vector)  # type: ignore[arg-type]


def _hybrid(collection: CollectionApi, data_set: DataSet) -> Hybrid:
    def answer(i: int) -> list[Passage]:
        found = collection.query(data_set.queries[i], vector=data_set.query_vectors[i], limit=LIMIT)
        return [(int(hit.doc_id), hit.passages[0].text) for hit in found.hits]

    return answer


def _dense(collection: CollectionApi, data_set: DataSet) -> Dense:
    def answer(i: int) -> list[int]:
        found = collection.query(vector=data_set.query_vectors[i], mode="dense", limit=LIMIT)
        return [int(hit.doc_id) for hit in found.hits]

    return answer


def _stages(collection: CollectionApi, data_set: DataSet) -> dict[str, float]:
    """Mean milliseconds of each stage of a hybrid query, as the engine reports them."""
    sums: dict[str, float] = {}
    for text, vector in zip(data_set.queries, data_set.query_vectors, strict=True):
        for stage, ms in collection.query(text, vector=vector, limit=LIMIT).timings_ms.items():
            sums[stage] = sums.get(stage, 0.0) + ms / len(data_set.queries)
    return {stage: round(ms, 2) for stage, ms in sums.items()}


class _served:  # noqa: N801
    """`engine serve` on a folder in another process, for the length of a block."""

    def __init__(self, folder: Path) -> None:
        command = ["serve", "--model", "none", "--data", str(folder), "--address", ADDRESS, "--log-level", "warning"]
        code = "from cli.main import main; main()"
        self._server = subprocess.Popen([sys.executable, "-c", code, *command], stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> None:
        """Wait until it accepts calls."""
        assert self._server.stdout is not None
        line = self._server.stdout.readline()
        assert "listens" in line, line

    def __exit__(self, *_: object) -> None:
        """Stop it."""
        self._server.terminate()
        self._server.wait(60)
