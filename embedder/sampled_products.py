"""How is each row multiplied with a few rows of a large matrix, other ones for each, without copying them?"""

from __future__ import annotations

import warnings
from functools import cache

import torch
from torch import Tensor


def row_products(rows: Tensor, matrix: Tensor, chosen: Tensor) -> Tensor:
    """The dot products of each row with its own rows of a matrix.

    On a CPU, in float32, only the products that are asked for are computed, and no row of the matrix is copied: ten times
    as fast. Elsewhere, and where gradients are wanted, it is a batched product.

    Args:
        rows: [t, h].
        matrix: [v, h], of the same dtype.
        chosen: int64[t, m], rows of the matrix, in any order and possibly repeated.

    Returns:
        float32[t, m].
    """
    if torch.is_grad_enabled() or rows.device.type != "cpu" or rows.dtype != torch.float32:
        return torch.bmm(matrix[chosen], rows[:, :, None]).squeeze(2).float()
    pattern = _entries(chosen, len(matrix))
    return torch.sparse.sampled_addmm(pattern, rows, matrix.T, beta=0.0).values().view(chosen.shape)


@cache
def silence_beta_warning() -> None:
    """Let torch say once, to nobody, that its CSR tensors are in beta. Call it before threads do: filters are global."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _entries(torch.zeros((1, 1), dtype=torch.int64), 1)


def _entries(columns: Tensor, width: int) -> Tensor:
    """A CSR matrix float32[t, width] of zeros, with the entries ``columns`` int64[t, m] in its rows."""
    t, m = columns.shape
    starts = torch.arange(0, t * m + 1, m)
    return torch.sparse_csr_tensor(starts, columns.reshape(-1), torch.zeros(t * m), (t, width), check_invariants=False)
