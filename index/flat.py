"""The flat kind: every row's prefix is scanned, in 4 bits.

Each dimension has 16 levels, spread over three standard deviations to both sides of its mean; the query takes the levels'
steps and has 8 bits, which cost nothing measurable. Two dimensions in 4 bits tell more than one in 8: on real
vectors of 384, the 20 best by 256 dimensions in 128 bytes hold 0.987 of the nearest ten, by 128 dimensions in as many bytes
0.880 (docs/adr/0013). A row's codes lie together, padded to whole vectors: a scan reads them in order, a graph
(`index.hnsw`) and a filter read the few that they need.

Files: ``codes.npy`` uint8[n, width], ``steps.npy`` float32[coarse_dim], what one level is worth.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np

from index.arrays import Bytes, Codes, Floats, Mask, Rows, freeze, load_array, save_array
from index.errors import CorruptIndexFile
from index.kernels import code_scan, code_scan_allowed
from index.simd import LANES

LEVELS = 16
REACH = 3.0  # standard deviations that the levels cover; rows beyond take the last level
GREATEST = 127.0  # of the weights of a quantised query

_CHUNK = 65_536  # rows quantised at a time


class FlatIndex:
    """Prefixes in 4 bits, scanned whole; immutable, safe to search from many threads.

    Attributes:
        codes: uint8[n, width], read-only; see ``simd.nibble_dot``.
    """

    kind: ClassVar[str] = "flat"
    widths: ClassVar[tuple[int, ...]] = (0,)

    def __init__(self, codes: Bytes, steps: Floats) -> None:
        """Keep the given codes; use ``build`` or ``load``."""
        self.codes = codes
        self._steps = steps

    @classmethod
    def build(cls, prefixes: Floats, *, seed: int = 0, threads: int = 1) -> FlatIndex:
        """Quantise ``prefixes``, float32[n, coarse_dim]. ``seed`` and ``threads`` change nothing."""
        del seed, threads
        n, dim = prefixes.shape
        width = _width(dim)
        middle, spread = prefixes.mean(axis=0, dtype=np.float64), prefixes.std(axis=0, dtype=np.float64)
        steps = np.where(spread > 0.0, 2.0 * REACH / LEVELS * spread, 1.0).astype(np.float32)
        codes = np.empty((n, width), np.uint8)
        for start in range(0, n, _CHUNK):
            part = (prefixes[start : start + _CHUNK] - middle.astype(np.float32)) / steps + LEVELS / 2
            levels = np.zeros((len(part), 2 * width), np.uint8)
            levels[:, :dim] = np.clip(np.floor(part), 0, LEVELS - 1)
            codes[start : start + _CHUNK] = levels[:, :width] | levels[:, width:] << 4
        return cls(freeze(codes), freeze(steps))

    def save(self, folder: Path) -> None:
        """Write the files into an existing folder."""
        save_array(folder, "codes", self.codes)
        save_array(folder, "steps", self._steps)

    @classmethod
    def load(cls, folder: Path, n_rows: int, coarse_dim: int) -> FlatIndex:
        """Map what ``save`` wrote.

        Raises:
            CorruptIndexFile: a file is missing or has another shape; rebuild the segment.
        """
        codes, steps = load_array(folder, "codes"), load_array(folder, "steps")
        if codes.shape != (n_rows, _width(coarse_dim)) or steps.shape != (coarse_dim,):
            raise CorruptIndexFile(folder / "codes.npy", f"its shape {codes.shape} does not fit {n_rows} rows")
        return cls(codes, steps)

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
        asked, depth = self.quantised(query), min(depth, len(self.codes))
        if allow is None:
            return code_scan(self.codes, asked, depth)
        return code_scan_allowed(self.codes, asked, freeze(allow), depth)

    def quantised(self, query: Floats) -> Codes:
        """The query in the steps of the codes, in 8 bits: int8[2 * width], zero in the padding.

        Its dot product with a row's codes ranks the row as the dot product of the prefixes: what the means add is the
        same for all rows.
        """
        weights = query * self._steps
        greatest = float(np.abs(weights).max(initial=0.0))
        kept = np.zeros(2 * self.codes.shape[1], np.int8)
        np.rint(weights * np.float32(GREATEST / max(greatest, 1e-30)), out=kept[: query.size], casting="unsafe")
        return freeze(kept)


def _width(dim: int) -> int:
    """Bytes of a row: half the dimensions, padded."""
    return -(-dim // (2 * LANES)) * LANES
