"""What does the student lose when its vectors are wrong?

All losses work on the vectors of one batch and its candidates. A *logit* is a score divided by its leg's temperature:
cosine for the dense leg, dot product for the sparse one. From sentence-transformers come CoSENT, MarginMSE and FLOPS;
here is what it lacks: InfoNCE over weighted targets (one answer, or the landmarks of an answer) with answers of others
masked, the mean over Matryoshka prefixes, BGE-M3's self-distillation, distillation at two temperatures, anti-zero.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, normalize, softmax

from embedder.hush import hushed
from embedder.tuning.batches import Candidates
from embedder.tuning.config import TuningConfig
from embedder.tuning.student import Vectors

COSENT_SCALE = 20.0  # Su 2022, and sentence-transformers
M3_SPARSE_IN_ENSEMBLE = 0.3  # of BGE-M3's joint score: dense + 0.3 sparse (Chen et al. 2024, section 3.2)
ANTI_ZERO_FLOOR = 0.1  # added to a vector's sum, so that the loss of an empty one is finite


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """``Candidates`` as tensors on the student's device; see there."""

    own: Tensor
    targets: Tensor
    allowed: Tensor
    teacher: Tensor | None
    grades: Tensor | None

    @classmethod
    def of(cls, candidates: Candidates, device: torch.device) -> Answers:
        """Move them."""
        teacher, grades = (
            None if array is None else torch.from_numpy(array).to(device)
            for array in (candidates.teacher, candidates.grades)
        )
        own, targets, allowed = (
            torch.from_numpy(array).to(device) for array in (candidates.own, candidates.targets, candidates.allowed)
        )
        return cls(own, targets, allowed, teacher, grades)


class Objective:
    """The loss of a batch, as the configuration weighs it.

    Args:
        config: weights, temperatures, dims.
        trains_dense: whether the dense leg has anything to learn; otherwise it only takes part in the joint score.
        normalises: whether dense vectors have unit length.
    """

    def __init__(self, config: TuningConfig, *, trains_dense: bool, normalises: bool) -> None:
        self._config = config
        self._trains_dense = trains_dense
        self._normalises = normalises
        # Here, since sentence-transformers takes seconds to import; its losses of vectors need no model.
        with hushed():
            from sentence_transformers.sentence_transformer.losses import CoSENTLoss, MarginMSELoss
            from sentence_transformers.sparse_encoder.losses import FlopsLoss

        self._flops = FlopsLoss(None, threshold=config.flops_min_terms)  # type: ignore[arg-type]
        self._cosent = CoSENTLoss(None, scale=COSENT_SCALE)  # type: ignore[arg-type]
        temperatures = {"dense": config.temperature, "sparse": config.sparse_temperature}
        self._margins = {
            leg: MarginMSELoss(None, similarity_fct=_pairwise(temperature))  # type: ignore[arg-type]
            for leg, temperature in temperatures.items()
        }

    def __call__(self, queries: Vectors, passages: Vectors, answers: Answers, progress: float) -> dict[str, Tensor]:
        """The weighted terms of the loss, by name; the loss is their sum.

        Args:
            queries: of b texts.
            passages: of n texts.
            answers: who answers whom.
            progress: how much of the stage is done, 0 to 1; FLOPS grows with it.
        """
        learn = self._ranked if answers.grades is None else self._graded
        terms = learn(queries, passages, answers)
        return terms | self._regularised(queries, passages, progress)

    def _ranked(self, queries: Vectors, passages: Vectors, answers: Answers) -> dict[str, Tensor]:
        weights = self._config.weights
        dense, sparse = self._logits(queries, passages, answers)
        terms: dict[str, Tensor] = {}
        if weights.self_distillation and sparse is not None:
            each = [m3_loss(logits, sparse, answers.targets, sparse_weight=weights.sparse) for logits in dense]
            terms["self_distillation"] = weights.self_distillation * torch.stack(each).mean()
        elif weights.contrastive:
            if self._trains_dense and weights.dense:
                each = [info_nce(logits, answers.targets) for logits in dense]
                terms["dense"] = weights.dense * weights.contrastive * torch.stack(each).mean()
            if sparse is not None and weights.sparse:
                terms["sparse"] = weights.sparse * weights.contrastive * info_nce(sparse, answers.targets)
        if answers.teacher is not None:
            teacher = answers.teacher / self._config.teacher_temperature
            terms |= self._distilled(queries, passages, answers.own, teacher)
        return terms

    def _logits(self, queries: Vectors, passages: Vectors, answers: Answers) -> tuple[list[Tensor], Tensor | None]:
        """Logits [b, n] of each dense prefix, the whole vector first, and of the sparse leg; -inf where not allowed."""
        config = self._config
        dims = sorted({queries.dense.shape[1], *config.matryoshka_dims}, reverse=True)
        dense = []
        for dim in dims:
            scores = self._prefix(queries.dense, dim) @ self._prefix(passages.dense, dim).T
            allowed = _without_false_negatives(scores.detach(), answers, config.false_negative_margin)
            dense.append((scores / config.temperature).masked_fill(~allowed, -torch.inf))
        if queries.sparse is None or passages.sparse is None:
            return dense, None
        sparse = queries.sparse @ passages.sparse.T / config.sparse_temperature
        return dense, sparse.masked_fill(~answers.allowed, -torch.inf)

    def _prefix(self, vectors: Tensor, dim: int) -> Tensor:
        return normalize(vectors[:, :dim], dim=1) if self._normalises else vectors[:, :dim]

    def _legs(self, queries: Vectors, passages: Vectors) -> dict[str, tuple[Tensor, Tensor, float, float]]:
        """The legs that learn: vectors of queries and passages, temperature, weight."""
        config, legs = self._config, {}
        if self._trains_dense and config.weights.dense:
            legs["dense"] = (queries.dense, passages.dense, config.temperature, config.weights.dense)
        if queries.sparse is not None and passages.sparse is not None and config.weights.sparse:
            legs["sparse"] = (queries.sparse, passages.sparse, config.sparse_temperature, config.weights.sparse)
        return legs

    def _distilled(self, queries: Vectors, passages: Vectors, own: Tensor, teacher: Tensor) -> dict[str, Tensor]:
        terms: dict[str, Tensor] = {}
        weights = self._config.weights
        for leg, (left, right, temperature, weight) in self._legs(queries, passages).items():
            if weights.distil_kl:
                logits = torch.einsum("bd,bkd->bk", left, right[own]) / temperature
                terms[f"{leg}_kl"] = weight * weights.distil_kl * distillation(logits, teacher)
            if weights.margin_mse:
                columns = [left, *(right[places] for places in own.T)]
                margins = self._margins[leg].compute_loss_from_embeddings(columns, teacher)
                terms[f"{leg}_margin"] = weight * weights.margin_mse * margins
        return terms

    def _graded(self, queries: Vectors, passages: Vectors, answers: Answers) -> dict[str, Tensor]:
        assert answers.grades is not None
        return {
            f"{leg}_cosent": weight
            * self._config.weights.cosent
            * self._cosent.compute_loss_from_embeddings([left, right[answers.own[:, 0]]], answers.grades)
            for leg, (left, right, _, weight) in self._legs(queries, passages).items()
        }

    def _regularised(self, queries: Vectors, passages: Vectors, progress: float) -> dict[str, Tensor]:
        """FLOPS and anti-zero of the sparse vectors, when they learn."""
        weights, terms = self._config.weights, dict[str, Tensor]()
        if queries.sparse is None or passages.sparse is None or not weights.sparse:
            return terms
        ramp = flops_ramp(progress, self._config.flops_ramp)
        for side, vectors, weight in (
            ("query", queries.sparse, weights.flops_query),
            ("passage", passages.sparse, weights.flops_passage),
        ):
            if weight:
                terms[f"flops_{side}"] = ramp * weight * self._flops.compute_loss_from_embeddings(vectors)
        if weights.anti_zero:
            terms["anti_zero"] = weights.anti_zero * (anti_zero(queries.sparse) + anti_zero(passages.sparse))
        return terms


def info_nce(logits: Tensor, targets: Tensor) -> Tensor:
    """``-sum_j target_j log softmax(logits)_j``, the mean over queries (van den Oord et al. 2018).

    With one target of weight 1 a query this is in-batch InfoNCE; with the decaying weights of ``landmark_targets`` it is
    the position-aware loss of Landmark Embedding (the weight stands before the logarithm: inside it has no gradient).

    Args:
        logits: float32[b, n]; -inf for what is not compared.
        targets: float32[b, n].
    """
    found = torch.where(targets > 0, log_softmax(logits, dim=1), 0.0)
    return -(targets * found).sum(dim=1).mean()


def distillation(logits: Tensor, teacher: Tensor) -> Tensor:
    """KL divergence of the student's distribution from the teacher's, the mean over queries.

    Args:
        logits: float32[b, k] of the student.
        teacher: float32[b, k], of the teacher.
    """
    wanted, found = log_softmax(teacher, dim=1), log_softmax(logits, dim=1)
    return (wanted.exp() * (wanted - found)).sum(dim=1).mean()


def m3_loss(dense: Tensor, sparse: Tensor, targets: Tensor, *, sparse_weight: float) -> Tensor:
    """BGE-M3's joint loss without its multi-vector leg: each leg and their sum learn, and the sum teaches the legs.

    ``L = (L_dense + w L_sparse + L_joint) / 3`` and ``L' = (L'_dense + w L'_sparse) / 2``; the loss is ``(L + L') / 2``,
    where ``L'`` is the cross-entropy with the joint distribution, which takes no gradient (Chen et al. 2024).

    Args:
        dense: logits [b, n], -inf where not allowed.
        sparse: the same of the other leg.
        targets: float32[b, n].
        sparse_weight: w; the authors take 0.1.
    """
    joint = dense + M3_SPARSE_IN_ENSEMBLE * sparse
    learned = info_nce(dense, targets) + sparse_weight * info_nce(sparse, targets) + info_nce(joint, targets)
    taught = softmax(joint.detach(), dim=1)
    distilled = info_nce(dense, taught) + sparse_weight * info_nce(sparse, taught)
    return (learned / 3 + distilled / 2) / 2


def flops_ramp(progress: float, ramp: float) -> float:
    """How much of FLOPS counts: quadratic up to 1 at the end of the ramp (SPLADE: ``(t / T)^2``)."""
    return 1.0 if ramp == 0 else min(1.0, progress / ramp) ** 2


def anti_zero(vectors: Tensor) -> Tensor:
    """``1 / (sum of weights + 0.1)^2``, the mean over vectors: keeps FLOPS from emptying them."""
    return (1.0 / (vectors.sum(dim=1) + ANTI_ZERO_FLOOR) ** 2).mean()


def _without_false_negatives(scores: Tensor, answers: Answers, margin: float | None) -> Tensor:
    """Where a comparison is allowed: not with what scores above the answer by more than the margin."""
    if margin is None:
        return answers.allowed
    best = scores.masked_fill(answers.targets == 0, -torch.inf).amax(dim=1, keepdim=True)
    return answers.allowed & ((scores <= best + margin) | (answers.targets > 0))


def _pairwise(temperature: float) -> Callable[[Tensor, Tensor], Tensor]:
    """The logits of paired rows."""
    return lambda left, right: (left * right).sum(dim=1) / temperature
