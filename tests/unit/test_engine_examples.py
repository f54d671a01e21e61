"""Examples for a query: the most similar answered questions by BM25, the most similar last, never the question itself."""

import json

import pytest

from embedder.errors import InvalidExamples
from engine.errors import InvalidArgument
from engine.examples import Examples

PAIRS = [
    ("how do cats sleep", "Cats sleep on mats."),
    ("where do dogs run", "Dogs run over hills."),
    ("how do cats eat", "Cats eat from bowls."),
    ("how do cats eat fish", "Cats eat fish raw."),
]


def test_the_most_similar_question_comes_last_and_the_question_itself_is_left_out():
    examples = Examples(PAIRS)
    assert examples.nearest(" How do cats EAT ", 2) == (PAIRS[0], PAIRS[3])
    assert examples.nearest("how do cats eat fish", 1) == (PAIRS[2],)


def test_questions_without_a_common_word_are_no_examples():
    examples = Examples(PAIRS)
    assert examples.nearest("zebra", 3) == ()
    assert examples.nearest("", 3) == ()
    assert examples.nearest("running dogs", 3) == (PAIRS[1],)
    assert examples.nearest("cats", 0) == ()


def test_equal_questions_keep_the_order_of_the_file():
    examples = Examples([("a harbour", "one"), ("a harbour", "two"), ("a tower", "three")])
    assert examples.nearest("the harbour lights", 2) == (("a harbour", "two"), ("a harbour", "one"))


def test_a_file_of_pairs_is_read_without_its_graded_pairs(tmp_path):
    path = tmp_path / "pairs.jsonl"
    rows = [{"query": query, "positive": answer, "negatives": ["no"]} for query, answer in PAIRS]
    rows.append({"sentence1": "cats", "sentence2": "cats", "score": 1.0})
    path.write_text("\n".join(map(json.dumps, rows)))
    assert Examples.read(path).nearest("cats", 9) == Examples(PAIRS).nearest("cats", 9)
    path.write_text("{}")
    with pytest.raises(InvalidExamples):
        Examples.read(path)


def test_no_pairs_are_refused():
    with pytest.raises(InvalidArgument, match="at least one pair"):
        Examples([])
