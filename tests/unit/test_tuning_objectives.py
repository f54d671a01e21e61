"""Losses: each equals sentence-transformers' one where it has it, or its formula written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sentence_transformers.sentence_transformer.losses import (
    CoSENTLoss,
    DistillKLDivLoss,
    MarginMSELoss,
    MultipleNegativesRankingLoss,
)
from sentence_transformers.util import pairwise_dot_score
from torch import Tensor
from torch.nn.functional import normalize

from embedder.tuning.batches import Candidates, candidates_of
from embedder.tuning.config import TuningConfig, Weights
from embedder.tuning.objectives import Answers, Objective, anti_zero, distillation, flops_ramp, info_nce, m3_loss
from embedder.tuning.student import Vectors
from tests.support.tuning_toys import graded_pairs, toy_examples

NO_REGULARISER = {"flops_query": 0.0, "flops_passage": 0.0, "anti_zero": 0.0}
B, K, DIM, TERMS = 5, 2, 8, 12


def drawn(scores: bool = True) -> Candidates:
    return candidates_of(
        toy_examples(B, negatives=K, scores=scores), negatives=K, in_batch=True, random=np.random.default_rng(0)
    )


def vectors(n: int, seed: int, sparse: bool = False) -> Vectors:
    generator = torch.Generator().manual_seed(seed)
    dense = normalize(torch.randn(n, DIM, generator=generator), dim=1).requires_grad_()
    terms = torch.relu(torch.randn(n, TERMS, generator=generator)).requires_grad_() if sparse else None
    return Vectors(dense, terms)


def value(loss: Tensor) -> object:
    return pytest.approx(float(loss.detach()), rel=1e-5)


def terms_of(
    candidates: Candidates, *, sparse: bool = False, progress: float = 0.5, **fields: object
) -> dict[str, float]:
    config = TuningConfig(**fields)  # type: ignore[arg-type]
    objective = Objective(config, trains_dense=True, normalises=True)
    queries, passages = vectors(len(candidates.queries), 1, sparse), vectors(len(candidates.passages), 2, sparse)
    answers = Answers.of(candidates, torch.device("cpu"))
    return {name: float(term.detach()) for name, term in objective(queries, passages, answers, progress).items()}


def columns(candidates: Candidates) -> list[Tensor]:
    passages = vectors(len(candidates.passages), 2).dense
    return [vectors(len(candidates.queries), 1).dense, *(passages[places] for places in candidates.own.T)]


def test_the_contrastive_loss_is_that_of_sentence_transformers() -> None:
    candidates = drawn()
    expected = MultipleNegativesRankingLoss(None, scale=50.0).compute_loss_from_embeddings(columns(candidates), None)
    got = terms_of(candidates, temperature=0.02)
    assert got == {"dense": value(expected)}


def test_the_sparse_leg_takes_dot_products_at_its_own_temperature() -> None:
    candidates = drawn()
    q, p = vectors(B, 1, sparse=True).sparse, vectors(B * (1 + K), 2, sparse=True).sparse
    assert q is not None
    assert p is not None
    expected = torch.nn.functional.cross_entropy(q @ p.T / 2.0, torch.arange(B))
    got = terms_of(
        candidates, sparse=True, sparse_temperature=2.0, weights=Weights(dense=0, sparse=0.5, **NO_REGULARISER)
    )
    assert got == {"sparse": value(0.5 * expected)}


def test_matryoshka_is_the_mean_over_the_prefixes_each_of_unit_length() -> None:
    candidates = drawn()
    each = []
    for dim in (DIM, 4, 2):
        cut = [normalize(column[:, :dim], dim=1) for column in columns(candidates)]
        each.append(MultipleNegativesRankingLoss(None, scale=50.0).compute_loss_from_embeddings(cut, None))
    assert terms_of(candidates, matryoshka_dims=(2, 4))["dense"] == value(torch.stack(each).mean())


def test_graded_pairs_take_cosent() -> None:
    examples = graded_pairs(6)
    candidates = candidates_of(examples, negatives=0, in_batch=True, random=np.random.default_rng(0))
    grades = torch.tensor([example.scores[0] for example in examples])
    expected = CoSENTLoss(None, scale=20.0).compute_loss_from_embeddings(columns(candidates)[:2], grades)
    assert terms_of(candidates) == {"dense_cosent": value(expected)}


def test_distillation_is_that_of_sentence_transformers() -> None:
    candidates = drawn()
    loss = DistillKLDivLoss(None, similarity_fct=pairwise_dot_score, student_temperature=0.5, teacher_temperature=1.0)
    teacher = torch.from_numpy(candidates.teacher)
    # It multiplies by the squared temperature of the student, to undo a temperature of both; ours is the student's alone.
    expected = loss.compute_loss_from_embeddings(columns(candidates), teacher) / 0.25
    got = terms_of(candidates, temperature=0.5, weights=Weights(contrastive=0, distil_kl=1))
    assert got == {"dense_kl": value(expected)}
    softer = DistillKLDivLoss(
        None, similarity_fct=pairwise_dot_score, student_temperature=0.5, teacher_temperature=4.0
    ).compute_loss_from_embeddings(columns(candidates), teacher)
    weights = Weights(contrastive=0, distil_kl=1)
    assert terms_of(candidates, temperature=0.5, teacher_temperature=4.0, weights=weights) == {
        "dense_kl": value(softer / 0.25)
    }
    logits = torch.randn(3, 4)
    assert float(distillation(logits, logits)) == pytest.approx(0, abs=1e-6)


def test_margins_are_those_of_sentence_transformers() -> None:
    candidates = drawn()
    loss = MarginMSELoss(None, similarity_fct=lambda left, right: pairwise_dot_score(left, right) / 0.5)
    expected = loss.compute_loss_from_embeddings(columns(candidates), torch.from_numpy(candidates.teacher))
    got = terms_of(candidates, temperature=0.5, weights=Weights(contrastive=0, margin_mse=2))
    assert got == {"dense_margin": value(2 * expected)}


def test_examples_without_a_teacher_are_not_distilled() -> None:
    assert set(terms_of(drawn(scores=False), weights=Weights(distil_kl=1, margin_mse=1))) == {"dense"}


def test_what_is_not_allowed_is_not_compared_and_gets_no_gradient() -> None:
    logits = torch.tensor([[1.0, 2.0, -math.inf], [0.5, -math.inf, 0.25]], requires_grad=True)
    targets = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    loss = info_nce(logits, targets)
    expected = (math.log(math.exp(1) + math.exp(2)) - 2 + math.log(math.exp(0.5) + math.exp(0.25)) - 0.5) / 2
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-6)
    loss.backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    assert (logits.grad[0, 2], logits.grad[1, 1]) == (0, 0)


def test_the_landmark_loss_is_a_cross_entropy_weighted_by_position() -> None:
    torch.manual_seed(0)
    logits, e = torch.randn(2, 4), math.exp(-0.08)
    targets = torch.tensor([[e, 1.0, 0, 0], [0, 0, 0, 1.0]])
    logs = torch.log_softmax(logits, dim=1)
    expected = -(e * logs[0, 0] + logs[0, 1] + logs[1, 3]) / 2
    assert float(info_nce(logits, targets)) == value(expected)


def test_a_passage_far_above_the_answer_is_taken_for_another_answer() -> None:
    candidates = drawn()
    q, p = vectors(B, 1).dense, vectors(B * (1 + K), 2).dense
    scores = q @ p.T
    keep = (scores <= scores.diagonal()[:, None] + 0.1) | torch.eye(B, B * (1 + K), dtype=torch.bool)
    assert not keep.all()
    expected = torch.nn.functional.cross_entropy((scores / 0.02).masked_fill(~keep, -math.inf), torch.arange(B))
    assert terms_of(candidates, false_negative_margin=0.1)["dense"] == value(expected)


def test_self_distillation_is_the_joint_loss_of_bge_m3() -> None:
    torch.manual_seed(3)
    dense, sparse = torch.randn(4, 6, requires_grad=True), torch.randn(4, 6, requires_grad=True)
    targets, labels = torch.eye(4, 6), torch.arange(4)
    joint = dense + 0.3 * sparse
    ce = torch.nn.functional.cross_entropy
    taught = torch.softmax(joint, dim=1).detach()
    learned = (ce(dense, labels) + 0.1 * ce(sparse, labels) + ce(joint, labels)) / 3
    distilled = (ce(dense, taught) + 0.1 * ce(sparse, taught)) / 2
    expected = (learned + distilled) / 2
    got = m3_loss(dense, sparse, targets, sparse_weight=0.1)
    torch.testing.assert_close(got, expected)
    mine, theirs = torch.autograd.grad(got, [dense, sparse]), torch.autograd.grad(expected, [dense, sparse])
    torch.testing.assert_close(mine, theirs)
    weights = Weights(self_distillation=2, sparse=0.1, **NO_REGULARISER)
    q, p, each = vectors(B, 1, sparse=True), vectors(B * (1 + K), 2, sparse=True), []
    assert q.sparse is not None
    assert p.sparse is not None
    for dim in (DIM, 4):
        cosines = normalize(q.dense[:, :dim], dim=1) @ normalize(p.dense[:, :dim], dim=1).T
        each.append(m3_loss(cosines / 0.02, q.sparse @ p.sparse.T, torch.eye(B, B * (1 + K)), sparse_weight=0.1))
    terms = terms_of(drawn(), sparse=True, weights=weights, matryoshka_dims=(4,))
    assert terms == {"self_distillation": value(2 * torch.stack(each).mean())}


def test_flops_grows_quadratically_and_is_the_sum_of_squared_mean_weights() -> None:
    assert [flops_ramp(progress, 0.5) for progress in (0, 0.25, 0.5, 1)] == [0, 0.25, 1, 1]
    assert flops_ramp(0, 0) == 1
    candidates = drawn()
    passages = vectors(B * (1 + K), 2, sparse=True).sparse
    assert passages is not None
    weights = Weights(contrastive=0, flops_query=0, flops_passage=3.0, anti_zero=0)
    got = terms_of(candidates, sparse=True, progress=0.25, flops_ramp=0.5, weights=weights)
    assert got == {"flops_passage": pytest.approx(0.25 * 3.0 * float((passages.detach().mean(0) ** 2).sum()), rel=1e-5)}
    few = terms_of(candidates, sparse=True, progress=1.0, flops_min_terms=TERMS, weights=weights)
    assert few == {"flops_passage": 0}


def test_anti_zero_pulls_empty_vectors_up_most() -> None:
    weights = torch.tensor([[0.0, 0.0], [0.4, 0.5]], requires_grad=True)
    loss = anti_zero(weights)
    assert float(loss.detach()) == pytest.approx((1 / 0.1**2 + 1 / 1.0**2) / 2)
    loss.backward()
    assert weights.grad is not None
    assert weights.grad[0, 0] < weights.grad[1, 0] < 0
