"""What does LMDB give us, and in whose words?

The only module that knows lmdb. A `Store` is one LMDB environment with a fixed set of named tables. Every value carries an
xxh3-64 over its key and bytes, because LMDB itself returns flipped bits as good data. A write transaction that ends without
an exception is on the disk (LMDB's default: fdatasync, then a synchronous meta page).

LMDB's engine 1.0 is used, not 0.9: on a truncated file it raises where 0.9 dies of SIGBUS. The two file formats differ, so
the choice is made once (docs/adr/0003).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Protocol

import lmdb
import xxhash

from engine.errors import CorruptData, DataFolderReadOnly, EngineClosed, EngineError, StoreFull
from engine.priority import give_way

ENGINE = 1
DATA_FILE = "data.mdb"
# Address space, not disk: the file is sparse and grows as it is filled. Never resized while open.
MAP_SIZE = 1 << 40
MAX_READERS = 1024
AT_ONCE = 64  # pairs of one call into LMDB, which holds the interpreter, and with it every query, until it returns
_CHECKSUM = struct.Struct("<Q")


class Table(StrEnum):
    """The named tables of a collection's store; `engine.storage.store` documents their keys and values."""

    META = "meta"
    IDS = "ids"
    DOCUMENTS = "documents"
    TEXTS = "texts"
    PASSAGES = "passages"
    DEAD = "dead"


def _translated(path: str, error: lmdb.Error) -> EngineError:
    match error:
        case lmdb.MapFullError():
            return StoreFull(path, "the store's map is full")
        case lmdb.DiskError():
            return StoreFull(path, str(error))
        case lmdb.ReadonlyError():
            return DataFolderReadOnly(path, str(error))
        case lmdb.BadTxnError():
            return EngineClosed("The store")
        case _:
            # LMDB reports a full disk as a generic I/O error of its own write call.
            if "No space left" in str(error) or "Input/output" in str(error):
                return StoreFull(path, str(error))
            return CorruptData(path, f"{type(error).__name__}: {error}")


class Transaction:
    """Reads and writes inside one LMDB transaction; values are checked when read and sealed when written."""

    def __init__(self, transaction: lmdb.Transaction, tables: dict[Table, lmdb._Database], path: str) -> None:
        self._transaction = transaction
        self._tables = tables
        self._path = path

    @property
    def number(self) -> int:
        """The last commit that this transaction sees (LMDB's transaction id); it grows with every commit of any process."""
        return int(self._transaction.id())

    def get(self, table: Table, key: bytes) -> bytes | None:
        """The value of ``key``, or None.

        Raises:
            CorruptData: the stored bytes do not match their checksum.
        """
        sealed = self._transaction.get(key, db=self._tables[table])
        return None if sealed is None else self._opened(table, key, bytes(sealed))

    def get_many(self, table: Table, keys: Sequence[bytes]) -> list[bytes | None]:
        """The value of each key, or None, as `get` gives it."""
        with self._transaction.cursor(db=self._tables[table]) as cursor:
            sealed: dict[bytes | memoryview, bytes | memoryview] = {}
            for start in range(0, len(keys), AT_ONCE):
                sealed.update(cursor.getmulti(keys[start : start + AT_ONCE]))
        return [self._opened(table, key, bytes(sealed[key])) if key in sealed else None for key in keys]

    def put(self, table: Table, key: bytes, value: bytes) -> None:
        """Store ``value`` under ``key``, replacing what was there."""
        self.put_many(table, [(key, value)])

    def put_many(self, table: Table, pairs: Iterable[tuple[bytes, bytes]]) -> None:
        """Store many values as `put` does; ascending keys are the fastest."""
        pack, digest = _CHECKSUM.pack, xxhash.xxh3_64_intdigest
        with self._transaction.cursor(db=self._tables[table]) as cursor:
            rest = iter(pairs)
            while part := [(key, pack(digest(value, digest(key))) + value) for key, value in islice(rest, AT_ONCE)]:
                cursor.putmulti(part)
                if len(part) == AT_ONCE:  # a single pair, as of each version that dies, is no work to pause after
                    give_way()

    def delete(self, table: Table, key: bytes) -> bool:
        """Remove ``key``; False when it was not there."""
        return bool(self._transaction.delete(key, db=self._tables[table]))

    def keys(self, table: Table, start: bytes = b"") -> Iterator[bytes]:
        """The keys from ``start`` on, ascending."""
        with self._transaction.cursor(db=self._tables[table]) as cursor:
            if cursor.set_range(start):
                yield from map(bytes, cursor.iternext(keys=True, values=False))

    def items(self, table: Table, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """The pairs from ``start`` on, by ascending key, each value checked."""
        with self._transaction.cursor(db=self._tables[table]) as cursor:
            if cursor.set_range(start):
                for found, sealed in cursor.iternext():
                    key = bytes(found)
                    yield key, self._opened(table, key, bytes(sealed))

    def count(self, table: Table) -> int:
        """The number of pairs in ``table``."""
        return int(self._transaction.stat(db=self._tables[table])["entries"])

    def _opened(self, table: Table, key: bytes, sealed: bytes) -> bytes:
        value = sealed[_CHECKSUM.size :]
        if _CHECKSUM.unpack_from(sealed)[0] != xxhash.xxh3_64_intdigest(value, xxhash.xxh3_64_intdigest(key)):
            raise CorruptData(f"{self._path} ({table}, key {key.hex()})", "the checksum does not match")
        return value


def _opened(environment: lmdb.Environment, read_only: bool) -> dict[Table, lmdb._Database]:
    """The tables. Handles of a read transaction end with it, so there each is opened alone."""
    if read_only:
        return {table: environment.open_db(table.encode(), create=False) for table in Table}
    with environment.begin(write=True) as transaction:
        return {table: environment.open_db(table.encode(), txn=transaction) for table in Table}


class Readable(Protocol):
    """What gives consistent views of a store: the store itself, or one view that stays the same."""

    def read(self) -> AbstractContextManager[Transaction]:
        """A consistent view."""
        ...


class Store:
    """One LMDB environment.

    Args:
        folder: where it lies, created when absent.
        map_size: how large it may become, bytes.
        read_only: follow what another process writes to it; it must be there.
    """

    def __init__(self, folder: Path, *, map_size: int = MAP_SIZE, read_only: bool = False) -> None:
        self.path = str(folder)
        self._environment: lmdb.Environment | None = None
        try:
            if not read_only:
                folder.mkdir(parents=True, exist_ok=True)
            self._environment = lmdb.open(
                self.path,
                map_size=map_size,
                max_dbs=len(Table),
                max_readers=MAX_READERS,
                lib_version=ENGINE,
                # Random reads of a few values a query: read-ahead would evict useful pages.
                readahead=False,
                readonly=read_only,
                create=not read_only,
            )
            self.release_dead_readers()
            self._tables = _opened(self._environment, read_only)
        except lmdb.Error as error:
            raise _translated(self.path, error) from error
        except OSError as error:
            raise DataFolderReadOnly(self.path, error.strerror or str(error)) from error

    def release_dead_readers(self) -> int:
        """Let go of the pages that are pinned for processes which were killed; returns how many such readers there were."""
        return 0 if self._environment is None else int(self._environment.reader_check())

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        """A consistent view. Keep it short: it pins the pages that writers would reuse."""
        with self._begin(write=False) as transaction:
            yield transaction

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        """The one write transaction: durable when the block ends, nothing of it stored when the block raises."""
        with self._begin(write=True) as transaction:
            yield transaction

    @contextmanager
    def _begin(self, *, write: bool) -> Iterator[Transaction]:
        if self._environment is None:
            raise EngineClosed("The store")
        try:
            with self._environment.begin(write=write) as transaction:
                yield Transaction(transaction, self._tables, self.path)
        except lmdb.Error as error:
            raise _translated(self.path, error) from error

    def copy(self, folder: Path) -> None:
        """Write a compacted, consistent copy into the empty ``folder``."""
        if self._environment is None:
            raise EngineClosed("The store")
        folder.mkdir(parents=True, exist_ok=True)
        try:
            self._environment.copy(str(folder), compact=True)
        except lmdb.Error as error:
            raise _translated(str(folder), error) from error

    def close(self) -> None:
        """Close the environment; a second call does nothing."""
        if self._environment is not None:
            self._environment.close()
            self._environment = None
