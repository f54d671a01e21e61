"""Which examples are learned together, in which order, and with which candidates?

A batch holds examples of one dataset and of one shape (graded, with negatives, with a teacher's scores): in-batch
negatives of another dataset would be told apart by its style. The plan of a stage depends on its examples and the seed
alone, and what a step draws depends on the seed and the step alone, so a run that was killed continues as it would have.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedder.errors import InvalidInput
from embedder.tuning.examples import Example

LANDMARK_DECAY = 0.08  # alpha of Landmark Embedding: how fast the passages before the last relevant one count less


def derive_seed(*parts: object) -> int:
    """A 63-bit seed from anything printable; equal parts give equal seeds on every machine."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def plan_stage(
    examples: Sequence[Example], *, batch: int, seed: int, steps: int | None, epochs: int
) -> list[NDArray[np.int64]]:
    """The batches of a stage as numbers of examples: ``steps`` of them, or as many as ``epochs`` passes need.

    Every pass shuffles the examples of each group, cuts them into batches, and shuffles the batches. The last batch of a
    group may be small; a lone example that has nothing to be compared with is left out of its pass.

    Raises:
        InvalidInput: no example can be learned from.
    """
    groups: dict[tuple[str, bool, bool, bool], list[int]] = defaultdict(list)
    for i, example in enumerate(examples):
        groups[example.source, example.is_graded, bool(example.negatives), bool(example.scores)].append(i)
    batches: list[NDArray[np.int64]] = []
    epoch = 0
    while len(batches) < steps if steps is not None else epoch < epochs:
        random = np.random.default_rng(derive_seed("epoch", seed, epoch))
        own = [cut for key in sorted(groups) for cut in _cut(groups[key], batch, random, alone=key[2])]
        if not own:
            raise InvalidInput("examples", len(examples), "they give no batch: each has nothing to be compared with")
        batches.extend(own[i] for i in random.permutation(len(own)))
        epoch += 1
    return batches[:steps]


def _cut(members: list[int], size: int, random: np.random.Generator, *, alone: bool) -> list[NDArray[np.int64]]:
    """One pass over a group; ``alone``: an example can be learned by itself, for it has negatives."""
    order = random.permutation(np.asarray(members, dtype=np.int64))
    cuts = [order[start : start + size] for start in range(0, len(order), size)]
    return [cut for cut in cuts if len(cut) > 1 or alone]


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """The texts of a step, and who answers whom.

    Attributes:
        queries: b texts.
        passages: n texts: all positives, then the first negatives of all, then the second ones, and so on.
        own: int64[b, 1 + k]: where each query's positive and negatives are.
        targets: float32[b, n]: how much each passage is an answer to the query; 1 for the positive.
        allowed: bool[b, n]: answers and negatives; False for what must not be compared, since it may be an answer too.
        teacher: float32[b, 1 + k], a teacher's scores; None without them.
        grades: float32[b] of graded pairs; None for others.
    """

    queries: list[str]
    passages: list[str]
    own: NDArray[np.int64]
    targets: NDArray[np.float32]
    allowed: NDArray[np.bool_]
    teacher: NDArray[np.float32] | None = None
    grades: NDArray[np.float32] | None = None


def candidates_of(
    examples: Sequence[Example], *, negatives: int, in_batch: bool, random: np.random.Generator
) -> Candidates:
    """Draw the candidates of a batch.

    Every example gets the same number of negatives: ``negatives``, or the most that any of them has. One with more of
    them draws some, one with fewer repeats its own (as FlagEmbedding does).

    Args:
        examples: of one shape (``plan_stage``).
        negatives: the most that an example gets.
        in_batch: whether the passages of other examples are negatives.
        random: draws the negatives.
    """
    b, k = len(examples), min(negatives, max(len(example.negatives) for example in examples))
    drawn = np.stack([_draw(len(example.negatives), k, random) for example in examples])
    passages = [example.positive for example in examples]
    for column in range(k):
        passages += [example.negatives[chosen[column]] for example, chosen in zip(examples, drawn, strict=True)]
    own = np.arange(b)[:, None] + b * np.arange(1 + k)[None, :]
    allowed = _allowed(examples, passages)
    if not in_batch:
        mine = np.zeros_like(allowed)
        np.put_along_axis(mine, own, values=True, axis=1)
        allowed &= mine
    is_graded, is_scored = examples[0].is_graded, bool(examples[0].scores) and k > 0
    teacher = None
    if is_scored:
        places = np.concatenate([np.zeros((b, 1), dtype=np.int64), 1 + drawn], axis=1)
        teacher = np.stack([np.asarray(e.scores, np.float32)[own] for e, own in zip(examples, places, strict=True)])
    return Candidates(
        queries=[example.query for example in examples],
        passages=passages,
        own=own,
        targets=np.eye(b, len(passages), dtype=np.float32),
        allowed=allowed,
        teacher=teacher,
        grades=np.asarray([example.scores[0] for example in examples], np.float32) if is_graded else None,
    )


def _draw(available: int, wanted: int, random: np.random.Generator) -> NDArray[np.int64]:
    """``wanted`` of ``available`` negatives; each as often as the others, up to one."""
    rounds = [random.permutation(available) for _ in range(-(-wanted // max(available, 1)))]
    return np.concatenate(rounds)[:wanted] if rounds else np.empty(0, dtype=np.int64)


def _allowed(examples: Sequence[Example], passages: Sequence[str]) -> NDArray[np.bool_]:
    """Which passages may be compared with which query: not another copy of an answer to it.

    An answer to a query is a positive of any example with this query's text.
    """
    answers: dict[str, set[str]] = defaultdict(set)
    for example in examples:
        answers[example.query].add(example.positive)
    columns: dict[str, list[int]] = defaultdict(list)
    for j, passage in enumerate(passages):
        columns[passage].append(j)
    allowed = np.ones((len(examples), len(passages)), dtype=bool)
    for i, example in enumerate(examples):
        for answer in answers[example.query]:
            allowed[i, columns[answer]] = False
        allowed[i, i] = True
    return allowed


def landmark_targets(owners: NDArray[np.int64], n_queries: int) -> NDArray[np.float32]:
    """How much each passage of the pseudo-documents answers each query: float32[n_queries, n].

    The answer to a query is some consecutive passages; the last one, whose landmark has seen all of them, counts 1, and
    the i-th before it exp(-0.08 i) (Landmark Embedding, Luo et al. 2024, equation 4).

    Args:
        owners: int64[n], for each passage the query whose answer it is part of.
        n_queries: how many queries there are.
    """
    targets = np.zeros((n_queries, len(owners)), dtype=np.float32)
    for query in range(n_queries):
        places = np.flatnonzero(owners == query)
        targets[query, places] = np.exp(-LANDMARK_DECAY * np.arange(len(places) - 1, -1, -1))
    return targets
