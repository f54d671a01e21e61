"""What can be done with one collection of this process's data folder?

`Collection` implements `engine.api.CollectionApi` on the generation that serves (`engine.generation`): it adds to its reads
(`engine.reading`) the write path (`engine.ingest`, `engine.writer`).
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from engine.api import MetadataChanges, Params
from engine.encoding import Model
from engine.errors import EngineClosed, InvalidArgument
from engine.generation import Generation
from engine.ingest import DocumentLike
from engine.reading import CollectionReader, matching
from engine.reranking import RerankerModel
from engine.schema import CollectionSchema
from engine.sealing import SEAL_ROWS
from engine.storage.layout import current_folder, make_current, sweep_generations
from engine.validation import check_doc_id, check_metadata
from engine.values import Acknowledgement

T = TypeVar("T")


class Collection(CollectionReader):
    """One open collection. Thread-safe.

    Args:
        folder: of the collection; `engine.storage.layout` says what is in it.
        model: the engine's model; used only by collections that were made with it.
        seal_rows: head size at which it is sealed.
        reranker: the engine's, for queries that ask for one; None: there is none.

    Attributes:
        migrating: held by the one migration that may run.

    Raises:
        CorruptData: the store itself is damaged. Damaged segments are rebuilt.
        UnsupportedFormat: another version wrote it.
    """

    def __init__(
        self, folder: Path, model: Model, *, seal_rows: int = SEAL_ROWS, reranker: RerankerModel | None = None
    ) -> None:
        super().__init__(reranker)
        self.folder = folder
        sweep_generations(folder)
        self._generation = Generation(current_folder(folder), model, seal_rows=seal_rows)
        self._readers: Counter[Generation] = Counter()
        self._reader_left = threading.Condition()
        self._switching = threading.Lock()
        self.migrating = threading.Lock()

    @staticmethod
    def create(folder: Path, schema: CollectionSchema, *, sequence: int = 0) -> None:
        """Initialise an empty collection in ``folder``, durable when this returns; see `Generation.create`."""
        Generation.create(folder, schema, sequence=sequence)

    @contextmanager
    def reading(self) -> Iterator[Generation]:
        """The generation that serves; it stays open until the block ends."""
        with self._reader_left:
            generation = self._generation
            self._readers[generation] += 1
        try:
            yield generation
        finally:
            with self._reader_left:
                self._readers[generation] -= 1
                self._reader_left.notify_all()

    def switch(self, successor: Collection, finish: Callable[[], None]) -> None:
        """Let the generation of ``successor`` serve from now on, and remove the one that served, between two operations.

        Queries run on, on the old generation or on the new one. Writes wait, and then go to the new one.

        Args:
            successor: opened on `engine.storage.layout.next_folder`; not to be used afterwards.
            finish: called while writes wait; brings the successor up to date. When it raises, nothing is switched.
        """
        old = self._generation
        with self._switching, old.writer.suspended():
            finish()
            make_current(self.folder, successor._generation.folder)
            with self._reader_left:
                self._generation = successor._generation
            old.end_writes()
        with self._reader_left:
            self._reader_left.wait_for(lambda: not self._readers[old])
            del self._readers[old]
        old.close()
        sweep_generations(self.folder)

    def _write(self, work: Callable[[Generation], T]) -> T:
        """Do a write on the generation that serves; one that a switch shut out is done on the next generation."""
        while True:
            generation = self._generation
            try:
                return work(generation)
            except EngineClosed:
                if not self._was_switched_from(generation):
                    raise

    def _was_switched_from(self, generation: Generation) -> bool:
        with self._switching:  # one in progress ends first
            return self._generation is not generation

    def upsert(self, documents: Iterable[DocumentLike]) -> list[Acknowledgement]:
        """See `CollectionApi.upsert`."""
        given = list(documents)
        return self._write(lambda generation: generation.ingestor.upsert(given))

    def ingest(self, documents: Iterable[DocumentLike]) -> Iterator[Acknowledgement]:
        """See `CollectionApi.ingest`. Documents that a switch of generations left unanswered are given to the next one."""
        source = iter(documents)
        unanswered: deque[DocumentLike] = deque()

        def given(again: Sequence[DocumentLike]) -> Iterator[DocumentLike]:
            yield from again
            for document in source:
                unanswered.append(document)
                yield document

        while True:
            generation = self._generation
            try:
                for answer in generation.ingestor.ingest(given(tuple(unanswered))):
                    unanswered.popleft()
                    yield answer
                return
            except EngineClosed:
                if not self._was_switched_from(generation):
                    raise

    def delete(
        self, doc_ids: Sequence[str] | None = None, *, filter: str | None = None, params: Params | None = None
    ) -> int:
        """See `CollectionApi.delete`."""
        if (doc_ids is None) == (filter is None):
            raise InvalidArgument("delete", "give doc_ids or a filter, exactly one of the two")
        for doc_id in doc_ids or ():
            check_doc_id(doc_id)

        def work(generation: Generation) -> int:
            chosen = doc_ids
            if chosen is None:
                with generation.view() as view, view.store.read() as transaction:
                    chosen = [doc_id for doc_id, _ in matching(view, transaction, filter, params)]
            return generation.ingestor.delete(chosen) if chosen else 0

        return self._write(work)

    def update_metadata(self, doc_id: str, changes: MetadataChanges, *, replace: bool = False) -> int:
        """See `CollectionApi.update_metadata`. The new version shares the stored vectors."""
        check_doc_id(doc_id)
        check_metadata({key: value for key, value in changes.items() if value is not None})
        return self._write(lambda generation: generation.ingestor.update_metadata(doc_id, changes, replace=replace))

    def optimize(self) -> None:
        """Seal the head, do every merge and calibration that is due; returns when all is on disk."""
        self._write(Generation.optimize)

    def copy(self, folder: Path) -> None:
        """Write a copy of the whole collection, as of one commit, to a new ``folder``."""
        self._write(lambda generation: generation.copy(folder))

    def close(self) -> None:
        """Finish queued writes, seal a head that is worth it, and release everything; a second call does nothing."""
        self._generation.close()
