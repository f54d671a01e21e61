"""How does a process get the compile time of the kernels behind it before the first request?

numba compiles a kernel on its first call (about 15 s for all, once an installation; the code is then cached on disk) and
loads it from the cache later (about a second for all). Nothing here is needed for right answers.
"""

from __future__ import annotations

import numpy as np

from index.analyzer import Analyzer
from index.bm25 import Bm25
from index.dense import FEW_ALLOWED, SMALL, DenseIndex
from index.multi import MultiIndex, TokenRows
from index.sparse import FEW_ROWS, SparseIndex
from index.sparse_rows import SparseQuery


def warm_kernels() -> None:
    """Run every kernel once with the argument types of real use. Safe from any thread, for instance a background one."""
    rows = Analyzer().count(["landmark search", "search"] * FEW_ROWS)
    sparse = SparseIndex.build(rows, bm25=Bm25())
    query = SparseQuery(rows.row(0)[0], np.ones(2, np.float32))
    every_row = np.ones(rows.n_rows, np.bool_)
    sparse.search(query, 1)
    sparse.search(query, 1, allow=every_row)
    sparse.score(query, np.zeros(1, np.int64))
    sparse.contributions(query, 0)
    sparse.doc_freq(query.terms, every_row)
    sparse.doc_freq(query.terms, np.arange(rows.n_rows) == 0)
    SparseIndex.build(rows).search(query, 1)  # learned weights
    token = np.ones((1, 8), np.float32)
    MultiIndex(TokenRows.from_vectors([token], 8)).score(token, np.zeros(1, np.int64))
    vectors = np.eye(8, dtype=np.float16)[np.arange(FEW_ALLOWED + SMALL) % 8]
    allow = np.ones(len(vectors), np.bool_)
    for kind in ("flat", "hnsw"):
        dense = DenseIndex.build(vectors, kind=kind, coarse_dim=4, rotate=True)
        dense.search(vectors[0].astype(np.float32), 1)
        dense.search(vectors[0].astype(np.float32), 1, exact=True)
        dense.search(vectors[0].astype(np.float32), 1, allow=allow)
