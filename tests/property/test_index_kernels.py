"""Laws of the compiled loops; each is run as Python and compiled."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit
from numba.extending import intrinsic

from index import graph_kernels, kernels, postings, simd
from tests.support.index_data import naive_best

CASES = settings(deadline=None, max_examples=40)
FORMS = pytest.mark.parametrize("form", ["python", "compiled"])


def form_of(function, form):
    return function.py_func if form == "python" else function


@FORMS
@CASES
@given(scores=st.lists(st.sampled_from([-1.0, 0.0, 0.5, 0.75, 2.0]), max_size=40), k=st.integers(0, 8))
def test_heap_keeps_the_best_in_ranking_order(form, scores, k):
    offer = form_of(kernels.offer, form)
    heap, rows, size = np.empty(k, np.float32), np.empty(k, np.int64), 0
    for row in np.random.default_rng(0).permutation(len(scores)):
        size = offer(heap, rows, size, np.float32(scores[row]), int(row))
    best = naive_best(np.array(scores, np.float32), k)
    assert sorted(rows[:size].tolist()) == sorted(best.rows.tolist())


@FORMS
@CASES
@given(rows=st.lists(st.lists(st.integers(0, 5), max_size=12), max_size=6))
def test_count_terms_counts_repeats(form, rows):
    indptr = np.cumsum([0] + [len(row) for row in rows])
    hashes = np.array([term for row in rows for term in row], np.uint64)
    out_indptr, terms, counts = form_of(kernels.count_terms, form)(indptr, hashes)
    for i, row in enumerate(rows):
        part = slice(out_indptr[i], out_indptr[i + 1])
        assert dict(zip(terms[part].tolist(), counts[part].tolist(), strict=True)) == {t: row.count(t) for t in row}
        assert sorted(set(row)) == terms[part].tolist()


@FORMS
@CASES
@given(
    values=st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), max_size=200), k=st.integers(1, 9), seed=st.integers(0, 99)
)
def test_greatest_finds_the_greatest_values(form, values, k, seed):
    array = np.array(values, np.float32)
    allow = np.random.default_rng(seed).random(array.size) < 0.7
    found = form_of(kernels.greatest, form)(array, 0, allow, k, np.float32(0.1))
    expected = np.sort(array[allow & (array > 0.1)])[::-1][:k]
    assert np.array_equal(np.sort(array[found])[::-1], expected)
    assert allow[found].all()


@FORMS
@CASES
@given(terms=st.lists(st.integers(0, 2**64 - 1), max_size=300))
def test_ordinals_name_equal_terms_equally(form, terms):
    array = np.array(terms, np.uint64)
    array.flags.writeable = False
    distinct, numbers = form_of(postings.assign_ordinals, form)(array)
    assert sorted(distinct.tolist()) == sorted(set(terms))
    assert np.array_equal(distinct[numbers], array)


def test_hash_table_grows_past_its_first_capacity():
    terms = np.random.default_rng(0).integers(0, 2**63, 5_000).astype(np.uint64)
    terms.flags.writeable = False
    distinct, numbers = postings.assign_ordinals(terms)
    assert distinct.size == np.unique(terms).size
    assert np.array_equal(distinct[numbers], terms)


@CASES
@given(st.integers(0, 2**32 - 1), st.integers(1, 70))
def test_half_dots_read_every_finite_float16(seed, dim):
    rng = np.random.default_rng(seed)
    bits = rng.integers(0, 2**16, (9, dim)).astype(np.uint16)
    bits[(bits & 0x7C00) == 0x7C00] = 0x0001  # infinities and NaN become the least denormal
    query = rng.standard_normal(dim).astype(np.float32)
    expected = bits.view(np.float16).astype(np.float64) @ query.astype(np.float64)
    size = np.abs(bits.view(np.float16).astype(np.float64)) @ np.abs(query.astype(np.float64))
    rows = np.arange(9)
    found = kernels.half_dots(bits, query, rows)
    assert np.all(np.abs(found - expected) <= 1e-5 * size + 1e-30)
    assert np.array_equal(found, kernels.half_dots.py_func(bits, query, rows))
    assert np.array_equal(found[[4, 2]], kernels.half_dots(bits, query, np.array([4, 2])))


def packed(levels):
    """4-bit levels, [n, 2 * width], as the kernels read them."""
    width = levels.shape[1] // 2
    return (levels[:, :width] | levels[:, width:] << 4).astype(np.uint8)


@pytest.mark.parametrize("multiply_add", [simd.native_multiply_add, simd.portable_multiply_add])
def test_native_and_portable_products_are_those_of_numpy(multiply_add):
    if multiply_add is simd.native_multiply_add and not simd.has_avx2():
        pytest.skip("this processor has no AVX2")
    dot = intrinsic(simd.dot_of_levels(multiply_add))
    products = njit(lambda codes, start, query: dot(codes, start, query))
    rng = np.random.default_rng(0)
    for dim in (64, 256, 1_024):
        levels, query = rng.integers(0, 16, (5, dim)), rng.integers(-127, 128, dim).astype(np.int8)
        levels[0], query[:32] = 15, 127  # as great as pairs of bytes can get
        found = [products(packed(levels).reshape(-1), row * dim // 2, query) for row in range(5)]
        assert found == (levels @ query.astype(np.int64)).tolist()


@CASES
@given(st.integers(0, 2**32 - 1), st.integers(0, 90), st.sampled_from([64, 128, 320]), st.integers(1, 70))
def test_code_scan_finds_the_greatest_dot_products(seed, n, dim, k):
    rng = np.random.default_rng(seed)
    levels = rng.integers(0, 16, (n, dim))
    query = rng.integers(-127, 128, dim).astype(np.int8)
    products = levels @ query.astype(np.int64)
    for form in (kernels.code_scan.py_func, kernels.code_scan):
        rows = form(packed(levels), query, k)
        assert np.array_equal(products[rows], np.sort(products)[::-1][:k])


@CASES
@given(st.integers(0, 2**32 - 1), st.integers(0, 90), st.sampled_from([64, 128]), st.integers(1, 70), st.floats(0, 1))
def test_code_scan_of_allowed_rows_finds_the_greatest_of_those(seed, n, dim, k, share):
    rng = np.random.default_rng(seed)
    levels = rng.integers(0, 16, (n, dim))
    query = rng.integers(-127, 128, dim).astype(np.int8)
    allow = rng.random(n) < share
    products = levels @ query.astype(np.int64)
    for form in (kernels.code_scan_allowed.py_func, kernels.code_scan_allowed):
        rows = form(packed(levels), query, allow, k)
        assert allow[rows].all()
        assert np.array_equal(products[rows], np.sort(products[allow])[::-1][:k])


def test_code_scan_of_allowed_rows_crosses_the_stretches_of_a_mask():
    n = 2 * kernels.STRETCH + 5
    rng = np.random.default_rng(0)
    levels, query = rng.integers(0, 16, (n, 64)), rng.integers(-127, 128, 64).astype(np.int8)
    allow = rng.random(n) < 0.01
    allow[[0, kernels.STRETCH - 1, kernels.STRETCH, n - 1]] = True
    products = levels @ query.astype(np.int64)
    rows = kernels.code_scan_allowed(packed(levels), query, allow, 300)
    assert np.array_equal(products[rows], np.sort(products[allow])[::-1][:300])


@CASES
@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(1, 8), st.integers(1, 70))
def test_a_walk_of_a_connected_graph_that_is_wide_enough_finds_the_nearest(seed, n, m, width):
    rng = np.random.default_rng(seed)
    levels = rng.integers(0, 16, (n, 64))
    query = rng.integers(-127, 128, 64).astype(np.int8)
    counts = rng.integers(1, m + 1, n)
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.uint32)
    links = rng.integers(0, n, starts[-1]).astype(np.int32)
    links[starts[:-1]] = (np.arange(n) + 1) % n  # a ring: every row can be reached
    entries = np.sort(rng.choice(n, min(n, 3), replace=False)).astype(np.int32)
    products, codes = levels @ query.astype(np.int64), packed(levels)
    for form in (graph_kernels.nearest_in_graph.py_func, graph_kernels.nearest_in_graph):
        rows = form(codes, starts, links, m, entries, codes[entries], query, width)
        assert len(rows) == min(n, width)
        assert np.unique(rows).size == rows.size
        assert np.array_equal(products[rows], np.sort(products[rows])[::-1])
        if width >= n:
            assert np.array_equal(products[rows], np.sort(products)[::-1])


def test_the_value_of_a_half_is_the_same_with_and_without_the_processors_help():
    bits = np.arange(2**16, dtype=np.uint16)
    bits = bits[(bits & 0x7C00) != 0x7C00]
    values = np.array([kernels.moved_half(half) for half in bits], np.float32)
    assert np.array_equal(values, bits.view(np.float16).astype(np.float32))
