"""What does a process get that reads a data folder which another one writes? Everything that changes nothing."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import NoReturn, Unpack

from engine.api import MetadataChanges, Params
from engine.encoding import Model
from engine.errors import CollectionNotFound, DataFolderReadOnly, EngineClosed, EngineError, InvalidArgument
from engine.following import FollowedGeneration
from engine.ingest import DocumentLike
from engine.local import LocalEngine, ModelOptions
from engine.reading import CollectionReader
from engine.reranking import RerankerModel
from engine.schema import CollectionSchema
from engine.storage.kv import DATA_FILE
from engine.storage.layout import STORE_FOLDER, current_folder
from engine.values import Acknowledgement

# What serves: the generation's folder, and its store's device and inode. Open files keep their inode, so none is used twice.
Identity = tuple[Path, int, int]


class FollowedCollection(CollectionReader):
    """One collection, read while another process may write it, migrate it, or drop and create it again. Thread-safe.

    Args:
        folder: of the collection; `engine.storage.layout` says what is in it.
        models: the engine's model, and those of migrations, by name; used only by a collection that was made with one.
        reranker: the engine's, for queries that ask for one; None: there is none.

    Raises:
        CollectionNotFound: it is not there, now or (from every method) later.
        CorruptData: it is damaged; the process that writes repairs what can be repaired when it opens it.
    """

    def __init__(
        self, folder: Path, models: Callable[[str | None], Model], *, reranker: RerankerModel | None = None
    ) -> None:
        super().__init__(reranker)
        self._folder = folder
        self._models = models
        self._first_schema: CollectionSchema | None = None
        self._guard = threading.Lock()
        self._readers: Counter[FollowedGeneration] = Counter()
        self._serving: tuple[Identity, FollowedGeneration] | None = None
        self._closed = False
        with self.reading():
            pass

    @contextmanager
    def reading(self) -> Iterator[FollowedGeneration]:
        """See `CollectionReader.reading`. One that no longer serves is closed when its last reader leaves."""
        with self._guard:
            generation = self._current()
            self._readers[generation] += 1
        try:
            yield generation
        finally:
            with self._guard:
                self._readers[generation] -= 1
                self._release(generation)

    def close(self) -> None:
        """Release everything once the last reader leaves; a second call does nothing."""
        with self._guard:
            self._closed = True
            self._leave()

    def _current(self) -> FollowedGeneration:
        if self._closed:
            raise EngineClosed(f"Collection {self._folder.name!r}")
        while True:
            identity = self._identity()
            if self._serving is not None and self._serving[0] == identity:
                return self._serving[1]
            self._leave()
            try:
                self._serving = (identity, FollowedGeneration(identity[0], self._model_of))
            except EngineError:
                if self._identity() == identity:  # else it was replaced while it was opened
                    raise

    def _model_of(self, schema: CollectionSchema) -> Model:
        """The engine's own model, and after a migration the one that the collection was migrated to."""
        if self._first_schema is None:
            self._first_schema = schema
        return self._models(None if schema.model == self._first_schema.model else schema.model)

    def _identity(self) -> Identity:
        """What serves now; raises CollectionNotFound when nothing does."""
        try:
            folder = current_folder(self._folder)
            found = os.stat(folder / STORE_FOLDER / DATA_FILE)
        except FileNotFoundError:
            self._leave()
            raise CollectionNotFound(self._folder.name) from None
        return folder, found.st_dev, found.st_ino

    def _leave(self) -> None:
        """Let go of the generation that served."""
        if self._serving is not None:
            generation = self._serving[1]
            self._serving = None
            self._release(generation)

    def _release(self, generation: FollowedGeneration) -> None:
        if not self._readers[generation] and (self._serving is None or self._serving[1] is not generation):
            del self._readers[generation]
            generation.close()

    def upsert(self, documents: Iterable[DocumentLike]) -> list[Acknowledgement]:
        """Refused."""
        self._refuse()

    def ingest(self, documents: Iterable[DocumentLike]) -> Iterator[Acknowledgement]:
        """Refused."""
        self._refuse()

    def delete(
        self, doc_ids: Sequence[str] | None = None, *, filter: str | None = None, params: Params | None = None
    ) -> int:
        """Refused."""
        self._refuse()

    def update_metadata(self, doc_id: str, changes: MetadataChanges, *, replace: bool = False) -> int:
        """Refused."""
        self._refuse()

    def optimize(self) -> None:
        """Refused."""
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise _refusal(self._folder)


class ReadOnlyEngine(LocalEngine[FollowedCollection]):
    """An engine that reads. Thread-safe. Implements `engine.api.EngineApi`; open it with `engine.open_reader`."""

    def __init__(self, path: str | PathLike[str], **options: Unpack[ModelOptions]) -> None:
        super().__init__(path, **options)
        if not self._folder.is_dir():
            raise InvalidArgument("path", f"{self.path} is no data folder; the process that writes makes it")

    def _opened(self, folder: Path) -> FollowedCollection:
        return FollowedCollection(folder, self.model, reranker=self._reranker)

    def create_collection(self, name: str, **options: object) -> FollowedCollection:
        """Refused."""
        raise _refusal(self.path)

    def drop_collection(self, name: str) -> None:
        """Refused."""
        raise _refusal(self.path)


def _refusal(path: Path) -> DataFolderReadOnly:
    return DataFolderReadOnly(str(path), "this process opened it for reading only")
