from __future__ import annotations

import time

import numpy as np
import pytest

from embedder.errors import InvalidInput
from embedder.splitter import split_text, split_tokens

SENTENCE = "The quick brown fox jumps over the lazy dog. "


def passages(text: str, budget: int, **options: object) -> list[str]:
    return [text[start:end] for start, end in split_text(text, budget, **options)]  # type: ignore[arg-type]


def test_a_short_text_is_one_passage_without_the_white_space_around_it() -> None:
    assert split_text("  hello world \n", 10) == [(2, 13)]


@pytest.mark.parametrize("text", ["", " ", "\n\t \u3000"])
def test_a_blank_text_has_no_passages(text: str) -> None:
    assert split_text(text, 10) == []


def test_a_paragraph_end_is_preferred_to_a_later_sentence_end() -> None:
    text = SENTENCE * 3 + "\n\n" + SENTENCE * 3
    assert passages(text, 40) == [(SENTENCE * 3).strip(), (SENTENCE * 3).strip()]


def test_a_line_end_is_preferred_to_a_later_sentence_end() -> None:
    text = SENTENCE * 3 + "\n" + SENTENCE * 4
    assert passages(text, 40)[0] == (SENTENCE * 3).strip()


def test_a_sentence_end_is_preferred_to_a_later_clause_or_word() -> None:
    first, second = passages("one two three four five six. seven, eight nine ten eleven twelve", 10)
    assert first.endswith("six.")
    assert second.startswith("seven")


def test_a_decimal_point_does_not_end_a_sentence() -> None:
    assert all("3.14" in part for part in passages("pi is 3.14 " * 4, 12))


def test_a_closing_quote_stays_with_its_sentence() -> None:
    text = 'He said "this is the end of it." Then he left the room, and nobody ever saw him in town again.'
    assert passages(text, 20)[0].endswith('it."')


def test_a_chinese_text_is_cut_after_its_full_stops() -> None:
    text = "我们今天去公园散步。天气很好，阳光明媚。" * 8
    parts = passages(text, 25)
    assert len(parts) > 4
    assert all(part.endswith("。") for part in parts)


def test_a_thai_text_without_spaces_is_cut_and_keeps_every_character() -> None:
    text = "ภาษาไทยเป็นภาษาที่ไม่มีการเว้นวรรคระหว่างคำ" * 20
    parts = passages(text, 50)
    assert len(parts) > 5
    assert "".join(parts) == text


def test_a_hard_boundary_is_preferred_to_a_later_paragraph_end() -> None:
    text = SENTENCE * 2 + "\n\n" + SENTENCE * 3 + "\n\n" + SENTENCE * 6
    boundary = text.index("quick", 60)
    assert split_text(text, 60, hard_boundaries=[boundary])[1][0] == boundary


def test_hard_boundaries_do_not_split_a_text_that_fits() -> None:
    assert len(split_text(SENTENCE * 2, 100, hard_boundaries=[10, 20])) == 1


def test_the_last_two_passages_are_of_similar_length() -> None:
    lengths = [len(part) for part in passages("word " * 110, 100)]
    assert len(lengths) == 2
    assert min(lengths) > 0.8 * max(lengths)


def test_a_budget_below_one_is_refused() -> None:
    with pytest.raises(InvalidInput, match="budget = 0"):
        split_text("text", 0)


def test_an_unknown_unit_is_refused() -> None:
    with pytest.raises(InvalidInput, match="unit"):
        split_text("text", 1, unit="bytes")  # type: ignore[arg-type]


def test_a_budget_in_characters_counts_characters_that_are_not_white_space() -> None:
    parts = passages("abcd " * 50, 20, unit="characters")
    assert [len(part.replace(" ", "")) for part in parts[:-2]] == [20] * (len(parts) - 2)
    assert all(len(part.replace(" ", "")) <= 20 for part in parts)


@pytest.mark.parametrize(
    "text",
    [
        "x" * 1_000_000,
        "." * 1_000_000,
        "\n" * 1_000_000 + "x",
        '."' * 500_000,
        ", " * 500_000,
        "字" * 1_000_000,
        (SENTENCE * 20 + "\n\n") * 1_100,
        ("x" * 900 + " ") * 1_100,
    ],
    ids=["one word", "full stops", "line ends", "quotes", "commas", "chinese", "prose", "long words"],
)
def test_a_megabyte_is_split_in_seconds_and_nothing_is_lost(text: str) -> None:
    began = time.thread_time()
    spans = split_text(text, 256)
    assert time.thread_time() - began < 8
    covered = sum(len("".join(text[start:end].split())) for start, end in spans)
    assert covered == len("".join(text.split()))


def test_a_cut_is_never_made_inside_a_character_of_several_tokens() -> None:
    text = "𝔸𝔹ℂ" * 10
    starts = np.repeat(np.arange(30), 3).astype(np.int64)  # three byte tokens a character
    spans = split_tokens(text, starts, starts + 1, 10)
    assert all(span.first % 3 == 0 for span in spans)
    assert "".join(text[span.start : span.end] for span in spans) == text


def test_a_combining_mark_stays_with_its_letter() -> None:
    text = "e\u0301" * 40
    starts = np.arange(80, dtype=np.int64)
    spans = split_tokens(text, starts, starts + 1, 7)
    assert all(text[span.start] == "e" for span in spans)


def test_a_text_whose_characters_the_tokenizer_drops_is_still_one_passage() -> None:
    nothing = np.empty(0, np.int64)
    spans = split_tokens("\ufffd\ufffd", nothing, nothing, 5)
    assert [(span.start, span.end, span.first, span.last) for span in spans] == [(0, 2, 0, 0)]


def test_an_edit_moves_only_the_cuts_near_it() -> None:
    words = [f"w{i * 7919 % 1009}" for i in range(4000)]
    sentences = [" ".join(words[i : i + 5 + i % 11]) + "." for i in range(0, 3900, 13)]
    before = " ".join(sentences)
    after = " ".join([*sentences[:20], "A new sentence of a few words.", *sentences[20:]])
    old = {before[start:end] for start, end in split_text(before, 60)}
    new = [after[start:end] for start, end in split_text(after, 60)]
    assert sum(part not in old for part in new) <= 8
    assert len(new) > 40
