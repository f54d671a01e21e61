"""How near does the dense scan on a GPU come to its memory's bandwidth, and what do callers gain that share a scan?

    python -m benchmarks.gpu_search [--scale DIR] [--passages 1000000] [--callers 1,8,64]

Each number of callers asks at the same time for ten neighbours, each the next query as soon as it has an answer, of an
index of the gpu kind with exact rescoring, and of FAISS's IVF-PQ, which runs on a GPU too where FAISS finds one. Shown:
queries/s, median, 99th percentile, recall@10 against a scan of all vectors, and how many bytes of prefixes the scans read
a second, as a share of the fastest read: torch's sum of as many bytes of float32 on the same device. A scan counts once for
all that share it.

Vectors and held-out queries are those of ``benchmarks.scale_corpus``; without --scale they are made up, and recall means
little. Without a GPU the processor scans: the same path, as a toy.
"""

from __future__ import annotations

import argparse
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from benchmarks.report import PACKAGES, environment, print_json, print_table
from benchmarks.scan_bandwidth import best_s
from embedder.embedder import coarse_dim
from index.dense import DenseIndex
from index.gpu import GpuIndex
from index.recall import Setting, nearest

K, DEPTH, DIM = 10, 40, 384
SECONDS = 5.0
SETTINGS = {"gpu": Setting(None, DEPTH), "faiss": Setting(None, 200)}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=Path, help="the folder of the scale corpus; none: made-up vectors")
    parser.add_argument("--passages", type=int, default=1_000_000)
    parser.add_argument("--callers", default="1,8,64", help="that ask at the same time, by commas")
    arguments = parser.parse_args()
    vectors, queries = _vectors(arguments.scale, arguments.passages)
    exact = nearest(vectors, queries, K, np.full(len(queries), -1))
    rows, results = [], []
    for kind, setting in SETTINGS.items():
        index = DenseIndex.build(
            vectors, kind=kind, coarse_dim=coarse_dim(vectors.shape[1]), rotate=True, threads=torch.get_num_threads()
        )
        read, scanned = _read_gb_per_s(vectors.shape[0] * index.coarse_dim), _count_scans(index)
        for callers in map(int, arguments.callers.split(",")):
            found = _load(index, queries, exact, setting, callers, scanned)
            share = found["gb_per_s"] / read
            rows.append([kind, callers, *list(found.values())[:4], found["gb_per_s"] or "", share or ""])
            results.append({"kind": kind, "callers": callers, **found, "share_of_read": share})
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "processor"
    print(f"\n{len(vectors):,} vectors of {vectors.shape[1]}, {len(queries):,} queries, k = {K}, on: {device}\n")
    print_table(["kind", "callers", "queries/s", "p50 ms", "p99 ms", "recall@10", "GB/s", "of the read"], rows)
    print()
    facts = environment(0, [*PACKAGES, "faiss-gpu"])
    print_json({"benchmark": "gpu_search", "device": device, "n": len(vectors), "environment": facts, "runs": results})


def _vectors(scale: Path | None, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Passages float16[n, dim] and queries float32[m, dim], unit rows."""
    if scale is not None:
        queries = np.load(scale / "queries_dense.npy").astype(np.float32)
        return np.ascontiguousarray(np.load(scale / "dense.npy", mmap_mode="r")[:n]), queries
    rng = np.random.default_rng(0)
    made = rng.standard_normal((n + 1_000, DIM), np.float32) * (1.0 + np.arange(DIM, dtype=np.float32)) ** -0.5
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    return made[:n].astype(np.float16), made[n:]


def _count_scans(index: DenseIndex) -> list[int]:
    """A list that grows by the bytes of every scan of prefixes; it stays empty where the kind is another."""
    scanned: list[int] = []
    coarse = index._coarse
    if isinstance(coarse, GpuIndex):
        scan = coarse._shared._answer

        def counted(asked: object) -> None:
            scanned.append(coarse.nbytes)
            scan(asked)  # type: ignore[arg-type]

        coarse._shared._answer = counted
    return scanned


def _load(
    index: DenseIndex, queries: np.ndarray, exact: np.ndarray, setting: Setting, callers: int, scanned: list[int]
) -> dict[str, float]:
    """What ``callers`` threads get in ``SECONDS``, each from its own place in the queries on."""
    index.search(queries[0], K, setting=setting)
    scanned.clear()
    start, stop = threading.Barrier(callers + 1), threading.Event()

    def call(first: int) -> tuple[list[float], list[float]]:
        took, recall = [], []
        start.wait()
        for i in range(first, first + 10**9):
            if stop.is_set():
                break
            began = time.perf_counter()
            rows = index.search(queries[i % len(queries)], K, setting=setting).rows
            took.append((time.perf_counter() - began) * 1e3)
            recall.append(float(np.isin(exact[i % len(queries)], rows).mean()))
        return took, recall

    with ThreadPoolExecutor(callers) as pool:
        running = [pool.submit(call, caller * len(queries) // callers) for caller in range(callers)]
        start.wait()
        began = time.perf_counter()
        time.sleep(SECONDS)
        stop.set()
        found = [one.result() for one in running]
        seconds = time.perf_counter() - began
    took = np.concatenate([one[0] for one in found])
    p50, p99 = np.percentile(took, (50, 99)).tolist()
    recall = float(np.concatenate([one[1] for one in found]).mean())
    return {
        "qps": len(took) / seconds,
        "p50_ms": p50,
        "p99_ms": p99,
        "recall": recall,
        "gb_per_s": sum(scanned) / seconds / 1e9,
    }


def _read_gb_per_s(n: int) -> float:
    """The fastest read of as many bytes as ``n`` float16 have on the device, by torch's sum of float32."""
    numbers = torch.zeros(n // 2, device="cuda" if torch.cuda.is_available() else "cpu")
    return float(numbers.nbytes / best_s(lambda: numbers.sum().item()) / 1e9)


if __name__ == "__main__":
    main()
