"""Laws of the sparse index: it equals the obvious computation, whatever the rows, the windows, the filter and the mean."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index import postings, sparse, sparse_kernels
from index.bm25 import Bm25
from index.postings import LEVELS
from index.sparse import SparseIndex
from index.sparse_rows import SparseRows
from tests.support.index_data import naive_best, naive_sparse_scores, random_query, random_rows, same_hits

SEEDS = st.integers(0, 2**32 - 1)
CASES = settings(deadline=None, max_examples=60)


def build(rows, counts, window, avg_len=None):
    return SparseIndex.build(rows, bm25=Bm25() if counts else None, avg_len=avg_len, window=window)


def cover_first(walk, n_windows, seeds):
    """The first stop of a query that is too costly to be walked whole."""
    return sparse_kernels.covering(walk[1], sparse_kernels.FIRST_COVER)


@CASES
@given(SEEDS, st.integers(0, 150), st.booleans(), st.integers(1, 64), st.integers(1, 40), st.booleans(), st.booleans())
def test_search_equals_scoring_every_row(seed, n_rows, counts, window, k, filtered, by_postings):
    rows, query = random_rows(seed, n_rows, counts=counts), random_query(seed + 1)
    rng = np.random.default_rng(seed + 2)
    allow = rng.random(n_rows) < rng.random() if filtered else None
    index = build(rows, counts, window)
    avg_len = index.avg_len * rng.choice([0.5, 1.0, 3.0]) if rng.random() < 0.5 else None
    expected = naive_sparse_scores(rows, query, index.bm25, index.avg_len if avg_len is None else avg_len)
    with pytest.MonkeyPatch.context() as patch:
        for few in ("FEW_ROWS", "FEW_ALLOWED"):
            patch.setattr(sparse, few, -1 if by_postings else getattr(sparse, few))
        patch.setattr(sparse_kernels, "MOST_TERMS", 3 if seed % 8 == 0 else sparse_kernels.MOST_TERMS)
        found = index.search(query, k, allow=allow, avg_len=avg_len)
    assert same_hits(found, naive_best(expected, k, allow, above=0.0))


@CASES
@given(
    SEEDS, st.integers(1, 150), st.booleans(), st.integers(1, 40), st.sampled_from([0.5, 1.0, 1e9, 1e30]), st.booleans()
)
def test_rows_below_the_least_score_are_left_out_and_no_other(seed, n_rows, counts, k, factor, by_postings):
    rows, query = random_rows(seed, n_rows, counts=counts), random_query(seed + 1)
    index = build(rows, counts, 32)
    scores = naive_sparse_scores(rows, query, index.bm25, index.avg_len)
    # A score that some rows have, so that there are ties with it, or one that few or none reach.
    least = float(np.float32(scores[seed % n_rows] * factor))
    with pytest.MonkeyPatch.context() as patch:
        for few in ("FEW_ROWS", "FEW_ALLOWED"):
            patch.setattr(sparse, few, -1 if by_postings else getattr(sparse, few))
        found = index.search(query, k, least=least)
        assert same_hits(found, naive_best(np.where(scores >= least, scores, 0.0), k, above=0.0))
        if by_postings:
            patch.setattr(sparse_kernels, "first_stop", cover_first)
            patch.setattr(sparse_kernels, "search", sparse_kernels.search.py_func)
            assert same_hits(index.search(query, k, least=least), found)


@CASES
@given(SEEDS, st.integers(1, 80), st.booleans())
def test_score_and_contributions_equal_the_loop(seed, n_rows, counts):
    rows, query = random_rows(seed, n_rows, counts=counts), random_query(seed + 1)
    index = build(rows, counts, 16)
    expected = naive_sparse_scores(rows, query, index.bm25, index.avg_len)
    asked = np.random.default_rng(seed).integers(0, n_rows, 20)
    assert np.array_equal(index.score(query, asked), expected[asked])
    for row in asked[:3]:
        added = index.contributions(query, int(row))
        assert added.shape == query.terms.shape
        assert added.sum() == pytest.approx(expected[row], rel=1e-5, abs=1e-6)


@CASES
@given(SEEDS, st.integers(0, 80), st.floats(0.0, 1.0))
def test_doc_freq_counts_live_rows(seed, n_rows, deleted_part):
    rows, query = random_rows(seed, n_rows), random_query(seed + 1)
    deleted = np.random.default_rng(seed).random(n_rows) < deleted_part
    index = build(rows, False, 16)
    held = [[term in rows.row(i)[0] for i in range(n_rows)] for term in query.terms]
    counted = [sum(in_row and not gone for in_row, gone in zip(row, deleted, strict=True)) for row in held]
    assert index.doc_freq(query.terms, deleted).tolist() == counted
    assert index.doc_freq(query.terms).tolist() == [sum(row) for row in held]


@CASES
@given(SEEDS, st.integers(0, 80), st.booleans())
def test_rows_come_back_as_they_were(seed, n_rows, counts):
    rows = random_rows(seed, n_rows, counts=counts)
    back = build(rows, counts, 16).rows()
    for name in ("indptr", "terms", "values"):
        assert np.array_equal(getattr(back, name), getattr(rows, name))


@CASES
@given(SEEDS, st.integers(1, 80))
def test_the_mean_norm_of_learned_rows_is_kept_and_does_not_change_scores(seed, n_rows):
    rows = random_rows(seed, n_rows)
    norms = [np.linalg.norm(rows.row(i)[1].astype(np.float64)) for i in range(n_rows)]
    assert np.isclose(build(rows, False, 16).avg_len, max(np.mean(norms), 1e-9))


@CASES
@given(SEEDS, st.lists(st.integers(0, 12), max_size=4))
def test_concat_and_take_undo_each_other(seed, sizes):
    parts = [random_rows(seed + i, size) for i, size in enumerate(sizes)]
    whole = SparseRows.concat(parts)
    assert whole.n_rows == sum(sizes)
    start = 0
    for part in parts:
        back = whole.take(np.arange(start, start + part.n_rows))
        start += part.n_rows
        for name in ("indptr", "terms", "values"):
            assert np.array_equal(getattr(back, name), getattr(part, name))


@CASES
@given(SEEDS)
def test_impacts_bound_the_true_values(seed):
    rows = random_rows(seed, 60, counts=True)
    index = build(rows, True, 7)
    found = np.zeros((60, index._statistics.vocabulary.size))
    words, term_ptr = index._postings.words.tolist(), index._postings.term_ptr.tolist()
    for term, most in enumerate(index._statistics.term_max.tolist()):
        at, windows = term_ptr[term], []
        while at < term_ptr[term + 1]:
            windows.append(words[at])
            n_runs, at = words[at + 1], at + 2
            for _ in range(n_runs):
                level, count = words[at], words[at + 1] + 1
                for local in words[at + 2 : at + 2 + count]:
                    found[windows[-1] * 7 + local, term] = level / LEVELS * most
                at += 2 + count
        assert windows == sorted(set(windows))
    for row in range(60):
        terms, counts = rows.row(row)
        held = np.searchsorted(index._statistics.vocabulary, terms)
        true = index.bm25.tf_part(counts, np.full(terms.size, index.lengths[row]), index.avg_len)
        assert (found[row, held] >= true * (1 - 2**-22)).all()
        assert np.count_nonzero(found[row]) == terms.size


@settings(deadline=None, max_examples=25)
@given(SEEDS, st.booleans(), st.sampled_from([1, 10, 90]), st.sampled_from([64, 500, 65_536]), st.booleans())
def test_long_queries_find_the_best_rows_wherever_the_walk_stops(seed, counts, k, window, filtered):
    rows = random_rows(seed, 700, n_terms=400, max_nnz=90, counts=counts)
    query = random_query(seed + 1, n_terms=420, max_terms=150)
    allow = np.random.default_rng(seed).random(700) < 0.4 if filtered else None
    index = build(rows, counts, window)
    expected = naive_best(naive_sparse_scores(rows, query, index.bm25, index.avg_len), k, allow, above=0.0)

    def stop_early(walk, sums, done, wanted, window):
        """The first stop that the bounds allow: most rows are then left to scoring."""
        rest = walk[1]
        return next(i for i in range(done, rest.size) if wanted - rest[i] >= 1.0 or i == rest.size - 1)

    with pytest.MonkeyPatch.context() as patch:
        for few in ("FEW_ROWS", "FEW_ALLOWED"):
            patch.setattr(sparse, few, -1)
        assert same_hits(index.search(query, k, allow=allow), expected)
        patch.setattr(sparse_kernels, "first_stop", cover_first)
        patch.setattr(sparse_kernels, "choose_stop", stop_early)
        patch.setattr(sparse_kernels, "search", sparse_kernels.search.py_func)
        assert same_hits(index.search(query, k, allow=allow), expected)


@settings(deadline=None, max_examples=25)
@given(SEEDS, st.sampled_from([1, 10, 90]), st.sampled_from([64, 65_536]), st.integers(1, 20), st.booleans())
def test_a_walk_in_many_stages_finds_the_same_rows(seed, k, window, stage, filtered):
    rows = random_rows(seed, 700, n_terms=400, max_nnz=90, counts=True)
    query = random_query(seed + 1, n_terms=420, max_terms=150)
    allow = np.random.default_rng(seed).random(700) < 0.4 if filtered else None
    index = build(rows, True, window)
    expected = naive_best(naive_sparse_scores(rows, query, index.bm25, index.avg_len), k, allow, above=0.0)

    def stop_often(walk, sums, done, wanted, window):
        """A few terms on, until the bounds allow to stop and some more are walked."""
        last = walk[1].size - 1
        return done if wanted - walk[1][done] >= 1.0 and done % 3 == 0 else min(last, done + stage)

    with pytest.MonkeyPatch.context() as patch:
        for few in ("FEW_ROWS", "FEW_ALLOWED"):
            patch.setattr(sparse, few, -1)
        patch.setattr(sparse_kernels, "first_stop", cover_first)
        patch.setattr(sparse_kernels, "choose_stop", stop_often)
        patch.setattr(sparse_kernels, "search", sparse_kernels.search.py_func)
        assert same_hits(index.search(query, k, allow=allow), expected)


@CASES
@given(SEEDS, st.integers(1, 200), st.integers(1, 12), st.booleans())
def test_an_approximate_search_gives_exact_scores(seed, n_rows, k, counts):
    rows, query = random_rows(seed, n_rows, counts=counts), random_query(seed + 1)
    index = build(rows, counts, 32)
    expected = naive_sparse_scores(rows, query, index.bm25, index.avg_len)
    with pytest.MonkeyPatch.context() as patch:
        for few in ("FEW_ROWS", "FEW_ALLOWED"):
            patch.setattr(sparse, few, -1)
        patch.setattr(sparse, "APPROXIMATE_TERMS", 0)
        found = index.search(query, k, approximate=True)
    assert same_hits(found, naive_best(expected, k, np.isin(np.arange(n_rows), found.rows)))


@CASES
@given(SEEDS, st.lists(st.integers(1, 10), min_size=1, max_size=3))
def test_batches_of_an_inversion_give_the_same_words(seed, sizes):
    rows = random_rows(seed, 90)
    whole = build(rows, False, 32)._postings
    for size in sizes:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(postings, "BATCH", 10 * size)
            parted = build(rows, False, 32)._postings
        assert np.array_equal(parted.words, whole.words)
        assert np.array_equal(parted.term_ptr, whole.term_ptr)
