"""How is the model trained in the time that there is, and how does one see whether it learns?

A few steps on a copy of the student tell how long a step takes. During the run, a probe ranks some held-out answers among
some passages with the student as it is, which gives the curve beside the loss.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from engine.evaluation import NDCG_DEPTH, ndcg
from engine.storage.durable import write_atomic
from engine.tuning.judging import JudgedSet
from engine.tuning.material import SUPERVISED, Material
from engine.tuning.options import TuneOptions

if TYPE_CHECKING:
    from embedder.tuning.config import Stage
    from embedder.tuning.mntp import MntpStage
    from embedder.tuning.student import Student
    from embedder.tuning.trainer import StepReport

TRIAL_STEPS = 4
MIN_STEPS = 10
PROBES = 6
PROBE_QUERIES = 50
PROBE_PASSAGES = 100
# Of the steps, where there are supervised examples: weak pairs warm the model up, they do not decide.
WEAK_SHARE = 0.3


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """One step of the training: its loss, and after some of them the probe's nDCG@10 by leg."""

    step: int
    n_steps: int
    stage: str
    loss: float
    probe: Mapping[str, float]


OnPoint = Callable[[CurvePoint], None]


@dataclass(frozen=True, slots=True)
class Training:
    """The trained student, its curve, and how many tokens were read and how many of them dropped as too long."""

    student: Student
    curve: tuple[CurvePoint, ...]
    tokens: int
    dropped: int


def train(
    base: str,
    options: TuneOptions,
    material: Material,
    judged: JudgedSet,
    folder: Path,
    on_point: OnPoint,
    *,
    dim: int,
    device: str,
) -> Training:
    """Train a student of ``base``; a run that was killed goes on from its checkpoint in ``folder``.

    Args:
        base: a model's name.
        options: of the run.
        material: what is learned.
        judged: whose beginning is the probe.
        folder: where plan, curve and checkpoints live.
        on_point: called after every step of this run.
        dim: width of the model's dense vectors.
        device: where to train.
    """
    from embedder.tuning.loading import load_student
    from embedder.tuning.trainer import Trainer

    n_steps = _planned_steps(base, options, material, folder, dim=dim, device=device)
    config = options.config(dim=dim, steps=n_steps, device=device)
    student = load_student(base, config, device=device)
    trainer = Trainer(student, config, _stages(material, options, n_steps), folder / "checkpoint")
    probe = Probe(student, judged)
    curve = _stored_curve(folder)
    every = max(1, trainer.n_steps // PROBES)

    def on_step(report: StepReport) -> None:
        due = report.step % every == 0 or report.step == trainer.n_steps
        found = probe.run() if due else {}
        curve.append(CurvePoint(report.step, report.n_steps, report.stage, report.loss, found))
        if due:
            write_atomic(folder / "curve.json", json.dumps([asdict(point) for point in curve]).encode())
        on_point(curve[-1])

    log = trainer.run(on_step)
    # The log has every step, the curve those whose probe was not lost with a killed process.
    probes = {point.step: point.probe for point in curve}
    points = [CurvePoint(r.step, r.n_steps, r.stage, r.loss, probes.get(r.step, {})) for r in log.reports]
    tokens, dropped = sum(r.tokens for r in log.reports), sum(r.dropped for r in log.reports)
    return Training(student, tuple(points), tokens, dropped)


class Probe:
    """A quick measurement of a student: nDCG@10 of each leg over the first queries and passages of a judged set."""

    def __init__(self, student: Student, judged: JudgedSet) -> None:
        self._student = student
        self._queries = judged.queries[:PROBE_QUERIES]
        self._answers = judged.answers[:PROBE_QUERIES]
        answers = sorted(set().union(*self._answers))
        others = [n for n in range(len(judged.passages)) if n not in set(answers)]
        self._numbers = answers + others[:PROBE_PASSAGES]
        self._passages = [judged.passages[n] for n in self._numbers]

    def run(self) -> dict[str, float]:
        """The mean nDCG@10 of "dense", and of "sparse" where there is a sparse head."""
        queries = self._student.encode(self._queries, "query")
        passages = self._student.encode(self._passages, "passage")
        legs = {"dense": (queries.dense, passages.dense)}
        if queries.sparse is not None and passages.sparse is not None:
            legs["sparse"] = (queries.sparse, passages.sparse)
        return {leg: self._ndcg((left @ right.T).float().cpu().numpy()) for leg, (left, right) in legs.items()}

    def _ndcg(self, scores: np.ndarray) -> float:
        """The mean over rows of float32[n_queries, n_passages]."""
        found = []
        for row, answers in zip(scores, self._answers, strict=True):
            ranking = [str(self._numbers[i]) for i in np.argsort(-row, kind="stable")[:NDCG_DEPTH]]
            found.append(ndcg(ranking, {str(n): 1 for n in answers}, NDCG_DEPTH))
        return float(np.mean(found))


def _stages(material: Material, options: TuneOptions, n_steps: int) -> list[Stage | MntpStage]:
    """The stages with their steps: weak pairs have WEAK_SHARE of them when supervised ones follow."""
    from embedder.tuning.config import Stage
    from embedder.tuning.mntp import MntpStage

    stages: list[Stage | MntpStage] = []
    if options.mntp_steps:
        stages.append(MntpStage(name="masked prediction", passages=material.passages, steps=options.mntp_steps))
    *weak, (last, examples) = material.stages
    share = WEAK_SHARE if last == SUPERVISED else 0.5
    n_weak = round(n_steps * share / len(weak)) if weak else 0
    stages += [Stage(name=name, examples=own, steps=max(1, n_weak)) for name, own in weak]
    stages.append(Stage(name=last, examples=examples, steps=max(1, n_steps - n_weak * len(weak))))
    return stages


def _planned_steps(base: str, options: TuneOptions, material: Material, folder: Path, *, dim: int, device: str) -> int:
    """The number of steps: as asked for, as an earlier run of this folder decided, or as many as fit."""
    from embedder.tuning.loading import load_student
    from embedder.tuning.trainer import Trainer

    if options.steps is not None:
        return options.steps
    path = folder / "steps.json"
    if path.exists():
        return int(json.loads(path.read_text()))
    config = options.config(dim=dim, steps=TRIAL_STEPS, device=device)
    student = load_student(base, config, device=device)
    last = material.stages[-1:]
    trial = Trainer(
        student, config, _stages(Material(last, material.held_out, material.passages), options, TRIAL_STEPS)
    )
    began: list[float] = []
    trial.run(lambda report: began.append(time.perf_counter()))
    step_s = (began[-1] - began[0]) / max(1, len(began) - 1)  # without the first, which warms up
    steps = max(MIN_STEPS, int(options.minutes * 60 / step_s))
    write_atomic(path, json.dumps(steps).encode())
    return steps


def _stored_curve(folder: Path) -> list[CurvePoint]:
    path = folder / "curve.json"
    points: Sequence[dict[str, object]] = json.loads(path.read_text()) if path.exists() else []
    return [CurvePoint(**point) for point in points]  # type: ignore[arg-type]  # as asdict wrote them
