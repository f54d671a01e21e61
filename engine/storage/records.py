"""What bytes are stored for a document and its passages?

A document version is immutable and named by its ``doc_no``: an upsert makes a new one, so a searcher that still holds an
older snapshot finds exactly what it ranked.

    DocumentRecord   msgpack array: doc_id, title, metadata, content hash, passages, coverage, own_vectors,
                    sequence, boundaries
    text             UTF-8, as it came
    PassageBlock     all passages of one version, arrays one after the other, little-endian:
                     header  <IHHIIB3x> n, dim, format, nnz of terms, nnz of sparse, has_sparse
                     starts  uint32[n]   ends uint32[n]   keys 16 * n bytes   dense float16[n, dim]
                     terms   indptr uint32[n+1], uint64[nnz] hashes, float32[nnz] tf
                     sparse  indptr uint32[n+1], uint32[nnz] ids, float32[nnz] weights     (when has_sparse)
                     multi   <II> tokens, width, indptr uint32[n+1], scales float16[tokens], codes int8[tokens, width]
                                                                                           (in format 2 only)

A block without token vectors is written in format 1, as before there were any.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from itertools import pairwise

import msgspec
import numpy as np

from engine.errors import CorruptData
from engine.values import Coverage
from index.multi import TokenRows
from index.sparse_rows import SparseRows

BLOCK_FORMAT = 1
MULTI_FORMAT = 2
KEY_BYTES = 16
_HEADER = struct.Struct("<IHHIIB3x")
_MULTI_HEADER = struct.Struct("<II")


class DocumentRecord(msgspec.Struct, frozen=True, array_like=True):
    """Everything about one document version but its text and its passages."""

    doc_id: str
    title: str
    metadata: dict[str, str | int | float | bool | list[str | int | float | bool]]
    content_hash: bytes
    n_passages: int
    read: int
    embedded: int
    dropped: int
    own_vectors: bool
    sequence: int
    boundaries: tuple[int, ...] = ()

    @property
    def tokens(self) -> Coverage:
        """The coverage that was acknowledged."""
        return Coverage(self.read, self.embedded, self.dropped)


_record_encoder = msgspec.msgpack.Encoder()
_record_decoder = msgspec.msgpack.Decoder(DocumentRecord)


def encode_document(record: DocumentRecord) -> bytes:
    """The stored bytes of a document record."""
    return _record_encoder.encode(record)


def decode_document(data: bytes) -> DocumentRecord:
    """The document record of stored bytes.

    Raises:
        CorruptData: the bytes are not a document record (their checksum was right, so another version wrote them).
    """
    try:
        return _record_decoder.decode(data)
    except msgspec.DecodeError as error:
        raise CorruptData("a document record", str(error)) from error


@dataclass(frozen=True, slots=True)
class PassageBlock:
    """The passages of one document version, or of many in a row; passages in text order.

    Shapes: starts, ends uint32[n] (character offsets), keys uint8[n, 16], dense float16[n, dim] unit rows, terms: term
    frequencies by term hash, sparse: learned weights by vocabulary id, multi: token vectors; None where the collection has no
    such leg.
    """

    starts: np.ndarray
    ends: np.ndarray
    keys: np.ndarray
    dense: np.ndarray
    terms: SparseRows
    sparse: SparseRows | None
    multi: TokenRows | None = None

    @property
    def n_passages(self) -> int:
        """The number of passages."""
        return len(self.starts)

    @staticmethod
    def concat(blocks: list[PassageBlock]) -> PassageBlock:
        """The passages of all blocks, in order; the blocks have the same legs. At least one block."""
        if len(blocks) == 1:
            return blocks[0]
        sparse = [block.sparse for block in blocks if block.sparse is not None]
        multi = [block.multi for block in blocks if block.multi is not None]
        return PassageBlock(
            np.concatenate([block.starts for block in blocks]),
            np.concatenate([block.ends for block in blocks]),
            np.concatenate([block.keys for block in blocks]),
            np.concatenate([block.dense for block in blocks]),
            SparseRows.concat([block.terms for block in blocks]),
            SparseRows.concat(sparse) if sparse else None,
            TokenRows.concat(multi) if multi else None,
        )

    def take(self, rows: np.ndarray) -> PassageBlock:
        """Copy the given passages (int64[m]), in the given order."""
        return PassageBlock(
            self.starts[rows],
            self.ends[rows],
            self.keys[rows],
            self.dense[rows],
            self.terms.take(rows),
            None if self.sparse is None else self.sparse.take(rows),
            None if self.multi is None else self.multi.take(rows),
        )


def encode_block(block: PassageBlock) -> bytes:
    """The stored bytes of one document version's passages."""
    return encode_blocks(block, np.array([0, block.n_passages]))[0]


def encode_blocks(block: PassageBlock, indptr: np.ndarray) -> list[bytes]:
    """The stored bytes of many versions' passages: version i has the rows indptr[i] to indptr[i + 1] (int64) of ``block``."""
    n_rows, n_terms = np.diff(indptr), np.diff(block.terms.indptr[indptr])
    parts = [
        _cut(block.starts, "<u4", indptr),
        _cut(block.ends, "<u4", indptr),
        _cut(block.keys, "u1", indptr),
        _cut(block.dense, "<f2", indptr),
        *_cut_rows(block.terms, "<u8", indptr),
    ]
    n_sparse = np.zeros_like(n_terms)
    if block.sparse is not None:
        n_sparse = np.diff(block.sparse.indptr[indptr])
        parts += _cut_rows(block.sparse, "<u4", indptr)
    if block.multi is not None:
        parts += _cut_multi(block.multi, indptr)
    dim, has_sparse = block.dense.shape[1], block.sparse is not None
    block_format = BLOCK_FORMAT if block.multi is None else MULTI_FORMAT
    headers = [
        _HEADER.pack(n, dim, block_format, terms, sparse, has_sparse)
        for n, terms, sparse in zip(n_rows.tolist(), n_terms.tolist(), n_sparse.tolist(), strict=True)
    ]
    return [b"".join(version) for version in zip(headers, *parts, strict=True)]


def _cut(array: np.ndarray, dtype: str, bounds: np.ndarray) -> list[bytes]:
    """The bytes of array[bounds[i]:bounds[i + 1]] for each i."""
    data = array.astype(dtype, copy=False).tobytes()
    width = len(data) // max(1, len(array))
    return [data[start:stop] for start, stop in pairwise((bounds * width).tolist())]


def _cut_rows(rows: SparseRows, id_dtype: str, indptr: np.ndarray) -> list[list[bytes]]:
    """Each version's indptr from 0 on, ids and values."""
    cuts = rows.indptr[indptr]
    return [_cut_indptr(rows.indptr, indptr), _cut(rows.terms, id_dtype, cuts), _cut(rows.values, "<f4", cuts)]


def _cut_multi(tokens: TokenRows, indptr: np.ndarray) -> list[list[bytes]]:
    """Each version's small header, indptr from 0 on, scales and codes."""
    cuts = tokens.indptr[indptr]
    headers = [_MULTI_HEADER.pack(n, tokens.dim) for n in np.diff(cuts).tolist()]
    scales, codes = _cut(tokens.scales, "<f2", cuts), _cut(tokens.codes, "i1", cuts)
    return [headers, _cut_indptr(tokens.indptr, indptr), scales, codes]


def _cut_indptr(row_indptr: np.ndarray, indptr: np.ndarray) -> list[bytes]:
    """Each version's part of ``row_indptr``, from 0 on."""
    n_rows = np.diff(indptr)
    # A version of n rows has n + 1 bounds, so version i's begin i places behind its first row.
    firsts = indptr + np.arange(len(indptr))
    places = np.arange(firsts[-1]) - np.repeat(np.arange(len(n_rows)), n_rows + 1)
    bounds = row_indptr[places] - np.repeat(row_indptr[indptr[:-1]], n_rows + 1)
    return _cut(bounds, "<u4", firsts)


class _Reader:
    """Takes one array after the other from a buffer."""

    def __init__(self, data: bytes, offset: int) -> None:
        self.data = data
        self.offset = offset

    def take(self, dtype: str, count: int) -> np.ndarray:
        array = np.frombuffer(self.data, dtype, count, self.offset)
        self.offset += array.nbytes
        return array

    def take_multi(self, n: int) -> TokenRows:
        """The token vectors of ``n`` passages."""
        n_tokens, width = _MULTI_HEADER.unpack_from(self.data, self.offset)
        self.offset += _MULTI_HEADER.size
        indptr = self.take("<u4", n + 1).astype(np.int64)
        scales = self.take("<f2", n_tokens)
        return TokenRows(indptr, self.take("i1", n_tokens * width).reshape(n_tokens, width), scales)


def decode_block(data: bytes) -> PassageBlock:
    """The passages of stored bytes, as views into them.

    Raises:
        CorruptData: the block has another format, or its length is wrong.
    """
    try:
        n, dim, block_format, n_terms, n_sparse, has_sparse = _HEADER.unpack_from(data)
        if block_format not in (BLOCK_FORMAT, MULTI_FORMAT):
            raise CorruptData("a passage block", f"format {block_format}; this version reads up to {MULTI_FORMAT}")
        reader = _Reader(data, _HEADER.size)
        starts, ends = reader.take("<u4", n), reader.take("<u4", n)
        keys = reader.take("u1", n * KEY_BYTES).reshape(n, KEY_BYTES)
        dense = reader.take("<f2", n * dim).reshape(n, dim)
        indptr = reader.take("<u4", n + 1).astype(np.int64)
        terms = SparseRows(indptr, reader.take("<u8", n_terms), reader.take("<f4", n_terms))
        sparse = None
        if has_sparse:
            indptr = reader.take("<u4", n + 1).astype(np.int64)
            sparse = SparseRows(indptr, reader.take("<u4", n_sparse).astype(np.uint64), reader.take("<f4", n_sparse))
        multi = reader.take_multi(n) if block_format == MULTI_FORMAT else None
    except (struct.error, ValueError) as error:
        raise CorruptData("a passage block", str(error)) from error
    if reader.offset != len(data):
        raise CorruptData("a passage block", f"{len(data)} bytes where {reader.offset} were expected")
    return PassageBlock(starts, ends, keys, dense, terms, sparse, multi)
