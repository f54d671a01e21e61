"""What was written once is kept: across restarts, between processes, and only for the same question."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from embedder.errors import InvalidInput
from embedder.generation import prompts
from embedder.generation.answers import AnswerCache, CachedGenerator
from embedder.generation.prompts import Prompt
from tests.support.generators import FakeGenerator


def echo(prompt: Prompt) -> str:
    return f"about {prompt.text} {prompt.draw}"


def asked(path: Path | None, list_of: list[Prompt], identity: str = "fake", longest: int = 8):
    cache, generator = AnswerCache(path), FakeGenerator(echo, identity)
    answers = CachedGenerator(generator, cache).answer(list_of, max_new_tokens=longest)
    cache.close()
    return answers, generator.asked


def test_answers_survive_a_restart(tmp_path: Path):
    path, listed = tmp_path / "answers.db", [Prompt("a"), Prompt("b")]
    first, _ = asked(path, listed)
    again, new = asked(path, [*listed, Prompt("c")])
    assert [answer.text for answer in again] == [*(answer.text for answer in first), "about c 0"]
    assert [answer.written for answer in (*first, *again)] == [True, True, False, False, True]
    assert new == [Prompt("c")]


@pytest.mark.parametrize(
    ("other", "identity", "longest"),
    [
        (Prompt("a", draw=1), "fake", 8),
        (Prompt("a", (("x", "y"),)), "fake", 8),
        (Prompt("a"), "another", 8),
        (Prompt("a"), "fake", 9),
    ],
    ids=["draw", "turns", "generator", "longest answer"],
)
def test_another_question_is_asked_again(tmp_path: Path, other: Prompt, identity: str, longest: int):
    asked(tmp_path / "answers.db", [Prompt("a")])
    _, new = asked(tmp_path / "answers.db", [other], identity, longest)
    assert new == [other]


def test_equal_prompts_are_answered_once():
    answers, new = asked(None, [Prompt("a"), Prompt("a")])
    assert [answer.text for answer in answers] == ["about a 0"] * 2
    assert new == [Prompt("a")]


def test_any_text_can_be_asked_and_kept(tmp_path: Path):
    texts = ["", "\0", "\ud800", "語" * 10_000, "'; DROP TABLE answers"]
    listed = [Prompt(text) for text in texts if text != "\ud800"]
    first, _ = asked(tmp_path / "answers.db", listed)
    again, new = asked(tmp_path / "answers.db", listed)
    assert ([answer.text for answer in first], new) == ([answer.text for answer in again], [])


def test_a_damaged_file_is_begun_again_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    path = tmp_path / "answers.db"
    path.write_bytes(b"no database at all" * 100)
    with caplog.at_level(logging.WARNING):
        answers, _ = asked(path, [Prompt("a")])
    assert answers[0].text == "about a 0"
    assert "is damaged" in caplog.text
    assert asked(path, [Prompt("a")])[1] == []


def test_the_oldest_answers_go_when_there_are_too_many(tmp_path: Path):
    cache = AnswerCache(tmp_path / "answers.db", limit=3)
    keys = [bytes([i]) * 16 for i in range(5)]
    for i, key in enumerate(keys):
        cache.put({key: str(i)})
    assert cache.get(keys) == {key: str(i) for i, key in enumerate(keys) if i > 1}
    cache.close()


def test_many_keys_are_read_at_once():
    cache = AnswerCache(None)
    kept = {i.to_bytes(16, "big"): str(i) for i in range(3_000)}
    cache.put(kept)
    assert cache.get(list(kept)) == kept
    cache.close()


def test_a_generator_that_loses_an_answer_is_refused():
    class Short(FakeGenerator):
        def generate(self, prompts, *, max_new_tokens):
            return []

    with pytest.raises(InvalidInput, match="one answer a prompt, which is 1"):
        CachedGenerator(Short(echo), AnswerCache(None)).answer([Prompt("a")], max_new_tokens=8)


def test_a_models_thinking_is_no_part_of_its_answer():
    assert prompts.plain("<think>\nhm\n</think>\n\n yes. ") == "yes."
    assert prompts.plain("<think> never ends") == ""
    assert prompts.plain("a < b") == "a < b"


def test_questions_lose_bullets_repeats_and_noise():
    answer = (
        "1. What is it?\n2) What is it?\n- Why?\n* 3 of how many?\n\n---\n(4) Who\n" + "x" * 301 + "\n• Wo?\nOne more?"
    )
    assert prompts.questions_of(answer, 5) == ["What is it?", "Why?", "3 of how many?", "Who", "Wo?"]


def test_prompts_have_the_published_words():
    hyde = prompts.hypothetical_answer("who?", task="find people", kind="answer")
    assert hyde.text == (
        "Given a retrieval task and a query, your mission is to generate a brief answer for the query in the context of "
        "the retrieval task.\nPlease generate without any explanation.\n\nTask: find people\n\nQuery: who?\n\nYour output:"
    )
    first, *others = prompts.rewrites("A jockey.", 6)
    assert first.turns == (
        (
            "Paraphrase the input sentence or phrase, providing an alternative expression with the same meaning. Please do "
            "not provide any alternative or reasoning or explanation.",
            "Alright.",
        ),
    )
    assert [prompt.text for prompt in (first, *others)] == ["A jockey."] * 6
    assert [prompt.draw for prompt in (first, *others)] == [0, 0, 0, 0, 1, 1]
    assert len({(prompt.turns, prompt.draw) for prompt in (first, *others)}) == 6
