"""Hard negatives: close to the answer, and surely none."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from embedder.errors import InvalidInput
from embedder.tuning.examples import Example
from embedder.tuning.mining import Hit, Search, mine_negatives


def searching(*hits: tuple[str, float]) -> Search:
    return lambda queries, depth: [[Hit(text, score) for text, score in hits][:depth] for _ in queries]


def mined(example: Example, *hits: tuple[str, float], **options: object) -> tuple[str, ...]:
    options.setdefault("per_query", 10)
    (result,) = mine_negatives([example], searching(*hits), **options)  # type: ignore[arg-type]
    return result.negatives


def test_only_passages_well_below_the_answer_are_taken() -> None:
    hits = [("close", 0.99), ("answer", 1.0), ("just above", 0.9501), ("at the limit", 0.95), ("below", 0.9)]
    assert mined(Example("q", "answer"), *hits) == ("below",)
    assert mined(Example("q", "answer"), *hits, percent_of_positive=1.0) == (
        "close", "just above", "at the limit", "below",
    )  # fmt: skip


def test_scores_below_zero_keep_their_order() -> None:
    assert mined(Example("q", "answer"), ("answer", -2.0), ("near", -2.05), ("far", -2.2)) == ("far",)


def test_without_the_answer_among_the_hits_nothing_is_taken() -> None:
    assert mined(Example("q", "answer"), ("other", 0.5), ("another", 0.4)) == ()
    assert mined(Example("q", "answer"), ("other", 0.5), ("answer", 0.9), depth=1) == ()


def test_parts_and_copies_of_any_answer_are_no_negatives() -> None:
    examples = [Example("q", "The answer is long"), Example("q", "a second answer"), Example("r", "Wrong for q")]
    hits = [("the ANSWER  is", 1.0), ("see: the answer is long", 0.5), ("A second answer", 0.4), ("wrong for q", 0.3)]
    result = mine_negatives(examples, searching(*hits), per_query=10)
    assert result[0].negatives == ("wrong for q",)


def test_ones_own_negatives_are_kept_and_not_found_twice() -> None:
    example = Example("q", "answer", ("Known one",))
    hits = [("answer", 1.0), ("known ONE", 0.5), ("new", 0.4), ("New ", 0.3), ("newer", 0.2)]
    assert mined(example, *hits, per_query=2)[0] == "Known one"
    assert set(mined(example, *hits)) == {"Known one", "new", "newer"}


def test_graded_scored_and_full_examples_are_left_alone_and_cost_no_search() -> None:
    def search(queries: Sequence[str], depth: int) -> list[list[Hit]]:
        raise AssertionError("nothing should be searched")

    examples = [
        Example("q", "p", (), (3.0,)),
        Example("q", "p", ("n",), (1.0, 0.0)),
        Example("q", "p", ("n", "m")),
    ]
    assert mine_negatives(examples, search, per_query=2) == examples


def test_a_draw_from_the_pool_repeats_itself_and_stays_within_it() -> None:
    hits = [("answer", 1.0), *((f"n{i}", 0.8 - i / 100) for i in range(30))]
    draws = [mined(Example("q", "answer"), *hits, per_query=3, pool=6, seed=seed) for seed in (1, 1, 2, 3, 4)]
    assert draws[0] == draws[1]
    assert len(set(draws)) > 1
    assert {text for draw in draws for text in draw} <= {f"n{i}" for i in range(6)}
    assert all(len(draw) == 3 for draw in draws)


def test_queries_are_searched_in_batches_in_order() -> None:
    sizes: list[int] = []

    def search(queries: Sequence[str], depth: int) -> list[list[Hit]]:
        sizes.append(len(queries))
        return [[Hit(f"p {query}", 1.0), Hit(f"n {query}", 0.1)] for query in queries]

    examples = [Example(f"q{i}", f"p q{i}") for i in range(600)]
    result = mine_negatives(examples, search, per_query=1)
    assert [example.negatives for example in result] == [(f"n q{i}",) for i in range(600)]
    assert sizes == [256, 256, 88]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"per_query": 0}, "per_query"),
        ({"per_query": 3, "pool": 2}, "pool"),
        ({"percent_of_positive": 0.0}, "percent_of_positive"),
        ({"percent_of_positive": 1.5}, "percent_of_positive"),
    ],
)
def test_an_option_that_cannot_be_used_is_named(options: dict[str, object], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        mined(Example("q", "p"), ("p", 1.0), **options)


def test_a_search_that_loses_queries_is_found_out() -> None:
    with pytest.raises(InvalidInput, match="one list a query, which is 1"):
        mine_negatives([Example("q", "p")], lambda queries, depth: [], per_query=1)
