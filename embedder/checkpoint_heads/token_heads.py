"""What does each token weigh, and what is its own vector?

BGE-M3 (Chen et al. 2024) puts two linear layers on its token states: one gives every token a weight, ``relu(w . h + b)``,
the other a vector for late interaction. A text's sparse vector holds, for each of its token ids, the greatest weight. The
vectors leave out the first token (CLS), whose state is the dense vector, and keep the closing one. mGTE (Zhang et al.
2024) has the same sparse head in the form of a token classifier with one label.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from embedder.checkpoint_heads.files import Linear, Place
from embedder.heads import span_positions, take_rows
from embedder.values import SparseVector

SPARSE_PLACES = (
    Place("sparse_linear.safetensors", "weight", "bias"),  # BGE-M3, converted from sparse_linear.pt
    Place("sparse_linear.safetensors", "linear.weight", "linear.bias"),
    Place("sparse_linear/model.safetensors", "linear.weight", "linear.bias"),  # a sentence-transformers Dense module
    Place("*.safetensors", "classifier.weight", "classifier.bias"),  # mGTE: GteForTokenClassification
)
MULTI_PLACES = (
    Place("colbert_linear.safetensors", "weight", "bias"),  # BGE-M3, converted from colbert_linear.pt
    Place("colbert_linear.safetensors", "linear.weight", "linear.bias"),
    Place("colbert_linear/model.safetensors", "linear.weight", "linear.bias"),
)


def weigh_tokens(
    states: Tensor, ids: NDArray[np.int64], spans: NDArray[np.int64], head: Linear, dropped: NDArray[np.bool_]
) -> list[SparseVector]:
    """The sparse vector of every span: for each token id in it, the greatest ``relu(head(state))``.

    Args:
        states: [t, h].
        ids: int64[t], the tokens.
        spans: int64[k, 2], each [start, end).
        head: [1, h].
        dropped: bool[v], the ids that never weigh anything: special tokens, and the unknown one.
    """
    owners, positions = span_positions(spans)
    weights = torch.relu(head(take_rows(states, positions))).squeeze(1).float().cpu().numpy()
    terms = ids[positions]
    kept = (weights > 0) & ~dropped[terms]
    return _greatest(weights[kept], terms[kept], owners[kept], len(spans))


def token_vectors(
    states: Tensor, spans: NDArray[np.int64], head: Linear, *, skip: int = 1
) -> list[NDArray[np.float32]]:
    """The unit vector of every token of every span but its first ``skip``: float32[m, d] for each span, in text order."""
    later = np.stack((np.minimum(spans[:, 0] + skip, spans[:, 1]), spans[:, 1]), axis=1)
    counts = (later[:, 1] - later[:, 0]).tolist()
    if not sum(counts):
        return [np.zeros((0, len(head.weight)), np.float32) for _ in counts]
    vectors = head(take_rows(states, span_positions(later)[1])).float()
    vectors = torch.nn.functional.normalize(vectors, p=2.0, dim=1).cpu()
    return [part.numpy() for part in torch.split(vectors, counts)]


def dropped_ids(special_ids: Sequence[int], vocabulary: int) -> NDArray[np.bool_]:
    """bool[vocabulary], true for the ids given."""
    mask = np.zeros(vocabulary, dtype=np.bool_)
    mask[[term for term in special_ids if term < vocabulary]] = True
    return mask


def _greatest(
    weights: NDArray[np.float32], terms: NDArray[np.int64], owners: NDArray[np.int64], n: int
) -> list[SparseVector]:
    """The greatest weight of every (owner, term); ``owners`` ascend."""
    order = np.lexsort((terms, owners))
    weights, terms, owners = weights[order], terms[order], owners[order]
    if not len(terms):
        return [SparseVector(np.empty(0, np.uint32), np.empty(0, np.float32)) for _ in range(n)]
    first = np.flatnonzero(np.concatenate(([True], (np.diff(terms) != 0) | (np.diff(owners) != 0))))
    greatest = np.maximum.reduceat(weights, first)
    cuts = np.searchsorted(owners[first], np.arange(1, n))
    pairs = zip(np.split(terms[first], cuts), np.split(greatest, cuts), strict=True)
    return [SparseVector(ids.astype(np.uint32), values.astype(np.float32)) for ids, values in pairs]
