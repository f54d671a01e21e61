"""What is a segment, and how is one made?

A segment is an immutable set of document versions with everything that a search needs: one dense index, one sparse index a
lexical leg, metadata columns, and the passages' positions. The head is made of small segments in memory; a sealed segment is
the same thing in a folder, memory-mapped. All of it is derived from the store and can be rebuilt from it.

    documents.npz   doc_nos uint64[n_docs] ascending, indptr int64[n_docs+1] (rows of each), starts, ends uint32[n_rows]
    columns.msgpack metadata columns (engine.columns)
    dense/ bm25/ sparse/ multi/   one folder a leg (index.dense, index.sparse, index.multi)
    manifest.json   size and hash of every file above (engine.storage.durable)

A document's rows are consecutive and in text order. ``row`` is a passage's position in its segment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from engine.columns import Columns
from engine.errors import CorruptData
from engine.schema import CollectionSchema
from engine.storage.durable import link_folder, seal_folder, verify_folder
from engine.storage.records import PassageBlock
from engine.values import Leg
from index.bm25 import Bm25
from index.dense import SMALL, DenseIndex
from index.errors import SearchIndexError
from index.multi import MultiIndex
from index.recall import FILE as RECALL_FILE
from index.sparse import SparseIndex

# A scan of 200,000 int8 prefixes takes 1 to 4 ms and is built in a second, a graph of them takes minutes to build and
# 0.6 ms to search at lower recall (docs/adr/0007): a graph pays for itself only in large segments.
GRAPH_MIN_ROWS = 300_000
# In memory, where segments last for seconds, scanning so many whole vectors costs queries less than making codes costs writers.
HEAD_CODED_ROWS = 8_192
BM25 = Bm25()


@dataclass(frozen=True, slots=True)
class Segment:
    """Document versions with their indexes.

    Args:
        name: the folder's name, "" in memory.
        doc_nos: uint64[n_docs] ascending.
        doc_indptr: int64[n_docs + 1]: document i has the rows doc_indptr[i] to doc_indptr[i + 1].
        row_docs: int32[n_rows]: the document of each row.
        starts, ends: uint32[n_rows]: the passage's characters in the document's text.
        dense, bm25, sparse, multi: the legs; None where the collection has no such leg.
        columns: metadata by document.
    """

    name: str
    doc_nos: np.ndarray
    doc_indptr: np.ndarray
    row_docs: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    dense: DenseIndex | None
    bm25: SparseIndex
    sparse: SparseIndex | None
    multi: MultiIndex | None
    columns: Columns

    @property
    def n_docs(self) -> int:
        """The number of document versions, deleted ones included."""
        return len(self.doc_nos)

    @property
    def n_rows(self) -> int:
        """The number of passages, deleted ones included."""
        return len(self.row_docs)

    def lexical(self, leg: Leg) -> SparseIndex:
        """The index of the BM25 or the learned sparse leg, which the collection has."""
        index = self.bm25 if leg == "bm25" else self.sparse
        assert index is not None
        return index

    @staticmethod
    def build(
        schema: CollectionSchema,
        doc_nos: Sequence[int],
        metadata: Sequence[Mapping[str, object]],
        lengths: Sequence[int],
        blocks: Sequence[PassageBlock],
    ) -> Segment:
        """An in-memory segment of document versions, at least one.

        Args:
            schema: the collection's.
            doc_nos: ascending.
            metadata: of each version.
            lengths: of each version, in passages.
            blocks: the passages of all versions in order, in as many blocks as they come.
        """
        block = PassageBlock.concat(list(blocks))
        indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        return _assembled(schema, "", np.array(doc_nos, np.uint64), indptr, block, Columns.build(metadata), graph=False)

    @staticmethod
    def merge(
        schema: CollectionSchema,
        name: str,
        parts: Sequence[tuple[Segment, np.ndarray]],
        recent: np.ndarray | None = None,
    ) -> Segment:
        """One segment of the kept documents of several.

        Args:
            schema: the collection's.
            name: of the new segment; "" keeps it in memory, without a graph and unmeasured.
            parts: segments with bool[n_docs] of the documents to keep, at least one kept in all.
            recent: float32[m, dim], queries with which the recall of the dense search is measured, beside its own passages.
        """
        pieces = [_kept(segment, keep) for segment, keep in parts]
        doc_nos = np.concatenate([piece[0] for piece in pieces])
        lengths = np.concatenate([piece[1] for piece in pieces])
        block = PassageBlock.concat([piece[2] for piece in pieces])
        # Segments cover interleaved ranges after merges; rows must follow doc_nos, which are searched by bisection.
        order = np.argsort(doc_nos, kind="stable")
        if not np.array_equal(order, np.arange(len(order))):
            block = block.take(_rows_in_order(lengths, order))
        positions = np.empty(len(order), np.int64)
        positions[order] = np.arange(len(order))
        columns = Columns.concat(_renamed(parts, positions), len(order))
        indptr = np.concatenate([[0], np.cumsum(lengths[order])]).astype(np.int64)
        merged = _assembled(schema, name, doc_nos[order], indptr, block, columns, graph=bool(name))
        return replace(merged, dense=merged.dense.certified(recent)) if name and merged.dense is not None else merged

    def find(self, doc_nos: np.ndarray) -> np.ndarray:
        """The positions of those ``doc_nos`` (uint64[m]) that are in this segment, as int64."""
        at = np.searchsorted(self.doc_nos, doc_nos)
        at = at[at < self.n_docs]
        return at[np.isin(self.doc_nos[at], doc_nos)]

    def save(self, folder: Path) -> None:
        """Write the segment to ``folder``, durable when this returns."""
        folder.mkdir(parents=True)
        arrays = {"doc_nos": self.doc_nos, "indptr": self.doc_indptr, "starts": self.starts, "ends": self.ends}
        np.savez(folder / "documents.npz", **arrays)  # type: ignore[arg-type]
        self.columns.save(folder / "columns.msgpack")
        legs = {"dense": self.dense, "bm25": self.bm25, "sparse": self.sparse, "multi": self.multi}
        for leg, part in legs.items():
            if part is not None:
                (folder / leg).mkdir()
                part.save(folder / leg)
        seal_folder(folder)

    def save_measured(self, source: Path, folder: Path, recent: np.ndarray) -> None:
        """Write this segment again, its recall measured with ``recent``, float32[m, dim], at least ``recall.ENOUGH``.

        ``source`` is where it lies; what does not change is shared with it. Durable when this returns.
        """
        assert self.dense is not None
        certificate = self.dense.certified(recent).certificate
        assert certificate is not None
        link_folder(source, folder, without=RECALL_FILE)
        certificate.save(folder / "dense")
        seal_folder(folder)

    @staticmethod
    def load(folder: Path, schema: CollectionSchema) -> Segment:
        """Map a sealed segment.

        Raises:
            CorruptData: a file is missing or does not match its hash; the caller rebuilds from the store.
        """
        verify_folder(folder)
        try:
            return Segment._mapped(folder, schema)
        except SearchIndexError as error:
            raise CorruptData(str(folder), str(error)) from error

    @staticmethod
    def _mapped(folder: Path, schema: CollectionSchema) -> Segment:
        with np.load(folder / "documents.npz", allow_pickle=False) as arrays:
            doc_nos, indptr, starts, ends = (arrays[name] for name in ("doc_nos", "indptr", "starts", "ends"))
        return Segment(
            folder.name,
            doc_nos,
            indptr,
            _row_docs(indptr),
            starts,
            ends,
            DenseIndex.load(folder / "dense") if schema.dim else None,
            SparseIndex.load(folder / "bm25"),
            SparseIndex.load(folder / "sparse") if schema.sparse else None,
            MultiIndex.load(folder / "multi") if schema.multi_dim else None,
            Columns.load(folder / "columns.msgpack"),
        )


def _assembled(
    schema: CollectionSchema,
    name: str,
    doc_nos: np.ndarray,
    indptr: np.ndarray,
    block: PassageBlock,
    columns: Columns,
    *,
    graph: bool,
) -> Segment:
    lengths = block.terms.values.sum()
    avg_len = max(1.0, float(lengths) / max(1, block.n_passages))
    return Segment(
        name,
        doc_nos,
        indptr,
        _row_docs(indptr),
        np.ascontiguousarray(block.starts, np.uint32),
        np.ascontiguousarray(block.ends, np.uint32),
        _dense(schema, block.dense, graph) if schema.dim else None,
        SparseIndex.build(block.terms, bm25=BM25, avg_len=avg_len),
        None if block.sparse is None else SparseIndex.build(block.sparse),
        None if block.multi is None else MultiIndex(block.multi),
        columns,
    )


def _dense(schema: CollectionSchema, vectors: np.ndarray, graph: bool) -> DenseIndex:
    kind = schema.dense_kind
    if not graph:
        kind = "flat"
    elif kind == "auto":
        kind = "hnsw" if len(vectors) >= GRAPH_MIN_ROWS else "flat"
    vectors = np.ascontiguousarray(vectors, np.float16)
    least = SMALL if graph else HEAD_CODED_ROWS
    return DenseIndex.build(vectors, kind=kind, coarse_dim=schema.coarse_dim, rotate=schema.rotate, least=least)


def _row_docs(indptr: np.ndarray) -> np.ndarray:
    return np.repeat(np.arange(len(indptr) - 1, dtype=np.int32), np.diff(indptr))


def _kept(segment: Segment, keep: np.ndarray) -> tuple[np.ndarray, np.ndarray, PassageBlock]:
    """The kept documents' doc_nos, passages a document, and rows."""
    rows = np.flatnonzero(keep[segment.row_docs])
    n = segment.n_rows
    # Passage keys live in the store only: nothing that a search does needs them.
    keys = np.empty((n, 0), np.uint8)
    dense = np.empty((n, 0), np.float16) if segment.dense is None else segment.dense.vectors
    sparse = None if segment.sparse is None else segment.sparse.rows()
    multi = None if segment.multi is None else segment.multi.rows()
    block = PassageBlock(segment.starts, segment.ends, keys, dense, segment.bm25.rows(), sparse, multi)
    return segment.doc_nos[keep], np.diff(segment.doc_indptr)[keep], block if len(rows) == n else block.take(rows)


def _rows_in_order(lengths: np.ndarray, order: np.ndarray) -> np.ndarray:
    firsts = np.concatenate([[0], np.cumsum(lengths)])[:-1]
    steps = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths[order]) - lengths[order], lengths[order])
    return np.repeat(firsts[order], lengths[order]) + steps


def _renamed(parts: Sequence[tuple[Segment, np.ndarray]], positions: np.ndarray) -> list[tuple[Columns, np.ndarray]]:
    """Each part's columns with its documents' final positions, -1 for dropped ones."""
    renamed, offset = [], 0
    for segment, keep in parts:
        final = np.full(segment.n_docs, -1, np.int64)
        count = int(keep.sum())
        final[keep] = positions[offset : offset + count]
        offset += count
        renamed.append((segment.columns, final))
    return renamed
