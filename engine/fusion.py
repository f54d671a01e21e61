"""How do the exact scores of several legs become one?

    convex   sum of weight * score / reach, where reach is the score that the query could at most get in that leg. The result
             is absolute: the same for any limit, page, segment layout or candidate set, so thresholds mean something.
    rrf      sum of weight / (60 + rank), rank from 1 among the candidates (Cormack, Clarke, Büttcher, SIGIR 2009).
    dbsf     sum of weight * (score - low) / (high - low), low and high = mean -/+ 3 standard deviations of the candidates'
             scores in that leg, clipped to 0..1 (distribution-based score fusion, as Qdrant defines it).

All take float32[m, n_legs] of jointly rescored candidates, so no score is missing. A lexical score of 0 means that no term
matched: such a passage has no rank in that leg and adds nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from engine.values import FusionMethod, Leg

RRF_K = 60
DEFAULT_WEIGHTS: Mapping[str, float] = {"dense": 0.55, "sparse": 0.45, "bm25": 0.45}


def ranks(scores: np.ndarray, legs: Sequence[Leg]) -> np.ndarray:
    """int64[m, n_legs]: each candidate's rank in each leg, from 1, by score descending then candidate order; 0 for none."""
    result = np.zeros(scores.shape, np.int64)
    for column, leg in enumerate(legs):
        order = np.argsort(-scores[:, column], kind="stable")
        result[order, column] = np.arange(1, len(order) + 1)
        if leg != "dense":
            result[scores[:, column] <= 0, column] = 0
    return result


def fuse(
    scores: np.ndarray,
    legs: Sequence[Leg],
    method: FusionMethod,
    weights: Mapping[str, float],
    reach: Mapping[Leg, float],
) -> np.ndarray:
    """float64[m]: one score a candidate, greater is better. A single leg keeps its own scores.

    Args:
        scores: float32[m, n_legs], exact.
        legs: what the columns are.
        method: convex, rrf or dbsf.
        weights: leg → weight.
        reach: leg → the greatest score that the query could get there.
    """
    if len(legs) == 1:
        return scores[:, 0].astype(np.float64)
    weight = np.array([weights[leg] for leg in legs])
    if method == "rrf":
        rank = ranks(scores, legs)
        return np.where(rank > 0, weight / (RRF_K + rank), 0.0).sum(axis=1)
    if method == "dbsf":
        return _distribution_based(scores.astype(np.float64)) @ weight
    return (scores / np.array([reach[leg] for leg in legs])) @ weight


def _distribution_based(scores: np.ndarray) -> np.ndarray:
    if not len(scores):
        return scores
    mean, spread = scores.mean(axis=0), scores.std(axis=0)
    normal = (scores - (mean - 3 * spread)) / np.where(spread > 0, 6 * spread, 1.0)
    return np.where(spread > 0, np.clip(normal, 0.0, 1.0), 0.5)
