"""Training: the gradient is the same however it is computed, runs repeat themselves, and a killed one goes on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from embedder.errors import CheckpointMismatch, InvalidInput, TrainingDiverged
from embedder.tuning.checkpoints import FILE
from embedder.tuning.config import Lora, Stage, TuningConfig, Weights
from embedder.tuning.student import Student
from embedder.tuning.tasks import RankingTask
from embedder.tuning.trainer import StepReport, Trainer, lr_factor
from tests.support.tuning_toys import BOTH_WAYS, graded_pairs, student_of, toy_examples

SPARSE = {"kind": "union", "units": 4, "salient_every": 3}
SMALL = TuningConfig(lora=Lora(rank=2), batch=8, batch_tokens=64, negatives=1, steps=6, lr=1e-3, checkpoint_every=2)


def weights_of(student: Student) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in student.parts.trainable().items()}


def same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def stages() -> list[Stage]:
    return [
        Stage(name="weak", examples=toy_examples(30, seed=1), steps=3),
        Stage(name="supervised", examples=toy_examples(20, seed=2, negatives=2), lr_scale=0.5),
    ]


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("bert", {}),
        ("bert", {"lora": None, "train_layers": 1, "sparse_head": SPARSE}),
        ("bert", {"sparse_head": SPARSE, "weights": Weights(self_distillation=1.0), "matryoshka_dims": (4, 8)}),
        ("qwen3", {}),
        ("qwen3", {"recipe": BOTH_WAYS, "sparse_head": SPARSE}),
    ],
)
def test_gradient_caching_gives_the_plain_gradient_dropout_included(
    tmp_path: Path, kind: str, changes: dict[str, object]
) -> None:
    gradients = []
    for cache in (False, True):
        config = replace(SMALL, gradient_cache=cache, **changes)  # type: ignore[arg-type]
        student = student_of(tmp_path, kind, config)
        task = RankingTask(student, stages()[1], config, 0)
        with student.training():
            report = task.backward(0)
        gradients.append({name: p.grad for name, p in student.parts.trainable().items() if p.grad is not None})
        assert len(student.passes(student.inputs.passages([e.positive for e in stages()[1].examples[:8]]).rows)) > 1
    plain, cached = gradients
    assert plain.keys() == cached.keys()
    for name, gradient in plain.items():
        torch.testing.assert_close(cached[name], gradient, atol=1e-6, rtol=1e-4, msg=name)
    assert max(float(gradient.abs().max()) for gradient in plain.values()) > 1e-4
    assert (report.active_terms is not None) == ("sparse_head" in changes)


def test_gradient_checkpointing_gives_the_plain_gradient(tmp_path: Path) -> None:
    gradients = []
    for keeps in (False, True):
        config = replace(SMALL, gradient_checkpointing=keeps)
        student = student_of(tmp_path, "qwen3", config)
        assert student.parts.network.get_base_model().is_activation_checkpointing == keeps
        with student.training():
            RankingTask(student, stages()[1], config, 0).backward(0)
        gradients.append(torch.cat([p.grad.flatten() for p in student.parts.trainable().values()]))  # type: ignore[union-attr]
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize("kind", ["bert", "qwen3"])
def test_a_seed_repeats_a_run_bit_for_bit_and_another_seed_does_not(tmp_path: Path, kind: str) -> None:
    results = []
    for seed in (1, 1, 2):
        config = replace(SMALL, seed=seed, sparse_head=SPARSE)
        student = student_of(tmp_path, kind, config)
        torch.manual_seed(len(results))  # whatever ran before does not matter
        log = Trainer(student, config, stages()).run()
        results.append((weights_of(student), [report.terms for report in log.reports]))
    assert same(results[0][0], results[1][0])
    assert results[0][1] == results[1][1]
    assert not same(results[0][0], results[2][0])


def sparse_state(student: Student) -> dict[str, Tensor]:
    """What is not trained, too."""
    assert student.parts.sparse is not None
    return student.parts.sparse.state_dict()


class Killed(Exception):
    pass


@pytest.mark.parametrize(("at", "kind"), [(1, "union"), (3, "neighbours"), (5, "union"), (8, "mlm_max")])
def test_a_killed_run_goes_on_to_the_same_weights_and_the_same_log(tmp_path: Path, at: int, kind: str) -> None:
    config = replace(SMALL, sparse_head={**SPARSE, "kind": kind})
    undisturbed = student_of(tmp_path / "model", "bert", config)
    whole = Trainer(undisturbed, config, stages(), tmp_path / "undisturbed").run()
    assert [report.step for report in whole.reports] == list(range(1, 10))

    def kill(report: StepReport) -> None:
        if report.step == at:
            raise Killed

    student = student_of(tmp_path / "model", "bert", config)
    with pytest.raises(Killed):
        Trainer(student, config, stages(), tmp_path / "killed").run(kill)
    again = student_of(tmp_path / "model", "bert", config)
    seen: list[int] = []
    log = Trainer(again, config, stages(), tmp_path / "killed").run(lambda report: seen.append(report.step))
    assert seen == list(range(at // 2 * 2 + 1, 10))
    assert same(weights_of(again), weights_of(undisturbed))
    assert same(sparse_state(again), sparse_state(undisturbed))
    assert [replace(r, seconds=0) for r in log.reports] == [replace(r, seconds=0) for r in whole.reports]
    finished = student_of(tmp_path / "model", "bert", config)
    Trainer(finished, config, stages(), tmp_path / "killed").run(lambda report: pytest.fail("there was nothing to do"))
    assert same(weights_of(finished), weights_of(undisturbed))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"lr": 5e-3}, "other configuration"),
        ({"seed": 9}, "other configuration"),
        ({"recipe": {"pooling": "cls"}}, "other configuration, recipe"),
        ({"checkpoint_every": 1}, None),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path, change: dict[str, object], words: str | None) -> None:
    student = student_of(tmp_path / "model", "bert", SMALL)
    Trainer(student, SMALL, stages(), tmp_path / "run").run()
    other = replace(SMALL, **change)  # type: ignore[arg-type]
    trainer = Trainer(student_of(tmp_path / "model", "bert", other), other, stages(), tmp_path / "run")
    if words is None:
        trainer.run()
        return
    with pytest.raises(CheckpointMismatch, match=words):
        trainer.run()


def test_a_checkpoint_of_other_examples_or_a_damaged_one_is_refused(tmp_path: Path) -> None:
    student = student_of(tmp_path / "model", "bert", SMALL)
    Trainer(student, SMALL, stages(), tmp_path / "run").run()
    changed = [stages()[0], replace(stages()[1], examples=toy_examples(20, seed=3, negatives=2))]
    with pytest.raises(CheckpointMismatch, match="other examples"):
        Trainer(student, SMALL, changed, tmp_path / "run").run()
    path = tmp_path / "run" / FILE
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointMismatch, match="cannot be read"):
        Trainer(student, SMALL, stages(), tmp_path / "run").run()


def test_a_loss_that_is_no_number_ends_the_run(tmp_path: Path) -> None:
    student = student_of(tmp_path, "bert", SMALL)
    with torch.no_grad():
        next(iter(student.parts.trainable().values())).fill_(float("nan"))
    with pytest.raises(TrainingDiverged, match="nan at step 1"):
        Trainer(student, SMALL, stages()).run()


def test_a_frozen_backbone_does_not_change_and_its_heads_do(tmp_path: Path) -> None:
    config = replace(SMALL, lora=None, dense_dim=8, sparse_head=SPARSE, head_lr=1e-2)
    student = student_of(tmp_path, "bert", config)
    before = {name: p.clone() for name, p in student.parts.network.named_parameters()}
    heads = weights_of(student)
    Trainer(student, config, stages()).run()
    assert same(before, dict(student.parts.network.named_parameters()))
    after = weights_of(student)
    assert {name.split(".")[0] for name in after} == {"dense", "sparse"}
    assert not any(torch.equal(after[name], heads[name]) for name in ("dense.weight", "sparse.decoder"))


@pytest.mark.parametrize("cache", [False, True])
def test_every_objective_and_layout_trains(tmp_path: Path, cache: bool) -> None:
    recipe = {"landmark": "span_mean", "passage_tokens": 6, "window_tokens": 32}
    weights = Weights(distil_kl=1.0, margin_mse=0.01)
    config = replace(SMALL, sparse_head=SPARSE, recipe=recipe, weights=weights, gradient_cache=cache)
    student = student_of(tmp_path, "bert", config)
    before = weights_of(student)
    run = [
        Stage(name="graded", examples=graded_pairs(20), steps=2),
        Stage(name="landmarks", examples=toy_examples(20), layout="landmarks", steps=2),
        Stage(name="classes", examples=toy_examples(20, negatives=3), in_batch_negatives=False, steps=2),
        Stage(name="taught", examples=toy_examples(20, negatives=3, scores=True), steps=2),
    ]
    log = Trainer(student, config, run).run()
    found = [set(report.terms) - {"flops_query", "flops_passage", "anti_zero"} for report in log.reports[::2]]
    taught = {f"{leg}_{loss}" for leg in ("dense", "sparse") for loss in ("kl", "margin")}
    both = {"dense", "sparse"}
    assert found == [{"dense_cosent", "sparse_cosent"}, both, both, both | taught]
    after = weights_of(student)
    assert sum(not torch.equal(after[name], before[name]) for name in after) > 0.9 * len(after)
    for report in log.reports:
        assert report.loss == pytest.approx(sum(report.terms.values()))
        assert report.active_terms is not None


def test_a_run_that_cannot_work_is_refused_before_it_begins(tmp_path: Path) -> None:
    student = student_of(tmp_path, "bert", SMALL)
    with pytest.raises(InvalidInput, match="at least one"):
        Trainer(student, SMALL, [])
    with pytest.raises(InvalidInput, match="teacher's scores"):
        Trainer(student, replace(SMALL, weights=Weights(distil_kl=1)), stages())
    with pytest.raises(InvalidInput, match="hold one passage"):
        Trainer(student, SMALL, [Stage(name="x", examples=toy_examples(4), layout="landmarks")])
    with pytest.raises(InvalidInput, match="matryoshka_dims = 99"):
        Trainer(student, replace(SMALL, matryoshka_dims=(99,)), stages())
    with pytest.raises(InvalidInput, match="has none"):
        Stage(name="empty", examples=[])
    with pytest.raises(InvalidInput, match="anything to train"):
        Trainer(student, replace(SMALL, weights=Weights(dense=0)), stages()).run()


def test_the_learning_rate_rises_to_its_peak_and_falls_to_zero() -> None:
    factors = np.array([lr_factor(step, 10, 0.2) for step in range(10)])
    np.testing.assert_allclose(factors, [0.5, 1, 1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8])
    assert [lr_factor(step, 2, 0.0) for step in range(2)] == [1.0, 0.5]
    assert [lr_factor(step, 2, 1.0) for step in range(2)] == [0.5, 1.0]


@pytest.mark.parametrize("changes", [{"lora": None, "train_layers": 1, "dense_dim": 8}, {"sparse_head": SPARSE}])
def test_bfloat16_passes_leave_trained_weights_in_float32(tmp_path: Path, changes: dict[str, object]) -> None:
    config = replace(SMALL, precision="bfloat16", **changes)  # type: ignore[arg-type]
    student = student_of(tmp_path, "bert", config)
    before = weights_of(student)
    log = Trainer(student, config, stages()).run()
    assert {parameter.dtype for parameter in student.parts.trainable().values()} == {torch.float32}
    frozen = {p.dtype for p in student.parts.network.parameters() if not p.requires_grad}
    assert frozen == {torch.float32 if config.train_layers else torch.bfloat16}
    assert not same(weights_of(student), before)
    exact = replace(config, precision="float32")
    expected = Trainer(student_of(tmp_path, "bert", exact), exact, stages()).run()
    assert log.reports[0].loss != expected.reports[0].loss
    assert log.reports[0].loss == pytest.approx(expected.reports[0].loss, rel=0.05)
