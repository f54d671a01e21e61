"""How do files become documents in a collection, with a tally and progress?

    discover → read_file → collection.ingest → acknowledgements

Everything streams: the list of files is the only thing that grows with the corpus, beside the ids that were seen (which
say what has vanished). Documents are pulled by the engine, possibly on another thread; acknowledgements come back in
the order of the documents.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from cli.discovery import discover, utf8_name
from cli.readers.reader import ReadDocument, ReadFailure, ReadItem, Skipped, SourceFile
from cli.readers.registry import read_file

if TYPE_CHECKING:
    from engine.api import CollectionApi
    from engine.values import Acknowledgement, Document


@dataclass(frozen=True, slots=True)
class ReadingOptions:
    """How files are found and read: the largest whole file, and whether hidden and ignored ones are read too."""

    max_bytes: int
    everything: bool


@dataclass(slots=True)
class Tally:
    """What an ingestion has done so far.

    Bytes are those of the files whose documents were acknowledged, so ``done_bytes / total_bytes`` is the progress.
    """

    total_bytes: int = 0
    done_bytes: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    passages: int = 0
    read: int = 0
    embedded: int = 0
    dropped: int = 0
    generated: int = 0
    removed: int = 0
    failures: list[ReadFailure] = field(default_factory=list)

    @property
    def documents(self) -> int:
        """How many documents were acknowledged as in the collection."""
        return self.statuses["added"] + self.statuses["updated"] + self.statuses["unchanged"]

    @property
    def changed(self) -> bool:
        """Whether the collection is different now."""
        return bool(self.statuses["added"] or self.statuses["updated"] or self.removed)

    @property
    def failed(self) -> int:
        """How many files, lines and documents failed."""
        return len(self.failures)


@dataclass(frozen=True, slots=True)
class Source:
    """One PATH argument: the files it gave, the names that could not be listed, and whether it was a file itself."""

    root: str
    files: tuple[SourceFile, ...]
    unlisted: frozenset[str]
    is_file: bool


def find_sources(
    paths: Sequence[Path], excluded: frozenset[Path], options: ReadingOptions, tally: Tally
) -> list[Source]:
    """Lists the files of every PATH, cheaply: names and sizes only. What cannot be listed is noted in the tally."""
    sources = []
    for path in paths:
        files, unlisted = [], []
        for found in discover(path, excluded=excluded, everything=options.everything):
            if isinstance(found, SourceFile):
                files.append(found)
                tally.total_bytes += found.size_bytes
            else:
                unlisted.append(found.where)
                tally.failures.append(found)
        is_file = not path.is_dir()
        root = path.absolute().parent if is_file else path
        sources.append(Source(utf8_name(str(root.resolve())), tuple(files), frozenset(unlisted), is_file))
    return sources


class Ingestion:
    """One run over the sources. ``seen`` holds the ids that were read, ``unread`` the files that failed, by root."""

    def __init__(self, sources: Sequence[Source], options: ReadingOptions, tally: Tally) -> None:
        self.tally = tally
        self.seen: dict[str, set[str]] = {source.root: set() for source in sources}
        self.unread: dict[str, set[str]] = {source.root: set() for source in sources}
        for source in sources:
            self.unread[source.root] |= source.unlisted
        self._sources = sources
        self._options = options
        self._waiting: deque[int] = deque()

    def run(self, collection: CollectionApi, notice: Callable[[], None]) -> None:
        """Reads and ingests everything; ``notice`` is called after each acknowledgement and each failure.

        KeyboardInterrupt passes through after the stream was closed; what the tally counts is in the collection.
        """
        own_vectors = collection.info().model is None
        acknowledgements = collection.ingest(self._documents(own_vectors, notice))
        try:
            for acknowledgement in acknowledgements:
                self._count(acknowledgement)
                notice()
        finally:
            close = getattr(acknowledgements, "close", None)
            if close is not None:
                close()

    def _documents(self, own_vectors: bool, notice: Callable[[], None]) -> Iterator[Document]:
        for source in self._sources:
            for file in source.files:
                for item in read_file(file, max_bytes=self._options.max_bytes, named=source.is_file):
                    if isinstance(item, ReadDocument) and self._is_new(item, file):
                        self._waiting.append(item.size_bytes)
                        yield with_own_vector(item.document) if own_vectors else item.document
                    else:
                        self._set_aside(item, file)
                        notice()

    def _is_new(self, item: ReadDocument, file: SourceFile) -> bool:
        doc_id = item.document.doc_id
        if any(doc_id in ids for ids in self.seen.values()):
            self._set_aside(
                ReadFailure(
                    f"{file.name} ({doc_id})",
                    "this run already read a document with this id (ids are relative to PATH)",
                ),
                file,
            )
            return False
        self.seen[file.root].add(doc_id)
        return True

    def _set_aside(self, item: ReadItem, file: SourceFile) -> None:
        self.tally.done_bytes += item.size_bytes
        if isinstance(item, Skipped):
            self.tally.skipped[item.reason] += 1
        elif isinstance(item, ReadFailure):
            self.unread[file.root].add(file.name)
            self.tally.failures.append(item)

    def _count(self, acknowledgement: Acknowledgement) -> None:
        tally = self.tally
        tally.done_bytes += self._waiting.popleft()
        tally.statuses[acknowledgement.status] += 1
        if acknowledgement.status == "failed":
            tally.failures.append(ReadFailure(acknowledgement.doc_id, acknowledgement.error or "unknown reason"))
        elif acknowledgement.status != "unchanged":
            tally.passages += acknowledgement.passages
            tally.read += acknowledgement.tokens.read
            tally.embedded += acknowledgement.tokens.embedded
            tally.dropped += acknowledgement.tokens.dropped
            tally.generated += acknowledgement.tokens.generated


def with_own_vector(document: Document) -> Document:
    """A document whose field ``vector`` is its vector: what a row means in a collection that has no model."""
    metadata = dict(document.metadata)
    vector = metadata.pop("vector", None)
    if not isinstance(vector, list):
        return document
    return replace(document, metadata=metadata, vector=[float(value) for value in vector])
