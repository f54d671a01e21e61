"""Which tokens the model reads for a text, and which of them are pooled; word-level tokens, so that they can be counted."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from embedder.errors import InvalidRecipe
from embedder.inputs import Input, InputBuilder
from embedder.packing import DocumentPacker
from embedder.recipe import Recipe
from embedder.tokens import TextTokenizer
from embedder.values import DocumentInput

WORDS = {
    word: i for i, word in enumerate(["?", "<", ">", "[", "]", "say", "again", "end", "task", *map(str, range(200))])
}
TEXT = "0 1 2 3 4 5"


def tokenizer(**query: list[int]) -> TextTokenizer:
    backend = Tokenizer(models.WordLevel(WORDS, unk_token="?"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return TextTokenizer(backend, [WORDS["<"]], [WORDS[">"]], **query)


def read(text: str, recipe: Recipe, **options: object) -> Input:
    (found,) = InputBuilder(recipe, tokenizer()).queries([text], **options)  # type: ignore[arg-type]
    return found


def words(found: Input, start: int = 0, end: int | None = None) -> str:
    names = {i: word for word, i in WORDS.items()}
    return " ".join(names[i] for i in found.row.ids[start:end].tolist())


def pooled(found: Input) -> str:
    ((start, end),) = found.row.dense.tolist()
    return words(found, start, end)


TWICE = "say {text} again {text} end"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "< say 0 1 again 0 1 end >"),
        ({"pooled": "after_prompt"}, "0 1 again 0 1 end >"),
        ({"pooled": "after_prompt", "kept_prompt_tokens": 1}, "say 0 1 again 0 1 end >"),
        ({"pooled": "text_to_end"}, "0 1 end >"),
        ({"pooled": "text"}, "0 1"),
        ({"pooling": "cls"}, "<"),
        ({"pooling": "last"}, ">"),
        ({"pooling": "last", "pooled": "text"}, "1"),
        ({"pooling": "weighted_mean", "pooled": "text"}, "0 1"),
    ],
)
@pytest.mark.parametrize("separate_pieces", [False, True])
def test_each_choice_pools_its_tokens(changes: dict[str, object], expected: str, separate_pieces: bool) -> None:
    recipe = Recipe(name="x", query_template=TWICE, separate_pieces=separate_pieces)
    found = read("0 1", replace(recipe, **changes))  # type: ignore[arg-type]
    assert words(found) == "< say 0 1 again 0 1 end >"
    assert pooled(found) == expected
    assert (found.tokens, found.dropped) == (2, 0)


def test_a_prompt_that_is_empty_leaves_the_start_token_in_the_pool() -> None:
    found = read(TEXT, Recipe(name="x", pooled="after_prompt"))
    assert pooled(found) == f"< {TEXT} >"


@pytest.mark.parametrize("separate_pieces", [False, True])
@pytest.mark.parametrize(
    ("max_tokens", "kept"), [(17, "0 1 2 3 4 5"), (16, "0 1 2 3 4"), (15, "0 1 2 3 4"), (9, "0 1")]
)
def test_a_cut_falls_in_the_text_alike_in_both_copies(max_tokens: int, kept: str, separate_pieces: bool) -> None:
    recipe = Recipe(name="x", query_template=TWICE, separate_pieces=separate_pieces, query_tokens=max_tokens)
    for where, expected in (("text_to_end", f"{kept} end >"), ("text", kept)):
        found = read(TEXT, replace(recipe, pooled=where))  # type: ignore[arg-type]
        assert words(found) == f"< say {kept} again {kept} end >"
        assert pooled(found) == expected
        assert found.dropped == 6 - len(kept.split())


def test_a_prompt_that_is_too_long_still_leaves_something_to_pool() -> None:
    recipe = Recipe(name="x", query_template="{task} {text}", query_tokens=8, pooled="after_prompt")
    found = read(TEXT, recipe, task="task " * 30)
    assert words(found) == "< task task task task task task >"
    assert pooled(found) == ">"
    assert (found.tokens, found.dropped) == (6, 6)


def test_queries_may_have_special_tokens_of_their_own() -> None:
    builder = InputBuilder(Recipe(name="x"), tokenizer(query_prepend=[WORDS["["]], query_append=[WORDS["]"]]))
    (query,), (passage,) = builder.queries(["0"]), builder.passages("", ["0"])
    assert (words(query), words(passage)) == ("[ 0 ]", "< 0 >")
    assert (query.row.query, passage.row.query) == (True, False)


def test_room_for_examples_comes_on_top_of_a_querys_limit() -> None:
    recipe = Recipe(
        name="x",
        query_template="{shots}say {text} end",
        shot_template="say {query} again {document} ",
        max_tokens=24,
        window_tokens=24,
        passage_tokens=24,
        query_tokens=8,
    )
    assert words(read(TEXT, recipe)) == "< say 0 1 2 3 end >"
    assert words(read(TEXT, recipe, shots=[("7", "8"), ("9", "10")])) == (
        "< say 7 again 8 say 9 again 10 say 0 1 2 3 end >"
    )
    many = read(TEXT, recipe, shots=[("7", "8")] * 4)
    assert words(many).endswith("say 0 1 2 3 end >")
    assert len(read(TEXT, recipe, shots=[("7", "8")] * 5).row.ids) == 24  # the model's own limit


def test_several_templates_make_one_row_of_several_inputs() -> None:
    recipe = Recipe(name="x", query_template=("say {text}", "{text} end"), pooling="last", pooled="text")
    found = read("0 1", recipe)
    assert [ids.tolist() for ids in found.row.inputs] == [
        [WORDS[word] for word in line.split()] for line in ("< say 0 1 >", "< 0 1 end >")
    ]
    assert found.row.dense.tolist() == [[3, 4], [7, 8]]
    assert found.row.n_vectors == 1


def document(text: str, recipe: Recipe, title: str = "") -> tuple[list[str], list[str], int]:
    """The passages' texts, what the model reads of each, and the dropped tokens."""
    (packed,) = DocumentPacker(recipe, tokenizer()).pack([DocumentInput(title, text)])
    rows = [Input(window.row, 0, 0) for window in packed.windows]
    return [text[span.start : span.end] for span in packed.spans], [words(row) for row in rows], packed.dropped


def test_a_long_document_fills_its_template_for_every_passage() -> None:
    recipe = Recipe(
        name="x", document_template=TWICE, max_tokens=17, window_tokens=17, passage_tokens=17, pooled="text"
    )
    text = " ".join(map(str, range(40)))
    passages, inputs, dropped = document(text, recipe)
    assert " ".join(passages) == text
    assert dropped == 0
    assert inputs == [f"< say {passage} again {passage} end >" for passage in passages]
    assert max(len(passage.split()) for passage in passages) == 6


def test_a_title_stands_before_the_text_where_the_template_has_no_place_for_it() -> None:
    recipe = Recipe(name="x", document_template=TWICE)
    assert document("0 1", recipe, "9")[1] == ["< say 9 0 1 again 9 0 1 end >"]
    assert document("", recipe, "9")[1] == ["< say 9 again 9 end >"]
    assert document("0 1", replace(recipe, document_template="say {text}"), "9")[1] == ["< say 9 0 1 >"]


def test_a_long_title_is_cut_to_a_quarter_of_a_window_and_counted() -> None:
    recipe = Recipe(
        name="x", document_template="{title} {text} end", max_tokens=16, window_tokens=16, passage_tokens=16
    )
    passages, inputs, dropped = document(TEXT, recipe, "10 11 12 13 14 15")
    assert (passages, inputs, dropped) == ([TEXT], [f"< 10 11 12 13 {TEXT} end >"], 2)


def test_a_template_that_fills_a_window_is_refused() -> None:
    recipe = Recipe(
        name="x", document_template="{text} " + "end " * 20, max_tokens=16, window_tokens=16, passage_tokens=4
    )
    with pytest.raises(InvalidRecipe, match="no room"):
        document(TEXT, recipe)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a b", "a b."),
        ("a b.", "a b."),
        ("a b?", "a b."),
        ('a "b"', "a 'b'"),
        ("a b!", "a b!."),
        ("a 'b'", "a 'b'"),
        ("", ""),
    ],
)
def test_a_sentence_is_made_fit_for_its_quotes(text: str, expected: str) -> None:
    recipe = Recipe(name="x", query_template='"{text}"', cleanup="sentence")
    assert recipe.query_text(text, None) == f'"{expected}"'


def test_the_texts_own_braces_are_not_filled() -> None:
    recipe = Recipe(name="x", query_template="{task}: {text}", document_template="{title}: {text}")
    assert recipe.query_text("{task} {text}", "{text}") == "{text}: {task} {text}"
    (filled,) = recipe.document_pieces("{text}", "{title}")
    assert "".join(piece.text for piece in filled) == "{text}: {title}"
