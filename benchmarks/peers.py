"""How fast and how good is Landmark beside Milvus Lite, Qdrant's local mode and LanceDB, on the same real passages?

    python -m benchmarks.peers --passages 200000 --queries 200

Every system gets the same passages with the same vectors, answers the same held-out queries by text and vector (hybrid, ten
hits) on one thread in a process of its own, and is compared on dense recall@10 against a scan and on MRR@10 of the passage
that each query was written for. Peers that are not installed are reported as missing (`pip install -e '.[peers]'`).
Prints a Markdown table and one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.peers_data import DataSet, load
from benchmarks.report import PACKAGES, environment, print_json, print_table

SYSTEMS = ("landmark", "milvus-lite", "qdrant-local", "lancedb")
PEER_PACKAGES = ("pymilvus", "milvus-lite", "qdrant-client", "lancedb", "pylance", "pyarrow")
TARGETS = {"ingest_per_s": 10_000.0, "p50_ms": 10.0, "grpc_p50_ms": 15.0, "reopen_s": 5.0}
COLUMNS = {
    "system": "system",
    "passages": "passages",
    "ingest_per_s": "ingest/s",
    "idle_s": "to idle s",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "grpc_p50_ms": "gRPC p50",
    "grpc_p99_ms": "gRPC p99",
    "reopen_s": "reopen s",
    "dense_recall_at_10": "dense recall@10",
    "hybrid_mrr_at_10": "hybrid MRR@10",
    "disk_mib": "disk MiB",
    "rss_mib": "peak RSS MiB",
    "note": "note",
}
VECTORS = (
    "idf-weighted mean of the built-in model's static word-piece embeddings, mean removed, unit length, 384 dimensions"
)


def main() -> None:
    """Run the benchmark, or one system of it."""
    arguments = _arguments()
    if arguments.child:
        _child(arguments.child, arguments)
        return
    chosen = arguments.only.split(",") if arguments.only else list(SYSTEMS)
    _data_set("landmark", arguments)
    results = []
    for name in chosen:
        results.append(_run(name, arguments))
        print(json.dumps(results[-1]), file=sys.stderr, flush=True)
    print(f"Vectors: {VECTORS}. Peak RSS is what a process takes above the data set that it holds.\n")
    print_table(list(COLUMNS.values()), [[result.get(key) for key in COLUMNS] for result in results])
    settings = {"passages": arguments.passages, "queries": arguments.queries, "vectors": VECTORS, "targets": TARGETS}
    print_json(
        {
            "benchmark": "peers",
            "environment": environment(arguments.seed, (*PACKAGES, *PEER_PACKAGES)),
            **settings,
            "results": results,
        }
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    folders = [path for path in (Path("../shared/train"), Path("../shared/corpora")) if path.is_dir()]
    parser.add_argument("--texts", type=Path, nargs="+", default=folders, help="folders of *.jsonl.zst")
    parser.add_argument("--passages", type=int, default=200_000)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--only", default="", help=f"of {', '.join(SYSTEMS)}, by commas")
    parser.add_argument("--peer-passages", type=int, default=0, help="fewer passages for the peers; their rows say so")
    parser.add_argument("--data", type=Path, default=Path("/tmp/landmark-peers"), help="data set and indexes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", default="", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    unknown = set(filter(None, arguments.only.split(","))) - set(SYSTEMS)
    if unknown or not arguments.texts:
        parser.error(f"unknown systems {sorted(unknown)}" if unknown else "give --texts")
    return arguments


def _data_set(name: str, arguments: argparse.Namespace) -> DataSet:
    whole = load(arguments.data, arguments.texts, arguments.passages, arguments.queries, arguments.seed)
    reduced = 0 if name.startswith("landmark") else arguments.peer_passages
    return whole.head(reduced) if 0 < reduced < len(whole.texts) else whole


def _command(child: str) -> list[str]:
    return [sys.executable, "-m", "benchmarks.peers", *sys.argv[1:], "--child", child]


def _run(name: str, arguments: argparse.Namespace) -> dict[str, object]:
    """One system in a process of its own, in a fresh folder."""
    for folder in (_folder(name, arguments), _folder(f"{name}-kill", arguments)):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    done = subprocess.run(_command(name), stdout=subprocess.PIPE, text=True, check=False)
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        return {"system": name, "note": f"failed with status {done.returncode}"}
    result: dict[str, object] = json.loads(lines[-1])
    if name == "landmark":
        from benchmarks.peers_landmark import reopen_after_kill

        killed = _folder("landmark-kill", arguments)
        result.update(reopen_after_kill(_command("landmark-kill"), _data_set(name, arguments), killed, arguments.data))
        result["misses"] = [key for key, target in TARGETS.items() if _misses(key, result.get(key), target)]
    elif "passages" in result and result["passages"] != arguments.passages:
        result["note"] = f"reduced to {result['passages']} passages; {result.get('note', '')}"
    return result


def _misses(key: str, value: object, target: float) -> bool:
    assert isinstance(value, float), key
    return value < target if key == "ingest_per_s" else value > target


def _folder(name: str, arguments: argparse.Namespace) -> Path:
    found: Path = arguments.data / f"index-{name}"
    return found


def _child(name: str, arguments: argparse.Namespace) -> None:
    """Measures one system and prints its result as the last line."""
    data_set = _data_set(name, arguments)
    folder = _folder(name, arguments)
    if name == "landmark-kill":
        from benchmarks.peers_landmark import ingest_and_wait

        ingest_and_wait(data_set, folder)
    elif name == "landmark":
        from benchmarks.peers_landmark import measure

        print_json(measure(data_set, folder))
    else:
        from benchmarks.peers_systems import measure_peer

        print_json(measure_peer(name, data_set, folder))


if __name__ == "__main__":
    main()
