"""What is a generator asked, and what of its answer is used?

The sources of the words: Reinforced-IR (HyDE), GenEOL (paraphrases), QuOTE and doc2query (questions), O1 Embedder
(thoughts). Words without a published form are ours.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from embedder.recipe import WEB_SEARCH_TASK

# What Reinforced-IR puts before a generated answer when it is embedded as a passage.
TOPIC = "Generate the topic about this passage: "

QUESTION_TOKENS = 32  # a question's share of the longest answer
ANSWER_TOKENS = 256
MAX_QUESTION_CHARACTERS = 300

_HYDE = (
    "Given a retrieval task and a query, your mission is to generate a brief {kind} for the query in the context of the "
    "retrieval task.\nPlease generate without any explanation.\n\nTask: {task}\n\nQuery: {query}\n\nYour output:"
)
_THOUGHT = (
    "Think about what a passage must say to be a good answer for the following task and query: what is asked, which facts "
    "and names matter, in which words they would be written. Write the thought as one short paragraph, and nothing else."
    "\n\nTask: {task}\n\nQuery: {query}\n\nThought:"
)
_QUESTIONS = (
    "Write {n} different questions that the following passage answers. Each must be understood without the passage. "
    "Write one question a line, and nothing else.\n\n{passage}\n\nQuestions:"
)
_ONLY = " Please do not provide any alternative or reasoning or explanation."
REWRITES = (
    "Paraphrase the input sentence or phrase, providing an alternative expression with the same meaning." + _ONLY,
    "Rewrite the input sentence or phrase using different sentence structure and different words while preserving its "
    "original meaning." + _ONLY,
    "Create a sentence or phrase that is also true, assuming the provided input sentence or phrase is true." + _ONLY,
    "Provide a concise paraphrase of the input sentence or phrase, maintaining the core meaning while altering the words "
    "and sentence structure. Feel free to omit some of the non-essential details like adjectives or adverbs." + _ONLY,
)
_UNDERSTOOD = "Alright."

_BULLET = re.compile(r"^\s*(?:[-*•]|\(?\d+[.):])\s*")
_THINKING = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a generator is asked.

    Attributes:
        text: the user's last words.
        turns: what was said before, as (user, assistant).
        draw: equal prompts of different draws get answers that were sampled independently.
    """

    text: str
    turns: tuple[tuple[str, str], ...] = ()
    draw: int = 0


def hypothetical_answer(query: str, *, task: str | None = None, kind: str = "passage", draw: int = 0) -> Prompt:
    """Ask for a passage that would answer the query (HyDE, in Reinforced-IR's words)."""
    return Prompt(_HYDE.format(kind=kind, task=task or WEB_SEARCH_TASK, query=query), draw=draw)


def thought(query: str, *, task: str | None = None, draw: int = 0) -> Prompt:
    """Ask what a good answer must say (O1 Embedder)."""
    return Prompt(_THOUGHT.format(task=task or WEB_SEARCH_TASK, query=query), draw=draw)


def questions(passage: str, n: int) -> Prompt:
    """Ask for n questions that the passage answers, one a line; `questions_of` reads the answer."""
    return Prompt(_QUESTIONS.format(n=n, passage=passage))


def questions_of(answer: str, n: int) -> list[str]:
    """Up to n different questions of an answer, without bullets and numbers; a line too long to be one is left out."""
    lines = (_BULLET.sub("", line).strip() for line in plain(answer).splitlines())
    kept = (line for line in lines if any(map(str.isalnum, line)) and len(line) <= MAX_QUESTION_CHARACTERS)
    return list(dict.fromkeys(kept))[:n]


def rewrites(text: str, n: int) -> list[Prompt]:
    """Ask for n texts that say the same: GenEOL's four instructions in turn, each drawn again when n is greater."""
    return [Prompt(text, ((REWRITES[i % len(REWRITES)], _UNDERSTOOD),), draw=i // len(REWRITES)) for i in range(n)]


def plain(answer: str) -> str:
    """An answer without the thinking that some models write before it, and without blank ends."""
    return _THINKING.sub("", answer).strip()
