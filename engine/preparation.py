"""How do documents become rows, before anything is written?

    check → compare with the stored version → split and embed (or take the caller's vectors) → analyse for BM25 → `Batch`

A document whose content is the same as the stored version's is answered "unchanged" and goes no further. One whose content
differs hands its old vectors to the embedder by passage key, so only windows that changed are embedded again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat

import msgspec
import numpy as np
import xxhash

from embedder.splitter import split_text
from embedder.values import DocumentInput, EmbeddedDocument, PassageVectors, SparseVector
from engine.priority import giving_way
from engine.schema import CollectionSchema
from engine.storage.kv import Store
from engine.storage.records import KEY_BYTES, DocumentRecord, PassageBlock
from engine.storage.store import find_many, read_block, read_document
from engine.validation import brings_vectors, check_document_tokens, check_sparse
from engine.values import Acknowledgement, Coverage, Document
from index.analyzer import Analyzer
from index.multi import TokenRows
from index.sparse_rows import SparseRows

_NO_KEY = bytes(KEY_BYTES)
_NOT_READ = Coverage()

EmbedDocuments = Callable[[Sequence[DocumentInput]], list[EmbeddedDocument]]


@dataclass(frozen=True, slots=True)
class PreparedDocument:
    """A document that is ready to be written; its passages are in the batch's block."""

    document: Document
    content_hash: bytes
    tokens: Coverage
    own_vectors: bool

    def record(self, sequence: int, n_passages: int) -> DocumentRecord:
        """The stored record of this version."""
        return DocumentRecord(
            self.document.doc_id,
            self.document.title,
            dict(self.document.metadata),  # type: ignore[arg-type]  # check_metadata saw to the types
            self.content_hash,
            n_passages,
            self.tokens.read,
            self.tokens.embedded,
            self.tokens.dropped,
            self.own_vectors,
            sequence,
            tuple(self.document.boundaries),
        )


@dataclass(frozen=True, slots=True)
class Batch:
    """Documents to commit together, and the answers that are known already.

    documents: ready to write, document i with the rows indptr[i] to indptr[i + 1] of ``block`` (None when there are none).
    answered: place in the input → acknowledgement, for unchanged documents. places: place in the input of each document.
    """

    documents: tuple[PreparedDocument, ...]
    indptr: np.ndarray
    block: PassageBlock | None
    places: tuple[int, ...]
    answered: Mapping[int, Acknowledgement]

    @property
    def size_bytes(self) -> int:
        """About how much memory the batch holds."""
        rows = 0
        if self.block is not None:
            multi = 0 if self.block.multi is None else self.block.multi.nbytes
            rows = self.block.dense.nbytes + 12 * len(self.block.terms.terms) + multi
        return rows + sum(len(prepared.document.text) for prepared in self.documents)


@dataclass(frozen=True, slots=True)
class _Rows:
    """One document's passages, before they are joined into the batch's block."""

    spans: Sequence[tuple[int, int]]
    keys: Sequence[bytes]
    dense: Sequence[np.ndarray]
    sparse: Sequence[tuple[np.ndarray, np.ndarray]]
    multi: Sequence[np.ndarray]
    tokens: Coverage
    generated: Sequence[str] = ()  # what BM25 counts with each passage's own words; empty: nothing with any


class Preparer:
    """Prepares batches for one collection. Thread-safe.

    Args:
        schema: the collection's.
        store: where stored versions are looked up.
        analyzer: for the BM25 leg.
        embed: the embedder's `embed_documents`; None when callers bring their own vectors.
    """

    def __init__(
        self, schema: CollectionSchema, store: Store, analyzer: Analyzer, embed: EmbedDocuments | None
    ) -> None:
        self._schema = schema
        self._store = store
        self._analyzer = analyzer
        self._embed = embed

    def prepare(self, documents: Sequence[Document]) -> Batch:
        """The batch of checked documents, each a new version or answered as unchanged."""
        hashes = [content_hash(document) for document in giving_way(documents)]
        answered, known = self._stored_versions(documents, hashes)
        places = tuple(place for place in range(len(documents)) if place not in answered)
        changed = [documents[place] for place in places]
        rows = self._rows(changed, [known.get(place, {}) for place in places])
        prepared = tuple(
            PreparedDocument(document, hashes[place], part.tokens, brings_vectors(document))
            for place, document, part in zip(giving_way(places), changed, rows, strict=True)
        )
        indptr = np.concatenate([[0], np.cumsum([len(part.spans) for part in rows])]).astype(np.int64)
        return Batch(prepared, indptr, self._block(changed, rows) if rows else None, places, answered)

    def _stored_versions(
        self, documents: Sequence[Document], hashes: list[bytes]
    ) -> tuple[dict[int, Acknowledgement], dict[int, dict[bytes, PassageVectors]]]:
        """Answers for unchanged documents, and the old vectors by passage key for changed ones, by place."""
        answered: dict[int, Acknowledgement] = {}
        known: dict[int, dict[bytes, PassageVectors]] = {}
        with self._store.read() as transaction:
            versions = find_many(transaction, [document.doc_id for document in documents])
            for place, (document, doc_no) in enumerate(zip(documents, versions, strict=True)):
                if doc_no is None:
                    continue
                record = read_document(transaction, doc_no)
                if record.content_hash == hashes[place]:
                    answered[place] = Acknowledgement(
                        document.doc_id, "unchanged", record.n_passages, record.tokens, record.sequence
                    )
                elif self._embed is not None and not record.own_vectors:
                    known[place] = _vectors_by_key(read_block(transaction, doc_no))
        return answered, known

    def _rows(self, documents: list[Document], known: list[dict[bytes, PassageVectors]]) -> list[_Rows]:
        to_embed = [place for place, document in enumerate(documents) if not brings_vectors(document)]
        embedded: dict[int, EmbeddedDocument] = {}
        if self._embed is not None and to_embed:
            inputs = [
                DocumentInput(documents[p].title, documents[p].text, known[p], tuple(documents[p].boundaries))
                for p in to_embed
            ]
            embedded = dict(zip(to_embed, self._embed(inputs), strict=True))
        return [
            _embedded_rows(embedded[place]) if place in embedded else self._own_rows(document)
            for place, document in enumerate(giving_way(documents))
        ]

    def _own_rows(self, document: Document) -> _Rows:
        if not brings_vectors(document):
            spans = split_text(document.text, hard_boundaries=document.boundaries) or [(0, len(document.text))]
            return _Rows(spans, [_NO_KEY] * len(spans), (), (), (), _NOT_READ)
        # Tuples, and shared ones: a list more for each of millions of documents is work for the garbage collector.
        dense = () if document.vector is None else (np.asarray(document.vector, np.float32),)
        sparse = () if document.sparse is None else (check_sparse(document.sparse),)
        multi: tuple[np.ndarray, ...] = ()
        if document.multi is not None:
            multi = (check_document_tokens(document.multi, self._schema.multi_dim),)
        return _Rows(((0, len(document.text)),), (_NO_KEY,), dense, sparse, multi, _NOT_READ)

    def _block(self, documents: list[Document], rows: list[_Rows]) -> PassageBlock:
        spans = np.array([span for part in rows for span in part.spans], np.uint32).reshape(-1, 2)
        texts = [
            " ".join(filter(None, (document.title, document.text[start:end], generated)))
            for document, part in zip(giving_way(documents), rows, strict=True)
            for (start, end), generated in zip(part.spans, part.generated or repeat(""), strict=False)
        ]
        vectors = [vector for part in rows for vector in part.dense]
        dense = _unit_rows(np.stack(vectors)) if self._schema.dim else np.empty((len(spans), 0), np.float16)
        return PassageBlock(
            spans[:, 0],
            spans[:, 1],
            np.frombuffer(b"".join(key for part in rows for key in part.keys), np.uint8).reshape(-1, KEY_BYTES),
            dense,
            self._analyzer.count(texts),
            SparseRows.from_rows(pair for part in rows for pair in part.sparse) if self._schema.sparse else None,
            self._token_rows(rows) if self._schema.multi_dim else None,
        )

    def _token_rows(self, rows: list[_Rows]) -> TokenRows:
        return TokenRows.from_vectors([vectors for part in rows for vectors in part.multi], self._schema.multi_dim)


def content_hash(document: Document) -> bytes:
    """24 bytes that are equal for equal documents: 16 of title, text, vectors and boundaries, then 8 of the metadata."""
    own = None if document.vector is None else np.asarray(document.vector, np.float32).tobytes()
    sparse = None if document.sparse is None else sorted(document.sparse.items())
    parts = [document.title, document.text, own, sparse, list(document.boundaries)]
    if document.multi is not None:
        parts.append(np.asarray(document.multi, np.float32).tobytes())
    return xxhash.xxh3_128_digest(msgspec.msgpack.encode(parts)) + metadata_hash(document.metadata)


def metadata_hash(metadata: Mapping[str, object]) -> bytes:
    """The last 8 bytes of `content_hash`."""
    return xxhash.xxh3_64_digest(msgspec.msgpack.encode(sorted(metadata.items())))


def _unit_rows(vectors: np.ndarray) -> np.ndarray:
    """float16[n, dim] of unit length, from checked vectors of any length."""
    norms = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    return (vectors / norms[:, None]).astype(np.float16)


def _vectors_by_key(block: PassageBlock) -> dict[bytes, PassageVectors]:
    vectors = {}
    for place in range(block.n_passages):
        sparse = None
        if block.sparse is not None:
            ids, weights = block.sparse.row(place)
            sparse = SparseVector(ids.astype(np.uint32), weights)
        multi = None if block.multi is None else block.multi.row(place)
        vectors[block.keys[place].tobytes()] = PassageVectors(block.dense[place], sparse, multi)
    return vectors


def _embedded_rows(embedded: EmbeddedDocument) -> _Rows:
    passages = embedded.passages
    return _Rows(
        [(passage.start, passage.end) for passage in passages],
        [passage.key for passage in passages],
        [passage.vectors.dense for passage in passages],
        [
            (sparse.ids.astype(np.uint64), sparse.weights)
            for passage in passages
            if (sparse := passage.vectors.sparse) is not None
        ],
        [multi for passage in passages if (multi := passage.vectors.multi) is not None],
        Coverage(embedded.read, embedded.embedded, embedded.dropped, embedded.reused, embedded.generated),
        [passage.generated for passage in passages] if any(passage.generated for passage in passages) else (),
    )
