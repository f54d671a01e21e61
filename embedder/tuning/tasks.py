"""How does one step of a stage put gradients on the student?

A task knows its stage's batches. ``RankingTask`` draws candidates, encodes them and back-propagates the objective; with
gradient caching it does so pass by pass, in the memory of one pass. ``mntp.MntpTask`` is the other task.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from embedder.errors import InvalidInput
from embedder.tuning.batches import Candidates, candidates_of, derive_seed, landmark_targets, plan_stage
from embedder.tuning.config import Stage, TuningConfig
from embedder.tuning.inputs import Inputs
from embedder.tuning.objectives import Answers, Objective
from embedder.tuning.student import Student, Vectors


@dataclass(frozen=True, slots=True)
class StepTerms:
    """What a step did.

    Attributes:
        terms: the weighted terms of the loss by name.
        tokens: that were read from the step's texts.
        dropped: those of them that no pass held, because a text was longer than a training passage.
        active_terms: the mean number of terms of a passage's sparse vector; None without a sparse head.
    """

    terms: dict[str, float]
    tokens: int
    dropped: int
    active_terms: float | None = None


class Task(Protocol):
    """One stage of training."""

    name: str
    n_steps: int
    lr_scale: float

    def backward(self, step: int) -> StepTerms:
        """Add the gradient of step ``step`` of this stage; depends on nothing but the weights and the step."""


class RankingTask:
    """A stage of examples: every query ranks its candidates."""

    def __init__(self, student: Student, stage: Stage, config: TuningConfig, number: int) -> None:
        self.name = stage.name
        self.lr_scale = stage.lr_scale
        self._student = student
        self._stage = stage
        self._config = config
        self._seed = derive_seed(config.seed, number)
        steps = stage.steps or config.steps
        self._plan = plan_stage(stage.examples, batch=config.batch, seed=self._seed, steps=steps, epochs=config.epochs)
        self.n_steps = len(self._plan)
        normalises = student.recipe.normalise
        self._objective = Objective(config, trains_dense=student.trains_dense, normalises=normalises)

    def backward(self, step: int) -> StepTerms:
        """See ``Task``."""
        random = np.random.default_rng(derive_seed("step", self._seed, step))
        candidates = self._candidates(step, random)
        queries = self._student.inputs.queries(candidates.queries)
        if self._stage.layout == "landmarks":
            passages, candidates = self._landmarks(candidates, random)
        else:
            passages = self._student.inputs.passages(candidates.passages)
        answers = Answers.of(candidates, self._student.device)
        seeds = (derive_seed("query", self._seed, step), derive_seed("passage", self._seed, step))
        run = self._cached if self._config.gradient_cache else self._plain
        terms, active = run((queries, passages), seeds, answers, step / self.n_steps)
        return StepTerms(terms, queries.read + passages.read, queries.dropped + passages.dropped, active)

    def _candidates(self, step: int, random: np.random.Generator) -> Candidates:
        examples = [self._stage.examples[i] for i in self._plan[step]]
        shares = self._stage.in_batch_negatives or self._stage.layout == "landmarks"
        negatives = 0 if self._stage.layout == "landmarks" else self._config.negatives
        return candidates_of(examples, negatives=negatives, in_batch=shares, random=random)

    def _landmarks(self, candidates: Candidates, random: np.random.Generator) -> tuple[Inputs, Candidates]:
        """The positives, shuffled, one after another in shared windows; their passages are the candidates."""
        order = random.permutation(len(candidates.queries))
        inputs, numbers = self._student.inputs.landmarks([candidates.passages[i] for i in order])
        owners = order[numbers]
        targets = landmark_targets(owners, len(candidates.queries))
        last = np.stack([np.flatnonzero(targets[i] == 1.0)[-1:] for i in range(len(targets))])
        return inputs, Candidates(
            queries=candidates.queries,
            passages=[candidates.passages[i] for i in owners],
            own=last,
            targets=targets,
            allowed=candidates.allowed[:, owners] | (targets > 0),
        )

    def _plain(
        self, inputs: tuple[Inputs, Inputs], seeds: tuple[int, int], answers: Answers, progress: float
    ) -> tuple[dict[str, float], float | None]:
        queries, passages = (
            self._student.forward(side.rows, seed=seed) for side, seed in zip(inputs, seeds, strict=True)
        )
        terms = self._objective(queries, passages, answers, progress)
        _total(terms).backward()  # type: ignore[no-untyped-call]
        return _values(terms), _active_terms(passages)

    def _cached(
        self, inputs: tuple[Inputs, Inputs], seeds: tuple[int, int], answers: Answers, progress: float
    ) -> tuple[dict[str, float], float | None]:
        """Gradient caching (Gao et al. 2021): the gradient of the loss on all vectors, then that of each pass alone.

        The first forward keeps no graph; the second one drops out as the first did, and takes its share of the gradient.
        """
        with torch.no_grad():
            sides = [self._student.forward(side.rows, seed=seed) for side, seed in zip(inputs, seeds, strict=True)]
        leaves = [
            Vectors(side.dense.requires_grad_(), None if side.sparse is None else side.sparse.requires_grad_())
            for side in sides
        ]
        terms = self._objective(leaves[0], leaves[1], answers, progress)
        _total(terms).backward()  # type: ignore[no-untyped-call]
        for side, seed, leaf in zip(inputs, seeds, leaves, strict=True):
            self._student.backward(side.rows, seed, leaf)
        return _values(terms), _active_terms(leaves[1])


def _total(terms: dict[str, Tensor]) -> Tensor:
    """The loss.

    Raises:
        InvalidInput: the weights leave nothing that has a gradient.
    """
    total = torch.stack([*terms.values()]).sum() if terms else torch.zeros(())
    if not total.requires_grad:
        raise InvalidInput("weights", sorted(terms), "no loss of this batch has anything to train")
    return total


def _values(terms: dict[str, Tensor]) -> dict[str, float]:
    return {name: float(term.detach()) for name, term in terms.items()}


def _active_terms(vectors: Vectors) -> float | None:
    if vectors.sparse is None:
        return None
    return float((vectors.sparse.detach() > 0).sum(dim=1).float().mean())
