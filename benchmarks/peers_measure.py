"""How are the systems of ``benchmarks.peers`` measured? The same for each: one caller, one query at a time."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np

from benchmarks.peers_data import DataSet

LIMIT = 10
DEPTH = 100  # candidates of each leg, Landmark's default for ten hits
WARM_UP = 20
# Landmark's own settings, given to every peer that has such a setting. Written out, because importing them would put
# Landmark's libraries into the memory of the peers; `benchmarks.peers` compares them before it runs anything.
GRAPH_LINKS, BUILD_WIDTH, SEARCH_WIDTH = 16, 200, 200
BM25_K1, BM25_B = 1.2, 0.75
_STOP_WORDS = """a an and are as at be but by for if in into is it no not of on or such that the their then there these
they this to was will with"""
STOP_WORDS = sorted(_STOP_WORDS.split())

T = TypeVar("T")
Passage = tuple[int, str]  # its row in the data set, and its text as the system returns it
Hybrid = Callable[[int], Sequence[Passage]]  # the number of a query → ten passages, best first
Dense = Callable[[int], Sequence[int]]  # the number of a query → the ten nearest rows, best first


@dataclass(frozen=True)
class Timed(Generic[T]):
    """The answers to the first queries of a set; what those after the warm-up cost."""

    found: list[T]
    wall_ms: list[float]
    cpu_ms: float

    def percentile(self, which: float) -> float:
        """Of the milliseconds of a query, as the caller waits for it."""
        return float(np.percentile(self.wall_ms, which))

    @property
    def per_second(self) -> float:
        """Queries a second of the one caller."""
        return 1e3 / float(np.mean(self.wall_ms))


def run_queries(answer: Callable[[int], T], n_queries: int, seconds: float) -> Timed[T]:
    """Asks each query once, in their order, until ``seconds`` have passed. No cache of answers can help.

    The first ``WARM_UP`` (fewer, when they take more than half of the time) are not timed.
    """
    found: list[T] = []
    took: list[float] = []
    started = time.perf_counter()
    while len(found) < min(WARM_UP, n_queries - 1) and time.perf_counter() < started + seconds / 2:
        found.append(answer(len(found)))
    cpu = cpu_seconds()
    while len(found) < n_queries and (not took or time.perf_counter() < started + seconds):
        asked = time.perf_counter()
        found.append(answer(len(found)))
        took.append((time.perf_counter() - asked) * 1e3)
    return Timed(found, took, (cpu_seconds() - cpu) * 1e3 / len(took))


def measure_hybrid(data_set: DataSet, hybrid: Hybrid, seconds: float) -> dict[str, float]:
    """Latency, processor time and, where it is known, MRR@10 of the passage that a query was written for.

    Every hit must bring its text.
    """
    timed = run_queries(hybrid, len(data_set.queries), seconds)
    for passages in timed.found:
        wrong = [row for row, text in passages if text != data_set.texts[row]]
        assert len(passages) == LIMIT, f"{len(passages)} hits"
        assert not wrong, f"rows with another text than their own: {wrong}"
    reciprocal = []
    for passages, wanted in zip(timed.found, data_set.answers, strict=False):
        rows = [row for row, _ in passages]
        reciprocal.append(1 / (rows.index(wanted) + 1) if wanted in rows else 0.0)
    quality = {"hybrid_mrr_at_10": float(np.mean(reciprocal))} if reciprocal else {}
    return {
        "p50_ms": timed.percentile(50),
        "p99_ms": timed.percentile(99),
        "cpu_ms": timed.cpu_ms,
        "qps": timed.per_second,
        "queries": len(timed.wall_ms),
        **quality,
    }


def measure_dense(data_set: DataSet, dense: Dense, seconds: float) -> dict[str, float]:
    """Latency of the vector leg alone, and its recall@10 against a float32 scan."""
    timed = run_queries(dense, len(data_set.queries), seconds)
    exact = data_set.exact(LIMIT)
    recall = [len(wanted & set(rows[:LIMIT])) / LIMIT for wanted, rows in zip(exact, timed.found, strict=False)]
    quality = {"dense_recall_at_10": float(np.mean(recall))}
    return {"dense_p50_ms": timed.percentile(50), "dense_qps": timed.per_second, **quality}


def disk_mib(folder: Path) -> float:
    """MiB that the files of a folder take on the disk."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file()) / 2**20


def peak_mib(*, reset: bool = False) -> float:
    """The greatest resident memory so far of this process and its children; ``reset``: forget the past, and start from now."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    peaks = (_status(pid).get("VmHWM", "0 kB") for pid in _family(os.getpid()))
    return sum(int(peak.split()[0]) for peak in peaks) / 1024


def cpu_seconds() -> float:
    """Processor time that this process and its children have used, on all cores."""
    ticks = 0
    for pid in _family(os.getpid()):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])  # utime and stime, proc(5)
    return ticks / os.sysconf("SC_CLK_TCK")


def _family(pid: int) -> list[int]:
    """A process and its descendants."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError):  # the thread, or the child, has just ended
            for child in (task / "children").read_text().split():
                found += _family(int(child))
    return found


def _status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}
