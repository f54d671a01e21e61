"""How near do the dense scans come to the bandwidth of memory?

    python -m benchmarks.scan_bandwidth [--megabytes 80]

Random codes of 256 dimensions in 4 bits, and random float16 vectors of 384, each of the given size, are scanned beside a
sum of as many float64: the fastest read that one thread can do here. The best of many rounds is shown, because other
work on the machine only ever slows a round down; the last column is the share of the read's bandwidth.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np

from benchmarks.report import environment, print_json, print_table
from index.arrays import freeze
from index.flat import FlatIndex
from index.kernels import fast_kernel
from index.vectors import scan

CODES, DIM = 256, 384
ROUNDS = 50


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=80, help="more than the processor's caches hold")
    size = parser.parse_args().megabytes * 1_000_000
    rng = np.random.default_rng(0)
    numbers = np.ones(size // 8)
    flat = FlatIndex(
        freeze(rng.integers(0, 256, (2 * size // CODES, CODES // 2), np.uint8)), np.ones(CODES, np.float32)
    )
    halves = freeze(rng.standard_normal((size // (2 * DIM), DIM), np.float32).astype(np.float16))
    prefix, query = rng.standard_normal(CODES, np.float32), rng.standard_normal(DIM, np.float32)
    runs: list[tuple[str, int, Callable[[], object]]] = [
        ("read", numbers.nbytes, lambda: _total(numbers)),
        ("codes, best 40", flat.codes.nbytes, lambda: flat.candidates(prefix, 40)),
        ("codes, best 200", flat.codes.nbytes, lambda: flat.candidates(prefix, 200)),
        ("float16, best 10", halves.nbytes, lambda: scan(halves, query, 10)),
    ]
    fastest = {name: nbytes / best_s(run) / 1e9 for name, nbytes, run in runs}
    fastest["read"] = max(fastest["read"], numbers.nbytes / best_s(runs[0][2]) / 1e9)
    print_table(
        ["scan", "GB/s", "of the read"], [[name, rate, rate / fastest["read"]] for name, rate in fastest.items()]
    )
    print()
    print_json({"benchmark": "scan_bandwidth", "environment": environment(0), "gb_per_s": fastest})


@fast_kernel
def _total(numbers: np.ndarray) -> float:
    total = 0.0
    for i in range(numbers.size):
        total += numbers[i]
    return total


def best_s(run: Callable[[], object]) -> float:
    """The seconds of the fastest of many rounds, after one that warms up."""
    run()
    seconds = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


if __name__ == "__main__":
    main()
