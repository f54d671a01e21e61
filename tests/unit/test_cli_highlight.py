"""Which words stand out in a terminal."""

import pytest

from cli.highlight import best_window, matched_spans


@pytest.mark.parametrize(
    ("text", "terms", "shown"),
    [
        ("Tokenizers tokenize token", ["token"], ["Tokenizers", "tokenize", "token"]),
        ("happy, happier", ["happi"], ["happy", "happier"]),
        ("organ and organisationally", ["organ"], ["organ"]),
        ("HnswIndexSearch and hnsw_index", ["index"], ["Index", "index"]),
        ("a cat sat; category", ["cat"], ["cat", "category"]),
        ("at attic", ["at"], ["at"]),
        ("全文検索エンジン", ["検索"], ["検索"]),
        ("nothing here", ["absent"], []),
        ("playing games", ["##ing", "play"], ["playing"]),
    ],
)
def test_words_that_begin_like_a_matched_term_stand_out(text, terms, shown):
    assert [text[start:end] for start, end in matched_spans(text, terms)] == shown


def test_window_holds_most_matches_and_ends_at_words():
    text = "filler " * 50 + "match one match two " + "filler " * 50
    start, end = best_window(text, matched_spans(text, ["match"]), 100)
    assert "match one match two" in text[start:end]
    assert end - start <= 100
    assert text[start - 1] == " "
    assert text[end] == " "


def test_window_of_a_text_without_matches_is_its_beginning():
    assert best_window("word " * 100, [], 50)[0] == 0
    assert best_window("short", [], 50) == (0, 5)


def test_window_of_one_endless_word():
    start, end = best_window("x" * 1000, [(500, 503)], 100)
    assert start <= 500
    assert end >= 503
    assert end - start <= 100
