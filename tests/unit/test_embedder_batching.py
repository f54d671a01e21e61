from __future__ import annotations

from embedder.batching import plan_batches


def test_no_rows_make_no_batches() -> None:
    assert plan_batches([], 10, padded=True) == []


def test_the_longest_rows_come_first_and_equal_ones_keep_their_order() -> None:
    assert plan_batches([1, 3, 2, 3], 100, padded=False) == [[1, 3, 2, 0]]


def test_a_padded_batch_counts_its_longest_row_for_every_row() -> None:
    assert plan_batches([6, 1, 1], 12, padded=True) == [[0, 1], [2]]


def test_a_packed_batch_counts_the_tokens_it_has() -> None:
    assert plan_batches([6, 1, 1], 8, padded=False) == [[0, 1, 2]]


def test_a_row_over_the_budget_is_a_batch_of_its_own() -> None:
    assert plan_batches([50, 2, 3], 10, padded=True) == [[0], [2, 1]]
