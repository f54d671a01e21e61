"""How does a group of documents travel through tokeniser, packer, scheduler and back?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from embedder.batching import plan_batches
from embedder.packing import DocumentPacker
from embedder.recipe import Recipe
from embedder.scheduler import Scheduler, Ticket
from embedder.tokens import TextTokenizer
from embedder.values import DocumentInput, EmbeddedDocument, EmbeddedPassage, PassageVectors
from embedder.windows import PackedDocument, Window

GROUP_CHARACTERS = 1 << 19  # documents are tokenised in groups of about this many characters
_NOTHING = PackedDocument((), (), 0, 0)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a window's vectors will be: a ticket, and the row in it."""

    ticket: Ticket
    position: int


class IngestPipeline:
    """Turns documents into jobs for the scheduler. Thread-safe.

    Args:
        pads: whether the model pads its batches (see ``plan_batches``).
    """

    def __init__(
        self, recipe: Recipe, tokenizer: TextTokenizer, scheduler: Scheduler, *, max_batch_tokens: int, pads: bool
    ) -> None:
        self._packer = DocumentPacker(recipe, tokenizer)
        self._scheduler = scheduler
        self._max_batch_tokens = max_batch_tokens
        self._pads = pads

    def submit(self, documents: Sequence[DocumentInput], task: str | None = None) -> IngestJob:
        """Tokenise and pack documents, and queue the windows that are not known; blocks while too much waits."""
        visible = [document for document in documents if document.title.strip() or document.text.strip()]
        rest = iter(self._packer.pack(visible, task))
        packed = [next(rest) if document.title.strip() or document.text.strip() else _NOTHING for document in documents]
        return IngestJob(documents, packed, self._queue(documents, packed))

    def _queue(
        self, documents: Sequence[DocumentInput], packed: Sequence[PackedDocument]
    ) -> dict[tuple[int, int], _Place]:
        """Queue the windows whose passages are not all known; where each one's vectors will be, by (document, window)."""
        wanted = [
            (i, j)
            for i, (document, parts) in enumerate(zip(documents, packed, strict=True))
            for j, window in enumerate(parts.windows)
            if not all(key in document.known for key in window.keys)
        ]
        rows = [packed[i].windows[j].row for i, j in wanted]
        places: dict[tuple[int, int], _Place] = {}
        try:
            for batch in plan_batches([len(row.ids) for row in rows], self._max_batch_tokens, padded=self._pads):
                ticket = self._scheduler.submit_ingest([rows[n] for n in batch])
                places.update({wanted[n]: _Place(ticket, position) for position, n in enumerate(batch)})
        except BaseException:
            for place in places.values():
                place.ticket.cancel()
            raise
        return places


class IngestJob:
    """A group of documents whose windows wait for the model."""

    def __init__(
        self,
        documents: Sequence[DocumentInput],
        packed: Sequence[PackedDocument],
        places: dict[tuple[int, int], _Place],
    ) -> None:
        self._documents = documents
        self._packed = packed
        self._places = places

    def collect(self) -> list[EmbeddedDocument]:
        """Wait for the vectors and put the documents together, in order."""
        return [self._document(i) for i in range(len(self._documents))]

    def cancel(self) -> None:
        """Give up what has not begun to run."""
        for place in self._places.values():
            place.ticket.cancel()

    def _document(self, i: int) -> EmbeddedDocument:
        document, packed = self._documents[i], self._packed[i]
        lead = _lead(document.text)
        passages: list[EmbeddedPassage | None] = [None] * len(packed.spans)
        reused = 0
        for j, window in enumerate(packed.windows):
            place = self._places.get((i, j))
            for passage, key, vectors in _vectors(document, window, place):
                span, shared = packed.spans[passage], passages[passage]
                n_tokens = span.last - span.first
                if shared is not None:
                    vectors = _blended(shared.vectors, vectors)
                passages[passage] = EmbeddedPassage(span.start + lead, span.end + lead, key, vectors, n_tokens)
                reused += n_tokens if place is None and shared is None else 0
        done = tuple(cast("list[EmbeddedPassage]", passages))
        return EmbeddedDocument(done, packed.read, packed.read - packed.dropped, packed.dropped, reused)


def groups(documents: Sequence[DocumentInput]) -> Iterator[Sequence[DocumentInput]]:
    """Consecutive documents in groups; the first ones are small, so that the model starts at once."""
    group: list[DocumentInput] = []
    size, limit = 0, GROUP_CHARACTERS // 16
    for document in documents:
        group.append(document)
        size += len(document.text) + len(document.title)
        if size >= limit:
            yield group
            group, size, limit = [], 0, min(limit * 2, GROUP_CHARACTERS)
    if group:
        yield group


def _lead(text: str) -> int:
    """White space before the text; 0 for a blank text."""
    body = text.lstrip()
    return len(text) - len(body) if body else 0


def _vectors(
    document: DocumentInput, window: Window, place: _Place | None
) -> Iterator[tuple[int, bytes, PassageVectors]]:
    """The window's passages with their keys and vectors, from ``known`` or, where they are not, from the model."""
    made: Sequence[PassageVectors | None] = [None] * len(window.keys)
    if place is not None:
        made = place.ticket.result()[place.position]
    for passage, key, vectors in zip(window.passages, window.keys, made, strict=True):
        yield passage, key, document.known.get(key) or cast("PassageVectors", vectors)


def _blended(shared: PassageVectors, alone: PassageVectors) -> PassageVectors:
    """What a passage has in a shared window and alone: the dense mean, as long as they are; the rest as alone."""
    if shared is alone:  # both are what was known
        return alone
    mean = (shared.dense + alone.dense).astype(np.float32) / 2
    length = (np.linalg.norm(shared.dense) + np.linalg.norm(alone.dense)) / 2
    return replace(alone, dense=mean * np.float32(length / max(float(np.linalg.norm(mean)), 1e-9)))
