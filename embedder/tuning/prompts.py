"""What is a language model asked, to make queries and passages to learn from?

Three published ways, each with the slots and JSON keys of its paper, in our words:

    e5      brainstorm retrieval tasks, then invent a query, its answer and a hard negative for a task
            (Wang et al. 2024, "Improving Text Embeddings with Large Language Models")
    gecko   read a passage, name a task and a query that it answers; later, choose the best answer among neighbours
            (Lee et al. 2024)
    qwen3   choose who would ask about a passage, how and how hard, then ask as that person (Zhang et al. 2025)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

Style = Literal["e5", "gecko", "qwen3"]

# E5's slots.
QUERY_TYPES = ("extremely long-tail", "long-tail", "common")
QUERY_LENGTHS = ("less than 5 words", "5 to 15 words", "at least 10 words")
CLARITIES = ("clear", "understandable with some effort", "ambiguous")
NUM_WORDS = (50, 100, 200, 300, 400, 500)
DIFFICULTIES = ("high school", "college", "PhD")
# Qwen3's.
QUESTION_TYPES = ("keywords", "acquire_knowledge", "summary", "yes_or_no", "background")
QUESTION_DIFFICULTIES = ("high_school", "university", "phd")
PERSONAS_PER_PASSAGE = 5
PERSONAS = (
    "a nurse on a night shift",
    "a secondary-school physics teacher",
    "a journalist checking a claim",
    "a software engineer on call",
    "a lawyer preparing a contract",
    "a student writing a thesis",
    "a small-business owner",
    "a parent of a young child",
    "a mechanical engineer",
    "a librarian helping a reader",
    "a retired historian",
    "a data analyst",
    "a farmer planning next season",
    "a chef trying a new dish",
    "a patient who was just diagnosed",
    "a product manager comparing options",
    "a system administrator after an outage",
    "a biologist reviewing a paper",
    "a traveller planning a trip",
    "an accountant closing the year",
    "a civil servant drafting a rule",
    "a novelist doing research",
    "a mathematician curious about a proof",
    "a craftsman repairing an old house",
)


def e5_tasks(passages: Sequence[str]) -> str:
    """Step 1: which retrieval tasks would be useful for a collection of such passages?"""
    shown = "\n\n".join(f"Passage {i}: {passage}" for i, passage in enumerate(passages, start=1))
    return (
        f"These passages are from one collection of documents.\n\n{shown}\n\n"
        "Brainstorm a list of potentially useful text retrieval tasks for documents like these. Each task says what the "
        "query is and what documents should be found, in one sentence, and covers many possible queries. "
        "Answer with a Python list of about 20 strings and nothing else."
    )


def e5_example(
    task: str, *, query_type: str, query_length: str, clarity: str, num_words: int, difficulty: str, language: str
) -> str:
    """Step 2: a query, its answer and a hard negative for one task."""
    return (
        f"You have been given a retrieval task: {task}\n"
        "Write one example for it as a JSON object with these keys:\n"
        '"user_query": a random query that a user would type for this task;\n'
        '"positive_document": a document that answers the query;\n'
        '"hard_negative_document": a document that seems to answer the query and does not.\n'
        f"The query is {query_type}, {query_length} long, and {clarity}, and of diverse topic. Each document has at least "
        f"{num_words} words, and the query's words are not simply repeated in the answer. All texts are in {language} and "
        f"need {difficulty} level education to be understood. Neither document says that it is one, nor mentions the "
        "query. Answer with the JSON object only."
    )


def gecko_example(passage: str) -> str:
    """A task and a query that a passage answers."""
    return (
        f"Read this passage:\n\n{passage}\n\n"
        "Name a retrieval task for which it should be found (answering a question, checking a fact, finding a related "
        "text, searching by keywords, and so on), and write a query of that task that the passage answers. The query "
        'stands by itself and does not mention "the passage". '
        'Answer with a JSON object with the keys "task" and "query" and nothing else.'
    )


def gecko_choice(query: str, candidates: Sequence[str]) -> str:
    """Which of some passages answers a query best, and which looks relevant and is not?"""
    shown = "\n\n".join(f"[{i}] {candidate}" for i, candidate in enumerate(candidates))
    return (
        f"Query: {query}\n\n{shown}\n\n"
        "Which passage answers the query best, and which one looks relevant but does not answer it? Answer with a JSON "
        'object with the keys "best" and "hard_negative", both numbers of passages, and nothing else.'
    )


def qwen3_setting(passage: str, personas: Sequence[str]) -> str:
    """Who would ask about a passage, what kind of question, and how difficult?"""
    return (
        f"Passage:\n\n{passage}\n\n"
        f"People: {'; '.join(personas)}.\n"
        f"Question types: {', '.join(QUESTION_TYPES)}.\nDifficulties: {', '.join(QUESTION_DIFFICULTIES)}.\n"
        "Choose the person who is most likely to want this passage, and the question type and difficulty that suit both. "
        'Answer with a JSON object with the keys "character", "question_type" and "difficulty" and nothing else.'
    )


def qwen3_query(
    passage: str, *, character: str, question_type: str, difficulty: str, length: str, language: str
) -> str:
    """The query that this person would ask."""
    return (
        f"Passage:\n\n{passage}\n\n"
        f"Write the query of {character} who would be helped by this passage. It is of the type {question_type}, of "
        f"{difficulty} difficulty, {length} long, and in {language}. It fits the person's way of speaking and does not "
        "mention the passage or the person. "
        'Answer with a JSON object with the key "query" and nothing else.'
    )
