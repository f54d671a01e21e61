"""Fusion, grouping and planning, by numbers worked out by hand."""

import numpy as np
import pytest

from engine.fusion import MULTI_WEIGHT, default_weights, fuse, ranks
from engine.grouping import best_rows, group
from engine.planner import plan
from engine.rescoring import Candidates
from engine.schema import CollectionSchema
from engine.values import Query

LEGS = ("dense", "bm25")
SCORES = np.array([[0.9, 0.0], [0.5, 4.0], [0.1, 8.0]], np.float32)


def test_convex_divides_each_leg_by_its_scale():
    fused = fuse(SCORES, LEGS, "convex", {"dense": 0.6, "bm25": 0.4}, {"dense": 1.0, "bm25": 10.0})
    assert fused == pytest.approx([0.54, 0.3 + 0.16, 0.06 + 0.32])


def test_rrf_adds_reciprocal_ranks_and_gives_none_to_a_passage_without_a_match():
    fused = fuse(SCORES, LEGS, "rrf", {"dense": 1.0, "bm25": 1.0}, {})
    assert fused == pytest.approx([1 / 61, 1 / 62 + 1 / 62, 1 / 63 + 1 / 61])
    assert ranks(SCORES, LEGS).tolist() == [[1, 0], [2, 2], [3, 1]]


def test_a_token_score_below_zero_still_has_a_rank_and_a_lexical_score_of_zero_has_none():
    assert ranks(np.array([[0.0, -0.2], [1.0, 0.4]], np.float32), ("bm25", "multi")).tolist() == [[0, 2], [1, 1]]


def test_token_vectors_are_fused_as_they_are_with_the_default_weight():
    weights = default_weights(0.5, legs=("dense", "bm25", "multi"))
    assert weights["multi"] == pytest.approx(MULTI_WEIGHT / (1.5 + MULTI_WEIGHT))
    fused = fuse(
        np.array([[0.5, 0.8]], np.float32), ("dense", "multi"), "convex", weights, {"dense": 1.0, "multi": 1.0}
    )
    assert fused == pytest.approx([0.5 * weights["dense"] + 0.8 * weights["multi"]])


def test_default_weights_sum_to_one_over_the_legs_that_there_are():
    assert default_weights(0.5) == pytest.approx({"dense": 1 / 1.5, "bm25": 0.5 / 1.5})
    assert default_weights(0.25, 1.0, legs=("dense", "sparse", "bm25")) == pytest.approx(
        {"dense": 1 / 2.2, "sparse": 1 / 2.2, "bm25": 0.2 / 2.2}
    )
    assert default_weights(legs=("bm25",)) == {"bm25": 1.0}


def test_dbsf_maps_three_deviations_to_one():
    fused = fuse(SCORES, LEGS, "dbsf", {"dense": 1.0, "bm25": 0.0}, {})
    mean, spread = SCORES[:, 0].mean(), SCORES[:, 0].std()
    assert fused == pytest.approx((SCORES[:, 0] - mean + 3 * spread) / (6 * spread), rel=1e-5)


def test_dbsf_of_equal_scores_is_one_half():
    assert fuse(np.ones((3, 2), np.float32), LEGS, "dbsf", {"dense": 1.0, "bm25": 1.0}, {}).tolist() == [1.0, 1.0, 1.0]


def test_one_leg_keeps_its_own_scores():
    assert fuse(SCORES[:, :1], ("dense",), "rrf", {}, {}) == pytest.approx([0.9, 0.5, 0.1])


@pytest.mark.parametrize("method", ["convex", "rrf", "dbsf"])
def test_no_candidates_give_no_scores(method):
    weights = {"dense": 1.0, "bm25": 1.0}
    assert fuse(np.empty((0, 2), np.float32), LEGS, method, weights, weights).shape == (0,)


def test_the_score_of_a_convex_fusion_does_not_depend_on_the_other_candidates():
    weights, reach = {"dense": 0.6, "bm25": 0.4}, {"dense": 1.0, "bm25": 10.0}
    alone = fuse(SCORES[1:2], LEGS, "convex", weights, reach)
    assert alone[0] == fuse(SCORES, LEGS, "convex", weights, reach)[1]


def candidates(docs):
    n = len(docs)
    return Candidates(("dense",), np.zeros(n, np.int32), np.arange(n), np.array(docs), np.zeros((n, 1), np.float32))


def test_a_document_blends_its_best_passage_with_the_mean_of_its_best():
    groups = group(candidates([0, 0, 0, 1]), np.array([0.2, 0.8, 0.4, 0.7]), blend=0.5, best=2)
    assert groups.scores == pytest.approx([0.5 * 0.8 + 0.5 * 0.6, 0.7])
    assert groups.members(0).tolist() == [1, 2, 0]


def test_a_single_passage_keeps_its_score_to_the_bit():
    fused = np.random.default_rng(0).normal(size=1000)
    assert np.array_equal(group(candidates(range(1000)), fused, blend=0.5, best=5).scores, fused)


def schema(**changes):
    facts = dict(
        name="c",
        dim=4,
        coarse_dim=4,
        rotate=True,
        sparse=False,
        model=None,
        fingerprint=None,
        language="english",
        analyzer_version=1,
    )
    return CollectionSchema(**{**facts, **changes})


def plan_of(query, schema, legs):
    return plan(query, schema, legs, {"dense": 0.5, "bm25": 0.5})


def test_the_weights_of_the_request_win_over_the_collection_s():
    chosen = plan_of(Query(text="x", weights={"bm25": 3.0}), schema(weights={"bm25": 2.0}), LEGS)
    assert chosen.weights == {"dense": 0.5, "bm25": 3.0}
    assert plan_of(Query(text="x"), schema(weights={"bm25": 2.0}), LEGS).weights == {"dense": 0.5, "bm25": 2.0}


def test_depth_grows_with_the_documents_asked_for():
    assert plan_of(Query(text="x"), schema(), LEGS).depth == {"dense": 100, "bm25": 100}
    assert plan_of(Query(text="x", limit=100, offset=100), schema(), LEGS).depth["dense"] == 600
    assert plan_of(Query(text="x", depth={"bm25": 7}), schema(), LEGS).depth == {"dense": 100, "bm25": 7}


def test_a_recall_target_of_one_scans_everything():
    assert not plan_of(Query(text="x", recall_target=0.999), schema(), LEGS).exact
    assert plan_of(Query(text="x", recall_target=1.0), schema(), LEGS).exact
    assert plan_of(Query(text="x", exact=True), schema(), LEGS).recall_target == 1.0


def test_one_leg_is_not_fused():
    chosen = plan_of(Query(text="x", mode="bm25"), schema(), LEGS)
    assert chosen.legs == ("bm25",)
    assert chosen.describe()["fusion"] is None


def test_a_passage_of_several_rows_counts_once_with_its_best_row():
    starts, fused = np.array([0, 0, 5, 0, 0]), np.array([0.1, 0.3, 0.2, 0.4, 0.4])
    kept = best_rows(candidates([0, 0, 0, 1, 1]), lambda _: starts, fused)
    assert kept.tolist() == [1, 2, 3]
    assert candidates([0, 0, 0, 1, 1]).take(kept).rows.tolist() == [1, 2, 3]


def test_passages_of_one_row_each_are_left_as_they_are():
    assert best_rows(candidates([0, 0, 1]), lambda _: np.array([0, 5, 5]), np.array([0.1, 0.3, 0.2])) is None
    assert best_rows(candidates([]), lambda _: np.empty(0, np.int64), np.empty(0)) is None


EVERY_LEG = ("dense", "bm25", "multi")
EVERY_WEIGHT = {"dense": 0.5, "bm25": 0.3, "multi": 0.2}


@pytest.mark.parametrize(
    ("mode", "legs", "sources"),
    [
        ("hybrid", EVERY_LEG, ("dense", "bm25")),
        ("multi", ("multi",), ("dense", "bm25")),
        ("dense", ("dense",), ("dense",)),
    ],
)
def test_token_vectors_rank_and_never_find(mode, legs, sources):
    chosen = plan(Query(text="x", mode=mode), schema(multi_dim=8), EVERY_LEG, EVERY_WEIGHT)
    assert (chosen.legs, chosen.sources, tuple(chosen.depth)) == (legs, sources, sources)
    assert chosen.deeper().depth == {leg: 200 for leg in sources}


def test_as_many_documents_are_ranked_as_are_reranked():
    chosen = plan_of(Query(text="x", limit=10, rerank=90), schema(), LEGS)
    assert (chosen.want, chosen.depth["dense"]) == (90, 270)
    assert plan_of(Query(text="x", limit=10, offset=100, rerank=90), schema(), LEGS).want == 110
