"""Synthetic examples: what a model is asked, and what of its answers is understood."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from embedder.errors import InvalidInput, TuningFailed
from embedder.tuning.examples import Example
from embedder.tuning.mining import Hit
from embedder.tuning.synthetic import relabel, synthetic_examples

PASSAGES = ["Lighthouses warn ships.", "Harbours shelter ships.", "Sand moves in channels."]


class Model:
    """Answers by the first rule whose words are in the prompt, and remembers what it was asked."""

    def __init__(self, **rules: object) -> None:
        self.rules = rules
        self.asked: list[str] = []

    def __call__(self, prompts: Sequence[str]) -> list[str]:
        self.asked.extend(prompts)
        return [self.answer(prompt) for prompt in prompts]

    def answer(self, prompt: str) -> str:
        found = next((answer for words, answer in self.rules.items() if words in prompt), "no idea")
        return found(prompt) if callable(found) else str(found)


def test_gecko_pairs_each_passage_with_the_query_of_its_answer() -> None:
    model = Model(
        Lighthouses='Sure! {"task": "qa", "query": "what warns ships?"} Done.',
        Harbours="I cannot help with that.",
        Sand='```json\n{"task": "qa", "query": " why dredge?\n"}\n```',
    )
    made = synthetic_examples(PASSAGES, model, style="gecko", seed=0)
    assert made == [
        Example("what warns ships?", PASSAGES[0], source="gecko"),
        Example("why dredge?", PASSAGES[2], source="gecko"),
    ]
    assert all(passage in prompt for passage, prompt in zip(PASSAGES, model.asked, strict=True))


def test_qwen3_asks_as_the_person_that_was_chosen() -> None:
    setting = {"character": "a sailor of 60", "question_type": "keywords", "difficulty": "phd"}
    model = Model(People=json.dumps(setting), **{"Write the query": '{"query": "light house ships"}'})
    made = synthetic_examples(PASSAGES, model, style="qwen3", seed=0, language="German")
    assert [(example.query, example.positive) for example in made] == [("light house ships", text) for text in PASSAGES]
    first, second = model.asked[:3], model.asked[3:]
    assert len({prompt.split("People: ")[1] for prompt in first}) == 3
    for prompt in second:
        assert "a sailor of 60" in prompt
        assert "type keywords, of phd difficulty" in prompt
        assert "in German" in prompt


def test_e5_invents_examples_for_brainstormed_tasks() -> None:
    answer = {"user_query": "q", "positive_document": "p", "hard_negative_document": "n"}
    model = Model(
        Brainstorm="['Find a rule about ships.',\n'Find a place.']",
        **{"a rule about ships": json.dumps(answer), "Find a place": json.dumps({**answer, "user_query": ""})},
    )
    made = synthetic_examples(PASSAGES, model, style="e5", seed=0)
    assert made == [Example("q", "p", ("n",), source="e5")] * 2
    assert all(passage in model.asked[0] for passage in PASSAGES)
    listed = Model(Brainstorm='Here: ["Find a rule about ships."]', **{"a rule about ships": json.dumps(answer)})
    assert len(synthetic_examples(PASSAGES, listed, style="e5", seed=0)) == 3


@pytest.mark.parametrize("style", ["e5", "gecko", "qwen3"])
def test_prompts_repeat_themselves_by_the_seed(style: str) -> None:
    asked = []
    for seed in (1, 1, 2):
        model = Model(
            Brainstorm='["one", "two"]',
            People="{}",
            JSON='{"query": "q", "user_query": "q", "positive_document": "p", "hard_negative_document": "n"}',
        )
        synthetic_examples(PASSAGES, model, style=style, seed=seed)  # type: ignore[arg-type]
        asked.append(model.asked)
    assert asked[0] == asked[1]
    assert (asked[0] != asked[2]) == (style != "gecko")


def test_a_model_that_is_never_understood_is_an_error() -> None:
    for style in ("e5", "gecko", "qwen3"):
        with pytest.raises(TuningFailed, match="3 passages"):
            synthetic_examples(PASSAGES, Model(), style=style, seed=0)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="one of e5, gecko, qwen3"):
        synthetic_examples(PASSAGES, Model(), style="gpt", seed=0)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="one answer a prompt, which is 3"):
        synthetic_examples(PASSAGES, lambda prompts: ["{}"], style="gecko", seed=0)
    assert synthetic_examples([], Model(), style="gecko", seed=0) == []


def test_relabelling_takes_the_passages_that_the_model_chose() -> None:
    examples = [Example("what warns ships?", PASSAGES[1]), Example("why dredge?", PASSAGES[2])]

    def search(queries: Sequence[str], depth: int) -> list[list[Hit]]:
        return [[Hit(text, 1.0) for text in PASSAGES] for _ in queries]

    model = Model(
        **{"what warns ships": '{"best": 1, "hard_negative": 2}', "dredge": '{"best": 9, "hard_negative": 0}'}
    )
    first, second = relabel(examples, search, model)
    # Its own passage is number 0, then the hits.
    assert (first.positive, first.negatives) == (PASSAGES[0], (PASSAGES[2],))
    assert second == examples[1]
