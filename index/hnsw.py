"""The hnsw kind: a navigable small-world graph over the prefixes, by hnswlib.

Malkov, Yashunin, "Efficient and robust approximate nearest neighbor search using HNSW graphs" (2016).

hnswlib keeps the search width ``ef`` in the index itself, where setting it races with other searches. It is left at its least
here: the library searches with max(ef, k), so asking for k = width results sets the width of one search only, and the
rows beyond are candidates for rescoring at no cost. The graph file ``hnsw.bin`` is read into memory by ``load``.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import hnswlib
import numpy as np

from index.arrays import Floats, Mask, Rows
from index.errors import CorruptIndexFile, IndexBuildFailed

M = 16  # links a node
EF_CONSTRUCTION = 200  # width while building
EF = 200  # width of a search
# Euclidean, though rows are ranked by dot product: prefixes of unit rows differ in length, and a graph by inner product then
# sends every search through the longest rows. Measured, 50,000 rows, prefix 96 of 384, width 200, recall@10 after
# rescoring: inner product 0.987, inner product of prefixes scaled to unit length 0.994, Euclidean 0.997 (a scan: 0.999).
SPACE = "l2"
MAX_EF = 4_096  # beyond this an exact scan of a segment is faster


class HnswIndex:
    """A graph over prefixes; immutable once built, safe to search from many threads."""

    kind: ClassVar[str] = "hnsw"

    def __init__(self, graph: hnswlib.Index, n_rows: int) -> None:
        """Keep the graph; use ``build`` or ``load``."""
        self._graph = graph
        self._n_rows = n_rows

    @classmethod
    def build(cls, prefixes: Floats, *, seed: int = 0, threads: int = 1) -> HnswIndex:
        """Build the graph over ``prefixes``, float32[n, coarse_dim].

        Args:
            prefixes: copied.
            seed: of the level generator; the same graph comes back only with one thread.
            threads: that build.

        Raises:
            IndexBuildFailed: hnswlib refused.
        """
        n, dim = prefixes.shape
        try:
            graph = hnswlib.Index(space=SPACE, dim=dim)
            graph.init_index(max_elements=max(1, n), M=M, ef_construction=EF_CONSTRUCTION, random_seed=seed)
            if n:
                graph.add_items(prefixes, np.arange(n), num_threads=threads)
            graph.set_ef(1)
        except RuntimeError as error:
            raise IndexBuildFailed(cls.kind, str(error)) from error
        return cls(graph, n)

    def save(self, folder: Path) -> None:
        """Write ``hnsw.bin`` into an existing folder.

        Raises:
            IndexBuildFailed: hnswlib could not write it.
        """
        try:
            self._graph.save_index(str(folder / "hnsw.bin"))
        except RuntimeError as error:
            raise IndexBuildFailed(self.kind, str(error)) from error

    @classmethod
    def load(cls, folder: Path, n_rows: int, coarse_dim: int) -> HnswIndex:
        """Read what ``save`` wrote.

        Raises:
            CorruptIndexFile: the file is missing, damaged, or holds another number of rows; rebuild the segment.
        """
        path = folder / "hnsw.bin"
        try:
            graph = hnswlib.Index(space=SPACE, dim=coarse_dim)
            graph.load_index(str(path), max_elements=max(1, n_rows))
            graph.set_ef(1)
        except (RuntimeError, MemoryError) as error:
            raise CorruptIndexFile(path, f"hnswlib cannot load it ({error})") from error
        if graph.get_current_count() != n_rows:
            raise CorruptIndexFile(path, f"it holds {graph.get_current_count()} rows, not {n_rows}")
        return cls(graph, n_rows)

    def candidates(self, query: Floats, depth: int, *, ef: int | None = None, allow: Mask | None = None) -> Rows:
        """Rows near the query, in no order; empty when the graph cannot give enough of them.

        With a filter the search is widened by what the filter takes away; filtering inside the graph would call back into
        Python for each node. An empty answer tells the caller to scan.

        Args:
            query: float32[coarse_dim].
            depth: how many rows are wanted.
            ef: width of the search; None: ``EF``.
            allow: bool[n_rows], or None for all rows.
        """
        width = max(depth, EF if ef is None else ef)
        if allow is not None:
            width = int(width * self._n_rows / max(1, int(np.count_nonzero(allow)))) + 1
        width = min(width, self._n_rows)
        if width > max(MAX_EF, depth) or width == 0:
            return np.empty(0, np.int64)
        try:
            labels, _ = self._graph.knn_query(query, k=width, num_threads=1)
        except RuntimeError:  # the part of the graph that can be reached holds fewer rows than asked for
            return np.empty(0, np.int64)
        rows: Rows = labels[0].astype(np.int64)
        if allow is None:
            return rows
        rows = rows[allow[rows]]
        return rows if 2 * rows.size >= depth else np.empty(0, np.int64)
