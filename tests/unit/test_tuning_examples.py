"""Examples: what files may hold, what is refused, and what is kept apart for judging."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from embedder.errors import InvalidExamples, InvalidInput
from embedder.tuning.examples import Example, read_examples, split_held_out


def written(path: Path, *lines: object) -> Path:
    text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
    data = text.encode()
    path.write_bytes(zstandard.ZstdCompressor().compress(data) if path.suffix == ".zst" else data)
    return path


@pytest.mark.parametrize("name", ["pairs.jsonl", "pairs.jsonl.zst"])
def test_every_shape_of_line_is_read_in_order(tmp_path: Path, name: str) -> None:
    path = written(
        tmp_path / name,
        {"query": "a", "positive": "b", "extra": 1},
        {"query": "a", "positive": "b", "negative": "c", "source": "web"},
        "",
        {"query": "a", "positive": "b", "negatives": ["c", "d"], "scores": [3, 1.5, -1]},
        {"sentence1": "a", "sentence2": "b", "score": 4},
    )
    assert read_examples(path) == [
        Example("a", "b"),
        Example("a", "b", ("c",), (), "web"),
        Example("a", "b", ("c", "d"), (3.0, 1.5, -1.0)),
        Example("a", "b", (), (4.0,)),
    ]
    assert [example.is_graded for example in read_examples(path)] == [False, False, False, True]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{not json", "Expecting"),
        ([1, 2], "must be a JSON object"),
        ({"query": "a"}, "positive = None: it must be a string"),
        ({"query": " ", "positive": "b"}, "must not be blank"),
        ({"query": "a", "positive": "b", "negatives": [1]}, "list of strings"),
        ({"query": "a", "positive": "b", "negatives": ["c"], "scores": [1]}, "one a candidate, which is 2"),
        ({"query": "a", "positive": "b", "scores": [True]}, "must be a number"),
        ({"sentence1": "a", "sentence2": "b"}, "score = None"),
        ('{"sentence1": "a", "sentence2": "b", "score": NaN}', "must be finite"),
    ],
)
def test_a_line_that_cannot_be_used_is_named_with_its_number(tmp_path: Path, line: object, problem: str) -> None:
    path = written(tmp_path / "pairs.jsonl", {"query": "a", "positive": "b"}, line)
    with pytest.raises(InvalidExamples, match=problem) as caught:
        read_examples(path)
    assert (caught.value.path, caught.value.line) == (str(path), 2)
    assert f"{path}:2: " in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xff\xfe", None])
def test_a_file_without_examples_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "pairs.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidExamples, match=r"pairs\.jsonl: "):
        read_examples(path)


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl.zst"
    path.write_bytes(b"no archive at all")
    with pytest.raises(InvalidExamples, match="cannot be read"):
        read_examples(path)


texts = st.integers(0, 30).map(str)


@given(pairs=st.lists(st.tuples(texts, texts), min_size=2, max_size=60), seed=st.integers(0, 5))
def test_nothing_that_judges_was_learned(pairs: list[tuple[str, str]], seed: int) -> None:
    examples = [Example(f"q{query}", f"p{passage}") for query, passage in pairs]
    try:
        learn, judge = split_held_out(examples, fraction=0.3, seed=seed)
    except InvalidInput:
        return  # all of them hang together
    assert sorted(learn + judge, key=repr) == sorted(examples, key=repr)
    assert {example.query for example in learn}.isdisjoint(example.query for example in judge)
    assert {example.positive for example in learn}.isdisjoint(example.positive for example in judge)


def test_the_part_kept_apart_is_about_as_large_as_asked_and_does_not_depend_on_the_order() -> None:
    examples = [Example(f"q{i}", f"p{i // 2}") for i in range(400)]
    learn, judge = split_held_out(examples, fraction=0.2, seed=3)
    assert len(judge) == 80
    assert set(split_held_out(examples[::-1], fraction=0.2, seed=3)[1]) == set(judge)
    assert set(split_held_out(examples, fraction=0.2, seed=4)[1]) != set(judge)
    assert [example for example in examples if example in set(learn)] == learn


@pytest.mark.parametrize("fraction", [0.0, 1.0])
def test_a_split_that_leaves_a_side_empty_is_refused(fraction: float) -> None:
    with pytest.raises(InvalidInput, match="leaves one side empty"):
        split_held_out([Example(f"q{i}", f"p{i}") for i in range(4)], fraction=fraction, seed=0)
