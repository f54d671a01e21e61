"""How are token vectors stored, and how well does a passage answer a query token by token?

Late interaction (Khattab, Zaharia, SIGIR 2020): a passage's score is the sum over the query's token vectors of their greatest
dot product with one of the passage's token vectors. There is no index over tokens: this leg scores candidates of the
other legs, exactly on what is stored.

Stored: one int8 code a component and one float16 step a token, a quarter of float32. A component's error is at most half
a step and a step is at most max|x| / 127 * (1 + 2^-10), so a query token q errs by at most step / 2 * sum |q_k|.
Quantising what was read back changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from index.arrays import Codes, Floats, Halves, Rows, freeze, load_array, save_array
from index.errors import CorruptIndexFile, DimensionMismatch, InvalidIndexInput
from index.multi_kernels import LANES, max_sims

GREATEST = 127  # of a code


@dataclass(frozen=True, slots=True)
class TokenRows:
    """Quantised token vectors of passages, one passage after the other.

    Attributes:
        indptr: int64[n + 1]; passage i has the tokens indptr[i] to indptr[i + 1], indptr[0] is 0.
        codes: int8[n_tokens, dim].
        scales: float16[n_tokens], > 0; a token's vector is its codes times its scale.
    """

    indptr: Rows
    codes: Codes
    scales: Halves

    @property
    def n_rows(self) -> int:
        """How many passages there are, those without tokens included."""
        return int(self.indptr.size) - 1

    @property
    def dim(self) -> int:
        """The width of a token vector."""
        return int(self.codes.shape[1])

    @property
    def nbytes(self) -> int:
        """The bytes of codes and scales."""
        return int(self.codes.nbytes + self.scales.nbytes)

    def row(self, i: int) -> Floats:
        """The token vectors of passage ``i`` as they are scored: float32[m, dim]."""
        part = slice(int(self.indptr[i]), int(self.indptr[i + 1]))
        return self.codes[part].astype(np.float32) * self.scales[part, None].astype(np.float32)

    def take(self, rows: Rows) -> TokenRows:
        """Copy the given passages (int64[m]; repeats allowed), in the given order."""
        starts = self.indptr[:-1][rows]
        lengths = self.indptr[1:][rows] - starts
        indptr = np.zeros(lengths.size + 1, np.int64)
        np.cumsum(lengths, out=indptr[1:])
        picked = np.repeat(starts - indptr[:-1], lengths) + np.arange(indptr[-1])
        return TokenRows(indptr, self.codes[picked], self.scales[picked])

    @classmethod
    def concat(cls, parts: Sequence[TokenRows]) -> TokenRows:
        """Copy the passages of every part, one part after the other; at least one part, all of one width."""
        sizes = np.cumsum([0] + [part.scales.size for part in parts])
        indptr = [part.indptr[1:] + size for part, size in zip(parts, sizes, strict=False)]
        return cls(
            np.concatenate([np.zeros(1, np.int64), *indptr]).astype(np.int64, copy=False),
            np.concatenate([part.codes for part in parts]),
            np.concatenate([part.scales for part in parts]),
        )

    @classmethod
    def from_vectors(cls, passages: Sequence[Floats], dim: int) -> TokenRows:
        """Quantise the token vectors of passages.

        Args:
            passages: floats [m_i, dim] each, finite; m_i may be 0.
            dim: the width of all.

        Raises:
            DimensionMismatch: a passage's vectors have another width.
        """
        for passage in passages:
            if passage.shape[1] != dim:
                raise DimensionMismatch(dim, passage.shape[1])
        indptr = np.cumsum([0, *(len(passage) for passage in passages)]).astype(np.int64)
        vectors = np.concatenate([np.empty((0, dim), np.float32), *passages]).astype(np.float32, copy=False)
        exact = np.abs(vectors).max(axis=1, initial=0.0).astype(np.float64) / GREATEST
        scales = exact.astype(np.float16)
        # Rounded up, so that no code exceeds GREATEST; and normal, as the kernel reads them.
        scales = np.where(scales < exact, np.nextafter(scales, np.float16(np.inf)), scales)
        scales = np.maximum(scales, np.finfo(np.float16).tiny)
        codes = np.rint(vectors / scales[:, None].astype(np.float32)).astype(np.int8)
        return cls(indptr, codes, scales)


class MultiIndex:
    """The token vectors of a segment's passages. Immutable; any thread may score.

    Args:
        tokens: of the passages, in their order.
    """

    def __init__(self, tokens: TokenRows) -> None:
        self._tokens = TokenRows(freeze(tokens.indptr), freeze(tokens.codes), freeze(tokens.scales))

    @property
    def nbytes(self) -> int:
        """The bytes of the token vectors."""
        return self._tokens.nbytes

    def rows(self) -> TokenRows:
        """All token vectors as they are stored, not copied."""
        return self._tokens

    def score(self, query: Floats, rows: Rows) -> Floats:
        """The sum over the query's tokens of the greatest dot product with a token of the passage.

        Args:
            query: float32[n, dim], finite; a token's length is its weight.
            rows: int64[m].

        Returns:
            float32[m]; 0 for a passage without tokens.

        Raises:
            DimensionMismatch: the query has another width.
            InvalidIndexInput: it holds NaN or infinity.
        """
        tokens = self._tokens
        if query.shape[1] != tokens.dim:
            raise DimensionMismatch(tokens.dim, query.shape[1])
        if not np.isfinite(query).all():
            raise InvalidIndexInput("query", "it holds NaN or infinity. Send finite numbers.")
        n_blocks = -(-len(query) // LANES)
        filled = np.zeros((n_blocks * LANES, tokens.dim), np.float32)
        filled[: len(query)] = query
        blocks = np.ascontiguousarray(filled.reshape(n_blocks, LANES, tokens.dim).transpose(0, 2, 1))
        bits = freeze(tokens.scales.view(np.uint16))
        scores: Floats = max_sims(tokens.codes, bits, tokens.indptr, blocks, np.array(rows, np.int64))
        return scores

    def save(self, folder: Path) -> None:
        """Write the arrays into ``folder``, which exists."""
        for name in ("indptr", "codes", "scales"):
            save_array(folder, name, getattr(self._tokens, name))

    @classmethod
    def load(cls, folder: Path) -> MultiIndex:
        """Map what ``save`` wrote.

        Raises:
            CorruptIndexFile: a file is missing, or the arrays do not belong together; rebuild the segment.
        """
        indptr, codes, scales = (load_array(folder, name) for name in ("indptr", "codes", "scales"))
        if codes.ndim != 2 or not indptr.size or not len(codes) == len(scales) == int(indptr[-1]):
            raise CorruptIndexFile(folder, "its arrays do not belong together")
        return cls(TokenRows(indptr, codes, scales))
