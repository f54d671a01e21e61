"""The gpu kind, on whatever torch finds: exact over prefixes, one scan for all that wait."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from index import gpu
from index.gpu import GpuIndex
from tests.support.index_data import clustered

N, DIM = 700, 24


@pytest.fixture(scope="module")
def prefixes():
    return clustered(0, N, DIM).astype(np.float32)


@pytest.fixture(params=[1 << 26, 100], ids=["at once", "in parts"])
def index(request, prefixes, monkeypatch):
    monkeypatch.setattr(gpu, "SCORES_AT_ONCE", request.param)
    return GpuIndex.build(prefixes)


def check_best(prefixes, query, rows, depth, allow=None):
    """The rows are allowed, and none that is left out scores better than the last by more than float16 errs."""
    scores = prefixes @ query
    allowed = np.ones(N, bool) if allow is None else allow
    assert len(rows) == len(set(rows.tolist())) == min(depth, allowed.sum())
    assert allowed[rows].all()
    assert (np.diff(scores[rows]) < 2e-3).all()
    left = allowed.copy()
    left[rows] = False
    if left.any() and len(rows):
        assert scores[left].max() < scores[rows[-1]] + 2e-3


@pytest.mark.parametrize("depth", [1, 10, 300, 5 * N])
def test_candidates_are_the_best_by_a_full_sort(index, prefixes, depth):
    for query in prefixes[::100]:
        check_best(prefixes, query, index.candidates(query, depth), depth)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 1.0])
def test_a_filter_leaves_the_best_of_the_allowed(index, prefixes, share):
    allow = np.random.default_rng(1).random(N) < share
    for query in prefixes[::100]:
        check_best(prefixes, query, index.candidates(query, 10, allow=allow), 10, allow)


def test_callers_with_other_depths_and_filters_share_a_scan(index, prefixes, monkeypatch):
    scans, gate = [], threading.Event()
    scan = index._shared._answer

    def slow(asked):
        scans.append(len(asked))
        gate.wait(10)
        scan(asked)

    monkeypatch.setattr(index._shared, "_answer", slow)
    allow = np.arange(N) % 2 == 0
    asks = [(prefixes[i], 1 + i, allow if i % 3 else None) for i in range(12)]
    with ThreadPoolExecutor(12) as pool:
        found = [pool.submit(index.candidates, query, depth, allow=mask) for query, depth, mask in asks]
        while len(index._shared._waiting) < 11:
            assert not any(one.done() for one in found)
        gate.set()
    assert scans == [1, 11]
    for one, (query, depth, mask) in zip(found, asks, strict=True):
        check_best(prefixes, query, one.result(), depth, mask)


def test_more_callers_than_fit_are_answered_in_turn(index, prefixes, monkeypatch):
    monkeypatch.setattr(gpu, "MOST_QUERIES", 2)
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda query: index.candidates(query, 5), prefixes[:100]))
    for query, rows in zip(prefixes[:100], found, strict=True):
        check_best(prefixes, query, rows, 5)


def test_a_failed_scan_fails_every_query_in_it_and_no_other(index, prefixes, monkeypatch):
    def fail(asked):
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(index._shared, "_answer", fail)
        with ThreadPoolExecutor(8) as pool:
            found = [pool.submit(index.candidates, query, 5) for query in prefixes[:20]]
        assert all(isinstance(one.exception(), MemoryError) for one in found)
    check_best(prefixes, prefixes[0], index.candidates(prefixes[0], 5), 5)
