"""The compiled loop of late interaction: the greatest dot product of every query token with the tokens of a passage."""

from __future__ import annotations

import numpy as np

from index.arrays import Bits, Codes, Floats, Rows
from index.kernels import fast_kernel, float_of_bits

LANES = 16  # query tokens side by side: SIMD lanes are query tokens, so no sum runs across lanes
LOWEST = np.float32(-3.4e38)  # less than any dot product; not infinity, which fast arithmetic may assume away


@fast_kernel
def max_sims(codes: Codes, scales: Bits, indptr: Rows, query: Floats, rows: Rows) -> Floats:
    """The sum over the query's tokens of their greatest dot product with a token of the passage, for each passage.

    A passage's score is computed from its own tokens and the query alone, so it has the same bits in whatever company.
    O(tokens of the rows * query tokens * dim).

    Args:
        codes: int8[n_tokens, dim].
        scales: uint16[n_tokens], the bit patterns of what a step of the token's code is worth, as positive float16.
        indptr: int64[n + 1]: passage i has the tokens indptr[i] to indptr[i + 1].
        query: float32[n_blocks, dim, LANES], filled up with zeros, which add nothing.
        rows: int64[m].

    Returns:
        float32[m]; 0 for a passage without tokens.
    """
    dim = codes.shape[1]
    scores = np.zeros(rows.size, np.float32)
    best = np.empty(LANES, np.float32)
    sums0, sums1 = np.empty(LANES, np.float32), np.empty(LANES, np.float32)
    sums2, sums3 = np.empty(LANES, np.float32), np.empty(LANES, np.float32)
    for r in range(rows.size):
        start, stop = indptr[rows[r]], indptr[rows[r] + 1]
        if start == stop:
            continue
        for block in range(query.shape[0]):
            part = query[block]
            best[:] = LOWEST
            for t0 in range(
                start, stop, 4
            ):  # four tokens at a time; at the end the last one again, for the same maximum
                t1, t2, t3 = min(t0 + 1, stop - 1), min(t0 + 2, stop - 1), min(t0 + 3, stop - 1)
                sums0[:] = np.float32(0.0)
                sums1[:] = np.float32(0.0)
                sums2[:] = np.float32(0.0)
                sums3[:] = np.float32(0.0)
                for k in range(dim):
                    x0, x1 = np.float32(codes[t0, k]), np.float32(codes[t1, k])
                    x2, x3 = np.float32(codes[t2, k]), np.float32(codes[t3, k])
                    for lane in range(LANES):
                        weight = part[k, lane]
                        sums0[lane] += weight * x0
                        sums1[lane] += weight * x1
                        sums2[lane] += weight * x2
                        sums3[lane] += weight * x3
                step0, step1 = _float_of_half(scales[t0]), _float_of_half(scales[t1])
                step2, step3 = _float_of_half(scales[t2]), _float_of_half(scales[t3])
                for lane in range(LANES):
                    first = max(sums0[lane] * step0, sums1[lane] * step1)
                    best[lane] = max(best[lane], max(first, max(sums2[lane] * step2, sums3[lane] * step3)))
            for lane in range(LANES):
                scores[r] += best[lane]
    return scores


@fast_kernel
def _float_of_half(bits: np.uint16) -> np.float32:
    """A float16 that is not negative, from its bits: they move to their float32 places, and 2^112 mends the exponent."""
    moved = np.uint32(np.uint32(bits) << np.uint32(13))
    return np.float32(float_of_bits(moved) * np.float32(2.0**112))
