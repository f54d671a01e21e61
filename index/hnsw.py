"""The hnsw kind: a navigable small-world graph over the prefixes, built by hnswlib, searched on 4-bit codes.

Malkov, Yashunin, "Efficient and robust approximate nearest neighbor search using HNSW graphs" (2016). hnswlib links the rows;
kept is the ground level of its graph beside the codes of the flat kind. Our own search reads two cache lines a row where
hnswlib's reads 24 of a vector of 384 and 64 of one of 1,024, and the files are mapped, not read.

The levels above the ground are not kept: in high dimensions they only choose a place to begin (Munyampirwa et al., "Down with
the Hierarchy", 2024), and the nearest of a few hundred rows, whose codes lie together, is as good a place.

Files: those of ``index.flat``, ``links.npy`` int32[l] (the links of one row after those of another), ``starts.npy`` uint32[n + 1]
(where a row's links begin), ``entries.npy`` int32[m]. Segments of before 2026-12 have ``links.npy`` int32[n, 2 M] instead, filled
up with a row's own number; they are read as they are.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import ClassVar

import hnswlib
import numpy as np

from index.arrays import Bytes, Floats, Links, Mask, Ordinals, Rows, freeze, load_array, save_array
from index.errors import CorruptIndexFile, IndexBuildFailed
from index.flat import FlatIndex
from index.graph_kernels import nearest_in_graph

M = 16  # links a node; at most twice as many on the ground level
EF_CONSTRUCTION = 200  # width while building
EF = 200  # width of a search
# Linked by Euclidean distance, though walked by dot product: prefixes of unit rows differ in length, and links by inner
# product send every search through the longest rows (50,000 rows, prefix 96 of 384, recall@10 0.987 against 0.997).
SPACE = "l2"
MOST_LINKS = 2 * M  # of a row, on the ground level
ENTRIES = 256  # rows of which the nearest is where a search begins
SCAN_SHARE = 3  # codes that a scan reads in the time in which the graph reads one


class HnswIndex:
    """A graph over prefixes in 4 bits; immutable once built, safe to search from many threads."""

    kind: ClassVar[str] = "hnsw"
    widths: ClassVar[tuple[int, ...]] = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 1_024)

    def __init__(self, flat: FlatIndex, starts: Ordinals, links: Links, entries: Links) -> None:
        """Keep the given parts; use ``build`` or ``load``."""
        self._flat = flat
        self._starts = starts
        self._links = links
        self._entries = entries
        self._entry_codes: Bytes = freeze(flat.codes[entries])  # together, where a search reads them first

    @classmethod
    def build(cls, prefixes: Floats, *, seed: int = 0, threads: int = 1) -> HnswIndex:
        """Build the graph over ``prefixes``, float32[n, coarse_dim].

        Args:
            prefixes: not kept.
            seed: of the level generator and the entries; the same graph comes back only with one thread.
            threads: that build.

        Raises:
            IndexBuildFailed: hnswlib refused.
        """
        n, dim = prefixes.shape
        try:
            graph = hnswlib.Index(space=SPACE, dim=dim)
            graph.init_index(max_elements=max(1, n), M=M, ef_construction=EF_CONSTRUCTION, random_seed=seed)
            graph.add_items(prefixes, np.arange(n), num_threads=threads)
            starts, links = _ground_links(graph, n)
        except RuntimeError as error:
            raise IndexBuildFailed(cls.kind, str(error)) from error
        chosen = np.random.default_rng(seed).choice(n, min(n, ENTRIES), replace=False)
        return cls(FlatIndex.build(prefixes), freeze(starts), freeze(links), freeze(np.sort(chosen).astype(np.int32)))

    def save(self, folder: Path) -> None:
        """Write the files into an existing folder."""
        self._flat.save(folder)
        save_array(folder, "starts", self._starts)
        save_array(folder, "links", self._links)
        save_array(folder, "entries", self._entries)

    @classmethod
    def load(cls, folder: Path, n_rows: int, coarse_dim: int) -> HnswIndex:
        """Map what ``save`` wrote.

        Raises:
            CorruptIndexFile: a file is missing or does not fit the rows; rebuild the segment.
        """
        flat = FlatIndex.load(folder, n_rows, coarse_dim)
        links, entries = load_array(folder, "links"), load_array(folder, "entries")
        if links.shape == (n_rows, MOST_LINKS):  # of before 2026-12
            starts, links = np.arange(0, links.size + 1, MOST_LINKS, dtype=np.uint32), links.reshape(-1)
        else:
            starts = load_array(folder, "starts")
        fits = (
            starts.shape == (n_rows + 1,) and links.shape == (starts[-1],) and entries.shape == (min(n_rows, ENTRIES),)
        )
        if not fits or np.diff(starts.astype(np.int64)).max(initial=0) > MOST_LINKS:
            raise CorruptIndexFile(folder / "links.npy", f"its shape {links.shape} does not fit {n_rows} rows")
        return cls(flat, freeze(starts), links, entries)

    def cost(self, width: int) -> int:
        """Bytes that a search reads before rescoring, at most: each of ``width`` rows and all that it links to."""
        linked = MOST_LINKS * (self._links.itemsize + self._flat.codes.shape[1])
        return self._entry_codes.nbytes + width * linked

    def deepest(self, width: int) -> int:
        """How many candidates a search of this width can give."""
        return width

    def candidates(self, query: Floats, depth: int, *, width: int | None = None, allow: Mask | None = None) -> Rows:
        """Rows near the query, best first by their codes: int64[<= depth].

        With a filter the search is widened by the square root of what the filter takes away: ten times as many rows need 2.7
        times the width on real vectors (the certificates of a million passages), and half of the rows that are found need not
        be allowed. Where scanning the codes of the allowed rows is cheaper, or the rows near the query are not
        allowed, they are scanned.

        Args:
            query: float32[coarse_dim].
            depth: how many rows are wanted.
            width: of the search; None: ``EF``.
            allow: bool[n_rows], or None for all rows.
        """
        n = len(self._flat.codes)
        width = max(depth, EF if width is None else width)
        if allow is not None:
            allowed = max(1, int(np.count_nonzero(allow)))
            width = math.ceil(width * math.sqrt(n / allowed))
            if allowed <= SCAN_SHARE * MOST_LINKS * width:
                return self._flat.candidates(query, depth, allow=allow)
        asked, codes = self._flat.quantised(query), self._flat.codes
        width = min(width, n)
        rows: Rows = nearest_in_graph(
            codes, self._starts, self._links, MOST_LINKS, self._entries, self._entry_codes, asked, width
        )
        if allow is None:
            return rows[:depth]
        rows = rows[allow[rows]]
        return rows[:depth] if 2 * rows.size >= depth else self._flat.candidates(query, depth, allow=allow)


def _ground_links(graph: hnswlib.Index, n: int) -> tuple[Ordinals, Links]:
    """The ground level: where the links of each row begin, uint32[n + 1], and the links, int32[l].

    hnswlib pickles a graph as the block of memory that it searches, with the places of its parts: for each node a 16-bit
    count and the links (uint32), as node numbers, which differ from rows when several threads built.
    """
    state = graph.__getstate__()[0]
    nodes = np.frombuffer(state["data_level0"], np.uint8).reshape(state["max_elements"], -1)[:n]
    begin, end = state["offset_level0"], state["label_offset"]
    rows = nodes[:, end : end + 8].copy().view(np.uint64).astype(np.int32)[:, 0]
    order = np.argsort(rows)
    counts = nodes[order, begin : begin + 2].view(np.uint16)
    linked = nodes[order, begin + 4 : begin + 4 + 4 * MOST_LINKS].view(np.uint32)
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.uint32)
    return starts, rows[linked[np.arange(MOST_LINKS) < counts]]
