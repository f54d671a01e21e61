"""The recall certificate: what it measures, what it chooses, and that it holds."""

import numpy as np
import pytest
from scipy.stats import beta

from index import recall
from index.dense import KINDS, DenseIndex
from index.recall import Certificate, Measured, Setting
from tests.support.index_data import clustered, same_hits

N, DIM = 4_000, 32


@pytest.fixture(scope="module")
def stored():
    return clustered(0, N + 300, DIM)


@pytest.fixture(scope="module", params=list(KINDS))
def index(request, stored):
    return DenseIndex.build(stored[:N], kind=request.param, coarse_dim=16, rotate=True).certified(sample=200)


def recall_of(index, queries, k, setting):
    found = []
    for query in queries:
        exact = index.search(query, k, exact=True)
        found.append(np.isin(exact.rows, index.search(query, k, setting=setting).rows).mean())
    return float(np.mean(found))


@pytest.mark.parametrize(("mean", "n"), [(1.0, 200), (0.98, 512), (0.5, 40), (0.0, 30)])
def test_wilson_bound_is_near_the_exact_one_for_coins_and_below_the_mean(mean, n):
    hits = round(mean * n)
    exact = beta.ppf(0.05, hits, n - hits + 1) if hits else 0.0
    assert recall.wilson_lower(hits / n, n) == pytest.approx(exact, abs=0.03)
    assert recall.wilson_lower(hits / n, n) <= hits / n


def test_nothing_sampled_certifies_nothing():
    assert recall.wilson_lower(1.0, 0) == 0.0


@pytest.mark.parametrize("share", [[0.9, 0.06, 0.03, 0.01], [0.97, 0.0, 0.0, 0.03], [0.5, 0.3, 0.2, 0.0]])
@pytest.mark.parametrize("most_coins", [1.0, recall.MOST_COINS])
def test_the_bound_of_a_mean_holds_in_about_nineteen_of_twenty_samples(share, most_coins):
    values, rng = np.array([1.0, 0.9, 0.7, 0.0]), np.random.default_rng(0)
    bounds = [recall.lower_bound(rng.choice(values, 256, p=share), most_coins) for _ in range(2_000)]
    assert np.mean(np.array(bounds) <= values @ share) >= 0.93  # Wilson's own oscillates by 0.02


def test_recalls_that_vary_less_than_coins_have_a_closer_bound():
    recalls = np.tile([1.0, 1.0, 1.0, 0.9], 64)
    assert recall.lower_bound(recalls, 1.0) == pytest.approx(recall.wilson_lower(0.975, 256))
    assert recall.lower_bound(recalls, 3.0) == pytest.approx(recall.wilson_lower(0.975, 3 * 256))
    coins = np.tile([1.0, 1.0, 1.0, 0.0], 64)
    assert recall.lower_bound(coins, 3.0) == pytest.approx(recall.wilson_lower(0.75, 256), abs=1e-3)
    assert recall.lower_bound(np.ones(256), 3.0) == recall.wilson_lower(1.0, 256)


def test_exact_answers_are_those_of_a_full_sort(stored, monkeypatch):
    monkeypatch.setattr(recall, "_CHUNK", 300)
    vectors, queries = stored[:1_000], stored[-20:].astype(np.float32)
    hidden = np.concatenate([np.arange(10), np.full(10, -1)])
    scores = queries @ vectors.astype(np.float32).T
    scores[np.arange(10), hidden[:10]] = -1.0
    rows = recall.nearest(vectors, queries, 7, hidden)
    assert np.allclose(np.take_along_axis(scores, rows, 1), np.sort(scores, axis=1)[:, ::-1][:, :7], atol=1e-6)


def test_what_is_measured_is_what_a_search_finds(index, stored):
    queries = stored[N : N + 50].astype(np.float32)
    least = np.stack([index.search(query, 100, exact=True).scores[[9, 99]] for query in queries])
    widths = sorted({one.width for one in index.certificate.settings})[:3]
    for one in recall.measure(index, widths, queries, least, np.full(50, -1), most_coins=1.0)[::4]:
        # Rows of equal scores may stand for each other.
        assert recall_of(index, queries, one.k, one.setting) == pytest.approx(one.recall, abs=0.005)


def test_the_frontier_rises_and_its_bounds_lie_below(index):
    for k in recall.KS:
        settings = [one for one in index.certificate.settings if one.k == k]
        assert settings
        assert [one.cost for one in settings] == sorted({one.cost for one in settings})
        assert [one.recall for one in settings] == sorted({one.recall for one in settings})
        assert all(one.lower < one.recall for one in settings)


@pytest.mark.parametrize("target", [0.8, 0.9])
def test_the_certificate_holds_on_queries_that_it_has_not_seen(index, stored, target):
    promise = index.promise(target, 10)
    assert promise.lower >= target
    assert promise.setting is not None
    assert recall_of(index, stored[N:].astype(np.float32), 10, promise.setting) >= promise.lower


def test_a_higher_target_costs_no_less(index):
    costs = [index.certificate.cheapest(target, 10).cost for target in (0.7, 0.8, 0.9, 0.95)]
    assert costs == sorted(costs)


def test_what_cannot_be_promised_is_scanned(index):
    promise = index.promise(0.9999, 10)
    assert (promise.setting, promise.recall, promise.lower) == (None, 1.0, 1.0)
    assert index.promise(1.0, 10).setting is None


def test_an_index_that_only_scans_promises_everything():
    small = DenseIndex.build(clustered(1, 100, DIM), kind="flat", coarse_dim=8, rotate=True).certified()
    assert small.certificate is None
    assert small.promise(0.98, 10).lower == 1.0


def test_unmeasured_says_so_and_searches_as_usual(stored):
    index = DenseIndex.build(stored, kind="flat", coarse_dim=8, rotate=True)
    usual, higher, highest = (index.promise(target, 10) for target in (0.98, 0.99, 0.999))
    assert (usual.recall, usual.lower, usual.setting.depth) == (None, None, 200)
    assert higher.setting.depth == 400
    assert highest.setting is None
    query = stored[3].astype(np.float32)
    assert same_hits(index.search(query, 10), index.search(query, 10, setting=usual.setting))


def test_certificate_comes_back_from_its_file_and_is_the_same_each_time(index, tmp_path):
    index.save(tmp_path)
    assert DenseIndex.load(tmp_path).certificate == index.certificate
    if index.kind != "hnsw":
        assert index.certified(sample=200).certificate == index.certificate


@pytest.mark.parametrize(("known", "asked", "passages"), [(300, 64, 0), (40, 40, 0), (31, 0, 64), (0, 0, 64)])
def test_enough_queries_that_were_asked_are_the_sample_and_fewer_count_for_nothing(stored, known, asked, passages):
    index = DenseIndex.build(stored[:N], kind="flat", coarse_dim=16, rotate=True)
    certified = index.certified(stored[N : N + known].astype(np.float32), sample=64)
    assert (certified.certificate.queries, certified.certificate.passages) == (asked, passages)
    assert certified.promise(0.5, 10).asked == asked


def test_an_index_is_measured_better_by_enough_queries_and_by_a_whole_sample(stored):
    index = DenseIndex.build(stored[:N], kind="flat", coarse_dim=16, rotate=True)
    asked = np.tile(stored[N:].astype(np.float32), (2, 1))
    few, enough, whole = recall.ENOUGH - 1, recall.ENOUGH, recall.SAMPLE
    assert [index.improves_by(n) for n in (few, enough)] == [False, True]
    assert [index.certified(asked[:few]).improves_by(n) for n in (few, enough)] == [False, True]
    assert [index.certified(asked[:enough]).improves_by(n) for n in (enough, whole - 1, whole)] == [False, False, True]
    assert not index.certified(asked[:whole]).improves_by(whole)
    assert not DenseIndex.build(clustered(1, 100, DIM), kind="flat", coarse_dim=8, rotate=True).improves_by(whole)


def test_between_and_beyond_the_measured_numbers_the_harder_one_counts():
    made = Certificate(
        0,
        500,
        (
            Measured(10, 8, 20, 1, 0.99, 0.98),
            Measured(100, 8, 200, 2, 0.97, 0.95),
            Measured(100, 9, 300, 3, 0.99, 0.98),
        ),
    )
    assert made.cheapest(0.98, 3).setting == Setting(8, 20)
    assert made.cheapest(0.98, 11).setting == Setting(9, 300)
    assert made.cheapest(0.95, 250).setting == Setting(20, 500)
    assert made.cheapest(0.99, 10) is None


def test_equal_rows_may_stand_for_each_other():
    stored = np.repeat(clustered(2, 300, DIM), 10, axis=0)
    index = DenseIndex.build(stored, kind="hnsw", coarse_dim=DIM, rotate=False).certified(sample=50)
    assert index.certificate.cheapest(0.9, 10) is not None
