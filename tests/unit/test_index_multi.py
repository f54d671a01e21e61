"""Token vectors: what quantising loses, what the compiled loop computes, and what is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index.errors import CorruptIndexFile, DimensionMismatch, InvalidIndexInput
from index.multi import MultiIndex, TokenRows


def passages_of(seed, n, dim, most=9):
    """Unit vectors of passages with 0 to ``most`` tokens."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(n):
        vectors = rng.normal(size=(rng.integers(0, most + 1), dim))
        found.append((vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32))
    return found


def naive_scores(passages, query):
    """MaxSim by plain numpy in float64; 0 for a passage without tokens."""
    query = query.astype(np.float64)
    return np.array([(query @ p.astype(np.float64).T).max(axis=1).sum() if len(p) else 0.0 for p in passages])


sizes = {"seed": st.integers(0, 10**6), "n": st.integers(0, 12), "dim": st.integers(1, 40), "m": st.integers(1, 40)}


@settings(deadline=None)  # the first example waits for the compiler
@given(**sizes)
def test_scores_are_those_of_naive_max_sim_on_what_is_stored(seed, n, dim, m):
    tokens = TokenRows.from_vectors(passages_of(seed, n, dim), dim)
    query = np.random.default_rng(seed).normal(size=(m, dim)).astype(np.float32)
    found = MultiIndex(tokens).score(query, np.arange(n))
    stored = [tokens.row(i) for i in range(n)]
    assert found == pytest.approx(naive_scores(stored, query), rel=1e-4, abs=1e-4)


@settings(deadline=None)
@given(**sizes)
def test_a_score_errs_by_at_most_half_a_step_a_component(seed, n, dim, m):
    passages = passages_of(seed, n, dim)
    tokens = TokenRows.from_vectors(passages, dim)
    query = np.random.default_rng(seed).normal(size=(m, dim)).astype(np.float32)
    for i, passage in enumerate(passages):
        exact, stored = naive_scores([passage], query), naive_scores([tokens.row(i)], query)
        steps = np.abs(passage).max(axis=1, initial=0.0) / 127 * (1 + 2**-10)
        bound = steps.max(initial=0.0) / 2 * np.abs(query).sum()
        assert abs(exact[0] - stored[0]) <= bound + 1e-5


@given(seed=sizes["seed"], n=sizes["n"], dim=sizes["dim"])
def test_quantising_what_was_stored_changes_nothing(seed, n, dim):
    tokens = TokenRows.from_vectors(passages_of(seed, n, dim), dim)
    again = TokenRows.from_vectors([tokens.row(i) for i in range(n)], dim)
    for name in ("indptr", "codes", "scales"):
        assert np.array_equal(getattr(again, name), getattr(tokens, name))


@settings(deadline=None)
@given(seed=sizes["seed"], n=st.integers(1, 9), dim=sizes["dim"])
def test_passages_that_were_taken_and_joined_keep_their_scores_to_the_bit(seed, n, dim):
    tokens = TokenRows.from_vectors(passages_of(seed, n, dim), dim)
    rng = np.random.default_rng(seed)
    query = rng.normal(size=(5, dim)).astype(np.float32)
    scores = MultiIndex(tokens).score(query, np.arange(n))
    order = rng.permutation(n)
    joined = TokenRows.concat([tokens.take(order[: n // 2]), tokens.take(order[n // 2 :])])
    assert np.array_equal(MultiIndex(joined).score(query, np.arange(n)), scores[order])


def test_a_score_worked_out_by_hand():
    passages = [np.array([[1.0, 0.0], [0.6, 0.8]], np.float32), np.array([[0.0, -1.0]], np.float32), np.empty((0, 2))]
    query = np.array([[2.0, 0.0], [0.0, 1.0]], np.float32)
    scores = MultiIndex(TokenRows.from_vectors(passages, 2)).score(query, np.array([0, 1, 2, 0]))
    assert scores == pytest.approx([2.8, -1.0, 0.0, 2.8], abs=0.01)


def test_files_give_the_same_index_back(tmp_path):
    index = MultiIndex(TokenRows.from_vectors(passages_of(2, 7, 12), 12))
    index.save(tmp_path)
    loaded = MultiIndex.load(tmp_path)
    query = np.random.default_rng(2).normal(size=(3, 12)).astype(np.float32)
    assert np.array_equal(loaded.score(query, np.arange(7)), index.score(query, np.arange(7)))
    assert loaded.nbytes == index.nbytes == index.rows().scales.size * 14


def test_files_that_do_not_belong_together_are_refused(tmp_path):
    MultiIndex(TokenRows.from_vectors(passages_of(2, 7, 12), 12)).save(tmp_path)
    np.save(tmp_path / "scales.npy", np.ones(1, np.float16))
    with pytest.raises(CorruptIndexFile, match="belong together"):
        MultiIndex.load(tmp_path)


def test_bad_queries_are_refused():
    index = MultiIndex(TokenRows.from_vectors(passages_of(2, 3, 4), 4))
    with pytest.raises(DimensionMismatch):
        index.score(np.ones((2, 5), np.float32), np.arange(3))
    with pytest.raises(InvalidIndexInput, match="NaN"):
        index.score(np.full((2, 4), np.nan, np.float32), np.arange(3))
    with pytest.raises(DimensionMismatch):
        TokenRows.from_vectors([np.ones((1, 3), np.float32)], 4)
