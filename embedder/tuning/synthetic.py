"""Where do queries come from when no user has asked yet? From a language model that has read the passages.

The model is given as a function from prompts to answers (``embedder.generation`` has local ones).
Answers that cannot be understood are left out; a model that is never understood is an error.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, get_args

import numpy as np

from embedder.errors import InvalidInput, TuningFailed
from embedder.tuning import prompts
from embedder.tuning.examples import Example
from embedder.tuning.mining import Search

Generate = Callable[[Sequence[str]], list[str]]

PASSAGES_SHOWN = 5  # to brainstorm tasks from
PASSAGES_PER_TASK_LIST = 100  # one list has about 20 tasks, so each task makes about five examples
MAX_SHOWN = 2000  # characters of a passage in a prompt
NEIGHBOURS = 10  # that Gecko's second step chooses from


def synthetic_examples(
    passages: Sequence[str], generate: Generate, *, style: prompts.Style, seed: int, language: str = "English"
) -> list[Example]:
    """About one example a passage.

    Args:
        passages: of the collection that will be searched.
        generate: answers prompts, in order.
        style: see ``prompts``. "gecko" and "qwen3" ask about each passage, which is the positive; "e5" invents
            documents of the same kind, with hard negatives.
        seed: of the slots and personas drawn.
        language: of the queries.

    Raises:
        InvalidInput: the style is unknown, or the model gave another number of answers.
        TuningFailed: none of the model's answers could be understood.
    """
    if style not in get_args(prompts.Style):
        raise InvalidInput("style", style, f"it must be one of {', '.join(get_args(prompts.Style))}")
    if not passages:
        return []
    shown = [passage[:MAX_SHOWN] for passage in passages]
    random = np.random.default_rng(seed)
    if style == "e5":
        made = list(_e5(shown, generate, random, language))
    elif style == "gecko":
        asked = _answers(generate, [prompts.gecko_example(passage) for passage in shown])
        queries = [_text(_object(answer), "query") for answer in asked]
        made = _paired(queries, passages, "gecko")
    else:
        made = _paired(_qwen3(shown, generate, random, language), passages, "qwen3")
    if not made:
        raise TuningFailed(f"none of the generator's answers to {len(passages)} passages had the JSON asked for")
    return made


def relabel(examples: Sequence[Example], search: Search, generate: Generate) -> list[Example]:
    """Gecko's second step: the best answer to a query may be another passage than the one that it was made from.

    Args:
        examples: of the first step.
        search: finds neighbours of a query among the passages (``mining``).
        generate: answers prompts, in order.

    Returns:
        The examples with the passages that the model chose as positive and hard negative; as they were where its answer
        cannot be understood.
    """
    if not examples:
        return []
    found = search([example.query for example in examples], NEIGHBOURS)
    candidates = [
        list(dict.fromkeys((example.positive, *(hit.text for hit in hits))))
        for example, hits in zip(examples, found, strict=True)
    ]
    asked = [
        prompts.gecko_choice(example.query, [text[:MAX_SHOWN] for text in texts])
        for example, texts in zip(examples, candidates, strict=True)
    ]
    return [
        _chosen(example, texts, _object(answer))
        for example, texts, answer in zip(examples, candidates, _answers(generate, asked), strict=True)
    ]


def _chosen(example: Example, texts: Sequence[str], answer: dict[str, Any]) -> Example:
    best, worst = answer.get("best"), answer.get("hard_negative")
    places = range(len(texts))
    if type(best) is not int or type(worst) is not int or best not in places or worst not in places or best == worst:
        return example
    return replace(example, positive=texts[best], negatives=(texts[worst],))


def _e5(passages: Sequence[str], generate: Generate, random: np.random.Generator, language: str) -> Iterator[Example]:
    n_lists = -(-len(passages) // PASSAGES_PER_TASK_LIST)
    drawn = [random.permutation(len(passages))[:PASSAGES_SHOWN] for _ in range(n_lists)]
    lists = _answers(generate, [prompts.e5_tasks([passages[i] for i in chosen]) for chosen in drawn])
    tasks = list(dict.fromkeys(task.strip() for answer in lists for task in _strings(answer) if task.strip()))
    if not tasks:
        return
    asked = []
    for i in range(len(passages)):
        slots = {
            "query_type": str(random.choice(prompts.QUERY_TYPES)),
            "query_length": str(random.choice(prompts.QUERY_LENGTHS)),
            "clarity": str(random.choice(prompts.CLARITIES)),
            "difficulty": str(random.choice(prompts.DIFFICULTIES)),
        }
        num_words = int(random.choice(prompts.NUM_WORDS))
        asked.append(prompts.e5_example(tasks[i % len(tasks)], num_words=num_words, language=language, **slots))
    for answer in map(_object, _answers(generate, asked)):
        query, positive = _text(answer, "user_query"), _text(answer, "positive_document")
        negative = _text(answer, "hard_negative_document")
        if query and positive and negative:
            yield Example(query, positive, (negative,), source="e5")


def _qwen3(passages: Sequence[str], generate: Generate, random: np.random.Generator, language: str) -> list[str]:
    """The queries, "" where an answer cannot be understood; a setting that cannot be is drawn."""
    drawn = [random.permutation(prompts.PERSONAS)[: prompts.PERSONAS_PER_PASSAGE].tolist() for _ in passages]
    settings = _answers(generate, [prompts.qwen3_setting(*pair) for pair in zip(passages, drawn, strict=True)])
    asked = []
    for passage, personas, setting in zip(passages, drawn, map(_object, settings), strict=True):
        asked.append(
            prompts.qwen3_query(
                passage,
                character=_text(setting, "character") or personas[0],
                question_type=_text(setting, "question_type") or str(random.choice(prompts.QUESTION_TYPES)),
                difficulty=_text(setting, "difficulty") or str(random.choice(prompts.QUESTION_DIFFICULTIES)),
                length=str(random.choice(prompts.QUERY_LENGTHS)),
                language=language,
            )
        )
    return [_text(_object(answer), "query") for answer in _answers(generate, asked)]


def _paired(queries: Sequence[str], passages: Sequence[str], source: str) -> list[Example]:
    pairs = zip(queries, passages, strict=True)
    return [Example(query, passage, source=source) for query, passage in pairs if query and passage.strip()]


def _answers(generate: Generate, asked: Sequence[str]) -> list[str]:
    answers = generate(asked)
    if len(answers) != len(asked):
        raise InvalidInput("generate", len(answers), f"it must give one answer a prompt, which is {len(asked)}")
    return answers


def _object(answer: str) -> dict[str, Any]:
    """The first JSON object in an answer, whatever is said around it; empty when there is none."""
    found = _first_json(answer, "{")
    return found if isinstance(found, dict) else {}


def _strings(answer: str) -> list[str]:
    """The strings of the first list in an answer; of a list that is no JSON (single quotes), its quoted lines."""
    found = _first_json(answer, "[")
    if isinstance(found, list):
        return [text for text in found if isinstance(text, str)]
    lines = [line.strip().strip(",[]").strip() for line in answer.splitlines()]
    return [line[1:-1] for line in lines if len(line) > 2 and line[0] == line[-1] and line[0] in "'\""]


def _first_json(answer: str, bracket: str) -> object:
    decoder = json.JSONDecoder(strict=False)  # models put line breaks into strings
    start = answer.find(bracket)
    while start >= 0:
        try:
            return decoder.raw_decode(answer, start)[0]
        except ValueError:
            start = answer.find(bracket, start + 1)
    return None


def _text(answer: dict[str, Any], key: str) -> str:
    value = answer.get(key)
    return value.strip() if isinstance(value, str) else ""
