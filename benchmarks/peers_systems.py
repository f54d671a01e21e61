"""Which peers does ``benchmarks.peers`` run, what is each asked to do, and how is it measured?

The work is the same for each: the same texts and vectors in, and out ten passages with their texts for a query by text and
vector, from about a hundred candidates of each leg, fused in the system's own way. Each does it as its own pages recommend.
"""

from __future__ import annotations

import importlib
import os
import time
from pathlib import Path
from typing import Protocol, cast, runtime_checkable

from benchmarks.peers_data import ANSWER_ROWS, DataSet
from benchmarks.peers_measure import Passage, disk_mib, measure_dense, measure_hybrid, peak_mib


class Peer(Protocol):
    """One system. It imports its library when it is made, so that the memory of the library counts.

    Attributes:
        batch: how many rows `ingest` is best given at once.
        note: what its row must be read with.
        stores_first: False: `ingest` leaves nothing on the disk, and only the rate with `finish` means something.
    """

    batch: int
    note: str
    stores_first: bool

    def __init__(self, folder: Path, data_set: DataSet) -> None:
        """Open an empty store in ``folder``; prepare nothing that belongs to the work."""

    def ingest(self, start: int, stop: int) -> None:
        """Store rows start to stop, durable on return as far as the system promises it by default."""

    def finish(self) -> None:
        """Return when every row is written and all indexes are built."""

    def dense(self, i: int) -> list[int]:
        """The ten nearest rows to the vector of query i."""

    def close(self) -> None:
        """Write out and release everything."""


@runtime_checkable
class HybridPeer(Peer, Protocol):
    """A peer with a lexical leg to fuse."""

    def hybrid(self, i: int) -> list[Passage]:
        """The ten best passages, with their texts, for the text and vector of query i."""


PEERS = {
    "milvus-lite": "benchmarks.peers_databases:MilvusLite",
    "qdrant-local": "benchmarks.peers_databases:QdrantLocal",
    "lancedb": "benchmarks.peers_databases:LanceDb",
    "chroma": "benchmarks.peers_libraries:Chroma",
    "txtai": "benchmarks.peers_libraries:Txtai",
    "faiss+bm25s": "benchmarks.peers_libraries:FaissAndBm25s",
}


def measure_peer(name: str, data_set: DataSet, folder: Path, seconds: float, base: float) -> dict[str, object]:
    """One peer's row; says so when it is not installed.

    Args:
        name: a key of ``PEERS``.
        data_set: all passages; when not all are stored in ``seconds``, the row is about the first of them.
        folder: empty.
        seconds: after which ingesting, and asking, stop.
        base: resident MiB before the peer was imported.
    """
    module, _, kind = PEERS[name].partition(":")
    try:
        peer = cast("type[Peer]", getattr(importlib.import_module(module), kind))(folder, data_set)
    except ModuleNotFoundError as error:
        return {"system": name, "note": f"not installed ({error.name})"}
    started = time.perf_counter()
    n_rows = _ingest(peer, len(data_set.texts), started + seconds)
    ingested = time.perf_counter()
    peer.finish()
    _sync(folder)
    indexed = time.perf_counter()
    result: dict[str, object] = {"system": name, "passages": n_rows, "note": peer.note}
    if peer.stores_first:
        result["ingest_per_s"] = n_rows / (ingested - started)
    result["indexed_per_s"] = n_rows / (indexed - started)
    stored = data_set if n_rows == len(data_set.texts) else data_set.head(n_rows)
    if isinstance(peer, HybridPeer):
        result.update(measure_hybrid(stored, peer.hybrid, seconds))
    result.update(measure_dense(stored, peer.dense, seconds))
    result["rss_mib"] = peak_mib() - base
    peer.close()
    return {**result, "disk_mib": disk_mib(folder)}


def _sync(folder: Path) -> None:
    """Make the files durable, whether or not the system has; LanceDB and the saved libraries leave that to their user."""
    for path in [folder, *folder.rglob("*")]:
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def _ingest(peer: Peer, n_rows: int, deadline: float) -> int:
    """How many rows were stored: all, or those that were by ``deadline`` and hold the answers to the queries."""
    stored = 0
    while stored < n_rows and (stored < ANSWER_ROWS or time.perf_counter() < deadline):
        stop = min(n_rows, stored + peer.batch)
        peer.ingest(stored, stop)
        stored = stop
    return stored
