"""Is everything that is stored sound, and how is it copied and brought back?

A snapshot has the layout of a data folder, plus a manifest with the hash of every file; `restore_snapshot` verifies it
before anything is written. `check` reads every record against its checksum and every index file against its manifest.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np

from engine.collection import Collection
from engine.embedded import EmbeddedEngine
from engine.encoding import Model
from engine.errors import CorruptData, InvalidArgument
from engine.local import COLLECTIONS_FOLDER
from engine.schema import CollectionSchema
from engine.segment import Segment
from engine.storage.durable import fsync_path, seal_folder, verify_folder
from engine.storage.kv import Store, Transaction
from engine.storage.layout import SEGMENTS_FOLDER, STORE_FOLDER, current_folder
from engine.storage.lock import FolderLock
from engine.storage.store import (
    State,
    dead_versions,
    documents_after,
    read_block,
    read_document,
    read_schema,
    read_state,
    read_text,
)


@dataclass(frozen=True, slots=True)
class CollectionCheck:
    """What was found in one collection. ``problems`` are not repaired; ``repaired`` were, by rebuilding from the store."""

    name: str
    documents: int
    passages: int
    problems: tuple[str, ...]
    repaired: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What was found in a data folder."""

    collections: tuple[CollectionCheck, ...]

    @property
    def is_sound(self) -> bool:
        """Whether nothing is left that is damaged."""
        return not any(collection.problems for collection in self.collections)


@dataclass(frozen=True, slots=True)
class SnapshotInfo:
    """The collections in a snapshot."""

    collections: tuple[str, ...]


def check(data: str | PathLike[str], *, repair: bool = True) -> CheckReport:
    """Verify a data folder that no process has open.

    Args:
        data: the folder.
        repair: rebuild damaged indexes from the store; damaged records can only be restored from a snapshot.

    Raises:
        DataFolderLocked: a process has it open.
    """
    lock = FolderLock(Path(data))
    try:
        return CheckReport(tuple(_check_collection(folder, repair) for folder in _collection_folders(Path(data))))
    finally:
        lock.release()


def _collection_folders(data: Path) -> list[Path]:
    parent = data / COLLECTIONS_FOLDER
    found = parent.iterdir() if parent.is_dir() else ()
    return sorted(path for path in found if path.is_dir() and not path.name.startswith("."))


def _check_collection(folder: Path, repair: bool) -> CollectionCheck:
    serving = current_folder(folder)
    try:
        store = Store(serving / STORE_FOLDER)
    except CorruptData as error:
        return CollectionCheck(folder.name, 0, 0, (str(error),), ())
    try:
        with store.read() as transaction:
            schema, state = read_schema(transaction), read_state(transaction)
            if schema is None:
                return CollectionCheck(folder.name, 0, 0, ("its store has no schema",), ())
            problems = _check_records(transaction, state)
            damaged = _damaged_segments(transaction, serving / SEGMENTS_FOLDER, schema, state)
    except CorruptData as error:
        return CollectionCheck(folder.name, 0, 0, (str(error),), ())
    finally:
        store.close()
    descriptions = [f"segment {name}: {problem}" for name, problem in damaged.items()]
    if damaged and repair and not problems:
        _rebuild(folder, damaged)
        return CollectionCheck(folder.name, state.documents, state.passages, (), tuple(descriptions))
    return CollectionCheck(folder.name, state.documents, state.passages, (*problems, *descriptions), ())


def _check_records(transaction: Transaction, state: State) -> list[str]:
    """Every live document against its checksum, its own facts and the totals."""
    problems = []
    documents = passages = 0
    for doc_id, doc_no in documents_after(transaction, None):
        documents += 1
        try:
            record = read_document(transaction, doc_no)
            block, text = read_block(transaction, doc_no), read_text(transaction, doc_no)
        except CorruptData as error:
            problems.append(f"document {doc_id!r}: {error}")
            continue
        passages += record.n_passages
        if record.doc_id != doc_id or block.n_passages != record.n_passages:
            problems.append(f"document {doc_id!r}: its record, passages and id do not belong together")
        elif block.n_passages and int(block.ends.max()) > len(text):
            problems.append(f"document {doc_id!r}: a passage ends after the text")
    if not problems and (documents, passages) != (state.documents, state.passages):
        problems.append(
            f"{documents} documents and {passages} passages where {state.documents} and {state.passages} are noted"
        )
    return problems


def _damaged_segments(transaction: Transaction, folder: Path, schema: CollectionSchema, state: State) -> dict[str, str]:
    """Name → problem of each sealed segment whose files are damaged, or that holds what the store does not know."""
    damaged = {}
    live = [doc_no for _, doc_no in documents_after(transaction, None)]
    known = np.array(live + dead_versions(transaction), np.uint64)
    for name in state.segments:
        try:
            segment = Segment.load(folder / name, schema)
        except CorruptData as error:
            damaged[name] = str(error)
            continue
        if not np.isin(segment.doc_nos, known).all():
            damaged[name] = "it holds documents that the store does not know"
    return damaged


def _rebuild(folder: Path, damaged: Iterable[str]) -> None:
    """Remove damaged segments and open the collection, which rebuilds them from the store, and seal the result."""
    for name in damaged:
        shutil.rmtree(current_folder(folder) / SEGMENTS_FOLDER / name, ignore_errors=True)
    collection = Collection(folder, Model(None))
    try:
        collection.optimize()
    finally:
        collection.close()


def create_snapshot(data: str | PathLike[str], target: str | PathLike[str]) -> SnapshotInfo:
    """Copy the collections of a data folder that no process has open; a running engine has `snapshot_engine`."""
    with EmbeddedEngine(data, model=None) as engine:
        return snapshot_engine(engine, target)


def snapshot_engine(engine: EmbeddedEngine, target: str | PathLike[str]) -> SnapshotInfo:
    """Copy every collection as of one commit each, durable and hashed; writes to a collection wait while it is copied.

    Raises:
        InvalidArgument: ``target`` exists already.
    """
    final = Path(target)
    if final.exists():
        raise InvalidArgument("target", f"{final} exists already; name a new folder")
    final.parent.mkdir(parents=True, exist_ok=True)
    unfinished = final.with_name(f".{final.name}-{uuid.uuid4().hex[:8]}")
    try:
        names = tuple(info.name for info in engine.list_collections())
        (unfinished / COLLECTIONS_FOLDER).mkdir(parents=True)
        for name in names:
            engine.get_collection(name).copy(unfinished / COLLECTIONS_FOLDER / name)
        seal_folder(unfinished)
        os.replace(unfinished, final)
        fsync_path(final.parent)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return SnapshotInfo(names)


def restore_snapshot(snapshot: str | PathLike[str], data: str | PathLike[str]) -> SnapshotInfo:
    """Make a data folder from a snapshot.

    Raises:
        CorruptData: the snapshot is not complete, or a file does not match its hash; nothing was written.
        InvalidArgument: ``data`` holds collections already.
    """
    source, target = Path(snapshot), Path(data)
    verify_folder(source)
    if _collection_folders(target):
        raise InvalidArgument("data", f"{target} holds collections already; name a new folder with --data")
    lock = FolderLock(target)
    try:
        unfinished = target / f".restored-{uuid.uuid4().hex[:8]}"
        shutil.copytree(source / COLLECTIONS_FOLDER, unfinished)
        (target / COLLECTIONS_FOLDER).mkdir(exist_ok=True)
        for folder in sorted(unfinished.iterdir()):
            os.replace(folder, target / COLLECTIONS_FOLDER / folder.name)
        unfinished.rmdir()
        fsync_path(target / COLLECTIONS_FOLDER)
    finally:
        lock.release()
    return SnapshotInfo(tuple(folder.name for folder in _collection_folders(target)))
