"""How does a student learn, step after step, so that a killed run ends as an undisturbed one?

A plain loop: one task (a stage) after another, each with a fresh AdamW, a warm-up and a linear decay. Nothing random
survives from step to step: every step seeds what it draws from the configuration's seed and its own number, so a
checkpoint needs no state of a random generator, and a run repeats itself bit for bit on one CPU (on a GPU, up to the
order in which it adds).
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import xxhash
from torch import nn

from embedder.errors import InvalidInput, TrainingDiverged
from embedder.fingerprint import weights_digest
from embedder.tuning.checkpoints import Progress, load_checkpoint, restore_moments, save_checkpoint
from embedder.tuning.config import Stage, TuningConfig
from embedder.tuning.first_weights import begin_sparse_head
from embedder.tuning.mntp import MntpStage, MntpTask
from embedder.tuning.student import Student
from embedder.tuning.tasks import RankingTask, StepTerms, Task

BETAS = (0.9, 0.999)


@dataclass(frozen=True, slots=True)
class StepReport:
    """One step.

    Attributes:
        step: its number, from 1, over all stages; ``n_steps`` is the last one's.
        stage: the name of its stage.
        loss: the sum of ``terms``.
        terms: the weighted terms of the loss by name.
        gradient: the norm of the gradient before it was cut.
        lr: the learning rate of the backbone.
        tokens: read in this step; ``dropped`` of them were too many for their passage.
        active_terms: mean number of terms of a passage's sparse vector; None without a sparse head.
        seconds: that the step took.
    """

    step: int
    n_steps: int
    stage: str
    loss: float
    terms: dict[str, float]
    gradient: float
    lr: float
    tokens: int
    dropped: int
    active_terms: float | None
    seconds: float


@dataclass(frozen=True, slots=True)
class TrainingLog:
    """All steps of a run, those before a kill too."""

    reports: tuple[StepReport, ...]


class Trainer:
    """Trains a student on stages.

    Args:
        student: what is trained.
        config: how.
        stages: on what, in this order.
        checkpoint_folder: where a killed run finds what it had done; None: nothing is kept.

    Attributes:
        n_steps: of all stages.
    """

    def __init__(
        self,
        student: Student,
        config: TuningConfig,
        stages: Sequence[Stage | MntpStage],
        checkpoint_folder: Path | None = None,
    ) -> None:
        """Plan the run.

        Raises:
            InvalidInput: there is nothing to do, or a loss has nothing to work on.
        """
        _check(config, stages, student)
        self._student = student
        self._config = config
        self._folder = checkpoint_folder
        self._tasks: list[Task] = [
            MntpTask(student, stage, config, i)
            if isinstance(stage, MntpStage)
            else RankingTask(student, stage, config, i)
            for i, stage in enumerate(stages)
        ]
        self.n_steps = sum(task.n_steps for task in self._tasks)
        self._parameters = student.parts.trainable()
        self._passages = [text for stage in stages for text in stage.sample()]
        self._identity = _identity(student, config, stages)

    def run(self, on_step: Callable[[StepReport], None] = lambda report: None) -> TrainingLog:
        """Train to the end, from the checkpoint if there is one.

        Args:
            on_step: called after every step; an exception from it ends the run, which can be continued.

        Raises:
            CheckpointMismatch: the folder holds a checkpoint of another run.
            TrainingDiverged: the loss is no longer finite.
        """
        devices = [self._student.device] if self._student.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices), self._student.training():
            return self._run(on_step)

    def _run(self, on_step: Callable[[StepReport], None]) -> TrainingLog:
        if self._config.sparse_head is not None:  # before a checkpoint too, which holds only what is trained
            begin_sparse_head(self._student, self._passages)
        found = None if self._folder is None else load_checkpoint(self._folder, self._parameters, self._identity)
        progress, moments = found or (Progress(0, self._identity, []), {})
        reports = [StepReport(**report) for report in progress.reports]
        first = 0
        for task in self._tasks:
            done = progress.step - first
            if done < task.n_steps:
                optimizer = self._optimizer(task)
                if done > 0:
                    restore_moments(optimizer, self._parameters, moments)
                for step in range(max(0, done), task.n_steps):
                    report = self._step(task, optimizer, step, first)
                    reports.append(report)
                    self._keep(optimizer, report, reports)
                    on_step(report)
            first += task.n_steps
        return TrainingLog(tuple(reports))

    def _step(self, task: Task, optimizer: torch.optim.AdamW, step: int, first: int) -> StepReport:
        began = time.perf_counter()
        scale = lr_factor(step, task.n_steps, self._config.warmup)
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * scale
        optimizer.zero_grad(set_to_none=True)
        done: StepTerms = task.backward(step)
        loss = sum(done.terms.values())
        if not math.isfinite(loss):
            raise TrainingDiverged(first + step + 1, loss)
        gradient = float(nn.utils.clip_grad_norm_(self._parameters.values(), self._config.max_gradient))
        optimizer.step()
        return StepReport(
            step=first + step + 1,
            n_steps=self.n_steps,
            stage=task.name,
            loss=loss,
            terms=done.terms,
            gradient=gradient,
            lr=float(optimizer.param_groups[0]["lr"]),
            tokens=done.tokens,
            dropped=done.dropped,
            active_terms=done.active_terms,
            seconds=time.perf_counter() - began,
        )

    def _keep(self, optimizer: torch.optim.AdamW, report: StepReport, reports: Sequence[StepReport]) -> None:
        """Write a checkpoint when it is time."""
        if self._folder is not None and (
            report.step % self._config.checkpoint_every == 0 or report.step == self.n_steps
        ):
            progress = Progress(report.step, self._identity, [asdict(each) for each in reports])
            save_checkpoint(self._folder, self._parameters, optimizer, progress)

    def _optimizer(self, task: Task) -> torch.optim.AdamW:
        """AdamW whose groups know their peak rates; vectors (biases, norms, term biases) do not decay."""
        config, groups = self._config, []
        for backbone, peak in ((True, config.lr), (False, config.head_lr)):
            for decays in (True, False):
                chosen = [
                    parameter
                    for name, parameter in self._parameters.items()
                    if name.startswith("backbone.") == backbone and (parameter.ndim > 1) == decays
                ]
                decay = config.weight_decay if decays else 0.0
                groups.append({"params": chosen, "peak": peak * task.lr_scale, "weight_decay": decay})
        return torch.optim.AdamW([group for group in groups if group["params"]], lr=0.0, betas=BETAS)


def lr_factor(step: int, n_steps: int, warmup: float) -> float:
    """The learning rate of step ``step`` (from 0) as a part of its peak: a linear rise, then a linear fall to zero."""
    rising = math.ceil(warmup * n_steps)
    if step < rising:
        return (step + 1) / rising
    return (n_steps - step) / (n_steps - rising)


def _check(config: TuningConfig, stages: Sequence[Stage | MntpStage], student: Student) -> None:
    if not stages:
        raise InvalidInput("stages", 0, "there must be at least one")
    taught = [
        example for stage in stages if isinstance(stage, Stage) for example in stage.examples if example.negatives
    ]
    if (config.weights.distil_kl or config.weights.margin_mse) and not any(example.scores for example in taught):
        raise InvalidInput("weights", "distil_kl, margin_mse", "no example has negatives with a teacher's scores")
    has_landmarks = any(isinstance(stage, Stage) and stage.layout == "landmarks" for stage in stages)
    if has_landmarks and not student.recipe.shares_windows:
        problem = "the recipe's windows hold one passage: set landmark and passage_tokens"
        raise InvalidInput("layout", "landmarks", problem)
    for dim in config.matryoshka_dims:
        if dim > student.dim:
            raise InvalidInput("matryoshka_dims", dim, f"dense vectors have {student.dim} dimensions")


def _identity(student: Student, config: TuningConfig, stages: Sequence[Stage | MntpStage]) -> dict[str, str]:
    """What must be the same for a checkpoint to be continued."""
    data = xxhash.xxh3_128()
    for stage in stages:
        for text in stage.texts():
            data.update(text.encode("utf-8", "surrogatepass") + b"\0")
    source = student.source
    described = {**asdict(config), "checkpoint_every": None, "stages": [(s.name, s.steps, s.lr_scale) for s in stages]}
    return {
        "base": weights_digest(source.checkpoint, source.recipe),
        "recipe": repr(source.recipe),
        "configuration": json.dumps(described, sort_keys=True, default=repr),
        "examples": data.hexdigest(),
    }
