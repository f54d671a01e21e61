"""How does a stream of documents become acknowledged commits?

Documents are cut into batches, which are prepared here and committed by the writer. Acknowledgements come in input order,
each after its commit is on the disk.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Literal

import msgspec
import numpy as np

from embedder.errors import InvalidInput
from engine.api import MetadataChanges
from engine.errors import DocumentNotFound, InvalidArgument, InvalidDocument
from engine.preparation import Batch, Preparer, metadata_hash
from engine.priority import giving_way
from engine.schema import CollectionSchema
from engine.storage.store import find, read_block, read_document, read_text
from engine.validation import check_document, check_metadata, to_document
from engine.values import Acknowledgement, Document
from engine.writer import Commit, Job, Writer

DocumentLike = Document | Mapping[str, object]

# Two are prepared while one is committed; more in flight would only hold memory.
BATCHES_IN_FLIGHT = 3
BATCH_DOCUMENTS = 2_000
# Embedding is the slow part, seconds for this many characters: small batches keep acknowledgements flowing.
BATCH_TEXT = 1 << 15
BATCH_TEXT_WITHOUT_MODEL = 1 << 22


class Ingestor:
    """The write path of one collection in front of its writer. Thread-safe."""

    def __init__(self, schema: CollectionSchema, preparer: Preparer, writer: Writer) -> None:
        self._schema = schema
        self._preparer = preparer
        self._writer = writer

    def upsert(self, documents: Iterable[DocumentLike]) -> list[Acknowledgement]:
        """All or none of the documents, in one commit; see `CollectionApi.upsert`."""
        checked = [to_document(document) for document in documents]
        seen: set[str] = set()
        for document in checked:
            check_document(document, self._schema)
            if document.doc_id in seen:
                raise InvalidDocument("doc_id", f"{document.doc_id!r} is given twice in one call; give it once")
            seen.add(document.doc_id)
        return self._submit(checked).result() if checked else []

    def ingest(self, documents: Iterable[DocumentLike]) -> Iterator[Acknowledgement]:
        """A stream of documents in batches; see `CollectionApi.ingest`.

        Batches are prepared and committed side by side, so that neither the model nor the disk waits for the other. No
        two batches in flight hold the same document, because a document is compared with the version stored before it.
        """
        waiting: deque[tuple[set[str], Future[list[Acknowledgement]]]] = deque()
        # With a model, two batches keep it busy; without, preparing holds the interpreter, and more threads only contend.
        n_threads = BATCHES_IN_FLIGHT if self._schema.model else BATCHES_IN_FLIGHT - 1
        pool = ThreadPoolExecutor(n_threads, thread_name_prefix=f"ingest-{self._schema.name}")
        try:
            for ids, chunk in _chunks(documents, BATCH_TEXT if self._schema.model else BATCH_TEXT_WITHOUT_MODEL):
                while waiting and any(ids & earlier for earlier, _ in waiting):
                    yield from waiting.popleft()[1].result()
                waiting.append((ids, pool.submit(self._answer, chunk)))
                while len(waiting) > BATCHES_IN_FLIGHT or (waiting and waiting[0][1].done()):
                    yield from waiting.popleft()[1].result()
            while waiting:
                yield from waiting.popleft()[1].result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _answer(self, chunk: Sequence[DocumentLike]) -> list[Acknowledgement]:
        """Commit the valid documents of a chunk; the others are answered as failed, in their places."""
        answers: dict[int, Acknowledgement] = {}
        valid: dict[int, Document] = {}
        for place, value in enumerate(giving_way(chunk)):
            try:
                document = to_document(value)
                check_document(document, self._schema)
                valid[place] = document
            except InvalidArgument as error:
                answers[place] = Acknowledgement(_id_of(value), "failed", error=str(error))
        if valid:
            answers.update(zip(valid, self._commit(list(valid.values())), strict=True))
        return [answers[place] for place in range(len(chunk))]

    def _commit(self, documents: Sequence[Document]) -> list[Acknowledgement]:
        """Commit documents; one that a model cannot take (a passage too long for the generator) fails alone.

        Which one it is, halving finds out. What the generator wrote about the others is kept in its cache.
        """
        try:
            return self._submit(documents).result()
        except InvalidInput as error:
            if len(documents) == 1:
                return [Acknowledgement(documents[0].doc_id, "failed", error=str(error))]
            middle = len(documents) // 2
            return [*self._commit(documents[:middle]), *self._commit(documents[middle:])]

    def _submit(self, documents: Sequence[Document]) -> Future[list[Acknowledgement]]:
        batch = self._preparer.prepare(documents)
        return self._writer.submit(Job(lambda commit: _put_all(commit, batch), size_bytes=batch.size_bytes))

    def delete(self, doc_ids: Sequence[str]) -> int:
        """Delete documents in one commit; returns how many were there."""

        def apply(commit: Commit) -> int:
            killed = sum(commit.kill(doc_id) for doc_id in doc_ids)
            if killed:
                commit.next_sequences(1)
            return killed

        return self._writer.submit(Job(apply)).result()

    def update_metadata(self, doc_id: str, changes: MetadataChanges, *, replace: bool) -> int:
        """A new version of the document with the same text and vectors; see `CollectionApi.update_metadata`."""

        def apply(commit: Commit) -> int:
            doc_no = find(commit.transaction, doc_id)
            if doc_no is None:
                raise DocumentNotFound(doc_id)
            record = read_document(commit.transaction, doc_no)
            merged = {**({} if replace else record.metadata), **changes}
            metadata = {key: value for key, value in merged.items() if value is not None}
            check_metadata(metadata)
            text, block = read_text(commit.transaction, doc_no), read_block(commit.transaction, doc_no)
            (sequence,) = commit.next_sequences(1)
            new = msgspec.structs.replace(
                record,
                metadata=metadata,
                content_hash=record.content_hash[:16] + metadata_hash(metadata),
                sequence=sequence,
            )
            commit.put([new], [text], block)
            return sequence

        return self._writer.submit(Job(apply)).result()


def _put_all(commit: Commit, batch: Batch) -> list[Acknowledgement]:
    answers = dict(batch.answered)
    if batch.block is not None:
        sequences = commit.next_sequences(len(batch.documents))
        lengths = np.diff(batch.indptr).tolist()
        records = [
            prepared.record(sequence, n_passages)
            for prepared, sequence, n_passages in zip(giving_way(batch.documents), sequences, lengths, strict=True)
        ]
        replaced = commit.put(records, [prepared.document.text for prepared in batch.documents], batch.block)
        for place, record, prepared, old in zip(
            giving_way(batch.places), records, batch.documents, replaced, strict=True
        ):
            status: Literal["updated", "added"] = "updated" if old else "added"
            answers[place] = Acknowledgement(record.doc_id, status, record.n_passages, prepared.tokens, record.sequence)
    return [answers[place] for place in sorted(answers)]


def _chunks(documents: Iterable[DocumentLike], max_text: int) -> Iterator[tuple[set[str], list[DocumentLike]]]:
    """Consecutive documents with their ids; no id twice in one chunk."""
    ids: set[str] = set()
    chunk: list[DocumentLike] = []
    size = 0
    for document in documents:
        doc_id = _id_of(document)
        if len(chunk) >= BATCH_DOCUMENTS or size >= max_text or doc_id in ids:
            yield ids, chunk
            ids, chunk, size = set(), [], 0
        ids.add(doc_id)
        chunk.append(document)
        size += _text_length(document)
    if chunk:
        yield ids, chunk


def _text_length(document: DocumentLike) -> int:
    text = (
        document.text
        if isinstance(document, Document)
        else document.get("text")
        if isinstance(document, Mapping)
        else None
    )
    return len(text) if isinstance(text, str) else 0


def _id_of(document: DocumentLike) -> str:
    found = (
        document.doc_id
        if isinstance(document, Document)
        else document.get("doc_id")
        if isinstance(document, Mapping)
        else ""
    )
    return str(found)[:512]
