"""How is the dense leg of one immutable segment stored and searched?

Coarse to fine on one stored vector: an index over a short prefix (of the vector itself, or of its rotation) names
candidates, and the full float16 vectors score them exactly. Few rows, or few allowed rows, are scanned exactly instead.

A new kind is a class with the methods of ``CoarseIndex`` and one line in ``KINDS``.

Files, format version 2: ``dense.json`` (version, kind, n_rows, dim, coarse_dim, whether there is a coarse index),
``vectors.npy`` float16[n, dim], ``rotation.npy`` float32[dim, coarse_dim] when rotated, those of the kind, and
``recall.json`` (`index.recall`) when it was measured. A folder of version 1 opens too: what it stored of flat and hnsw
prefixes is not read, its vectors are quantised anew in memory and scanned.
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
from index.gpu import GpuIndex
from index.hits import Hits
from index.hnsw import HnswIndex
from index.ivfpq import IvfPqIndex
from index.recall import ENOUGH, KS, MOST_COINS, SAMPLE, Certificate, Promise, Setting, measure, nearest, stand_ins

FORMAT_VERSION = 2
SMALL = 2_048  # rows; below, a scan of the full vectors takes under 0.2 ms and nothing coarse is built
NARROW = 128  # dimensions; below, codes of whole vectors are not worth a scan of their own
FEW_ALLOWED = 2_048  # allowed rows; up to here scanning them whole beats scanning their codes
OVERSAMPLE = 4.0  # candidates rescored where no recall was measured, as a multiple of k
LEAST_DEPTH = 200  # candidates rescored at least where no recall was measured
# Of an unmeasured index: above the first target twice as many candidates are rescored, above the second all rows are scanned.
USUAL_TARGET, EXACT_ABOVE = 0.98, 0.995
_CHUNK = 65_536  # rows converted to float32 at a time


class CoarseIndex(Protocol):
    """What a kind offers: candidates from the prefixes of one segment's vectors."""

    kind: ClassVar[str]
    widths: ClassVar[tuple[int, ...]]

    @classmethod
    def build(cls, prefixes: Floats, *, seed: int = 0, threads: int = 1) -> Self:
        """Index ``prefixes``, float32[n, coarse_dim]."""

    @classmethod
    def load(cls, folder: Path, n_rows: int, coarse_dim: int) -> Self:
        """Open what ``save`` wrote; raises CorruptIndexFile."""

    def save(self, folder: Path) -> None:
        """Write the kind's files into an existing folder."""

    def candidates(self, query: Floats, depth: int, *, width: int | None = None, allow: Mask | None = None) -> Rows:
        """About ``depth`` likely rows, best first, all allowed, without repeats; fewer, or none, when it cannot.

        ``width`` is how widely to search, in the kind's own measure; ``widths`` are those worth measuring.
        """

    def cost(self, width: int) -> int:
        """Bytes that a search of this width reads, at most."""

    def deepest(self, width: int) -> int:
        """How many candidates a search of this width can give."""


KINDS: dict[str, type[CoarseIndex]] = {"flat": FlatIndex, "hnsw": HnswIndex, "faiss": IvfPqIndex, "gpu": GpuIndex}


class DenseIndex:
    """The dense leg of one segment; immutable, safe to search from many threads.

    Attributes:
        vectors: float16[n_rows, dim], read-only, in memory or memory-mapped.
        kind: a key of ``KINDS``; "flat" for every segment below ``SMALL`` rows.
        coarse_dim: width of the prefix; dim when vectors are only scanned in full.
        rotated: whether the prefix is that of a rotation.
        certificate: the measured recall of its settings; None: not measured.
    """

    def __init__(
        self, vectors: Halves, kind: str, coarse: CoarseIndex | None, basis: Floats | None, coarse_dim: int
    ) -> None:
        """Keep the given parts; use ``build`` or ``load``."""
        self.vectors = vectors
        self.kind = kind
        self.coarse_dim = coarse_dim
        self.rotated = basis is not None
        self.certificate: Certificate | None = None
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

    def improves_by(self, asked: int) -> bool:
        """Whether so many queries that were asked would measure the recall better than it is."""
        known = 0 if self.certificate is None else self.certificate.queries
        return self._coarse is not None and (known < ENOUGH <= asked or known < SAMPLE <= asked)

    @classmethod
    def build(
        cls,
        vectors: Halves,
        *,
        kind: str,
        coarse_dim: int,
        rotate: bool,
        least: int = SMALL,
        seed: int = 0,
        threads: int = 1,
    ) -> DenseIndex:
        """Index unit rows.

        Args:
            vectors: float16[n, dim]; kept, not copied, when contiguous.
            kind: a key of ``KINDS``.
            coarse_dim: width of the prefix; dim or more means the whole vector.
            rotate: take the prefix of a PCA rotation (for models not trained for Matryoshka).
            least: fewer rows are only scanned, and nothing coarse is built.
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
        if n < least or (whole and kind == "flat" and dim < NARROW):
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
        if self.certificate is not None:
            self.certificate.save(folder)
        save_facts(folder / "dense.json", facts)

    @classmethod
    def load(cls, folder: Path) -> DenseIndex:
        """Open what ``save`` wrote; arrays are mapped, graphs are read.

        Raises:
            CorruptIndexFile: a file is missing, unreadable, or of another version; rebuild the segment.
        """
        path = folder / "dense.json"
        facts = load_facts(path, 1, FORMAT_VERSION)
        vectors = load_array(folder, "vectors")
        if facts.get("kind") not in KINDS or list(vectors.shape) != [facts.get("n_rows"), facts.get("dim")]:
            raise CorruptIndexFile(path, "it does not fit the files beside it")
        basis = load_array(folder, "rotation") if facts.get("rotated") else None
        coarse_dim = int(facts["coarse_dim"])
        if not facts.get("coarse"):
            return cls(vectors, facts["kind"], None, basis, coarse_dim)
        if facts["version"] == 1 and facts["kind"] != "faiss":
            coarse: CoarseIndex = FlatIndex.build(_prefixes(vectors, basis, coarse_dim))
        else:
            coarse = KINDS[facts["kind"]].load(folder, vectors.shape[0], coarse_dim)
        index = cls(vectors, coarse.kind, coarse, basis, coarse_dim)
        index.certificate = Certificate.load(folder)
        return index

    def certified(self, recent: Floats | None = None, *, seed: int = 0, sample: int = SAMPLE) -> DenseIndex:
        """This index with the recall of its settings measured; itself, unmeasured, where all rows are scanned anyway.

        Args:
            recent: float32[m, dim], queries that were asked of the collection, the latest last; fewer than half of the
                sample count for nothing, and rows of this index stand in for them.
            seed: of the choice of rows that serve as queries.
            sample: queries.
        """
        if self._coarse is None:
            return self
        if recent is not None and len(recent) >= sample // 2:
            queries, rows, most_coins = recent[-sample:], np.empty(0, np.int64), MOST_COINS
            hidden = np.full(len(queries), -1)
        else:
            rng = np.random.default_rng(seed)
            hidden = rows = np.sort(rng.choice(self.n_rows, min(self.n_rows, sample), replace=False))
            queries, most_coins = stand_ins(self.vectors, rows, rng), 1.0
        exact = nearest(self.vectors, queries, KS[-1], hidden)
        least = np.stack(
            [self.score(query, found)[[k - 1 for k in KS]] for query, found in zip(queries, exact, strict=True)]
        )
        found = measure(self, self._coarse.widths, queries, least, hidden, most_coins=most_coins)
        index = DenseIndex(self.vectors, self.kind, self._coarse, self._basis, self.coarse_dim)
        index.certificate = Certificate(len(queries) - len(rows), len(rows), found)
        return index

    def promise(self, target: float, k: int) -> Promise:
        """How a search for ``k`` rows will be run so that it reaches the recall ``target``, and what is known of it.

        The cheapest setting whose lower bound reaches the target; all rows are scanned where none does or none is cheaper.
        """
        if self._coarse is None or target > 1.0 - 1e-9:
            return Promise.of_scan()
        if self.certificate is None:
            if target > EXACT_ABOVE:
                return Promise.of_scan()
            depth = _usual_depth(k)
            return Promise(None, None, 0, Setting(None, depth if target <= USUAL_TARGET else 2 * depth))
        best = self.certificate.cheapest(target, k)
        if best is None or best.cost >= self.vectors.nbytes:
            return Promise.of_scan()
        return Promise(best.recall, best.lower, self.certificate.sample, best.setting, self.certificate.queries)

    def search(
        self, query: Floats, k: int, *, allow: Mask | None = None, exact: bool = False, setting: Setting | None = None
    ) -> Hits:
        """The best rows by dot product with the full stored vectors; never fewer than min(k, allowed rows).

        Args:
            query: float32[dim], unit length.
            k: at most this many.
            allow: bool[n_rows]; only rows marked True may come back. None: all rows.
            exact: scan every allowed row instead of the coarse index's candidates.
            setting: how widely and deeply to search, see ``promise``; None: the defaults of an unmeasured index.

        Raises:
            DimensionMismatch: the query has another width.
            InvalidIndexInput: the query is not finite.
        """
        query = stored.check_query(query, self.dim)
        allowed = self.n_rows if allow is None else int(np.count_nonzero(allow))
        k = min(k, allowed)
        if setting is None:
            setting = Setting(None, _usual_depth(k))
        depth = max(k, setting.depth)
        few = allow is not None and allowed <= FEW_ALLOWED
        if self._coarse is None or exact or few or depth >= allowed:
            return stored.scan(self.vectors, query, k, allow).by("scan" if allow is None else "scan of matches")
        rows = self._candidates(query, depth, setting.width, allow)
        if rows.size < k:
            return stored.scan(self.vectors, query, k, allow).by(f"scan after {self.kind} gave too few")
        return Hits.best(rows, stored.score_rows(self.vectors, query, rows), k).by(f"{self.kind} prefixes")

    def _candidates(self, query: Floats, depth: int, width: int | None, allow: Mask | None) -> Rows:
        assert self._coarse is not None
        prefix = _prefixes(query[None, :], self._basis, self.coarse_dim)[0]
        return self._coarse.candidates(prefix, depth, width=width, allow=allow)

    def deepest(self, width: int) -> int:
        """How many candidates a coarse search of this width can give."""
        return self.n_rows if self._coarse is None else self._coarse.deepest(width)

    def cost(self, setting: Setting) -> int:
        """Bytes that a search reads, at most."""
        if self._coarse is None or setting.width is None:
            return self.vectors.nbytes
        return self._coarse.cost(setting.width) + setting.depth * self.dim * self.vectors.itemsize

    def scores(self, query: Floats, setting: Setting) -> tuple[Rows, Floats]:
        """The candidates of a setting, best first by their coarse score, with their exact scores."""
        rows = self._candidates(query, setting.depth, setting.width, None)
        return rows, self.score(query, rows)

    def score(self, query: Floats, rows: Rows) -> Floats:
        """The exact score of each of ``rows``, float32[m]: the same bits that ``search`` gives for them."""
        return stored.score_rows(self.vectors, query, rows)


def _usual_depth(k: int) -> int:
    """How many candidates are rescored for ``k`` rows where no recall was measured."""
    return max(LEAST_DEPTH, math.ceil(k * OVERSAMPLE))


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
