"""Which rotation moves most of the vectors' energy into the first dimensions?

A model trained for Matryoshka puts it there itself. For any other model the eigenvectors of the second moment of the
collection's own vectors do: the rotation is orthogonal and does not centre, so every dot product is preserved.
"""

from __future__ import annotations

import numpy as np

from index.arrays import Floats, Halves

SAMPLE = 50_000  # rows; a second moment of 384 dimensions does not change in the third digit beyond


def fit(vectors: Halves | Floats, seed: int = 0) -> Floats:
    """The rotation whose first columns keep the most of the dot products.

    Args:
        vectors: float16 or float32 [n, dim]; more than ``SAMPLE`` rows are sampled.
        seed: of the sample.

    Returns:
        float32[dim, dim], orthogonal, columns by falling energy; rotate by ``vectors @ rotation``. The identity for no rows.
    """
    n, dim = vectors.shape
    if n == 0:
        return np.eye(dim, dtype=np.float32)
    if n > SAMPLE:
        vectors = vectors[np.sort(np.random.default_rng(seed).choice(n, SAMPLE, replace=False))]
    sample = vectors.astype(np.float32)
    _, basis = np.linalg.eigh((sample.T @ sample).astype(np.float64) / n)
    basis = basis[:, ::-1]
    # An eigenvector's sign is arbitrary: make its greatest component positive, so that equal vectors give equal files.
    signs = np.sign(basis[np.argmax(np.abs(basis), axis=0), np.arange(dim)])
    return np.ascontiguousarray(basis * np.where(signs == 0.0, 1.0, signs), dtype=np.float32)
