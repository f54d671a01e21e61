"""How are the engines of ``benchmarks.peers`` measured? The same for each: one thread, one query at a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.peers_data import DataSet

Answer = Callable[[int], list[int]]  # the number of a query → rows of passages, best first
LIMIT = 10
WARM_UP = 20


def measure_queries(data_set: DataSet, answer: Answer) -> dict[str, float]:
    """Median and 99th percentile of the milliseconds of a query, after some that are not counted."""
    for i in range(min(WARM_UP, len(data_set.queries))):
        answer(i)
    took = []
    for i in range(len(data_set.queries)):
        started = time.perf_counter()
        answer(i)
        took.append((time.perf_counter() - started) * 1e3)
    return {"p50_ms": float(np.percentile(took, 50)), "p99_ms": float(np.percentile(took, 99))}


def quality(data_set: DataSet, dense: Answer, hybrid: Answer) -> dict[str, float]:
    """Recall@10 of the dense leg against a scan, and MRR@10 of the passage that a query was written for."""
    exact = data_set.exact(LIMIT)
    recall = [len(exact[i] & set(dense(i)[:LIMIT])) / LIMIT for i in range(len(data_set.queries))]
    reciprocal = []
    for i, wanted in enumerate(data_set.answers):
        found = hybrid(i)[:LIMIT]
        reciprocal.append(1 / (found.index(wanted) + 1) if wanted in found else 0.0)
    return {"dense_recall_at_10": float(np.mean(recall)), "hybrid_mrr_at_10": float(np.mean(reciprocal))}


def disk_mib(folder: Path) -> float:
    """MiB that the files of a folder take on the disk."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file()) / 2**20


def peak_mib(*, reset: bool = False) -> float:
    """The greatest resident memory of this process so far; ``reset``: forget the past, and start from now."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def memory_over(base: float) -> float:
    """Peak resident MiB above ``base``, which the data set itself takes. Mapped files that were read count."""
    return peak_mib() - base
