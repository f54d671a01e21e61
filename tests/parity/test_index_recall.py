"""The dense kinds against an exact scan, and the approximate sparse search against the exact one."""

import numpy as np
import pytest

from index.bm25 import Bm25
from index.dense import KINDS, DenseIndex
from index.recall import Setting
from index.sparse import SparseIndex
from tests.support.index_data import clustered, random_query, random_rows

N, DIM, COARSE = 6_000, 64, 32


@pytest.fixture(scope="module")
def stored():
    return clustered(3, N + 100, DIM)


@pytest.mark.parametrize("rotate", [True, False], ids=["rotated", "prefix"])
@pytest.mark.parametrize("kind", list(KINDS))
def test_recall_at_10_is_098_after_rescoring(stored, kind, rotate):
    index = DenseIndex.build(stored[:N], kind=kind, coarse_dim=COARSE, rotate=rotate)
    found = []
    for query in stored[N:].astype(np.float32):
        hits, exact = index.search(query, 10), index.search(query, 10, exact=True)
        found.append(np.isin(exact.rows, hits.rows).mean())
        assert np.array_equal(hits.scores, index.score(query, hits.rows))
    assert np.mean(found) >= 0.98


def test_wider_searches_find_no_less(stored):
    index = DenseIndex.build(stored[:N], kind="hnsw", coarse_dim=16, rotate=True, threads=2)
    queries = stored[N:].astype(np.float32)
    exact = [index.search(query, 10, exact=True).rows for query in queries]

    def recall(**options):
        found = [index.search(query, 10, **options).rows for query in queries]
        return np.mean([np.isin(want, got).mean() for want, got in zip(exact, found, strict=True)])

    assert recall() <= recall(setting=Setting(1_000, 1_000)) + 0.001
    assert recall(setting=Setting(4_000, 4_000)) >= 0.99


def test_approximate_sparse_search_keeps_its_recall():
    rows = random_rows(5, 4_000, n_terms=400, max_nnz=60, counts=True)
    index = SparseIndex.build(rows, bm25=Bm25(), window=1_000)
    found = []
    for seed in range(60):
        query = random_query(seed, n_terms=400, max_terms=160)
        exact, near = index.search(query, 10), index.search(query, 10, approximate=True)
        if len(exact):
            found.append(np.isin(exact.rows, near.rows).mean())
        assert np.array_equal(near.scores, index.score(query, near.rows))
    assert np.mean(found) >= 0.95
