"""How does a query become a sparse vector without the network?

Models that expand only documents score a query by its own terms: SPLADE-doc (Formal et al. 2021) gives each distinct token
the weight 1, OpenSearch's inference-free models (Geng et al. 2024) a weight from a table, ``idf.json``, where a token that
is not in the table weighs nothing. Special tokens never count.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedder.errors import ModelLoadFailed
from embedder.values import SparseVector


def term_query(ids: NDArray[np.integer], weights: NDArray[np.float32]) -> SparseVector:
    """The distinct tokens of a query, each with its weight in ``weights`` float32[v]; those of weight zero are left out."""
    distinct = np.unique(ids)
    values = weights[distinct]
    kept = values > 0
    return SparseVector(distinct[kept].astype(np.uint32), values[kept].astype(np.float32))


def binary_weights(special: NDArray[np.bool_]) -> NDArray[np.float32]:
    """float32[v]: 1 for every term but the special ones."""
    return np.where(special, 0.0, 1.0).astype(np.float32)


def read_table(path: Path, vocabulary: dict[str, int], special: NDArray[np.bool_]) -> NDArray[np.float32]:
    """float32[v]: the weights that ``idf.json`` gives to tokens, by their ids.

    Args:
        path: a JSON object of weights by token.
        vocabulary: ids by token.
        special: bool[v], the terms that weigh nothing whatever the table says.

    Raises:
        ModelLoadFailed: there is no such table, or it is not one of numbers by token.
    """
    try:
        table = {str(token): float(weight) for token, weight in json.loads(path.read_text(encoding="utf-8")).items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ModelLoadFailed(str(path.parent), f"{path.name} is no table of weights by token: {error}") from error
    weights = np.zeros(len(special), dtype=np.float32)
    for token, weight in table.items():
        term = vocabulary.get(token)
        if term is not None and term < len(weights):
            weights[term] = weight
    if not weights.any():
        raise ModelLoadFailed(str(path.parent), f"{path.name} gives no weight to any token of the vocabulary")
    return np.where(special, 0.0, weights).astype(np.float32)
