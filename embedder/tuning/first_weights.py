"""With which projection onto the vocabulary does a sparse head begin?

With what the states of a sample say of each term: their mean, its distance from the middle of all, their covariance. A
projection begins as a linear discriminant (Fisher 1936): which term does a state stand for, if the states of each term
lie around the term's mean with one covariance? Neighbours begin as the terms whose means point the same way. So a
passage's own terms weigh most from the first step on, and terms of similar use come next, whatever backbone it is. Terms
that the sample lacks take their mean from a regression on the input embeddings.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from embedder.sparse_heads import NeighbourHead, ProjectionHead
from embedder.tuning.student import Student
from embedder.windows import Row

ACTIVE_TERMS = 100  # of a passage at the start; FLOPS and the data decide later
TYPICAL_LOGIT = 1.0  # the mean of those terms, so that weights are about log 2
PRIOR = 5.0  # a term's mean counts its regression as so many states
RIDGE = 1e-3  # of the covariance, as a part of its mean variance
CALIBRATED = 64  # passages that set the scale
SAMPLE = 1000  # passages that are read unless told otherwise
ROWS_AT_ONCE = 2048  # terms whose neighbours are sought together


@dataclass(frozen=True, slots=True, eq=False)
class TermStatistics:
    """What the states of a sample say of the terms that they stand for.

    Attributes:
        counts: float32[v], states of each term.
        means: float32[v, h], their mean; of terms with few states, drawn to what their embedding lets expect.
        middle: float32[h], the mean of all states.
        products: float32[h, h], the mean of states' outer products.
    """

    counts: Tensor
    means: Tensor
    middle: Tensor
    products: Tensor


@torch.no_grad()
def begin_sparse_head(student: Student, passages: Sequence[str], *, sample: int = SAMPLE) -> None:
    """Set the first weights of a new sparse head; one that weighs only a passage's own tokens stays as it is.

    The same student and passages give the same weights.

    Args:
        student: its heads are not trained yet.
        passages: what it will learn from.
        sample: the most passages that are read, evenly spaced.
    """
    head = student.parts.sparse
    if head is None or head.config.kind == "token_weight":
        return
    chosen = [passages[i] for i in np.linspace(0, len(passages) - 1, min(sample, len(passages))).astype(int)]
    rows = student.inputs.passages(chosen).rows
    embeddings = student.parts.network.get_input_embeddings().weight.detach().float()
    with student.evaluating():
        batches = _states(student, rows, student.passes(rows), head.special)
        statistics = term_statistics(batches, head.config.vocabulary, embeddings)
        if isinstance(head, NeighbourHead):
            _begin_neighbours(head, statistics, rows)
        elif isinstance(head, ProjectionHead):
            few = list(range(0, len(rows), -(-len(rows) // CALIBRATED)))
            _begin_projection(head, statistics, _states(student, rows, [[i] for i in few], head.special))


def _begin_projection(
    head: ProjectionHead, statistics: TermStatistics, passages: Iterable[tuple[Tensor, Tensor]]
) -> None:
    """A discriminant, scaled so that some of its terms are active in each of the passages, with their weights near 1."""
    decoder, bias = discriminant(statistics)
    n_active = min(ACTIVE_TERMS, max(1, len(bias) // 8))
    maxima, means = [], []
    for states, _ in passages:
        maxima.append((states @ decoder.T + bias).amax(dim=0).topk(n_active).values)
        means.append((states.mean(dim=0) @ decoder.T + bias).topk(n_active).values)
    least = torch.stack([top[-1] for top in maxima]).median()
    scale = TYPICAL_LOGIT / (torch.stack(maxima) - least).clamp_min(0).mean().clamp_min(1e-6)
    head.decoder.copy_(decoder * scale)
    head.bias.copy_((bias - least) * scale)
    _set_identity(head.token_transform)
    if head.config.kind in ("landmark_lm", "union"):
        _set_identity(head.passage_transform)
        # Mean states lie closer to the middle: their terms are active from a lower logit on.
        head.passage_bias.fill_(float((least - torch.stack([top[-1] for top in means]).median()) * scale))


def _begin_neighbours(head: NeighbourHead, statistics: TermStatistics, rows: Sequence[Row]) -> None:
    """Directions of the terms' means, the nearest ones as candidates, and inverse document frequencies."""
    directions = nn.functional.normalize(statistics.means - statistics.middle, dim=1)
    directions[head.special] = 0.0
    head.decoder.copy_(directions)
    head.centre.copy_(statistics.middle)
    head.candidates.copy_(nearest_terms(directions, statistics.counts > 0, head.candidates.shape[1]))
    found = np.bincount(np.concatenate([np.unique(row.ids) for row in rows]), minlength=head.config.vocabulary)
    frequency = np.log1p((len(rows) - found + 0.5) / (found + 0.5)).astype(np.float32)
    head.frequency.copy_(torch.from_numpy(frequency))
    head.mean_length.fill_(float(np.mean([len(row.ids) for row in rows])))
    for side in (head.document, head.query):
        nn.init.eye_(side.turn.weight)
        nn.init.zeros_(side.outer.weight)
        nn.init.constant_(side.outer.bias, math.log(math.e - 1))  # softplus of it is 1: all tokens are as important


def nearest_terms(directions: Tensor, known: Tensor, count: int) -> Tensor:
    """Each term itself, then the known terms of the greatest cosine: int32[v, count]; itself again where those end.

    Args:
        directions: float32[v, h], of unit length or zero.
        known: bool[v], the terms that may be neighbours.
        count: how many for each.
    """
    found = []
    for start in range(0, len(directions), ROWS_AT_ONCE):
        own = torch.arange(start, min(start + ROWS_AT_ONCE, len(directions)), device=directions.device)
        cosines = (directions[own] @ directions.T).masked_fill(~known, -torch.inf)
        cosines[own - start, own] = torch.inf
        best = cosines.topk(min(count, len(directions)), dim=1)
        terms = torch.where(best.values == -torch.inf, own[:, None], best.indices)
        found.append(torch.cat([terms, own[:, None].expand(-1, count - terms.shape[1])], dim=1))
    return torch.cat(found).int()


def term_statistics(batches: Iterable[tuple[Tensor, Tensor]], n_terms: int, embeddings: Tensor) -> TermStatistics:
    """Gather them.

    Args:
        batches: states float32[t, h] with their terms int64[t].
        n_terms: of the vocabulary.
        embeddings: float32[v, e], from which the means of unseen terms are estimated.
    """
    counts = torch.zeros(n_terms, device=embeddings.device)
    sums, products = torch.zeros(()), torch.zeros(())
    for states, ids in batches:
        if sums.ndim == 0:
            sums = torch.zeros(n_terms, states.shape[1], device=states.device)
            products = torch.zeros(states.shape[1], states.shape[1], dtype=torch.float64, device=states.device)
        counts.index_add_(0, ids, torch.ones(len(ids), device=ids.device))
        sums.index_add_(0, ids, states)
        products += (states.T @ states).double()
    means = (sums + PRIOR * _regressed(sums, counts, embeddings)) / (counts + PRIOR)[:, None]
    return TermStatistics(counts, means, sums.sum(dim=0) / counts.sum(), (products / counts.sum()).float())


def discriminant(statistics: TermStatistics) -> tuple[Tensor, Tensor]:
    """The linear discriminant of terms: ``states @ decoder.T + bias`` is their log-likelihood up to a constant.

    Returns:
        decoder float32[v, h] and bias float32[v].
    """
    middle, weights = statistics.middle, statistics.counts / statistics.counts.sum()
    offsets = statistics.means - middle
    between = (offsets * weights[:, None]).T @ offsets
    within = statistics.products - torch.outer(middle, middle) - between
    ridge = RIDGE * within.trace().abs() / len(within)
    decoder = torch.linalg.solve(within + ridge * torch.eye(len(within), device=within.device), offsets.T).T
    return decoder, -0.5 * (decoder * offsets).sum(dim=1) - decoder @ middle


def _regressed(sums: Tensor, counts: Tensor, embeddings: Tensor) -> Tensor:
    """The mean state of each term as a linear function of its embedding, fitted to those that were seen: [v, h]."""
    features = torch.cat([embeddings, torch.ones(len(embeddings), 1, device=embeddings.device)], dim=1).double()
    weighted = features * counts.double()[:, None]
    gram = weighted.T @ features
    gram += RIDGE * gram.trace() / len(gram) * torch.eye(len(gram), device=gram.device)
    return (features @ torch.linalg.solve(gram, features.T @ sums.double())).float()


def _states(
    student: Student, rows: Sequence[Row], batches: Sequence[Sequence[int]], special: Tensor
) -> Iterator[tuple[Tensor, Tensor]]:
    """States and terms of the rows' tokens, special ones left out, batch by batch."""
    for batch in batches:
        states = student.states([rows[i].ids for i in batch]).float()
        ids = torch.from_numpy(np.concatenate([rows[i].ids for i in batch]).astype(np.int64)).to(states.device)
        real = ~special[ids]
        if bool(real.any()):
            yield states[real], ids[real]


def _set_identity(layer: nn.Linear) -> None:
    nn.init.eye_(layer.weight)
    nn.init.zeros_(layer.bias)
