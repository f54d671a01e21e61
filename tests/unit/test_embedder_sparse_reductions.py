"""What a GPU does with term weights, by the same operations on the CPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from embedder import heads, sparse_heads


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_greatest_logit_of_each_passage_in_one_kernel(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    logits, counts = torch.randn(40, 7).to(dtype) - 1, [3, 0, 30, 1, 6]
    found = sparse_heads.greatest_by_segment(logits, counts)
    assert found.dtype == torch.float32
    for row, part in zip(found, torch.split(logits, counts), strict=True):
        expected = [max([0.0, *column]) for column in part.float().T.tolist()]
        assert row.tolist() == expected


def test_only_positive_weights_become_terms() -> None:
    weights = torch.tensor([[0.0, 2.0, 0.0, -1.0, 0.5], [0.0, 0.0, 0.0, 0.0, 0.0], [3.0, 0.0, 0.0, 0.0, 1.0]])
    vectors = heads.sparse_vectors(weights)
    assert [vector.ids.tolist() for vector in vectors] == [[1, 4], [], [0, 4]]
    assert [vector.weights.tolist() for vector in vectors] == [[2.0, 0.5], [], [3.0, 1.0]]
    assert all(v.ids.dtype == np.uint32 and v.weights.dtype == np.float32 for v in vectors)
    assert all(vector.ids.base is None for vector in vectors), "a cached query would keep its whole batch alive"
