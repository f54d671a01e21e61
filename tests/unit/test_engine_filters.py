"""What a filter refuses, and how it says so."""

import pytest

from engine.columns import Columns
from engine.errors import InvalidFilter
from engine.filters import Filter


@pytest.mark.parametrize(
    ("expression", "params", "problem"),
    [
        ("", {}, "empty expression"),
        ("   ", {}, "empty expression"),
        ("lang ==", {}, "ends too early"),
        ('lang = "en"', {}, "at character 6"),
        ("(a == 1", {}, "ends too early"),
        ("a == 1 and", {}, "ends too early"),
        ("a == 1 b == 2", {}, "at character 8"),
        ("a == $x", {}, "no value for $x"),
        ("a == 1", {"x": 1}, "x bound but not used"),
        ("(" * 100 + "a == 1" + ")" * 100, {}, "nested deeper"),
        (" or ".join(["a == 1"] * 300), {}, "more than 256 comparisons"),
        ("a == 1" + " " * 70_000, {}, "more than 65,536 characters"),
        ("a == None", {}, "at character"),
        ("__import__('os')", {}, "at character"),
    ],
)
def test_a_malformed_filter_is_refused_with_its_place(expression, params, problem):
    with pytest.raises(InvalidFilter, match=problem.replace("$", r"\$")):
        Filter.parse(expression, params)


@pytest.mark.parametrize(
    ("expression", "params", "problem"),
    [
        ("a == $x", {"x": [1]}, "single value"),
        ("a in $x", {"x": 1}, "needs a list"),
        ("a < true", {}, "cannot order booleans"),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused(expression, params, problem):
    with pytest.raises(InvalidFilter, match=problem):
        Filter.parse(expression, params).evaluate(Columns.build([{"a": 1}]))


def test_one_and_true_and_the_text_one_differ():
    columns = Columns.build([{"a": 1}, {"a": True}, {"a": "1"}, {"a": 1.0}])
    assert Filter.parse("a == 1").evaluate(columns).tolist() == [True, False, False, True]
    assert Filter.parse("a == true").evaluate(columns).tolist() == [False, True, False, False]
    assert Filter.parse('a == "1"').evaluate(columns).tolist() == [False, False, True, False]
