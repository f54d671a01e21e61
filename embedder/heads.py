"""How do token states become vectors?

Pure functions on flat states: the real tokens of a batch, one after another, without padding. Every dense pooling is a
mean over a span of positions (cls: the first one, last token: the last one, mean: all), so one function serves them all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from embedder.values import SparseVector

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "Identity": lambda x: x,
    "Tanh": torch.tanh,
    "ReLU": torch.relu,
    "GELU": torch.nn.functional.gelu,
}


@dataclass(frozen=True, slots=True, eq=False)
class Projection:
    """A dense layer after the pooling: ``activation(weight @ x + bias)``; weight [out, in], bias [out] or None."""

    weight: Tensor
    bias: Tensor | None
    activation: str

    def __call__(self, vectors: Tensor) -> Tensor:
        """Project [k, in] to [k, out]."""
        return ACTIVATIONS[self.activation](torch.nn.functional.linear(vectors, self.weight, self.bias))


def pool_spans(states: Tensor, spans: NDArray[np.int64], weights: NDArray[np.int64] | None = None) -> Tensor:
    """The mean of each span's states.

    Args:
        states: [t, h], any float dtype.
        spans: int64[k, 2], each [start, end) with end > start.
        weights: int64[t], what each state weighs, above zero; None: all the same.

    Returns:
        float32[k, h].
    """
    owners, positions = span_positions(spans)
    device = states.device
    chosen = take_rows(states, positions).float()
    sums = torch.zeros((len(spans), states.shape[1]), dtype=torch.float32, device=device)
    totals = spans[:, 1] - spans[:, 0]
    if weights is not None:
        chosen = chosen * torch.from_numpy(weights[positions].astype(np.float32)).to(device)[:, None]
        totals = np.bincount(owners, weights[positions])
    sums.index_add_(0, torch.from_numpy(owners).to(device), chosen)
    return sums / torch.from_numpy(totals.astype(np.float32)).to(device)[:, None]


def positions_from_one(lengths: Sequence[int]) -> NDArray[np.int64]:
    """The position of each token in its own input, the first being 1: SGPT's weights (Muennighoff 2022)."""
    return np.concatenate([np.arange(1, length + 1, dtype=np.int64) for length in lengths])


def mean_of_inputs(pooled: Tensor, counts: Sequence[int]) -> Tensor:
    """The mean over the inputs that make one vector together: [sum(counts), h] to [len(counts), h]."""
    if len(pooled) == len(counts):
        return pooled
    return torch.stack([part.mean(0) for part in torch.split(pooled, list(counts))])


def span_positions(spans: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The positions that the spans cover, one span after another: (the span that each belongs to, the position)."""
    lengths = spans[:, 1] - spans[:, 0]
    owners = np.repeat(np.arange(len(spans)), lengths)
    first = np.cumsum(lengths) - lengths
    return owners, np.arange(int(lengths.sum())) - first[owners] + spans[owners, 0]


def take_rows(states: Tensor, positions: NDArray[np.int64]) -> Tensor:
    """Rows of [t, h] by position; the states themselves when all are asked for in order."""
    if len(positions) == len(states) and positions[0] == 0 and (np.diff(positions) == 1).all():
        return states
    return states.index_select(0, torch.from_numpy(positions).to(states.device))


def finish_dense(pooled: Tensor, projections: Sequence[Projection], *, normalise: bool) -> NDArray[np.float32]:
    """Project and normalise pooled vectors: float32[k, h] to float32[k, dim] on the CPU."""
    for projection in projections:
        pooled = projection(pooled.to(projection.weight.dtype)).float()
    if normalise:
        pooled = torch.nn.functional.normalize(pooled, p=2.0, dim=1)
    result: NDArray[np.float32] = pooled.cpu().numpy()
    return result


def sparse_vectors(weights: Tensor, beyond: tuple[Tensor, Tensor, Tensor] | None = None) -> list[SparseVector]:
    """The positive entries of each row of float32[k, v]; only they leave the device.

    ``beyond``: more entries, of terms beyond the vocabulary: their rows and terms int64[m], their weights float32[m].
    """
    owners, ids = (weights > 0).nonzero(as_tuple=True)
    found = weights[owners, ids].float()
    if beyond is not None and len(beyond[0]):
        owners, ids, found = (torch.cat(parts) for parts in zip((owners, ids, found), beyond, strict=True))
        # Stable: within a row the vocabulary's terms stay before those beyond it.
        order = torch.argsort(owners, stable=True)
        owners, ids, found = owners[order], ids[order], found[order]
    ends = np.cumsum(torch.bincount(owners, minlength=len(weights)).cpu().numpy())[:-1]
    all_ids = ids.to(torch.int32).cpu().numpy().astype(np.uint32)
    values = found.cpu().numpy()
    parts = zip(np.split(all_ids, ends), np.split(values, ends), strict=True)
    return [SparseVector(terms.copy(), weighed.copy()) for terms, weighed in parts]  # copies: one may outlive the rest


def truncate_dim(vectors: NDArray[np.float32], dim: int) -> NDArray[np.float32]:
    """The Matryoshka prefix of unit vectors, of unit length again: float32[n, d] to float32[n, dim]."""
    prefix = vectors[:, :dim]
    norms = np.linalg.norm(prefix, axis=1, keepdims=True)
    shortened: NDArray[np.float32] = (prefix / np.maximum(norms, 1e-12)).astype(np.float32)
    return shortened
