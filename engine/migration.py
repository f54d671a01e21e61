"""How does a collection get the vectors of another model, while the old ones keep serving?

    fill      a second generation beside the one that serves (`engine.generation`): every document is read from the store,
              oldest version first, and ingested again with the other model
    switch    writes wait a moment, what was written meanwhile is brought over, and the new generation serves

A new version of a document has a higher number than all before it, so walking the versions in order meets writes that
arrive during the migration; only deletions need a comparison at the end. A migration that was killed goes on where it
was: a document that the new generation holds already is answered "unchanged" and is not embedded again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from embedder.errors import EmbedderClosed, EmbedderError, InvalidInput
from engine.collection import Collection
from engine.embedded import EmbeddedEngine, bare_schema, with_model
from engine.encoding import Model
from engine.errors import CorruptData, EngineClosed, EngineError, InvalidArgument
from engine.schema import CollectionSchema
from engine.storage.durable import remove_folder
from engine.storage.kv import Store, Transaction
from engine.storage.layout import STORE_FOLDER, next_folder
from engine.storage.records import DocumentRecord
from engine.storage.store import documents_after, find, read_document, read_schema, read_text, stored_documents
from engine.values import Document

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
"""Called with the documents that are done, and those that there are."""

# Documents are read in chunks of so many characters: a read transaction pins pages that writers would reuse.
CHUNK_TEXT = 1 << 20
LOG_EVERY_S = 10.0
# So few documents may be left to embed while writes wait.
CATCH_UP_DOCUMENTS = 64


@dataclass(frozen=True, slots=True)
class MigrationReport:
    """What a migration did: ``embedded`` of the collection's ``documents`` in this run; 0 when it had the model already."""

    collection: str
    model: str
    fingerprint: str
    documents: int
    passages: int
    embedded: int
    seconds: float


class Migration:
    """The move of one collection to another model. A context manager; left before `switch`, its work is kept for the next.

    Args:
        engine: holds the collection.
        name: of the collection.
        model: "builtin", a folder or a hub id; None: the engine's own.

    Attributes:
        target: the new generation, as a collection that can be searched before the switch.

    Raises:
        CollectionNotFound: there is none of this name.
        InvalidArgument: there is no model, the collection is being migrated already, or it holds vectors of its callers
            without the text that a model would need.
    """

    def __init__(self, engine: EmbeddedEngine, name: str, *, model: str | None = None) -> None:
        self.source = engine.get_collection(name)
        self._model = engine.model(model)
        if self._model.name is None:
            raise InvalidArgument("model", "the engine was opened without one; name the model to migrate to")
        if not self.source.migrating.acquire(blocking=False):
            raise InvalidArgument("collection", f"{name!r} is being migrated already; wait until that is done")
        try:
            _refuse_without_text(self.source)
            self._folder = next_folder(self.source.folder)
            self.target = _open_target(self.source, self._folder, self._model)
        except BaseException:
            self.source.migrating.release()
            raise
        self._seen = 0
        self._embedded = 0
        self._started = time.monotonic()
        self._is_open = True

    def fill(self, on_progress: Progress = lambda done, total: None) -> None:
        """Embed every document, seal and calibrate; returns when little is left to bring over.

        What was written meanwhile is brought over pass by pass, as long as the passes halve. When documents come faster
        than they can be embedded twice, the rest is left for the moment in which writes wait.
        """
        last = self._bring_over(on_progress)
        self.target.optimize()
        while CATCH_UP_DOCUMENTS < (count := self._bring_over(on_progress)) <= last / 2:
            last = count

    def switch(self) -> MigrationReport:
        """Bring over what is left and let the new generation serve, at once and for good."""
        self.source.switch(self.target, self._catch_up)
        self._leave()
        return _report(self.source, self._embedded, self._started)

    def discard(self) -> None:
        """Give the migration up and remove what was done; the collection stays as it is."""
        self.target.close()
        remove_folder(self._folder)
        self._leave()

    def _bring_over(self, on_progress: Progress) -> int:
        """Ingest the versions that are there now and were not seen yet; returns how many documents they were."""
        count = 0
        for answer in self.target.ingest(self._unseen_documents()):
            if answer.status == "failed":
                raise InvalidArgument("collection", f"a document cannot be embedded: {answer.error}")
            count += 1
            self._embedded += answer.status != "unchanged"
            on_progress(self.target.count(), self.source.count())
        return count

    def _unseen_documents(self) -> Iterator[Document]:
        with self.source.reading() as generation:
            end = generation.writer.state.next_doc_no
        while chunk := self._next_chunk(end):
            yield from chunk

    def _next_chunk(self, end: int) -> list[Document]:
        """The next live documents of versions below ``end``, oldest first; empty when all were seen."""
        chunk: list[Document] = []
        size = 0
        with self.source.reading() as generation, generation.store.read() as transaction:
            for doc_no, record in stored_documents(transaction, self._seen + 1):
                if doc_no >= end:
                    break
                self._seen = doc_no
                if find(transaction, record.doc_id) != doc_no:
                    continue  # replaced or deleted
                chunk.append(_as_given(transaction, doc_no, record))
                size += len(chunk[-1].text)
                if size >= CHUNK_TEXT:
                    break
        return chunk

    def _catch_up(self) -> None:
        """What `Collection.switch` asks for while writes wait."""
        self._bring_over(lambda done, total: None)
        if self.target.count() != self.source.count():
            self.target.delete(self._deleted())
        with self.target.reading() as generation:
            generation.continue_from(self.source.info().sequence)

    def _deleted(self) -> list[str]:
        """Documents of the target that are no longer in the source."""
        with (
            self.source.reading() as old,
            self.target.reading() as new,
            old.store.read() as current,
            new.store.read() as copied,
        ):
            return [doc_id for doc_id, _ in documents_after(copied, None) if find(current, doc_id) is None]

    def _leave(self) -> None:
        self._is_open = False
        self.source.migrating.release()

    def __enter__(self) -> Self:
        """Return the migration itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the new generation unless it serves; what it holds is kept."""
        if self._is_open:
            self.target.close()
            self._leave()


def migrate(
    engine: EmbeddedEngine,
    name: str,
    *,
    model: str | None = None,
    on_progress: Progress = lambda done, total: None,
) -> MigrationReport:
    """Give a collection the vectors of another model; queries and writes go on, with the old ones until the end.

    A run that was stopped or killed is resumed by calling this again with the same model. When the collection has the
    model's vectors already, only an unfinished migration to another model is removed.

    Args:
        engine: holds the collection.
        name: of the collection.
        model: "builtin", a folder or a hub id; None: the engine's own.
        on_progress: called after each document.

    Raises:
        InvalidArgument: see `Migration`.
        EmbedderError: the model cannot be loaded, or failed.
    """
    started = time.monotonic()
    source = engine.get_collection(name)
    if source.schema.fingerprint is not None and source.schema.fingerprint == engine.model(model).fingerprint():
        remove_folder(next_folder(source.folder))
        return _report(source, 0, started)
    with Migration(engine, name, model=model) as migration:
        migration.fill(on_progress)
        return migration.switch()


@contextmanager
def migrating(engine: EmbeddedEngine, name: str, model: str) -> Iterator[None]:
    """Migrate in a thread beside whatever the block does, say serve; close the engine before the block ends to stop it.

    Progress and failures are logged. What an ended block leaves unfinished is resumed by the next migration to ``model``.
    """
    noted = time.monotonic()

    def note(done: int, total: int) -> None:
        nonlocal noted
        if time.monotonic() - noted > LOG_EVERY_S:
            noted = time.monotonic()
            log.info("migrating %r to %s: %d of %d documents", name, model, done, total)

    def work() -> None:
        try:
            report = migrate(engine, name, model=model, on_progress=note)
        except (EngineClosed, EmbedderClosed):
            log.info("the migration of %r stops here; the next one to %s goes on", name, model)
        except (EngineError, EmbedderError) as error:
            log.error("the migration of %r failed: %s", name, error)
        else:
            log.info("%r has the vectors of %s: %d documents embedded", name, report.model, report.embedded)

    thread = threading.Thread(target=work, name=f"migrate-{name}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def _report(collection: Collection, embedded: int, started: float) -> MigrationReport:
    info = collection.info()
    return MigrationReport(
        info.name,
        str(info.model),
        str(info.fingerprint),
        info.documents,
        info.passages,
        embedded,
        time.monotonic() - started,
    )


def _open_target(source: Collection, folder: Path, model: Model) -> Collection:
    """The unfinished migration to this very model, or an empty generation."""
    schema = _successor(source.schema, model)
    if _stored_schema(folder) != schema:
        remove_folder(folder)
        Collection.create(folder, schema, sequence=source.info().sequence)
    return Collection(folder, model)


def _successor(old: CollectionSchema, model: Model) -> CollectionSchema:
    """The schema with another model.

    A learned sparse leg comes with a model that has one, unless it was declined; token vectors are kept on if the model
    gives them, and so is the collection's task if the model takes it.
    """
    declined = old.fingerprint is not None and old.fingerprint.get("sparse") != "none" and not old.sparse
    sparse = False if declined else None
    multi = old.multi_dim > 0 and model.embedder().multi_dim > 0
    bare = bare_schema(old.name, old.language, old.dense_kind)
    new = with_model(bare, model, sparse=sparse, multi=multi, task=_kept_task(old, model))
    weights = {leg: weight for leg, weight in old.weights.items() if leg in new.legs}
    return msgspec.structs.replace(
        new,
        weights=weights if any(weights.values()) else {},
        created=old.created,
        expansion=old.expansion,
        generator=old.generator,
        generator_identity=old.generator_identity,
    )


def _kept_task(old: CollectionSchema, model: Model) -> str | None:
    if old.task is None:
        return None
    try:
        model.embedder().check_task(old.task)
    except InvalidInput as error:
        log.warning("the collection %r loses its task: %s", old.name, error)
        return None
    return old.task


def _stored_schema(folder: Path) -> CollectionSchema | None:
    """What an unfinished migration was made with; None when there is none that can be used."""
    if not (folder / STORE_FOLDER).is_dir():
        return None
    try:
        store = Store(folder / STORE_FOLDER)
    except CorruptData:
        return None
    try:
        with store.read() as transaction:
            return read_schema(transaction)
    except CorruptData:
        return None
    finally:
        store.close()


def _refuse_without_text(source: Collection) -> None:
    with source.reading() as generation, generation.store.read() as transaction:
        for doc_id, doc_no in documents_after(transaction, None):
            record = read_document(transaction, doc_no)
            if record.own_vectors and not record.title.strip() and not read_text(transaction, doc_no).strip():
                raise InvalidArgument(
                    "collection",
                    f"{source.name!r} cannot be migrated: document {doc_id!r} came with a vector and without text, so "
                    "no model can make its vector again. Delete such documents, or upsert them with their text",
                )


def _as_given(transaction: Transaction, doc_no: int, record: DocumentRecord) -> Document:
    """The document as its caller gave it, without vectors of the caller's own: they belong to the old model."""
    return Document(
        doc_id=record.doc_id,
        title=record.title,
        text=read_text(transaction, doc_no),
        metadata=record.metadata,
        boundaries=record.boundaries,
    )
