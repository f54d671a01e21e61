"""How fast and how good is Landmark beside other embedded engines, on the same real passages?

    python -m benchmarks.peers --passages 20000 --queries 200
    python -m benchmarks.peers --scale FOLDER --passages 100000 --plots docs/plots

Every system gets the same passages with the same vectors, and answers the same held-out queries by text and vector: ten
hits with their texts, fused from a hundred candidates of each leg. Each runs in a process of its own, one after the other,
with the threads that it chooses. No phase goes on for long after ``--seconds``, so a slow system is measured on the first
passages or queries only; its row says on how many. Peers that are not installed are reported as missing
(`pip install -e '.[peers]'`). Prints Markdown and one line of JSON. With ``--scale`` the passages, queries and vectors are
those of the scale corpus (``benchmarks.scale_corpus``), whose queries name no right passage: MRR is then empty.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks import peers_measure
from benchmarks.peers_data import DataSet, load, load_scale
from benchmarks.peers_systems import PEERS, measure_peer
from benchmarks.plots import write_lines
from benchmarks.report import PACKAGES, environment, print_json, print_table

SYSTEMS = ("landmark", *PEERS)
PEER_PACKAGES = ("pymilvus", "milvus-lite", "qdrant-client", "lancedb", "pyarrow", "chromadb", "txtai", "bm25s")
TARGETS = {"ingest_per_s": 10_000.0, "p50_ms": 10.0, "grpc_p50_ms": 15.0, "reopen_s": 5.0}
PHASES = 6  # of --seconds each: ingest, hybrid queries, dense queries; and as much again for what cannot be cut short
COLUMNS = {  # key of a result → title, digits
    "system": ("system", 0),
    "passages": ("passages", 0),
    "ingest_per_s": ("stored/s", 0),
    "indexed_per_s": ("durable and indexed/s", 0),
    "p50_ms": ("hybrid p50 ms", 1),
    "p99_ms": ("p99 ms", 1),
    "qps": ("QPS", 0),
    "cpu_ms": ("CPU ms", 1),
    "queries": ("queries timed", 0),
    "hybrid_mrr_at_10": ("MRR@10", 3),
    "dense_p50_ms": ("dense p50 ms", 1),
    "dense_recall_at_10": ("recall@10", 3),
    "disk_mib": ("disk MiB", 0),
    "rss_mib": ("peak RSS MiB", 0),
}
SCALE_VECTORS = "those of the scale corpus, 384 dimensions"
VECTORS = (
    "idf-weighted mean of the built-in model's static word-piece embeddings, mean removed, unit length, 384 dimensions"
)
HOW_TO_READ = """Stored/s: until the system's calls return, with the durability that each promises by default (see its note).
Durable and indexed/s: until every index is built as well and every file is fsynced, by the benchmark where the system does
not. CPU ms: processor time of a hybrid query on all cores. QPS: of hybrid queries of one caller. Recall@10: of the dense
leg, against a scan. MRR@10: of the passage that a query was written for; each system has its own text analysis and fusion;
comparable only between rows of as many passages. Peak RSS: of the process and its children, libraries included, above the
data set that it holds. Embedded modes only: the servers of Qdrant, Milvus and Chroma are other programs, and are not
measured here."""


def main() -> None:
    """Run the benchmark, or one system of it."""
    arguments = _arguments()
    if arguments.child:
        _child(arguments.child, arguments)
        return
    _check_settings()
    _data_set(arguments)
    results = []
    for name in arguments.only.split(",") if arguments.only else SYSTEMS:
        results.append(_run(name, arguments))
        print(json.dumps(results[-1]), file=sys.stderr, flush=True)
    where = environment(arguments.seed, (*PACKAGES, *PEER_PACKAGES))
    print(f"Vectors: {VECTORS if arguments.scale is None else SCALE_VECTORS}.")
    _print_markdown(results, where)
    if arguments.plots is not None:
        _draw(results, arguments.plots)
    settings = {"passages": arguments.passages, "queries": arguments.queries, "seconds": arguments.seconds}
    print_json({"benchmark": "peers", "environment": where, **settings, "targets": TARGETS, "results": results})


def _print_markdown(results: list[dict[str, object]], where: dict[str, object]) -> None:
    versions = where["versions"]
    assert isinstance(versions, dict)
    print(f"{HOW_TO_READ}\n")
    print_table([title for title, _ in COLUMNS.values()], [_row(result) for result in results])
    print()
    for result in results:
        print(f"- {result['system']}: {result['note']}.")
    for result in results:
        if "grpc_p50_ms" in result:
            over, reopened = "over gRPC p50 {grpc_p50_ms:.1f} ms, p99 {grpc_p99_ms:.1f} ms", "{reopen_s:.1f} s"
            print(f"- landmark besides: {over}; first answer after SIGKILL in {reopened}.".format(**result))
    print(f"\n{where['cpu']}, {where['cores']} cores, {where['memory_gib']} GiB; Python {where['python']}, ", end="")
    print(f"{', '.join(f'{name} {version}' for name, version in versions.items())}; seed {where['seed']}.\n")


def _draw(results: list[dict[str, object]], folder: Path) -> None:
    """One mark a system: recall of the dense leg against its queries a second, and disk against hybrid queries a second."""
    for name, x, y, labels in (
        ("peers-recall.svg", "dense_recall_at_10", "dense_qps", ("recall@10", "QPS, dense, one caller")),
        ("peers-cost.svg", "disk_mib", "qps", ("disk MiB", "QPS, hybrid, one caller")),
    ):
        marks = {str(r["system"]): [(float(str(r[x])), float(str(r[y])))] for r in results if x in r and y in r}
        if marks:
            title = f"{max(int(str(r.get('passages', 0))) for r in results):,} passages"
            write_lines(folder / name, title, marks, x=labels[0], y=labels[1], log_x=x == "disk_mib")


def _row(result: dict[str, object]) -> list[object]:
    cells = ((result.get(key), digits) for key, (_, digits) in COLUMNS.items())
    return [f"{value:,.{digits}f}" if isinstance(value, (int, float)) else value for value, digits in cells]


def _check_settings() -> None:
    """What the peers are given must be what Landmark has."""
    from index import analyzer, bm25, hnsw

    graph = (peers_measure.GRAPH_LINKS, peers_measure.BUILD_WIDTH, peers_measure.SEARCH_WIDTH)
    assert graph == (hnsw.M, hnsw.EF_CONSTRUCTION, hnsw.EF), graph
    assert bm25.Bm25() == bm25.Bm25(peers_measure.BM25_K1, peers_measure.BM25_B)
    assert set(peers_measure.STOP_WORDS) == analyzer.ENGLISH_STOP_WORDS


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    folders = [path for path in (Path("../shared/train"), Path("../shared/corpora")) if path.is_dir()]
    parser.add_argument("--texts", type=Path, nargs="+", default=folders, help="folders of *.jsonl.zst")
    parser.add_argument("--scale", type=Path, help="the folder of the scale corpus, instead of --texts")
    parser.add_argument("--plots", type=Path, help="a folder for the plots")
    parser.add_argument("--passages", type=int, default=200_000)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--only", default="", help=f"of {', '.join(SYSTEMS)}, by commas")
    parser.add_argument("--seconds", type=float, default=300.0, help="after which a phase of a system is cut short")
    parser.add_argument(
        "--data", type=Path, default=Path(tempfile.gettempdir()) / "landmark-peers", help="data set and indexes"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", default="", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    unknown = set(filter(None, arguments.only.split(","))) - set(SYSTEMS)
    if arguments.queries < 2:
        parser.error("--queries must be 2 or more: the first ones warm up")
    if unknown or not (arguments.texts or arguments.scale):
        parser.error(f"unknown systems {sorted(unknown)}" if unknown else "give --texts")
    return arguments


def _data_set(arguments: argparse.Namespace) -> DataSet:
    if arguments.scale is not None:
        return load_scale(arguments.scale, arguments.passages, arguments.queries)
    return load(arguments.data, arguments.texts, arguments.passages, arguments.queries, arguments.seed)


def _command(child: str) -> list[str]:
    return [sys.executable, "-m", "benchmarks.peers", *sys.argv[1:], "--child", child]


def _run(name: str, arguments: argparse.Namespace) -> dict[str, object]:
    """One system in a process of its own, in a fresh folder."""
    for folder in (_folder(name, arguments), _folder(f"{name}-kill", arguments)):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    limit = PHASES * arguments.seconds
    try:
        done = subprocess.run(_command(name), stdout=subprocess.PIPE, text=True, check=False, timeout=limit)
    except subprocess.TimeoutExpired:
        return {"system": name, "note": f"not done after {limit:.0f} s"}
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        return {"system": name, "note": f"failed with status {done.returncode}"}
    result: dict[str, object] = json.loads(lines[-1])
    if name == "landmark":
        from benchmarks.peers_landmark import reopen_after_kill

        killed = _folder("landmark-kill", arguments)
        result.update(reopen_after_kill(_command("landmark-kill"), _data_set(arguments), killed, arguments.data))
        result["misses"] = [key for key, target in TARGETS.items() if _misses(key, result.get(key), target)]
    elif result.get("passages", arguments.passages) != arguments.passages:
        result["note"] = f"{result['note']}; stored only these in {arguments.seconds:.0f} s"
    return result


def _misses(key: str, value: object, target: float) -> bool:
    assert isinstance(value, float), key
    return value < target if key == "ingest_per_s" else value > target


def _folder(name: str, arguments: argparse.Namespace) -> Path:
    found: Path = arguments.data / f"index-{name}"
    return found


def _child(name: str, arguments: argparse.Namespace) -> None:
    """Measures one system and prints its result as the last line."""
    data_set = _data_set(arguments)
    folder = _folder(name, arguments)
    base = peers_measure.peak_mib(reset=True)
    if name in PEERS:
        print_json(measure_peer(name, data_set, folder, arguments.seconds, base))
        return
    from benchmarks.peers_landmark import ingest_and_wait, measure

    if name == "landmark-kill":
        ingest_and_wait(data_set, folder)
    else:
        print_json(measure(data_set, folder, arguments.seconds, base))


if __name__ == "__main__":
    main()
