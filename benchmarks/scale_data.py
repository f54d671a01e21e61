"""How does a benchmark read the scale corpus that ``benchmarks.scale_corpus`` made? The large arrays are memory-mapped."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from index.sparse_rows import SparseRows

VOCABULARY = 30_522  # learned terms


@dataclass(frozen=True)
class Passages:
    """Passages as flat arrays.

    Attributes:
        text: uint8[bytes], UTF-8, one passage after another; text_ptr int64[n + 1].
        tokens: uint16[m], the model's token ids without special ones; token_ptr int64[n + 1].
    """

    text: np.ndarray
    text_ptr: np.ndarray
    tokens: np.ndarray
    token_ptr: np.ndarray

    def save(self, folder: Path) -> None:
        """Write ``passages_*.npy``."""
        for name in ("text", "text_ptr", "tokens", "token_ptr"):
            np.save(folder / f"passages_{name}.npy", getattr(self, name))

    @classmethod
    def load(cls, folder: Path) -> Passages:
        """Map what ``save`` wrote."""
        names = ("text", "text_ptr", "tokens", "token_ptr")
        return cls(*(np.load(folder / f"passages_{name}.npy", mmap_mode="r") for name in names))

    def __len__(self) -> int:
        """How many passages there are."""
        return len(self.text_ptr) - 1

    def texts(self, start: int, end: int) -> list[str]:
        """The passages start to end."""
        ptr = self.text_ptr[start : end + 1].tolist()
        held = self.text[ptr[0] : ptr[-1]].tobytes()
        return [held[a - ptr[0] : b - ptr[0]].decode() for a, b in pairwise(ptr)]


@dataclass(frozen=True)
class ScaleQueries:
    """Held-out queries, embedded by the model itself.

    Attributes:
        texts, sources: as chosen.
        dense: float32[m, 384], unit rows.
        sparse: the learned weights, not yet times inverse document frequencies.
    """

    texts: list[str]
    sources: list[str]
    dense: np.ndarray
    sparse: SparseRows


@dataclass(frozen=True)
class ScaleData:
    """The first ``n`` passages; rows are in random order, and the truly embedded ones come first.

    Attributes:
        passages: texts and tokens of all passages of the folder.
        n: passages that count.
        true: bool[n], whose vectors are the model's own; the others' are students' (``scale_student``).
        dense: float16[n, 384], unit rows.
        queries: held-out queries.
    """

    folder: Path
    passages: Passages
    n: int
    true: np.ndarray
    dense: np.ndarray
    queries: ScaleQueries

    def texts(self) -> list[str]:
        """All passages' texts; 300 MB of strings at a million."""
        return self.passages.texts(0, self.n)

    def sparse(self) -> SparseRows:
        """The learned sparse rows (weights were kept as float16); copies."""
        return self.rows("sparse", 0, self.n)

    def bm25(self) -> SparseRows:
        """Term counts by the analyser, terms as hashes."""
        return self.rows("bm25", 0, self.n)

    def rows(self, leg: str, start: int, end: int) -> SparseRows:
        """The rows start to end of one leg ("sparse" or "bm25"); copies."""
        indptr = np.load(self.folder / f"{leg}_indptr.npy", mmap_mode="r")[start : end + 1].astype(np.int64)
        held = slice(int(indptr[0]), int(indptr[-1]))
        terms = np.load(self.folder / f"{leg}_terms.npy", mmap_mode="r")[held].astype(np.uint64)
        values = np.load(self.folder / f"{leg}_values.npy", mmap_mode="r")[held].astype(np.float32)
        return SparseRows(indptr - indptr[0], terms, values)


def load(folder: Path, n: int | None = None) -> ScaleData:
    """The first ``n`` passages (None: all of them).

    Raises:
        ValueError: there are fewer.
    """
    passages = Passages.load(folder)
    n = len(passages) if n is None else n
    if n > len(passages):
        raise ValueError(f"{n:,} passages were asked for, {folder} holds {len(passages):,}")
    true = np.load(folder / "true.npy")[:n]
    dense = np.load(folder / "dense.npy", mmap_mode="r")[:n]
    return ScaleData(folder, passages, n, true, dense, _queries(folder))


def _queries(folder: Path) -> ScaleQueries:
    described = json.loads((folder / "queries.json").read_text(encoding="utf-8"))
    indptr, terms, values = (np.load(folder / f"queries_sparse_{part}.npy") for part in ("indptr", "terms", "values"))
    return ScaleQueries(
        [query["text"] for query in described],
        [query["source"] for query in described],
        np.load(folder / "queries_dense.npy"),
        SparseRows(indptr, terms, values),
    )
