"""Laws of the dense index: exact scans equal numpy, and a filter never costs hits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index import rotation, vectors
from index.dense import KINDS, DenseIndex
from tests.support.index_data import clustered, naive_best, same_hits

SEEDS = st.integers(0, 2**32 - 1)
CASES = settings(deadline=None, max_examples=40)


@CASES
@given(SEEDS, st.integers(0, 60), st.integers(1, 40), st.integers(1, 80), st.booleans())
def test_scan_equals_a_full_sort_of_the_scores(seed, n, dim, k, filtered):
    rng = np.random.default_rng(seed)
    stored = rng.integers(-2, 3, (n, dim)).astype(np.float16)  # many ties
    query = rng.integers(-2, 3, dim).astype(np.float32)
    allow = rng.random(n) < rng.random() if filtered else None
    expected = (stored.astype(np.float32) @ query).astype(np.float32)  # whole numbers: exact
    assert same_hits(vectors.scan(stored, query, k, allow), naive_best(expected, k, allow))


@pytest.fixture(scope="module")
def indexes():
    stored = clustered(0, 10_000, 24)
    return {kind: DenseIndex.build(stored, kind=kind, coarse_dim=12, rotate=True) for kind in KINDS}


@pytest.mark.parametrize("kind", list(KINDS))
@settings(deadline=None, max_examples=25)
@given(seed=SEEDS, k=st.integers(1, 60), kept=st.sampled_from([0.0, 0.001, 0.3, 0.7, 0.9, 0.99]), clumped=st.booleans())
def test_filtered_search_returns_as_many_as_it_can(indexes, kind, seed, k, kept, clumped):
    index = indexes[kind]
    rng = np.random.default_rng(seed)
    query = index.vectors[rng.integers(index.n_rows)].astype(np.float32)
    near = index.score(query, np.arange(index.n_rows)) if clumped else rng.random(index.n_rows)
    allow = near <= np.quantile(near, kept)  # clumped: everything near the query is forbidden
    hits = index.search(query, k, allow=allow)
    assert len(hits) == min(k, int(allow.sum()))
    assert allow[hits.rows].all()
    assert np.unique(hits.rows).size == len(hits)
    assert same_hits(
        hits, naive_best(index.score(query, np.arange(index.n_rows)), k, np.isin(np.arange(10_000), hits.rows))
    )


@settings(deadline=None, max_examples=15)
@given(SEEDS, st.integers(1, 24), st.integers(1, 100))
def test_rotation_keeps_dot_products_and_sorts_energy(seed, dim, n):
    stored = clustered(seed, n, dim)
    basis = rotation.fit(stored)
    assert np.allclose(basis.T @ basis, np.eye(dim), atol=1e-5)
    energy = ((stored.astype(np.float32) @ basis) ** 2).sum(axis=0)
    assert np.all(energy[:-1] >= energy[1:] - 1e-3 * energy.sum())
    assert np.array_equal(basis, rotation.fit(stored))
