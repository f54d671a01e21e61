"""Batches: which examples meet, and what each query is compared with."""

from __future__ import annotations

import numpy as np
import pytest

from embedder.errors import InvalidInput
from embedder.tuning.batches import candidates_of, landmark_targets, plan_stage
from embedder.tuning.examples import Example
from tests.support.tuning_toys import graded_pairs, toy_examples


def shape(example: Example) -> tuple[object, ...]:
    return (example.source, example.is_graded, bool(example.negatives), bool(example.scores))


def test_a_batch_holds_examples_of_one_dataset_and_shape() -> None:
    examples = [
        *toy_examples(30, source="a"),
        *toy_examples(30, source="b"),
        *toy_examples(30, source="b", negatives=2),
        *toy_examples(30, source="b", negatives=2, scores=True),
        *graded_pairs(30),
    ]
    plan = plan_stage(examples, batch=8, seed=1, steps=None, epochs=1)
    assert {len({shape(examples[i]) for i in batch}) for batch in plan} == {1}
    assert sorted(np.concatenate(plan).tolist()) == list(range(150))
    assert [len(batch) for batch in plan].count(8) == 15


def test_a_pass_leaves_out_a_lone_pair_but_not_one_with_negatives() -> None:
    pairs, triplets = toy_examples(9), toy_examples(9, negatives=1)
    assert sorted(len(batch) for batch in plan_stage(pairs, batch=4, seed=0, steps=None, epochs=1)) == [4, 4]
    assert sorted(len(batch) for batch in plan_stage(triplets, batch=4, seed=0, steps=None, epochs=1)) == [1, 4, 4]
    with pytest.raises(InvalidInput, match="nothing to be compared with"):
        plan_stage(pairs[:1], batch=4, seed=0, steps=5, epochs=1)


def test_a_plan_repeats_itself_by_its_seed_and_every_pass_is_another_shuffle() -> None:
    examples = toy_examples(40)
    first, second, other = (
        np.concatenate(plan_stage(examples, batch=8, seed=seed, steps=None, epochs=2)) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)
    assert not np.array_equal(first[:40], first[40:])
    longer = plan_stage(examples, batch=8, seed=1, steps=7, epochs=1)
    np.testing.assert_array_equal(np.concatenate(longer), first[:56])


def test_candidates_are_the_positives_then_the_negatives_column_by_column() -> None:
    examples = [Example("q0", "p0", ("n00", "n01"), (9, 0, 1)), Example("q1", "p1", ("n10",), (8, 2))]
    drawn = candidates_of(examples, negatives=5, in_batch=True, random=np.random.default_rng(0))
    assert drawn.passages[:2] == ["p0", "p1"]
    assert [drawn.passages[i] for i in drawn.own[1]] == ["p1", "n10", "n10"]
    assert sorted(drawn.passages[i] for i in drawn.own[0]) == ["n00", "n01", "p0"]
    scores = {"p0": 9, "n00": 0, "n01": 1, "p1": 8, "n10": 2}
    assert drawn.teacher is not None
    wanted = [[scores[drawn.passages[i]] for i in row] for row in drawn.own]
    np.testing.assert_array_equal(drawn.teacher, np.array(wanted, dtype=np.float32))
    np.testing.assert_array_equal(drawn.targets, np.eye(2, 6, dtype=np.float32))
    assert drawn.allowed.all()


def test_without_in_batch_negatives_only_ones_own_candidates_count() -> None:
    examples = toy_examples(3, negatives=2)
    drawn = candidates_of(examples, negatives=2, in_batch=False, random=np.random.default_rng(0))
    assert [np.flatnonzero(row).tolist() for row in drawn.allowed] == drawn.own.tolist()


def test_another_copy_of_an_answer_is_no_negative() -> None:
    examples = [
        Example("same", "answer one", ("wrong",)),
        Example("same", "answer two", ("answer one",)),
        Example("other", "answer one", ("answer two",)),
    ]
    drawn = candidates_of(examples, negatives=1, in_batch=True, random=np.random.default_rng(0))
    assert drawn.passages == ["answer one", "answer two", "answer one", "wrong", "answer one", "answer two"]
    np.testing.assert_array_equal(drawn.allowed, [[1, 0, 0, 1, 0, 0], [0, 1, 0, 1, 0, 0], [0, 1, 1, 1, 0, 1]])


def test_more_negatives_than_asked_for_are_drawn_anew_and_few_are_repeated_evenly() -> None:
    examples = [Example("q", "p", tuple(f"n{i}" for i in range(9))), Example("r", "s", ("x", "y"))]
    random = np.random.default_rng(0)
    draws = [candidates_of(examples, negatives=5, in_batch=True, random=random) for _ in range(20)]
    for drawn in draws:
        assert len({drawn.passages[i] for i in drawn.own[0]}) == 6
        counts = [[drawn.passages[i] for i in drawn.own[1]].count(text) for text in "xy"]
        assert sorted(counts) == [2, 3]
    assert len({tuple(drawn.own[0]) + tuple(drawn.passages) for drawn in draws}) > 10


def test_landmarks_before_the_last_one_count_less() -> None:
    targets = landmark_targets(np.array([1, 1, 0, 1, 2, 2]), 3)
    e = np.exp(-0.08)
    np.testing.assert_allclose(targets, [[0, 0, 1, 0, 0, 0], [e * e, e, 0, 1, 0, 0], [0, 0, 0, 0, e, 1]], rtol=1e-6)
