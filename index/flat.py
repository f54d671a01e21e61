"""The flat kind: every row's prefix is scanned, in 8 bits.

One step for the whole segment turns coordinates into codes; the query has 14 bits, so that all rounding is that of the rows.
A row's codes lie together, padded to whole vectors: a scan reads them in order, a graph (`index.hnsw`) and a filter
read the few that they need. The scan is bound by memory: see docs/adr/0013.

Files: ``codes.npy`` int8[n, width], ``step.npy`` float32[1], what one step of a code is worth.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np

from index.arrays import Codes, Floats, Mask, Rows, Shorts, freeze, load_array, save_array
from index.errors import CorruptIndexFile
from index.kernels import byte_scan
from index.simd import WIDTH

QUERY_LENGTH = 16_384.0  # of a quantised query; sums of its products with codes of 16,384 dimensions stay below 2^31

_NO_MASK = freeze(np.empty(0, np.bool_))


class FlatIndex:
    """Prefixes in 8 bits, scanned whole; immutable, safe to search from many threads.

    Attributes:
        codes: int8[n, width], read-only, width the next multiple of ``simd.WIDTH``.
        step: what one step of a code is worth.
    """

    kind: ClassVar[str] = "flat"
    widths: ClassVar[tuple[int, ...]] = (0,)

    def __init__(self, codes: Codes, step: float) -> None:
        """Keep the given codes; use ``build`` or ``load``."""
        self.codes = codes
        self.step = step

    @classmethod
    def build(cls, prefixes: Floats, *, seed: int = 0, threads: int = 1) -> FlatIndex:
        """Quantise ``prefixes``, float32[n, coarse_dim]. ``seed`` and ``threads`` change nothing."""
        del seed, threads
        n, dim = prefixes.shape
        greatest = float(np.abs(prefixes).max(initial=0.0))
        step = greatest / 127.0 if greatest > 0.0 else 1.0
        codes = np.zeros((n, _padded(dim)), np.int8)
        np.rint(prefixes / np.float32(step), out=codes[:, :dim], casting="unsafe")
        return cls(freeze(codes), step)

    def save(self, folder: Path) -> None:
        """Write the files into an existing folder."""
        save_array(folder, "codes", self.codes)
        save_array(folder, "step", np.array([self.step], np.float32))

    @classmethod
    def load(cls, folder: Path, n_rows: int, coarse_dim: int) -> FlatIndex:
        """Map what ``save`` wrote.

        Raises:
            CorruptIndexFile: a file is missing or has another shape; rebuild the segment.
        """
        codes, step = load_array(folder, "codes"), load_array(folder, "step")
        if codes.shape != (n_rows, _padded(coarse_dim)) or step.shape != (1,):
            raise CorruptIndexFile(folder / "codes.npy", f"its shape {codes.shape} does not fit {n_rows} rows")
        return cls(codes, float(step[0]))

    def cost(self, width: int) -> int:
        """Bytes that a search reads before rescoring."""
        del width
        return self.codes.nbytes

    def deepest(self, width: int) -> int:
        """How many candidates a search can give."""
        del width
        return len(self.codes)

    def candidates(self, query: Floats, depth: int, *, width: int | None = None, allow: Mask | None = None) -> Rows:
        """The ``depth`` rows with the greatest approximate scores, best first: int64[<= depth].

        Args:
            query: float32[coarse_dim].
            depth: at least 1.
            width: changes nothing: the scan is complete.
            allow: bool[n_rows], or None for all rows.
        """
        del width
        length = float(np.linalg.norm(query))
        asked = self.quantised(query, QUERY_LENGTH / length if length > 0.0 else 0.0)
        rows: Rows = byte_scan(
            self.codes, asked, min(depth, len(self.codes)), _NO_MASK if allow is None else freeze(allow)
        )
        return rows

    def quantised(self, query: Floats, scale: float) -> Shorts:
        """``query`` times ``scale``, rounded: int16[width], zero in the padding. Its length must be within QUERY_LENGTH."""
        shorts = np.zeros(self.codes.shape[1], np.int16)
        np.rint(query * np.float32(scale), out=shorts[: query.size], casting="unsafe")
        return freeze(shorts)


def _padded(dim: int) -> int:
    return -(-dim // WIDTH) * WIDTH
