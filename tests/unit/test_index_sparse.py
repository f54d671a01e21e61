"""The sparse index at its edges: nothing in it, nothing asked, wrong input, files and threads."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from index import sparse_kernels
from index.bm25 import Bm25
from index.errors import CorruptIndexFile, InvalidIndexInput
from index.sparse import SparseIndex
from index.sparse_rows import SparseQuery, SparseRows
from tests.support.index_data import random_query, random_rows, same_hits

NOTHING = SparseQuery(np.empty(0, np.uint64), np.empty(0, np.float32))
ONE = SparseQuery(np.array([3], np.uint64), np.array([2.0], np.float32))


def rows_of(*rows):
    return SparseRows.from_rows(
        [(np.array(list(row), np.uint64), np.array(list(row.values()), np.float32)) for row in rows]
    )


@pytest.mark.parametrize("bm25", [None, Bm25()], ids=["learned", "bm25"])
@pytest.mark.parametrize("n_rows", [0, 1, 3])
def test_empty_rows_answer_nothing(bm25, n_rows, tmp_path):
    index = SparseIndex.build(rows_of(*[{}] * n_rows), bm25=bm25)
    index.save(tmp_path)
    for same in (index, SparseIndex.load(tmp_path)):
        assert same.n_rows == n_rows
        assert len(same.search(ONE, 5)) == 0
        assert same.score(ONE, np.arange(n_rows)).tolist() == [0.0] * n_rows
        assert same.doc_freq(ONE.terms).tolist() == [0]
        assert same.rows().n_rows == n_rows


def test_empty_query_and_zero_k_find_nothing():
    index = SparseIndex.build(rows_of({3: 1.0}))
    assert len(index.search(NOTHING, 5)) == 0
    assert len(index.search(ONE, 0)) == 0
    assert index.contributions(NOTHING, 0).size == 0


def test_k_beyond_the_rows_returns_every_match():
    index = SparseIndex.build(rows_of({3: 1.0}, {4: 1.0}, {3: 2.0}))
    hits = index.search(ONE, 1_000_000)
    assert hits.rows.tolist() == [2, 0]
    assert hits.scores.tolist() == [4.0, 2.0]


def test_equal_scores_come_in_row_order_across_windows():
    index = SparseIndex.build(rows_of(*[{3: 1.0}] * 50), window=7)
    assert index.search(ONE, 9).rows.tolist() == list(range(9))


def test_allow_may_forbid_everything():
    index = SparseIndex.build(rows_of({3: 1.0}, {3: 2.0}))
    assert len(index.search(ONE, 5, allow=np.zeros(2, bool))) == 0


def test_terms_at_both_ends_of_64_bits_are_found():
    index = SparseIndex.build(rows_of({0: 1.0, 2**64 - 1: 3.0}))
    query = SparseQuery(np.array([0, 2**64 - 1], np.uint64), np.ones(2, np.float32))
    assert index.search(query, 1).scores.tolist() == [4.0]


@pytest.mark.parametrize("counts", [True, False], ids=["bm25", "learned"])
def test_loaded_index_answers_as_the_built_one(tmp_path, counts):
    rows = random_rows(1, 300, counts=counts)
    built = SparseIndex.build(rows, bm25=Bm25(1.5, 0.6) if counts else None, avg_len=9.0 if counts else None, window=64)
    built.save(tmp_path)
    loaded = SparseIndex.load(tmp_path)
    assert (loaded.n_rows, loaded.bm25, loaded.avg_len, loaded.window) == (300, built.bm25, built.avg_len, 64)
    assert np.array_equal(loaded.lengths, built.lengths)
    for seed in range(20):
        query = random_query(seed)
        assert same_hits(built.search(query, 10), loaded.search(query, 10))
        assert loaded.avg_len == built.avg_len


def test_merging_forward_rows_equals_indexing_at_once():
    first, second = random_rows(1, 40, counts=True), random_rows(2, 30, counts=True)
    parts = [SparseIndex.build(rows, bm25=Bm25()).rows() for rows in (first, second)]
    merged = SparseIndex.build(SparseRows.concat(parts), bm25=Bm25(), avg_len=8.0)
    whole = SparseIndex.build(SparseRows.concat([first, second]), bm25=Bm25(), avg_len=8.0)
    assert all(same_hits(merged.search(random_query(s), 20), whole.search(random_query(s), 20)) for s in range(10))


def test_missing_file_is_reported_by_name(tmp_path):
    SparseIndex.build(rows_of({3: 1.0})).save(tmp_path)
    (tmp_path / "postings_words.npy").unlink()
    with pytest.raises(CorruptIndexFile, match=r"postings_words\.npy"):
        SparseIndex.load(tmp_path)


@pytest.mark.parametrize(
    "text", ["", "[]", '{"version": 1}', '{"version": 2, "bm25": null}', '{"version": 2, "bm25": {}}']
)
def test_damaged_facts_are_refused(tmp_path, text):
    SparseIndex.build(rows_of({3: 1.0})).save(tmp_path)
    (tmp_path / "sparse.json").write_text(text)
    with pytest.raises(CorruptIndexFile, match=r"sparse\.json"):
        SparseIndex.load(tmp_path)


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf])
def test_values_that_are_not_above_zero_are_refused(value):
    with pytest.raises(InvalidIndexInput, match="finite number above zero"):
        SparseIndex.build(rows_of({3: value}))


@pytest.mark.parametrize("avg_len", [0.0, -1.0, float("nan"), float("inf")])
def test_mean_length_must_be_above_zero(avg_len):
    with pytest.raises(InvalidIndexInput, match="avg_len"):
        SparseIndex.build(rows_of({3: 1.0}), bm25=Bm25(), avg_len=avg_len)


@pytest.mark.parametrize("window", [0, 65_537])
def test_window_must_fit_sixteen_bits(window):
    with pytest.raises(InvalidIndexInput, match="window"):
        SparseIndex.build(rows_of({3: 1.0}), window=window)


@pytest.mark.parametrize(("k1", "b"), [(-0.1, 0.5), (float("nan"), 0.5), (1.2, -0.1), (1.2, 1.1)])
def test_bm25_constants_outside_their_range_are_refused(k1, b):
    with pytest.raises(InvalidIndexInput):
        Bm25(k1, b)


@pytest.mark.parametrize("terms", [[4, 3], [3, 3]])
def test_rows_with_unsorted_or_repeated_terms_are_refused(terms):
    good = (np.array([9], np.uint64), np.ones(1, np.float32))
    with pytest.raises(InvalidIndexInput, match="row 1"):
        SparseRows.from_rows([good, (np.array(terms, np.uint64), np.ones(2, np.float32))])
    with pytest.raises(InvalidIndexInput, match="one value a term"):
        SparseRows.from_rows([(np.array([1, 2], np.uint64), np.ones(1, np.float32))])


def test_many_threads_get_the_same_answers():
    index = SparseIndex.build(random_rows(1, 2_000, counts=True), bm25=Bm25(), window=256)
    queries = [random_query(seed) for seed in range(40)]
    alone = [index.search(query, 10) for query in queries]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda query: index.search(query, 10), queries * 10))
    assert all(same_hits(hits, alone[i % 40]) for i, hits in enumerate(together))


def test_arguments_may_be_read_only_or_of_another_integer_type():
    index = SparseIndex.build(random_rows(1, 50))
    query, rows = random_query(4), np.arange(50, dtype=np.int32)
    rows.flags.writeable = False
    assert np.array_equal(index.score(query, rows), index.score(query, np.arange(50)))


def test_a_query_of_many_rare_terms_does_not_score_every_row_that_holds_one(monkeypatch):
    rng = np.random.default_rng(0)
    rare = [{int(term): 1.0 for term in sorted(rng.choice(2_000, 8, replace=False))} for _ in range(20_000)]
    index = SparseIndex.build(rows_of(*rare), bm25=Bm25())
    query = SparseQuery(np.arange(24, dtype=np.uint64), np.linspace(1.0, 2.0, 24, dtype=np.float32))
    reaching = []

    def counted(forward, query, weighting, sums, maxima, heap, scale, least):
        reaching.append(int((sums >= sparse_kernels.least_sum(heap[0][0], scale)).sum()))
        return score_reaching(forward, query, weighting, sums, maxima, heap, scale, least)

    score_reaching = sparse_kernels.score_reaching
    monkeypatch.setattr(sparse_kernels, "score_reaching", counted)
    monkeypatch.setattr(sparse_kernels, "search", sparse_kernels.search.py_func)
    assert len(index.search(query, 10)) == 10
    holding = int(index.doc_freq(query.terms).sum())
    assert reaching[0] < 0.1 * holding
