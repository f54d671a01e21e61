"""Laws of the search among a segment's sums: it finds what a sort would, whatever the sums and the count."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index import sparse_sums
from index.kernels import BLOCK
from index.sparse_sums import STRETCH

SEEDS = st.integers(0, 2**32 - 1)
CASES = settings(deadline=None, max_examples=60)


def random_sums(seed, n_blocks, most):
    """Sums up to ``most``, many of them equal, some or most of them zero."""
    rng = np.random.default_rng(seed)
    sums = rng.integers(0, most, (n_blocks, BLOCK), endpoint=True).astype(np.uint16)
    sums[rng.random(sums.shape) < rng.random()] = 0
    return sums


def forms(name):
    """A kernel compiled, and as Python."""
    kernel = getattr(sparse_sums, name)
    return kernel, kernel.py_func


@CASES
@given(SEEDS, st.integers(1, 40), st.sampled_from([1, 5, 65_535]))
def test_a_stretch_has_the_greatest_of_its_sums(seed, n_blocks, most):
    sums = random_sums(seed, n_blocks, most)
    expected = [int(sums[start : start + STRETCH].max()) for start in range(0, n_blocks, STRETCH)]
    assert sparse_sums.stretch_maxima(sums).tolist() == expected
    assert sparse_sums.greatest_of.py_func(sums.reshape(-1)) == sums.max()
    assert sparse_sums.greatest_of(sums[0, :0]) == 0


@CASES
@given(SEEDS, st.integers(1, 40), st.sampled_from([1, 5, 65_535]), st.integers(1, 200))
def test_the_greatest_sums_are_those_of_a_sort(seed, n_blocks, most, count):
    sums = random_sums(seed, n_blocks, most)
    cut = int(np.random.default_rng(seed).integers(1, most, endpoint=True))
    flat = sums.reshape(-1).astype(np.int64)
    matching = np.flatnonzero(flat >= cut)
    expected = matching[np.lexsort((matching, -flat[matching]))][:count]
    for greatest_sums in forms("greatest_sums"):
        found = greatest_sums(sums, sparse_sums.stretch_maxima(sums), count, np.uint16(cut))
        assert sorted(found.tolist()) == sorted(expected.tolist())


@CASES
@given(SEEDS, st.integers(1, 40), st.sampled_from([1, 5, 65_535]))
def test_the_rows_of_all_stretches_that_reach_a_sum_are_all_rows_that_do(seed, n_blocks, most):
    sums = random_sums(seed, n_blocks, most)
    cut = np.uint16(np.random.default_rng(seed).integers(1, most, endpoint=True))
    place, found = np.empty(STRETCH * BLOCK, np.int64), []
    for stretch in range(-(-n_blocks // STRETCH)):
        counts = [rows(sums, stretch, cut, place) for rows in forms("rows_reaching")]
        assert counts[0] == counts[1]
        found += place[: counts[0]].tolist()
    assert found == np.flatnonzero(sums.reshape(-1) >= cut).tolist()


def test_forgotten_rows_have_no_sum():
    for forget in forms("forget"):
        sums = np.full((3, BLOCK), 7, np.uint16)
        forget(sums, np.array([0, 63, 64, 191]))
        assert np.flatnonzero(sums.reshape(-1) == 0).tolist() == [0, 63, 64, 191]


@pytest.mark.parametrize("count", [1, 700])
def test_of_equal_sums_the_earlier_rows_are_found(count):
    sums = np.full((40, BLOCK), 9, np.uint16)
    found = sparse_sums.greatest_sums(sums, sparse_sums.stretch_maxima(sums), count, np.uint16(1))
    assert sorted(found.tolist()) == list(range(count))
