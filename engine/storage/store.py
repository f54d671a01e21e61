"""What is in a collection's store, and how is it read and written?

    META       "schema" → CollectionSchema (JSON), "state" → State (msgpack), "calibration" → Calibration (msgpack),
               "queries" → vectors of recent queries (float32[m, dim])
    IDS        doc_id (UTF-8) → doc_no
    DOCUMENTS  doc_no → DocumentRecord
    TEXTS      doc_no → the text (UTF-8)
    PASSAGES   doc_no → PassageBlock
    DEAD       doc_no → nothing: deleted or replaced versions that a sealed segment may still hold

``doc_no`` (8 bytes, big-endian, ascending) names one immutable version of a document. A version that dies keeps its rows in
DOCUMENTS, TEXTS and PASSAGES until no snapshot can reach it (`engine.writer` reaps it), and its entry in DEAD until no
sealed segment holds it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence

import msgspec
import numpy as np

from engine.errors import CorruptData
from engine.schema import CollectionSchema
from engine.storage.kv import Table, Transaction
from engine.storage.records import (
    DocumentRecord,
    PassageBlock,
    decode_block,
    decode_document,
    encode_document,
)

_DOC_NO = struct.Struct(">Q")
_SCHEMA = b"schema"
_STATE = b"state"
_CALIBRATION = b"calibration"
_QUERIES = b"queries"


class State(msgspec.Struct, frozen=True):
    """What changes with every commit, in one record.

    sequence: the last operation's number. next_doc_no: the first free one. watermark: every version below it is in a
    sealed segment or dead; the head is rebuilt from there. segments: the live sealed segments' folder names. documents,
    passages, read, embedded, dropped: totals over live versions.
    """

    sequence: int = 0
    next_doc_no: int = 1
    watermark: int = 1
    segments: tuple[str, ...] = ()
    documents: int = 0
    passages: int = 0
    read: int = 0
    embedded: int = 0
    dropped: int = 0

    @property
    def killed(self) -> int:
        """How many versions have died so far."""
        return self.next_doc_no - 1 - self.documents

    def counting(self, records: Sequence[DocumentRecord], sign: int) -> State:
        """This state with ``records`` added (sign 1) or taken away (-1)."""
        return msgspec.structs.replace(
            self,
            documents=self.documents + sign * len(records),
            passages=self.passages + sign * sum(record.n_passages for record in records),
            read=self.read + sign * sum(record.read for record in records),
            embedded=self.embedded + sign * sum(record.embedded for record in records),
            dropped=self.dropped + sign * sum(record.dropped for record in records),
        )


class Calibration(msgspec.Struct, frozen=True):
    """What engine.calibration found, and from how much.

    bm25_weight, sparse_weight: of these legs, each alone beside a dense weight of 1; sparse_weight is None without such a
    leg. samples: how many pseudo-queries voted. passages: the collection's at that time.
    """

    bm25_weight: float
    samples: int
    passages: int
    sparse_weight: float | None = None


_calibration_decoder = msgspec.msgpack.Decoder(Calibration)
_state_decoder = msgspec.msgpack.Decoder(State)


def _key(doc_no: int) -> bytes:
    return _DOC_NO.pack(doc_no)


def _number(key: bytes) -> int:
    return int(_DOC_NO.unpack(key)[0])


def read_schema(transaction: Transaction) -> CollectionSchema | None:
    """The collection's schema, or None in a store that was never initialised."""
    data = transaction.get(Table.META, _SCHEMA)
    return None if data is None else CollectionSchema.from_json(data)


def write_schema(transaction: Transaction, schema: CollectionSchema) -> None:
    """Store the schema: at creation, and when the collection is migrated to another model."""
    transaction.put(Table.META, _SCHEMA, schema.to_json())


def read_state(transaction: Transaction) -> State:
    """The last committed state."""
    data = transaction.get(Table.META, _STATE)
    return State() if data is None else _state_decoder.decode(data)


def write_state(transaction: Transaction, state: State) -> None:
    """Store the state; part of every commit."""
    transaction.put(Table.META, _STATE, msgspec.msgpack.encode(state))


def read_calibration(transaction: Transaction) -> Calibration | None:
    """The last calibration, or None."""
    data = transaction.get(Table.META, _CALIBRATION)
    return None if data is None else _calibration_decoder.decode(data)


def write_calibration(transaction: Transaction, calibration: Calibration) -> None:
    """Store a calibration in the place of the last."""
    transaction.put(Table.META, _CALIBRATION, msgspec.msgpack.encode(calibration))


def read_queries(transaction: Transaction, dim: int) -> np.ndarray:
    """The recent queries that were stored last, float32[m, dim]."""
    data = transaction.get(Table.META, _QUERIES) or b""
    return np.frombuffer(data, np.float32).reshape(-1, max(dim, 1))


def write_queries(transaction: Transaction, vectors: np.ndarray) -> None:
    """Store recent queries, float32[m, dim], in the place of the last."""
    transaction.put(Table.META, _QUERIES, vectors.tobytes())


def find(transaction: Transaction, doc_id: str) -> int | None:
    """The live version of ``doc_id``, or None."""
    key = transaction.get(Table.IDS, doc_id.encode())
    return None if key is None else _number(key)


def find_many(transaction: Transaction, doc_ids: Sequence[str]) -> list[int | None]:
    """`find` for each id."""
    keys = transaction.get_many(Table.IDS, list(map(str.encode, doc_ids)))
    return [None if key is None else _number(key) for key in keys]


def read_document(transaction: Transaction, doc_no: int) -> DocumentRecord:
    """The record of a version that is known to be there.

    Raises:
        CorruptData: it is not.
    """
    return decode_document(_present(transaction, Table.DOCUMENTS, doc_no))


def read_documents(transaction: Transaction, doc_nos: Sequence[int]) -> list[DocumentRecord]:
    """`read_document` of each version."""
    return [decode_document(data) for data in _all_present(transaction, Table.DOCUMENTS, doc_nos)]


def read_texts(transaction: Transaction, doc_nos: Sequence[int]) -> list[str]:
    """`read_text` of each version."""
    return [data.decode() for data in _all_present(transaction, Table.TEXTS, doc_nos)]


def read_text(transaction: Transaction, doc_no: int) -> str:
    """The text of a version that is known to be there."""
    return _present(transaction, Table.TEXTS, doc_no).decode()


def read_block(transaction: Transaction, doc_no: int) -> PassageBlock:
    """The passages of a version that is known to be there."""
    return decode_block(_present(transaction, Table.PASSAGES, doc_no))


def _present(transaction: Transaction, table: Table, doc_no: int) -> bytes:
    return _all_present(transaction, table, (doc_no,))[0]


def _all_present(transaction: Transaction, table: Table, doc_nos: Sequence[int]) -> list[bytes]:
    found = []
    for doc_no, data in zip(doc_nos, transaction.get_many(table, list(map(_key, doc_nos))), strict=True):
        if data is None:
            raise CorruptData(f"document version {doc_no}", f"it has no entry in {table}")
        found.append(data)
    return found


def put_versions(
    transaction: Transaction,
    first: int,
    records: Sequence[DocumentRecord],
    texts: Sequence[str],
    blocks: Sequence[bytes],
) -> None:
    """Store new versions, numbered from ``first`` on, and make each the live one of its ``doc_id``; no id twice.

    ``blocks`` are encoded (`engine.storage.records.encode_blocks`).
    """
    keys = [_key(doc_no) for doc_no in range(first, first + len(records))]
    ids = sorted(zip((record.doc_id.encode() for record in records), keys, strict=True))
    transaction.put_many(Table.IDS, ids)
    transaction.put_many(Table.DOCUMENTS, zip(keys, map(encode_document, records), strict=True))
    transaction.put_many(Table.TEXTS, zip(keys, map(str.encode, texts), strict=True))
    transaction.put_many(Table.PASSAGES, zip(keys, blocks, strict=True))


def mark_dead(transaction: Transaction, doc_no: int) -> None:
    """Record that a version was replaced or deleted; its rows stay until it is reaped."""
    transaction.put(Table.DEAD, _key(doc_no), b"")


def forget_id(transaction: Transaction, doc_id: str) -> None:
    """Make ``doc_id`` unknown."""
    transaction.delete(Table.IDS, doc_id.encode())


def reap(transaction: Transaction, doc_no: int) -> None:
    """Delete the rows of a dead version. Doing it twice does nothing more."""
    key = _key(doc_no)
    for table in (Table.DOCUMENTS, Table.TEXTS, Table.PASSAGES):
        transaction.delete(table, key)


def forget_dead(transaction: Transaction, doc_nos: Iterable[int]) -> None:
    """Drop the DEAD entries of versions that no sealed segment holds any more."""
    for doc_no in doc_nos:
        transaction.delete(Table.DEAD, _key(doc_no))


def dead_versions(transaction: Transaction) -> list[int]:
    """Every version in DEAD, ascending."""
    return [_number(key) for key in transaction.keys(Table.DEAD)]


def stored_versions(transaction: Transaction, start: int) -> list[int]:
    """Every version from ``start`` on whose rows are there, ascending, dead ones included."""
    return [_number(key) for key in transaction.keys(Table.DOCUMENTS, _key(start))]


def stored_blocks(transaction: Transaction, start: int) -> Iterator[tuple[int, PassageBlock]]:
    """(version, passages) from ``start`` on, ascending, dead versions included."""
    for key, data in transaction.items(Table.PASSAGES, _key(start)):
        yield _number(key), decode_block(data)


def stored_documents(transaction: Transaction, start: int) -> Iterator[tuple[int, DocumentRecord]]:
    """(version, record) from ``start`` on, ascending, dead versions included."""
    for key, data in transaction.items(Table.DOCUMENTS, _key(start)):
        yield _number(key), decode_document(data)


def documents_after(transaction: Transaction, doc_id: str | None) -> Iterator[tuple[str, int]]:
    """(doc_id, live version) in byte order of ``doc_id``, from behind ``doc_id``, or from the beginning."""
    start = b"" if doc_id is None else doc_id.encode() + b"\0"
    for key, value in transaction.items(Table.IDS, start):
        yield key.decode(), _number(value)
