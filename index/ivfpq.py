"""The faiss kind: inverted lists of product-quantised prefixes, by FAISS; on a GPU when FAISS finds one.

Jégou, Douze, Schmid, "Product Quantization for Nearest Neighbor Search" (2011). The smallest of the kinds: coarse_dim / 2
bytes a row. FAISS with two OpenMP threads and one query was measured three times slower than with one, so each search
pins its thread's OpenMP to 1; parallel requests give the parallelism. The file is ``ivfpq.faiss``, read by ``load``.

faiss is imported on first use: it takes a third of a second, and most collections never need it.
"""

from __future__ import annotations

import importlib
import threading
from pathlib import Path
from types import ModuleType
from typing import ClassVar, Protocol

import numpy as np

from index.arrays import Floats, Mask, Rows
from index.errors import CorruptIndexFile, IndexBuildFailed

NBITS = 8  # bits a code
LEAST_DEPTH = 400  # codes are rough: fewer candidates than this lose recall
TRAINING_ROWS_PER_LIST = 64  # FAISS warns below 39 and gains nothing beyond 256
PROBED_PART = (
    8  # of nlist lists, one in so many is probed, and at least LEAST_PROBES: recall@10 0.98 (see index/dense.py)
)
LEAST_PROBES = 64


class _Lists(Protocol):
    """What is used of ``faiss.IndexIVFPQ`` and of its GPU twin."""

    ntotal: int
    d: int
    nlist: int
    code_size: int

    def search(self, x: Floats, k: int, *, params: object) -> tuple[Floats, Rows]:
        """The k best of each query."""


class IvfPqIndex:
    """Inverted lists of codes; immutable once built, safe to search from many threads."""

    kind: ClassVar[str] = "faiss"
    widths: ClassVar[tuple[int, ...]] = (8, 16, 32, 64, 128, 256)

    def __init__(self, codes: _Lists, n_rows: int) -> None:
        """Keep a ``faiss.IndexIVFPQ``; use ``build`` or ``load``."""
        self._codes = codes
        self._n_rows = n_rows
        self._device = _to_gpu(codes)
        self._device_lock = threading.Lock()  # FAISS's GPU resources serve one search at a time

    @classmethod
    def build(cls, prefixes: Floats, *, seed: int = 0, threads: int = 1) -> IvfPqIndex:
        """Train and fill the lists with ``prefixes``, float32[n, coarse_dim], n at least 256.

        Raises:
            IndexBuildFailed: FAISS refused, for instance with too few rows to train on.
        """
        faiss = _faiss()
        n, dim = prefixes.shape
        nlist = max(1, min(round(4 * n**0.5), n // TRAINING_ROWS_PER_LIST))
        pq_m = dim // 2 if dim % 2 == 0 else dim
        try:
            faiss.omp_set_num_threads(threads)
            index = faiss.IndexIVFPQ(faiss.IndexFlatIP(dim), dim, nlist, pq_m, NBITS, faiss.METRIC_INNER_PRODUCT)
            index.cp.seed = seed + 1
            index.cp.max_points_per_centroid = TRAINING_ROWS_PER_LIST
            chosen = np.random.default_rng(seed).choice(
                n, min(n, max(nlist * TRAINING_ROWS_PER_LIST, 65_536)), replace=False
            )
            index.train(prefixes[np.sort(chosen)])
            index.add(prefixes)
        except RuntimeError as error:
            raise IndexBuildFailed(cls.kind, str(error)) from error
        return cls(index, n)

    def save(self, folder: Path) -> None:
        """Write ``ivfpq.faiss`` into an existing folder.

        Raises:
            IndexBuildFailed: FAISS could not write it.
        """
        faiss = _faiss()
        try:
            faiss.write_index(self._codes, str(folder / "ivfpq.faiss"))
        except RuntimeError as error:
            raise IndexBuildFailed(self.kind, str(error)) from error

    @classmethod
    def load(cls, folder: Path, n_rows: int, coarse_dim: int) -> IvfPqIndex:
        """Read what ``save`` wrote.

        Raises:
            CorruptIndexFile: the file is missing, damaged, or holds other rows; rebuild the segment.
        """
        faiss = _faiss()
        path = folder / "ivfpq.faiss"
        try:
            index = faiss.read_index(str(path))
        except (RuntimeError, MemoryError) as error:
            raise CorruptIndexFile(path, f"FAISS cannot read it ({error})") from error
        if index.ntotal != n_rows or index.d != coarse_dim:
            raise CorruptIndexFile(path, f"it holds {index.ntotal} rows of {index.d}, not {n_rows} of {coarse_dim}")
        return cls(index, n_rows)

    def cost(self, width: int) -> int:
        """Bytes that a search reads before rescoring: the centres of the lists, and the codes of the probed ones."""
        codes = self._n_rows * self._codes.code_size * min(1.0, width / self._codes.nlist)
        return int(codes) + self._codes.nlist * self._codes.d * 4

    def deepest(self, width: int) -> int:
        """How many candidates a search can give."""
        del width
        return self._n_rows

    def candidates(self, query: Floats, depth: int, *, width: int | None = None, allow: Mask | None = None) -> Rows:
        """Rows whose codes score best in the probed lists, all allowed, best first; fewer when the lists run out.

        Args:
            query: float32[coarse_dim].
            depth: how many rows are wanted; at least ``LEAST_DEPTH`` are taken where ``width`` is None.
            width: lists to probe; None: one in ``PROBED_PART``, at least ``LEAST_PROBES``.
            allow: bool[n_rows], or None for all rows.
        """
        faiss = _faiss()
        nlist = int(self._codes.nlist)
        probes = min(nlist, max(LEAST_PROBES, nlist // PROBED_PART) if width is None else max(1, width))
        depth = min(max(depth, LEAST_DEPTH if width is None else 1), self._n_rows)
        faiss.omp_set_num_threads(1)
        if self._device is not None and allow is None:
            with self._device_lock:
                parameters = faiss.SearchParametersIVF(nprobe=probes)
                _, labels = self._device.search(query[None, :], depth, params=parameters)
        else:
            selector = None if allow is None else faiss.IDSelectorBitmap(np.packbits(allow, bitorder="little"))
            parameters = faiss.SearchParametersIVF(nprobe=probes, sel=selector)
            _, labels = self._codes.search(query[None, :], depth, params=parameters)
        rows: Rows = labels[0].astype(np.int64)
        return rows[rows >= 0]


def _faiss() -> ModuleType:
    """The library, imported on first use."""
    return importlib.import_module("faiss")


def _to_gpu(index: _Lists) -> _Lists | None:
    """The index on the first GPU, or None where FAISS finds none."""
    faiss = _faiss()
    if not hasattr(faiss, "StandardGpuResources") or faiss.get_num_gpus() == 0:
        return None
    on_gpu: _Lists = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, index)
    return on_gpu
