"""How do ranked passages become ranked documents?

A document's score is a blend of its best passage and the mean of its best few: on long documents one lucky passage is weaker
evidence than several good ones. All of a candidate document's passages are scored, not only those that a leg happened to
find, so the blend does not depend on depth.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from engine.rescoring import Candidates, changes

# score = (1 - BLEND) * best + BLEND * mean of the best BEST. On meeting transcripts this adds 0.015 nDCG@10 to the hybrid
# ranking over the best passage alone, and elsewhere changes less than 0.006 (docs/adr/0006).
BLEND = 0.3
BEST = 3


@dataclass(frozen=True, slots=True)
class Groups:
    """The documents of a candidate set, by (segment, doc).

    order: int64[m]; ``order[first[i]:first[i + 1]]`` are the candidates of document i, best first (ties: candidate order).
    scores: float64[n], the documents' scores. segments, docs: where document i is.
    """

    order: np.ndarray
    first: np.ndarray
    scores: np.ndarray
    segments: np.ndarray
    docs: np.ndarray

    def members(self, group: int) -> np.ndarray:
        """The candidates of one document, best first."""
        return self.order[self.first[group] : self.first[group + 1]]


def best_rows(
    candidates: Candidates, starts: Callable[[Candidates], np.ndarray], fused: np.ndarray
) -> np.ndarray | None:
    """The best row of each passage, int64[k] ascending; None when every candidate is another passage.

    A passage has several rows, one behind the other, where a generator wrote about it (`engine.values.Expansion`). It
    counts once, with its best row; ties: the first.

    Args:
        candidates: rows.
        starts: gives int[m], where each one's passage begins in its document; not asked when all are other documents'.
        fused: float64[m], one score a row.
    """
    same = ~_firsts(candidates)
    if not same.any():
        return None
    begins = starts(candidates)
    same[1:] &= begins[1:] == begins[:-1]
    if not same.any():
        return None
    passage = np.cumsum(~same)
    order = np.lexsort((-fused, passage))
    return order[changes(passage[order])]


def _firsts(candidates: Candidates) -> np.ndarray:
    """bool[m]: which candidates are the first of their document; rows, and so documents, are ascending."""
    return changes(candidates.docs) | changes(candidates.segments)


def group(candidates: Candidates, fused: np.ndarray, *, blend: float = BLEND, best: int = BEST) -> Groups:
    """The documents of ``candidates``, whose fused scores are float64[m].

    Args:
        candidates: passages.
        fused: one score a passage.
        blend: how much the mean of the best few counts; 0: the best passage alone.
        best: how many are the best few; a document with fewer passages has the mean of what it has.
    """
    firsts = _firsts(candidates)
    starts = np.flatnonzero(firsts)
    first = np.append(starts, len(fused))
    segments, docs = candidates.segments[starts], candidates.docs[starts]
    if len(starts) == len(fused):  # one passage a document
        return Groups(starts, first, fused, segments, docs)
    order = np.lexsort((-fused, np.cumsum(firsts)))
    lengths = np.diff(first)
    place = np.arange(len(order)) - np.repeat(starts, lengths)
    # Summed group by group, not by differences of one running sum: a score must not depend on its neighbours' rounding.
    counts = np.minimum(lengths, best)
    sums = np.add.reduceat(fused[order][place < best], np.cumsum(counts) - counts)
    top, mean = fused[order][starts], sums / counts
    return Groups(order, first, top + blend * (mean - top), segments, docs)  # a lone passage keeps its score to the bit
