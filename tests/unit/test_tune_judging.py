"""Two models are judged by the same queries, and neither by a copy of the query."""

import numpy as np
import pytest

from embedder.tuning.examples import Example
from engine.errors import InvalidArgument
from engine.evaluation import Metrics
from engine.tuning.judging import MIN_QUERIES, Scores, compare, is_better, judged_set, measure
from tests.support.hash_model import HashModel


def examples(n):
    return [Example(f"question {i} of many", f"answer {i} says word{i} and more") for i in range(n)]


def scores(*per_query):
    values = np.array(per_query, float)
    return Scores({"hybrid": Metrics(float(values.mean()), 1.0, 1.0)}, {"hybrid": values})


def test_a_query_may_have_several_answers_and_graded_pairs_do_not_judge():
    extra = Example("question 0 of many", "another answer")
    graded = Example("alike", "similar", (), (3.0,))
    judged = judged_set([*examples(MIN_QUERIES), extra, graded], [])
    assert len(judged.queries) == MIN_QUERIES
    assert judged.answers[0] == {0, judged.passages.index("another answer")}
    assert "similar" not in judged.passages
    assert judged.qrels["0"] == {"0": 1, str(MIN_QUERIES): 1}


def test_distractors_fill_up_but_copies_of_a_query_and_of_an_answer_are_left_out():
    held_out = examples(MIN_QUERIES)
    copy = "Before it.  Question 3\nof MANY stands here."
    judged = judged_set(held_out, [copy, held_out[0].positive, "one", "two", "three"], max_passages=MIN_QUERIES + 2)
    assert judged.passages[MIN_QUERIES:] == ("one", "two")


def test_too_few_queries_are_refused():
    with pytest.raises(InvalidArgument, match="only 3 queries are held out"):
        judged_set(examples(3), [])


def test_a_model_has_scores_in_every_mode_and_equal_models_do_not_differ():
    judged = judged_set(examples(20), [f"distractor number{i}" for i in range(50)])
    first, again = (measure(HashModel("a"), judged, language="none") for _ in range(2))
    assert set(first.metrics) == {"dense", "bm25", "hybrid"}
    assert 0 < first.metrics["hybrid"].ndcg_at_10 <= 1
    assert first.by_query["dense"].mean() == pytest.approx(first.metrics["dense"].ndcg_at_10)
    changes = compare(first, again, seed=0)
    assert [change.mode for change in changes] == ["dense", "bm25", "hybrid"]
    assert all((change.low, change.high) == (0.0, 0.0) for change in changes)
    assert not is_better(changes)


def test_the_interval_is_around_the_difference_and_repeats_itself():
    rng = np.random.default_rng(5)
    before, after = scores(*rng.random(200) * 0.5), scores(*rng.random(200) * 0.5 + 0.1)
    (change,) = compare(before, after, seed=1)
    difference = change.after.ndcg_at_10 - change.before.ndcg_at_10
    assert 0 < change.low < difference < change.high < 0.2
    assert compare(before, after, seed=1) == [change]
    assert is_better([change])


@pytest.mark.parametrize(("gains", "sure"), [([0.2] * 5, True), ([0.2] * 5 + [-0.2] * 4, False), ([0.2], False)])
def test_a_gain_that_a_few_other_queries_would_turn_is_not_sure(gains, sure):
    before = np.full(100, 0.5)
    after = before + np.pad(gains, (0, 100 - len(gains)))
    (change,) = compare(scores(*before), scores(*after), seed=0)
    assert change.after.ndcg_at_10 > change.before.ndcg_at_10
    assert is_better([change]) == sure


def test_a_leg_that_only_one_model_has_is_shown_without_an_interval():
    before, after = scores(0.5, 0.5), scores(0.6, 0.6)
    new = Scores(
        {**after.metrics, "sparse": Metrics(0.4, 1.0, 1.0)}, {**after.by_query, "sparse": np.array([0.4, 0.4])}
    )
    sparse, hybrid = compare(before, new, seed=0)
    assert (sparse.mode, sparse.before, sparse.low) == ("sparse", None, None)
    assert hybrid.before is not None
