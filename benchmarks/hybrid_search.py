"""How fast is a hybrid query at each size, with filters, beside updates, and over gRPC; and what does a passage cost?

    python -m benchmarks.hybrid_search --scale FOLDER --sizes 10000,100000,1000000

``--scale`` is the folder that ``benchmarks.scale_corpus`` made; without it passages are made up, and only times mean
something. Vectors are supplied, so no model runs. Each size is built once and kept in ``--data``; ``--build`` only builds.
Each size is measured in a process of its own, then served to eight clients. Prints Markdown and one line of JSON, and
with ``--plots`` writes the cost curves there.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import hybrid_wire
from benchmarks.hybrid_data import Corpus, load
from benchmarks.hybrid_measure import disk_bytes, filters, latency, memory_mib, updates, written_bytes
from benchmarks.plots import write_lines
from benchmarks.report import environment, print_json, print_table

LARGE = 10_000_000  # passages that the curves are continued to, by calculation
TARGETS = {
    "hybrid p50 ms at 1M": 6.0,
    "hybrid p99 ms at 1M": 15.0,
    "rescore ms": 0.3,
    "wire overhead p50 ms": 1.2,
    "QPS at 100k, 8 clients": 1_500.0,
    "ingest/s": 15_000.0,
    "p99 during updates / alone": 2.0,
    "filter p50 / unfiltered": 1.5,
    "filter recall@10": 0.98,
}


def main() -> None:
    """Build and measure every size, or do one step of it in a child process."""
    arguments = _arguments()
    if arguments.child:
        print_json(_STEPS[arguments.child](arguments, arguments.sizes[0]))
        return
    results = []
    for size in arguments.sizes:
        built = _folder(arguments, size).with_suffix(".json")
        if not built.exists():
            built.write_text(json.dumps(_run("build", arguments, size)), encoding="utf-8")
        if arguments.build:
            continue
        result = {"passages": size, **json.loads(built.read_text(encoding="utf-8"))}
        for step in arguments.steps:
            result |= _run(step, arguments, size)
        results.append(result)
        print(json.dumps(result), file=sys.stderr, flush=True)
    if arguments.build:
        return
    where = environment(arguments.seed)
    _print_tables(results)
    print(f"\n{where['cpu']}, {where['cores']} cores, {where['memory_gib']} GiB; Python {where['python']}; ", end="")
    print(f"commit {where['commit']}; seed {where['seed']}.")
    if arguments.plots:
        _draw(results, arguments.plots)
    print_json({"benchmark": "hybrid_search", "environment": where, "targets": TARGETS, "results": results})


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=Path, help="the folder of the scale corpus; none: made-up passages")
    parser.add_argument("--sizes", default="10000,100000", help="passages, by commas")
    parser.add_argument("--kind", default="auto", help="of the dense index, as a collection is created with")
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument(
        "--exact", type=int, default=50, help="queries whose recall is measured, which scan all vectors"
    )
    parser.add_argument("--seconds", type=float, default=5.0, help="of each load over gRPC")
    parser.add_argument("--steps", default="local,wire", help=f"of {', '.join(_STEPS)}, by commas")
    parser.add_argument(
        "--updated", type=int, default=20_000, help="documents ingested beside queries, by step updates"
    )
    parser.add_argument("--build", action="store_true", help="build what is not there yet, and end")
    parser.add_argument("--data", type=Path, default=Path(tempfile.gettempdir()) / "landmark-hybrid")
    parser.add_argument("--plots", type=Path, help="a folder for the curves")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", choices=list(_STEPS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.sizes = [int(size) for size in arguments.sizes.split(",")]
    arguments.steps = arguments.steps.split(",")
    arguments.data.mkdir(parents=True, exist_ok=True)
    return arguments


def _run(step: str, arguments: argparse.Namespace, size: int) -> dict[str, Any]:
    """One step of one size in a process of its own, so that its memory is its own."""
    command = [sys.executable, "-m", "benchmarks.hybrid_search", *sys.argv[1:], "--child", step, "--sizes", str(size)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _folder(arguments: argparse.Namespace, size: int) -> Path:
    kind = "made-up" if arguments.scale is None else "scale"
    found: Path = arguments.data / f"{kind}-{arguments.kind}-{size}"
    return found


def _corpus(arguments: argparse.Namespace, size: int) -> Corpus:
    return load(arguments.scale, size, arguments.queries, arguments.seed)


def _build(arguments: argparse.Namespace, size: int) -> dict[str, Any]:
    """Ingest and optimise; the rate counts until the last passage is durable."""
    from engine import open_engine

    corpus, folder = _corpus(arguments, size), _folder(arguments, size)
    shutil.rmtree(folder, ignore_errors=True)
    with open_engine(folder, model=None) as engine:
        collection = engine.create_collection("c", dim=corpus.vectors.shape[1], dense_kind=arguments.kind)
        began, written = time.perf_counter(), written_bytes()
        for answer in collection.ingest(corpus.documents(0, size)):
            assert answer.status == "added", answer
        ingested = time.perf_counter()
        corpus.put_to_use(collection)
        indexed = time.perf_counter()
        written = written_bytes() - written
        segments = [(segment.passages, segment.dense_kind) for segment in collection.stats().segments]
        build_peak_mib = memory_mib()["peak_mib"]
    return {
        "ingest_per_s": size / (ingested - began),
        "build_s": indexed - began,
        "segments": segments,
        "written_ratio": written / corpus.payload_bytes,
        "disk_mib": disk_bytes(folder) / 2**20,
        "disk_ratio": disk_bytes(folder) / corpus.payload_bytes,
        "build_peak_mib": build_peak_mib,
    }


def _local(arguments: argparse.Namespace, size: int) -> dict[str, Any]:
    """Latency by mode and with filters, on one thread in this process, and the memory then."""
    from engine import open_engine

    corpus = _corpus(arguments, size)
    base = memory_mib()["own_mib"]  # the texts and queries that this benchmark holds, and the libraries
    with open_engine(_folder(arguments, size), model=None) as engine:
        collection = engine.get_collection("c")
        corpus.put_to_use(collection)
        modes: dict[str, Any] = {}
        for mode in ("hybrid", "dense", "bm25"):
            modes[mode] = latency(collection, corpus.asked(mode=mode, passages=0, explain=False))
        modes["hybrid with terms and texts"] = latency(collection, corpus.asked())
        memory = memory_mib()
        found = filters(collection, corpus, arguments.exact)
    return {"modes": modes, "filters": found, "own_mib": memory["own_mib"] - base, "mapped_mib": memory["mapped_mib"]}


def _wire(arguments: argparse.Namespace, size: int) -> dict[str, Any]:
    return {"wire": hybrid_wire.measure(_folder(arguments, size), _corpus(arguments, size), arguments.seconds)}


def _updates(arguments: argparse.Namespace, size: int) -> dict[str, Any]:
    from engine import open_engine

    folder = _folder(arguments, size)
    with open_engine(folder, model=None) as engine:
        n_rows = min(size, arguments.updated)
        return {"updates": updates(engine.get_collection("c"), _corpus(arguments, size), n_rows, folder)}


_STEPS = {"build": _build, "local": _local, "wire": _wire, "updates": _updates}


def _print_tables(results: list[dict[str, Any]]) -> None:
    print(
        "\nCost by size. Written and disk: as a multiple of the texts and float16 vectors. Own: memory beyond the benchmark's.\n"
    )
    header = ["passages", "segments", "ingest/s", "build s", "written x", "disk MiB", "disk x", "own MiB", "mapped MiB"]
    rows = []
    for r in results:
        kinds = ", ".join(f"{n} {kind}" for n, kind in r["segments"])
        cells = [
            r.get(key)
            for key in ("ingest_per_s", "build_s", "written_ratio", "disk_mib", "disk_ratio", "own_mib", "mapped_mib")
        ]
        rows.append([r["passages"], kinds, *cells])
    print_table(header, rows)
    local = [r for r in results if "modes" in r]
    if local:
        _print_local(local)
    wire = [r for r in results if "wire" in r]
    if wire:
        _print_wire(wire)
    for r in results:
        if "updates" in r:
            print(f"\nUpdates at {r['passages']:,} passages: {json.dumps(r['updates'])}")


def _print_local(results: list[dict[str, Any]]) -> None:
    print("\nOne query on one thread, in the process, vectors supplied; milliseconds.\n")
    stages = ("embed_ms", "filter_ms", "search_ms", "rescore_ms", "fuse_ms", "fetch_ms")
    print_table(
        ["passages", "query", "p50", "p99", "CPU", *(stage.removesuffix("_ms") for stage in stages)],
        [
            [
                r["passages"],
                name,
                took["p50_ms"],
                took["p99_ms"],
                took["cpu_ms"],
                *(took.get(stage) for stage in stages),
            ]
            for r in results
            for name, took in r["modes"].items()
        ],
    )
    print(
        "\nFilters on a random number: recall@10 against a scan of all matches; hybrid p50 and its ratio to unfiltered.\n"
    )
    columns = ("share", "matching", "recall_dense", "recall_hybrid", "p50_ms", "p99_ms", "ratio", "first_ms")
    print_table(
        ["passages", *columns, "search"],
        [
            [r["passages"], *(row[c] for c in columns), json.dumps(row["search"])]
            for r in results
            for row in r["filters"]
        ],
    )


def _print_wire(results: list[dict[str, Any]]) -> None:
    print(f"\nOver gRPC, server and clients on this machine; {hybrid_wire.CLIENTS} clients, each a process.\n")
    columns = ("qps", "p50_ms", "p99_ms", "server_cpu_ms", "client_cpu_ms")
    rows: list[list[object]] = []
    for r in results:
        wire = r["wire"]
        for one in wire["loads"]:
            rows.append([r["passages"], one["load"], *(one[c] for c in columns)])
        rows.append([r["passages"], "echo of as many bytes, no search", *(wire["echo"][c] for c in columns)])
    print_table(
        ["passages", "calls", "QPS", "call p50 ms", "call p99 ms", "server CPU ms a query", "client CPU ms"], rows
    )
    for r in results:
        wire = r["wire"]
        print(f"\n{r['passages']:,} passages, one client: p50 {wire['serial_p50_ms']:.2f} ms, ", end="")
        print(f"of which the wire {wire['overhead_p50_ms']:.2f} ms; an echo after as long a pause takes ", end="")
        print(f"{wire['echo_after_pause_p50_ms']:.2f} ms.")


def _draw(results: list[dict[str, Any]], folder: Path) -> None:
    """The cost curves; the points at ``LARGE`` are calculated."""
    local = [r for r in results if "modes" in r]
    times = {name: [(r["passages"], r["modes"][name]["p50_ms"]) for r in local] for name in ("hybrid", "dense", "bm25")}
    costs = {
        "build s": [(r["passages"], r["build_s"]) for r in results],
        "disk MiB": [(r["passages"], r["disk_mib"]) for r in results],
        "own memory MiB": [(r["passages"], max(1.0, r["own_mib"])) for r in local],
    }
    for name, title, unit, lines in (
        ("time-by-size", "Time of one query, one thread", "p50 ms", times),
        ("cost-by-size", "What a collection costs", "", costs),
    ):
        continued = {line: [*points, *_continued(points)] for line, points in lines.items()}
        title = f"{title}; at {LARGE:,} calculated" if any(map(_continued, lines.values())) else title
        write_lines(folder / f"{name}.svg", title, continued, x="passages", y=unit)


def _continued(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """The point at ``LARGE`` on the power law through the last two; none of fewer."""
    if len(points) < 2:
        return []
    (n, low), (m, high) = points[-2:]
    return [(LARGE, high * (high / low) ** (math.log(LARGE / m) / math.log(m / n)))]


if __name__ == "__main__":
    main()
