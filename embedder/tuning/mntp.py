"""How does a decoder learn to look both ways? Masked next token prediction, the first stage of LLM2Vec.

Some tokens of a text are hidden, and each is predicted from the state of the position before it, where the decoder was
trained to speak, now with the text on both sides in view (BehnamGhader et al. 2024). The adapters that learn it are
those that later stages go on with.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy

from embedder.errors import InvalidInput
from embedder.tuning.batches import derive_seed
from embedder.tuning.config import TuningConfig
from embedder.tuning.student import Student
from embedder.tuning.tasks import StepTerms

RANDOM_PART, KEPT_PART = 0.1, 0.1  # of the chosen tokens, the rest is masked (Devlin et al. 2019)


@dataclass(frozen=True, slots=True, kw_only=True)
class MntpStage:
    """Plain texts for masked next token prediction.

    Attributes:
        name: for people.
        passages: texts; of a long one, the beginning is read.
        mask_token: stands for a hidden token; LLM2Vec takes "_" for models that have no mask of their own.
        masked: the part of the tokens that is predicted (Llama 0.2, Mistral 0.8).
        steps: replaces the configuration's.
        lr_scale: multiplies the learning rates.
    """

    name: str
    passages: Sequence[str]
    mask_token: str = "_"
    masked: float = 0.2
    steps: int | None = None
    lr_scale: float = 1.0

    def __post_init__(self) -> None:
        if not self.passages:
            raise InvalidInput("passages", 0, f"stage {self.name!r} has none")
        if not 0.0 < self.masked < 1.0:
            raise InvalidInput("masked", self.masked, "it must be between 0 and 1")

    def sample(self) -> list[str]:
        """Its passages: what a new sparse head begins with."""
        return list(self.passages)

    def texts(self) -> Iterator[str]:
        """Everything that is learned from, as text, for a digest of the data."""
        yield from (self.name, self.mask_token, repr(self.masked))
        yield from self.passages


class MntpTask:
    """A stage of masked next token prediction."""

    def __init__(self, student: Student, stage: MntpStage, config: TuningConfig, number: int) -> None:
        """Plan it.

        Raises:
            InvalidInput: the student's network is not trained, or the mask is not one token.
            TuningFailed: the checkpoint has no language model's head.
        """
        if not student.trains_backbone:
            raise InvalidInput(
                "stages", stage.name, "masked prediction trains the backbone: ask for lora or train_layers"
            )
        self.name = stage.name
        self.lr_scale = stage.lr_scale
        self._student = student
        self._passages = stage.passages
        self._batch = config.batch
        self._masked = stage.masked
        self._seed = derive_seed("mntp", config.seed, number)
        mask = student.inputs.token_id(stage.mask_token)
        if mask is None:
            raise InvalidInput("mask_token", stage.mask_token, "the model's vocabulary has no such token")
        self._mask = mask
        epoch = -(-len(stage.passages) // config.batch)
        self.n_steps = stage.steps or config.steps or config.epochs * epoch
        self._epoch = epoch
        self._vocabulary = student.vocabulary()

    def backward(self, step: int) -> StepTerms:
        """See ``tasks.Task``."""
        random = np.random.default_rng(derive_seed("step", self._seed, step))
        order = np.random.default_rng(derive_seed("epoch", self._seed, step // self._epoch)).permutation(
            len(self._passages)
        )
        first = step % self._epoch * self._batch
        inputs = self._student.inputs.passages([self._passages[i] for i in order[first : first + self._batch]])
        hidden = [self._hide(row.ids, random) for row in inputs.rows]
        n_hidden = sum(int(chosen.sum()) for _, chosen in hidden)
        loss = 0.0
        for number, batch in enumerate(self._student.passes(inputs.rows)):
            torch.manual_seed(derive_seed("pass", self._seed, step, number))
            part = self._loss([hidden[i] for i in batch], [inputs.rows[i].ids for i in batch]) / n_hidden
            part.backward()  # type: ignore[no-untyped-call]
            loss += float(part.detach())
        return StepTerms({"mntp": loss}, inputs.read, inputs.dropped)

    def _hide(self, ids: NDArray[np.int32], random: np.random.Generator) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        """The row with some tokens hidden, and which: never the first, for nothing precedes it; at least one."""
        chosen = random.random(len(ids)) < self._masked
        chosen[0] = False
        if not chosen.any() and len(ids) > 1:
            chosen[random.integers(1, len(ids))] = True
        fate = random.random(len(ids))
        strange = random.integers(0, len(self._vocabulary), len(ids)).astype(np.int32)
        masked = np.where(fate < RANDOM_PART, strange, np.where(fate < RANDOM_PART + KEPT_PART, ids, self._mask))
        return np.where(chosen, masked, ids).astype(np.int32), chosen

    def _loss(
        self, hidden: Sequence[tuple[NDArray[np.int32], NDArray[np.bool_]]], ids: Sequence[NDArray[np.int32]]
    ) -> Tensor:
        """The summed cross-entropy of the hidden tokens, each predicted from the state before it."""
        states = self._student.states([row for row, _ in hidden])
        places = torch.from_numpy(np.flatnonzero(np.concatenate([chosen for _, chosen in hidden]))).to(states.device)
        wanted = torch.from_numpy(np.concatenate(ids).astype(np.int64)).to(states.device)[places]
        logits = states[places - 1].to(self._vocabulary.dtype) @ self._vocabulary.T
        return cross_entropy(logits.float(), wanted, reduction="sum")
