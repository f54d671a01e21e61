"""Which passages look like the answer and are not? Hard negatives, found with an index over the same passages.

The search is given by the caller (the engine's own index: BM25, dense or hybrid). A passage that scores almost as well as
the answer is probably one too, so only those below a part of its score are taken: TopK-PercPos of NV-Retriever (Moreira
et al. 2024).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from embedder.errors import InvalidInput
from embedder.tuning.examples import Example

SEARCH_BATCH = 256  # queries of one call of the search


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage that the search found, with its score: the greater, the better."""

    text: str
    score: float


Search = Callable[[Sequence[str], int], list[list[Hit]]]


def mine_negatives(
    examples: Sequence[Example],
    search: Search,
    *,
    per_query: int,
    percent_of_positive: float = 0.95,
    depth: int = 50,
    pool: int = 10,
    seed: int = 0,
) -> list[Example]:
    """The examples with mined negatives, in order; each keeps its own ones first.

    An example stays as it is when it is graded or has a teacher's scores, when it has enough negatives, or when the
    search does not find its answer: then nothing tells how well an answer scores.

    Args:
        examples: pairs and triplets.
        search: gives the best ``depth`` passages for each query, best first.
        per_query: negatives that an example should have.
        percent_of_positive: a negative scores below this part of the answer's score.
        depth: how far to look.
        pool: the negatives are drawn from so many best ones that remain.
        seed: of the draw.

    Raises:
        InvalidInput: an option has a value that cannot be used, or the search gave another number of lists.
    """
    if per_query < 1 or depth < 1 or pool < per_query:
        raise InvalidInput(
            "per_query, depth, pool", (per_query, depth, pool), "at least 1, and pool at least per_query"
        )
    if not 0.0 < percent_of_positive <= 1.0:
        raise InvalidInput("percent_of_positive", percent_of_positive, "it must be greater than 0 and at most 1")
    answers: dict[str, set[str]] = defaultdict(set)
    for example in examples:
        answers[example.query].add(_normal(example.positive))
    wanting = [i for i, example in enumerate(examples) if not example.scores and len(example.negatives) < per_query]
    mined = list(examples)
    for start in range(0, len(wanting), SEARCH_BATCH):
        batch = wanting[start : start + SEARCH_BATCH]
        found = search([examples[i].query for i in batch], depth)
        if len(found) != len(batch):
            raise InvalidInput("search", len(found), f"it must give one list a query, which is {len(batch)}")
        for i, hits in zip(batch, found, strict=True):
            example = examples[i]
            wrong = _wrong(example, hits, answers[example.query], percent_of_positive)[:pool]
            n_more = min(per_query - len(example.negatives), len(wrong))
            drawn = sorted(np.random.default_rng([seed, i]).permutation(len(wrong))[:n_more])
            mined[i] = replace(example, negatives=(*example.negatives, *(wrong[j] for j in drawn)))
    return mined


def _wrong(example: Example, hits: Sequence[Hit], answers: set[str], part: float) -> list[str]:
    """The hits that are no answers, best first; none when no hit is the example's own answer."""
    own = _normal(example.positive)
    scores = [hit.score for hit in hits if _is_part(_normal(hit.text), own)]
    if not scores:
        return []
    limit = max(scores) - (1 - part) * abs(max(scores))  # the part of a score below zero lies below it as well
    known = {_normal(text) for text in example.negatives}
    wrong: dict[str, str] = {}
    for hit in hits:
        text = _normal(hit.text)
        if hit.score < limit and text not in known and not any(_is_part(text, answer) for answer in answers):
            wrong.setdefault(text, hit.text)
    return list(wrong.values())


def _is_part(text: str, answer: str) -> bool:
    """Whether one of the two holds the other: an index may cut passages otherwise than the examples do."""
    return bool(text) and (text in answer or answer in text)


def _normal(text: str) -> str:
    return " ".join(text.casefold().split())
