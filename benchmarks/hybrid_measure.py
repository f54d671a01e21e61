"""How are latency, filters, and queries beside updates measured on one open collection? One caller, one query at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.hybrid_data import RANDOM, Corpus
from engine.api import CollectionApi
from engine.values import Query, QueryResult

WARM_UP = 20
ROUND = 40
SHARES = (0.001, 0.01, 0.1, 0.5)  # of the passages that a filter leaves
LIMIT = 10


def latency(collection: CollectionApi, queries: Sequence[Query]) -> dict[str, float]:
    """Milliseconds of a query: median, 99th percentile, processor time, and the mean of each of the engine's stages.

    The processor time is the least of the means over rounds of ``ROUND`` queries, for machines that others use too.
    """
    for query in queries[:WARM_UP]:
        collection.answer(query)
    took, stages, cpu = [], dict[str, float](), [time.process_time()]
    for query in queries[WARM_UP:]:
        began = time.perf_counter()
        result = collection.answer(query)
        took.append((time.perf_counter() - began) * 1e3)
        for stage, ms in result.timings_ms.items():
            stages[stage] = stages.get(stage, 0.0) + ms
        if len(took) % ROUND == 0:
            cpu.append(time.process_time())
    means = {f"{stage}_ms": total / len(took) for stage, total in stages.items()}
    cpu_ms = float(np.diff(cpu).min()) * 1e3 / ROUND if len(cpu) > 1 else float("nan")
    return {"p50_ms": float(np.median(took)), "p99_ms": float(np.percentile(took, 99)), "cpu_ms": cpu_ms, **means}


def filters(collection: CollectionApi, corpus: Corpus, n_exact: int) -> list[dict[str, object]]:
    """Recall and latency of filtered searches, each beside the unfiltered one: every query is asked both ways in turn.

    Recall is that of the ten best of the dense leg against a scan of all matching vectors, over the first ``n_exact``
    queries, and of the hybrid ten best against the same with ``exact=True``. Latency is that of hybrid queries.
    """
    rows: list[dict[str, object]] = []
    plain = corpus.asked(passages=0, explain=False)
    for share in (1.0, *SHARES):
        chosen: dict[str, object] = {} if share == 1.0 else {"filter": f"n < {round(share * RANDOM)}"}
        queries = corpus.asked(passages=0, explain=False, **chosen)
        began = time.perf_counter()
        first = collection.answer(queries[0])
        first_ms = (time.perf_counter() - began) * 1e3
        took = np.array([[_ms(collection, one) for one in both] for both in zip(plain, queries, strict=True)])[WARM_UP:]
        row: dict[str, object] = {"share": share, "matching": first.plan["matching"], "search": first.plan["search"]}
        unfiltered, filtered = np.median(took, axis=0).tolist()
        row |= {"first_ms": first_ms, "p50_ms": filtered, "p99_ms": float(np.percentile(took[:, 1], 99))}
        row["ratio"] = filtered / unfiltered
        row["recall_dense"] = _recall(collection, corpus, n_exact, mode="dense", **chosen)
        row["recall_hybrid"] = _recall(collection, corpus, n_exact, **chosen)
        rows.append(row)
    return rows


def _ms(collection: CollectionApi, query: Query) -> float:
    began = time.perf_counter()
    collection.answer(query)
    return (time.perf_counter() - began) * 1e3


def _recall(collection: CollectionApi, corpus: Corpus, n_queries: int, **options: object) -> float:
    found = map(collection.answer, corpus.asked(passages=0, explain=False, **options)[:n_queries])
    exact = map(collection.answer, corpus.asked(passages=0, explain=False, exact=True, **options)[:n_queries])
    return float(np.mean([_overlap(one, other) for one, other in zip(found, exact, strict=True)]))


def _overlap(found: QueryResult, exact: QueryResult) -> float:
    wanted = {hit.doc_id for hit in exact.hits}
    return len(wanted & {hit.doc_id for hit in found.hits}) / max(1, len(wanted))


def updates(collection: CollectionApi, corpus: Corpus, n_rows: int, folder: Path) -> dict[str, float]:
    """Queries alone, beside the ingest of ``n_rows`` documents, and beside the sealing and merging after it; then deletes."""
    queries = corpus.asked(passages=0, explain=False)
    alone = latency(collection, queries)
    before = disk_bytes(folder)
    seconds: list[float] = []
    done = threading.Event()

    def ingest() -> None:
        try:
            began = time.perf_counter()
            assert all(a.status == "added" for a in collection.ingest(corpus.documents(0, n_rows, "new-")))
            seconds.append(time.perf_counter() - began)
            collection.optimize()
        finally:
            done.set()

    thread = threading.Thread(target=ingest)
    thread.start()
    beside_ingest, beside_merging = list[float](), list[float]()
    while not done.is_set():
        took = beside_merging if seconds else beside_ingest
        began = time.perf_counter()
        collection.answer(queries[len(took) % len(queries)])
        took.append((time.perf_counter() - began) * 1e3)
    thread.join()
    grown = disk_bytes(folder)
    ids = [f"new-{row}" for row in range(n_rows)]
    began = time.perf_counter()
    deleted = sum(collection.delete(part) for part in _parts(ids, 1_000))
    delete_s = time.perf_counter() - began
    assert deleted == n_rows, deleted
    collection.optimize()
    live = collection.stats()
    return {
        "alone_p50_ms": alone["p50_ms"],
        "alone_p99_ms": alone["p99_ms"],
        **_percentiles("ingest", beside_ingest),
        **_percentiles("merging", beside_merging),
        "ingest_per_s": n_rows / seconds[0],
        "deletes_per_s": n_rows / delete_s,
        "disk_before_mib": before / 2**20,
        "disk_grown_mib": grown / 2**20,
        "disk_after_mib": disk_bytes(folder) / 2**20,
        "deleted_left": sum(segment.deleted for segment in live.segments),
    }


def _percentiles(beside: str, took: Sequence[float]) -> dict[str, float]:
    if not took:
        return {}
    p50, p99 = np.percentile(took, (50, 99)).tolist()
    return {f"{beside}_queries": len(took), f"{beside}_p50_ms": p50, f"{beside}_p99_ms": p99}


def _parts(items: list[str], size: int) -> Iterable[list[str]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def disk_bytes(folder: Path) -> int:
    """What the files of a folder take on the disk."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def memory_mib() -> dict[str, float]:
    """MiB of this process: its own pages, mapped files that are resident, and the greatest sum so far."""
    lines = (line.partition(":") for line in Path("/proc/self/status").read_text().splitlines())
    kb = {key: int(value.split()[0]) for key, _, value in lines if key in ("RssAnon", "RssFile", "VmHWM")}
    return {"own_mib": kb["RssAnon"] / 1024, "mapped_mib": kb["RssFile"] / 1024, "peak_mib": kb["VmHWM"] / 1024}


def written_bytes() -> int:
    """What this process has caused to be written to the disk."""
    lines = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(lines["write_bytes"])
