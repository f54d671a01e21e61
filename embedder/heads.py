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

VOCABULARY_CHUNK = 4096  # columns of logits held at a time: at 2,048 tokens, 32 MiB of float32

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


def pool_spans(states: Tensor, spans: NDArray[np.int64]) -> Tensor:
    """The mean of each span's states.

    Args:
        states: [t, h], any float dtype.
        spans: int64[k, 2], each [start, end) with end > start.

    Returns:
        float32[k, h].
    """
    lengths = spans[:, 1] - spans[:, 0]
    owner = np.repeat(np.arange(len(spans)), lengths)
    first = np.cumsum(lengths) - lengths
    positions = np.arange(int(lengths.sum())) - first[owner] + spans[owner, 0]
    device = states.device
    if len(positions) == len(states) and positions[0] == 0 and (np.diff(positions) == 1).all():
        chosen = states.float()
    else:
        chosen = states.index_select(0, torch.from_numpy(positions).to(device)).float()
    sums = torch.zeros((len(spans), states.shape[1]), dtype=torch.float32, device=device)
    sums.index_add_(0, torch.from_numpy(owner).to(device), chosen)
    return sums / torch.from_numpy(lengths.astype(np.float32)).to(device)[:, None]


def finish_dense(pooled: Tensor, projections: Sequence[Projection], *, normalise: bool) -> NDArray[np.float32]:
    """Project and normalise pooled vectors: float32[k, h] to float32[k, dim] on the CPU."""
    for projection in projections:
        pooled = projection(pooled.to(projection.weight.dtype)).float()
    if normalise:
        pooled = torch.nn.functional.normalize(pooled, p=2.0, dim=1)
    result: NDArray[np.float32] = pooled.cpu().numpy()
    return result


def mlm_max(states: Tensor, spans: NDArray[np.int64], weight: Tensor, bias: Tensor | None) -> list[SparseVector]:
    """SPLADE's vector of each span: w_j = max over its tokens of log(1 + relu(logit_j)) (Formal et al., 2021).

    The logits are computed for a slice of the vocabulary at a time, and reduced to one row a span at once; tokens times
    vocabulary never exists. The maximum is taken before the logarithm, which is monotonic.

    Args:
        states: [t, h], the head's input to the vocabulary layer.
        spans: int64[k, 2].
        weight: [v, h].
        bias: [v], or None.
    """
    n_vocabulary = weight.shape[0]
    maxima = torch.empty((len(spans), n_vocabulary), dtype=torch.float32, device=states.device)
    bounds = spans.tolist()
    for start in range(0, n_vocabulary, VOCABULARY_CHUNK):
        end = min(start + VOCABULARY_CHUNK, n_vocabulary)
        logits = torch.nn.functional.linear(states, weight[start:end], None if bias is None else bias[start:end])
        for i, (first, last) in enumerate(bounds):
            maxima[i, start:end] = logits[first:last].amax(dim=0)
    weights = torch.log1p(torch.relu(maxima)).cpu().numpy()
    return [_sparse(row) for row in weights]


def _sparse(row: NDArray[np.float32]) -> SparseVector:
    ids = np.flatnonzero(row > 0)
    return SparseVector(ids.astype(np.uint32), row[ids].astype(np.float32))


def truncate_dim(vectors: NDArray[np.float32], dim: int) -> NDArray[np.float32]:
    """The Matryoshka prefix of unit vectors, of unit length again: float32[n, d] to float32[n, dim]."""
    prefix = vectors[:, :dim]
    norms = np.linalg.norm(prefix, axis=1, keepdims=True)
    shortened: NDArray[np.float32] = (prefix / np.maximum(norms, 1e-12)).astype(np.float32)
    return shortened
