"""How is the dense leg of one immutable segment stored and searched?

Coarse to fine on one stored vector: an index over a short prefix (of the vector itself, or of its rotation) names
candidates, and the full float16 vectors score them exactly. Few rows, or few allowed rows, are scanned exactly instead.

A new kind is a class with the methods of ``CoarseIndex`` and one line in ``KINDS``.

Files, format version 1: ``dense.json`` (version, kind, n_rows, dim, coarse_dim, whether there is a coarse index),
``vectors.npy`` float16[n, dim], ``rotation.npy`` float32[dim, coarse_dim] when rotated, and those of the kind.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import ClassVar, Protocol, Self

import numpy as np

from index import rotation as pca
from index import vectors as stored
from index.arrays import Floats, Halves, Mask, Rows, freeze, load_array, load_facts, save_array, save_facts
from index.errors import CorruptIndexFile, InvalidIndexInput, UnknownIndexKind
from index.flat import FlatIndex
from index.hits import Hits
from index.hnsw import HnswIndex
from index.ivfpq import IvfPqIndex

FORMAT_VERSION = 1
SMALL = 2_048  # rows; below, a scan of the full vectors takes under 0.2 ms and nothing coarse is built
FEW_ALLOWED = 8_192  # allowed rows; up to here scanning them beats any filtered search
OVERSAMPLE = 4.0  # candidates rescored, as a multiple of k
LEAST_DEPTH = 200  # candidates rescored at least
_CHUNK = 65_536  # rows converted to float32 at a time


class CoarseIndex(Protocol):
    """What a kind offers: candidates from the prefixes of one segment's vectors."""

    kind: ClassVar[str]

    @classmethod
    def build(cls, prefixes: Floats, *, seed: int = 0, threads: int = 1) -> Self:
        """Index ``prefixes``, float32[n, coarse_dim]."""

    @classmethod
    def load(cls, folder: Path, n_rows: int, coarse_dim: int) -> Self:
        """Open what ``save`` wrote; raises CorruptIndexFile."""

    def save(self, folder: Path) -> None:
        """Write the kind's files into an existing folder."""

    def candidates(self, query: Floats, depth: int, *, ef: int | None = None, allow: Mask | None = None) -> Rows:
        """About ``depth`` likely rows, all allowed, without repeats, in no order; fewer, or none, when it cannot."""


KINDS: dict[str, type[CoarseIndex]] = {"flat": FlatIndex, "hnsw": HnswIndex, "faiss": IvfPqIndex}


class DenseIndex:
    """The dense leg of one segment; immutable, safe to search from many threads.

    Attributes:
        vectors: float16[n_rows, dim], read-only, in memory or memory-mapped.
        kind: "flat", "hnsw" or "faiss"; "flat" for every segment below ``SMALL`` rows.
        coarse_dim: width of the prefix; dim when vectors are only scanned in full.
        rotated: whether the prefix is that of a rotation.
    """

    def __init__(
        self, vectors: Halves, kind: str, coarse: CoarseIndex | None, basis: Floats | None, coarse_dim: int
    ) -> None:
        """Keep the given parts; use ``build`` or ``load``."""
        self.vectors = vectors
        self.kind = kind
        self.coarse_dim = coarse_dim
        self.rotated = basis is not None
        self._coarse = coarse
        self._basis = basis

    @property
    def n_rows(self) -> int:
        """How many rows there are."""
        return int(self.vectors.shape[0])

    @property
    def dim(self) -> int:
        """The width of the stored vectors."""
        return int(self.vectors.shape[1])

    @classmethod
    def build(
        cls, vectors: Halves, *, kind: str, coarse_dim: int, rotate: bool, seed: int = 0, threads: int = 1
    ) -> DenseIndex:
        """Index unit rows.

        Args:
            vectors: float16[n, dim]; kept, not copied, when contiguous.
            kind: a key of ``KINDS``.
            coarse_dim: width of the prefix; dim or more means the whole vector.
            rotate: take the prefix of a PCA rotation (for models not trained for Matryoshka).
            seed: of samples and graphs.
            threads: that may build.

        Raises:
            UnknownIndexKind: no such kind.
            InvalidIndexInput: the vectors are not finite or not a matrix, or ``coarse_dim`` is below 1.
            IndexBuildFailed: the kind's library refused.
        """
        if kind not in KINDS:
            raise UnknownIndexKind(kind, KINDS)
        if vectors.ndim != 2 or coarse_dim < 1:
            raise InvalidIndexInput(
                "vectors", f"shape {vectors.shape} with a prefix of {coarse_dim} cannot be indexed."
            )
        kept = freeze(vectors.astype(np.float16, copy=False))
        if not np.isfinite(kept).all():
            raise InvalidIndexInput("vectors", "a row holds NaN or infinity. Refuse such vectors where they come in.")
        n, dim = kept.shape
        whole = coarse_dim >= dim
        if n < SMALL or (whole and kind == "flat"):
            return cls(kept, "flat", None, None, dim)
        basis = freeze(pca.fit(kept, seed)[:, :coarse_dim]) if rotate and not whole else None
        coarse_dim = min(coarse_dim, dim)
        coarse = KINDS[kind].build(_prefixes(kept, basis, coarse_dim), seed=seed, threads=threads)
        return cls(kept, kind, coarse, basis, coarse_dim)

    def save(self, folder: Path) -> None:
        """Write the index into an existing folder; see the module for the files."""
        facts = {"version": FORMAT_VERSION, "kind": self.kind, "n_rows": self.n_rows, "dim": self.dim}
        facts |= {"coarse_dim": self.coarse_dim, "coarse": self._coarse is not None, "rotated": self.rotated}
        save_array(folder, "vectors", self.vectors)
        if self._basis is not None:
            save_array(folder, "rotation", self._basis)
        if self._coarse is not None:
            self._coarse.save(folder)
        save_facts(folder / "dense.json", facts)

    @classmethod
    def load(cls, folder: Path) -> DenseIndex:
        """Open what ``save`` wrote; arrays are mapped, graphs are read.

        Raises:
            CorruptIndexFile: a file is missing, unreadable, or of another version; rebuild the segment.
        """
        path = folder / "dense.json"
        facts = load_facts(path, FORMAT_VERSION)
        vectors = load_array(folder, "vectors")
        if facts.get("kind") not in KINDS or list(vectors.shape) != [facts.get("n_rows"), facts.get("dim")]:
            raise CorruptIndexFile(path, "it does not fit the files beside it")
        basis = load_array(folder, "rotation") if facts.get("rotated") else None
        coarse_dim = int(facts["coarse_dim"])
        coarse = KINDS[facts["kind"]].load(folder, vectors.shape[0], coarse_dim) if facts.get("coarse") else None
        return cls(vectors, facts["kind"], coarse, basis, coarse_dim)

    def search(
        self,
        query: Floats,
        k: int,
        *,
        allow: Mask | None = None,
        exact: bool = False,
        oversample: float = OVERSAMPLE,
        ef: int | None = None,
    ) -> Hits:
        """The best rows by dot product with the full stored vectors; never fewer than min(k, allowed rows).

        Args:
            query: float32[dim], unit length.
            k: at most this many.
            allow: bool[n_rows]; only rows marked True may come back. None: all rows.
            exact: scan every allowed row instead of the coarse index's candidates.
            oversample: candidates rescored as a multiple of k (at least ``LEAST_DEPTH`` are); more finds more.
            ef: width of a graph search, or lists probed by faiss; None: the kind's default.

        Raises:
            DimensionMismatch: the query has another width.
            InvalidIndexInput: the query is not finite.
        """
        query = stored.check_query(query, self.dim)
        allowed = self.n_rows if allow is None else int(np.count_nonzero(allow))
        k = min(k, allowed)
        depth = max(k, LEAST_DEPTH, math.ceil(k * oversample))
        few = allow is not None and allowed <= FEW_ALLOWED
        if self._coarse is None or exact or few or depth >= allowed:
            return stored.scan(self.vectors, query, k, allow).by("scan" if allow is None else "scan of matches")
        prefix = _prefixes(query[None, :], self._basis, self.coarse_dim)[0]
        rows = self._coarse.candidates(prefix, depth, ef=ef, allow=allow)
        if rows.size < k:
            return stored.scan(self.vectors, query, k, allow).by(f"scan after {self.kind} gave too few")
        return Hits.best(rows, stored.score_rows(self.vectors, query, rows), k).by(f"{self.kind} prefixes")

    def score(self, query: Floats, rows: Rows) -> Floats:
        """The exact score of each of ``rows``, float32[m]: the same bits that ``search`` gives for them."""
        return stored.score_rows(self.vectors, query, rows)


def _prefixes(vectors: Halves | Floats, basis: Floats | None, coarse_dim: int) -> Floats:
    """What the coarse index sees: float32[n, coarse_dim]; unrotated prefixes are scaled to unit length, as trained."""
    prefixes = np.empty((vectors.shape[0], coarse_dim), np.float32)
    for start in range(0, vectors.shape[0], _CHUNK):
        part = vectors[start : start + _CHUNK]
        if basis is not None:
            prefixes[start : start + _CHUNK] = part.astype(np.float32) @ basis
            continue
        head = part[:, :coarse_dim].astype(np.float32)
        lengths = np.linalg.norm(head, axis=1, keepdims=True)
        prefixes[start : start + _CHUNK] = head / np.where(lengths > 0.0, lengths, 1.0)
    return prefixes
