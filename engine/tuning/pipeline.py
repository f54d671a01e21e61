"""How does ``engine tune`` go from a collection to a better model, and never to a worse one?

    1 gather   examples, a held-out part, negatives       kept in DATA/tuning/NAME
    2 before   the present model on the judged set
    3 train    checkpoints, curve                          kept in DATA/tuning/NAME
    4 export   the tuned model with its card               DATA/models/NAME-1, -2, ...
    5 after    the tuned model on the judged set; not surely better: the folder stays, the collection keeps its model
    6 migrate  the collection, while the old vectors serve (`engine.migration`)

A run that was killed goes on where it was when it is started with the same options and the same model. Everything random
comes from the seed.
"""

from __future__ import annotations

import itertools
import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from engine.embedded import EmbeddedEngine
from engine.encoding import Model
from engine.errors import InvalidArgument
from engine.migration import migrate
from engine.storage.durable import write_atomic
from engine.tuning.judging import Change, JudgedSet, Scores, compare, is_better, judged_set, measure
from engine.tuning.material import Material, gather, read_material, write_material
from engine.tuning.options import TuneOptions
from engine.tuning.report import TuneReport, card, plot
from engine.tuning.training import CurvePoint, Training, train

WORK_FOLDER = "tuning"
MODELS_FOLDER = "models"


class Watcher(Protocol):
    """Who wants to see how it goes."""

    def stage(self, text: str) -> None:
        """A stage begins."""
        ...

    def step(self, point: CurvePoint) -> None:
        """The training made a step."""
        ...

    def scores(self, title: str, scores: Scores) -> None:
        """A model was measured."""
        ...

    def documents(self, done: int, total: int) -> None:
        """The migration embedded a document."""
        ...


@dataclass(frozen=True, slots=True)
class _Run:
    """What the steps of one run share. ``base`` is the collection's present model, ``folder`` where the work is kept."""

    engine: EmbeddedEngine
    name: str
    base: Model
    options: TuneOptions
    folder: Path
    watcher: Watcher

    @property
    def language(self) -> str:
        return self.engine.get_collection(self.name).schema.language


def tune(
    engine: EmbeddedEngine, name: str, options: TuneOptions, watcher: Watcher, *, output: Path | None = None
) -> TuneReport:
    """Tune the model of a collection on its documents and, when that made it better, migrate the collection to it.

    Args:
        engine: opened with the collection's present model.
        name: of the collection.
        options: what to learn and how.
        watcher: is told how it goes.
        output: folder of the tuned model; None: a new one in the data folder.

    Raises:
        InvalidArgument: the collection has no model, ``output`` exists, or there is too little to learn from or to
            judge by.
        FingerprintMismatch: the engine's model is not the collection's.
        EmbedderError: the training failed; says why.
    """
    started = time.monotonic()
    run = _begin(engine, name, options, watcher, output)
    model_folder = _model_folder(run, output)
    material = _material(run)
    judged = judged_set(material.held_out, material.passages)
    watcher.stage("Measuring the present model")
    before = measure(run.base, judged, language=run.language)
    watcher.scores("before", before)
    training = _trained(run, material, judged)
    _export(run, material, judged, training, model_folder)
    watcher.stage("Measuring the tuned model")
    tuned = engine.model(str(model_folder))
    after = measure(tuned, judged, language=run.language)
    watcher.scores("after", after)
    changes = compare(before, after, seed=options.seed)
    better = is_better(changes)
    (model_folder / "card.md").write_text(_card(run, material, judged, training, changes), encoding="utf-8")
    migrated = better or options.force
    if migrated:
        _migrate(run, str(model_folder))
    shutil.rmtree(run.folder)
    return TuneReport(
        collection=name,
        model=str(model_folder),
        base=str(run.base.name),
        examples={stage: len(examples) for stage, examples in material.stages},
        queries=len(judged.queries),
        passages=len(judged.passages),
        steps=len(training.curve),
        tokens=training.tokens,
        dropped=training.dropped,
        changes=tuple(changes),
        better=better,
        migrated=migrated,
        seconds=time.monotonic() - started,
    )


def _begin(engine: EmbeddedEngine, name: str, options: TuneOptions, watcher: Watcher, output: Path | None) -> _Run:
    """The run, with a work folder that holds nothing of a run with other options."""
    schema = engine.get_collection(name).schema
    base = engine.model()
    if schema.model is None:
        problem = f"{name!r} holds vectors of its callers; migrate it to a model first, then tune that"
        raise InvalidArgument("collection", problem)
    schema.check_model(base.fingerprint())
    folder = engine.path / WORK_FOLDER / name
    chosen = {"fingerprint": schema.fingerprint, "output": str(output), **options.described()}
    plan = json.dumps(chosen, sort_keys=True).encode()
    if not (folder / "plan.json").exists() or (folder / "plan.json").read_bytes() != plan:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        write_atomic(folder / "plan.json", plan)
    return _Run(engine, name, base, options, folder, watcher)


def _material(run: _Run) -> Material:
    if (run.folder / "material.json").exists():
        run.watcher.stage("Going on with the run that was interrupted")
        return read_material(run.folder)
    run.watcher.stage("Making examples and mining negatives")
    material = gather(run.engine.get_collection(run.name), run.options)
    write_material(run.folder, material)
    return material


def _trained(run: _Run, material: Material, judged: JudgedSet) -> Training:
    run.watcher.stage("Training")
    embedder = run.base.embedder()
    return train(
        str(run.base.name),
        run.options,
        material,
        judged,
        run.folder,
        run.watcher.step,
        dim=embedder.dim if embedder.has_dense else 0,
        device=embedder.device,
    )


def _export(run: _Run, material: Material, judged: JudgedSet, training: Training, folder: Path) -> None:
    from embedder.tuning.export import export

    folder.parent.mkdir(parents=True, exist_ok=True)
    was_tuned = training.student.source.tuned is not None
    text = _card(run, material, judged, training, ())
    export(training.student, folder, text, merge_adapter=was_tuned)
    (folder / "curves.svg").write_text(plot(training.curve), encoding="utf-8")


def _card(run: _Run, material: Material, judged: JudgedSet, training: Training, changes: Sequence[Change]) -> str:
    return card(
        collection=run.name,
        base=str(run.base.name),
        options=run.options.described(),
        material=material,
        judged=judged,
        curve=training.curve,
        tokens=training.tokens,
        dropped=training.dropped,
        changes=changes,
    )


def _migrate(run: _Run, model: str) -> None:
    run.watcher.stage("Embedding the collection with the tuned model; the old vectors serve until that is done")
    migrate(run.engine, run.name, model=model, on_progress=run.watcher.documents)


def _model_folder(run: _Run, output: Path | None) -> Path:
    """Where the tuned model will be: chosen once, so that a run that was killed resumes the migration to this folder."""
    note = run.folder / "model.json"
    if not note.exists():
        parent = run.engine.path / MODELS_FOLDER
        numbers = (number for number in itertools.count(1) if not (parent / f"{run.name}-{number}").exists())
        chosen = output if output is not None else parent / f"{run.name}-{next(numbers)}"
        if chosen.exists():
            raise InvalidArgument("output", f"{chosen} exists already, and a collection may use it; name a new folder")
        write_atomic(note, json.dumps(str(chosen.resolve())).encode())
    return Path(json.loads(note.read_text()))
