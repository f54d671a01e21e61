"""How do the exact scores of several legs become one?

    convex   sum of weight * score / scale. The scale of a cosine, and of a mean of tokens' cosines, is 1. BM25's is what one
             term of the rarest kind could reach, (k1 + 1) * ln(1 + n_passages), so it counts how many such terms a passage
             matches, and a query of common words leaves the decision to the dense leg; for very long queries it is capped by
             the length of the weight vector.
             A learned sparse score's scale is the query's norm times the passages' mean norm: a cosine in which long
             passages do not lose what they say more.
             The result is absolute: the same for any limit, page, segment layout or candidate set, so thresholds mean
             something. The weight of BM25 is the collection's own (engine.calibration); docs/adr/0006 has the measurements.
    rrf      sum of weight / (60 + rank), rank from 1 among the candidates (Cormack, Clarke, Büttcher, SIGIR 2009).
    dbsf     sum of weight * (score - low) / (high - low), low and high = mean -/+ 3 standard deviations of the candidates'
             scores in that leg, clipped to 0..1 (distribution-based score fusion, as Qdrant defines it).

All take float32[m, n_legs] of jointly rescored candidates, so no score is missing. A lexical score of 0 means that no term
matched: such a passage has no rank in that leg and adds nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from engine.values import FusionMethod, Leg
from index.bm25 import Bm25

RRF_K = 60
BM25_SATURATION = Bm25().saturation_limit
TINY = 1e-9  # keeps a scale above zero in an empty collection
# Relative to a dense weight of 1, for collections that could not be calibrated: the middle of a plateau from 0.30 to 0.44.
DEFAULT_LEXICAL_WEIGHT = 0.4
# Of the token vectors' mean cosine, relative to a dense weight of 1.
MULTI_WEIGHT = 1.0
# The most that a learned sparse leg counts, relative to a dense weight of 1: where calibration finds no reason for less.
SPARSE_WEIGHT = 1.6
# Beside it BM25 says less that is new, and what the collection says about its weight matters less (docs/adr/0011).
BM25_SHARE = 0.4
# A query whose weight vector is longer than this many of the rarest terms is a long one.
LONG_QUERY = 3.0


def default_weights(
    bm25: float = DEFAULT_LEXICAL_WEIGHT,
    sparse: float = SPARSE_WEIGHT,
    *,
    legs: Sequence[Leg] = ("dense", "bm25"),
) -> dict[str, float]:
    """Weights by leg that sum to 1.

    Args:
        bm25: its weight in a collection of the dense leg and BM25, relative to a dense weight of 1.
        sparse: likewise that of the learned sparse leg.
        legs: that the collection has.
    """
    relative = {"dense": 1.0, "sparse": sparse, "bm25": bm25, "multi": MULTI_WEIGHT}
    if "sparse" in legs:
        relative["bm25"] = beside_sparse(bm25)
    total = sum(relative[leg] for leg in legs)
    return {leg: relative[leg] / total for leg in legs}


def beside_sparse(bm25: float) -> float:
    """BM25's weight relative to the dense leg's 1 where there is a learned sparse leg too; ``bm25``: where there is none."""
    return BM25_SHARE * math.sqrt(bm25)


def bm25_scale(weights: np.ndarray, n_passages: int) -> float:
    """The BM25 score that counts as 1: see ``convex`` above.

    Args:
        weights: float32[m], idf times query count of each query term that some passage holds.
        n_passages: live passages.
    """
    rarest = max(math.log1p(n_passages), float(np.linalg.norm(weights)) / LONG_QUERY, TINY)
    return BM25_SATURATION * rarest


def sparse_scale(weights: np.ndarray, mean_norm: float) -> float:
    """The learned sparse score that counts as 1: see ``convex`` above.

    Args:
        weights: float32[m] of the query's terms.
        mean_norm: of the passages' vectors.
    """
    return max(float(np.linalg.norm(weights)) * mean_norm, TINY)


def ranks(scores: np.ndarray, legs: Sequence[Leg]) -> np.ndarray:
    """int64[m, n_legs]: each candidate's rank in each leg, one more than candidates have a greater score; 0 for none.

    Equal scores share a rank: any order among them would depend on how segments are cut.
    """
    result = np.zeros(scores.shape, np.int64)
    for column, leg in enumerate(legs):
        falling = -scores[:, column]
        result[:, column] = np.searchsorted(np.sort(falling), falling) + 1
        if leg not in ("dense", "multi"):
            result[scores[:, column] <= 0, column] = 0
    return result


def fuse(
    scores: np.ndarray,
    legs: Sequence[Leg],
    method: FusionMethod,
    weights: Mapping[str, float],
    scales: Mapping[Leg, float],
) -> np.ndarray:
    """float64[m]: one score a candidate, greater is better. A single leg keeps its own scores.

    Args:
        scores: float32[m, n_legs], exact.
        legs: what the columns are.
        method: convex, rrf or dbsf.
        weights: leg → weight.
        scales: leg → the score that counts as 1 there (convex only).
    """
    if len(legs) == 1:
        return scores[:, 0].astype(np.float64)
    weight = np.array([weights[leg] for leg in legs])
    if method == "rrf":
        rank = ranks(scores, legs)
        return np.where(rank > 0, weight / (RRF_K + rank), 0.0).sum(axis=1)
    if method == "dbsf":
        return _distribution_based(scores.astype(np.float64)) @ weight
    return (scores / np.array([scales[leg] for leg in legs])) @ weight


def _distribution_based(scores: np.ndarray) -> np.ndarray:
    if not len(scores):
        return scores
    mean, spread = scores.mean(axis=0), scores.std(axis=0)
    normal = (scores - (mean - 3 * spread)) / np.where(spread > 0, 6 * spread, 1.0)
    return np.where(spread > 0, np.clip(normal, 0.0, 1.0), 0.5)
