"""Which documents came from files that are no longer there?

Every document that ``engine index`` writes carries the folder it was found under (``_root``). Pruning a PATH looks only
at the documents of that folder, and of that file when PATH is a file, and removes those that this run did not read. A
file that is still there but could not be read this time keeps its documents.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from cli.ingestion import Ingestion, Source
from cli.readers.reader import FILE_FIELD, ROOT_FIELD

if TYPE_CHECKING:
    from engine.api import CollectionApi
    from engine.values import Document

PAGE = 500
DELETE_BATCH = 1000


def prune(collection: CollectionApi, sources: Sequence[Source], ingestion: Ingestion) -> int:
    """Deletes the documents of the sources' roots that have vanished; returns how many."""
    named: dict[str, set[str] | None] = {}  # root → the files to look at; None: all of it
    for source in sources:
        files = named.setdefault(source.root, set())
        if not source.is_file or files is None:
            named[source.root] = None
        else:
            files.update(file.name for file in source.files)
    removed = 0
    for root, files in named.items():
        vanished = [
            document.doc_id
            for document in documents_of(collection, root)
            if document.doc_id not in ingestion.seen[root]
            and not _is_below(_file_of(document), ingestion.unread[root])
            and (files is None or _file_of(document) in files)
        ]
        for start in range(0, len(vanished), DELETE_BATCH):
            removed += collection.delete(vanished[start : start + DELETE_BATCH])
    return removed


def documents_of(collection: CollectionApi, root: str) -> Iterator[Document]:
    """The documents that were found under a root, in ``doc_id`` order."""
    after: str | None = None
    while True:
        page = collection.scroll(filter=f"{ROOT_FIELD} == $root", params={"root": root}, limit=PAGE, after=after)
        yield from page.documents
        after = page.next_after
        if after is None:
            return


def _file_of(document: Document) -> str:
    return str(document.metadata.get(FILE_FIELD) or document.metadata.get("path", ""))


def _is_below(name: str, folders: set[str]) -> bool:
    """Whether a file is one of ``folders``, or inside one; "" is the root itself, which could not be listed."""
    if "" in folders or name in folders:
        return True
    return any(parent.as_posix() in folders for parent in PurePosixPath(name).parents)
