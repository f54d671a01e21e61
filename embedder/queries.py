"""How does a query become vectors, ahead of all ingest and at most once?"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from embedder.batching import plan_batches
from embedder.inputs import Input, InputBuilder
from embedder.recipe import Recipe
from embedder.scheduler import Scheduler
from embedder.tokens import TextTokenizer
from embedder.values import EmbeddedQuery, PassageVectors
from embedder.windows import Row

CACHE_BYTES = 16 << 20  # some 5,000 queries of 384 dimensions, or a hundred with token vectors
ENTRY_BYTES = 600  # of a cached query beside its arrays and its text: a few objects

# A task and few-shot examples; with the text they are what a query is cached by.
_Prompt: TypeAlias = tuple[str | None, tuple[tuple[str, str], ...]]
_Key: TypeAlias = tuple[_Prompt, str]


class QueryPipeline:
    """Embeds queries through the scheduler, with a cache of the most recently used. Thread-safe."""

    def __init__(
        self, recipe: Recipe, tokenizer: TextTokenizer, scheduler: Scheduler, *, max_batch_tokens: int, pads: bool
    ) -> None:
        self._builder = InputBuilder(recipe, tokenizer)
        self._scheduler = scheduler
        self._max_batch_tokens = max_batch_tokens
        self._pads = pads
        self._cache: OrderedDict[_Key, EmbeddedQuery] = OrderedDict()
        self._cached_bytes = 0
        self._lock = threading.Lock()

    def embed(
        self, texts: Sequence[str], task: str | None, shots: Sequence[tuple[str, str]] = ()
    ) -> list[EmbeddedQuery]:
        """Embed queries in order; equal texts run once.

        Args:
            texts: the queries.
            task: what they ask for; None: the recipe's default.
            shots: few-shot examples as (query, document).

        Raises:
            SchedulerFull: too many queries wait.
            EmbedderClosed: the scheduler was closed.
        """
        prompt = (task, tuple(shots))
        found = {text: cached for text in texts if (cached := self._cached(prompt, text)) is not None}
        missing = [text for text in dict.fromkeys(texts) if text not in found]
        if missing:
            inputs = self._builder.queries(missing, task, shots)
            vectors = self._forward([each.row for each in inputs])
            queries = [_query(*pair) for pair in zip(inputs, vectors, strict=True)]
            self._remember(prompt, missing, queries)
            found.update(zip(missing, queries, strict=True))
        return [found[text] for text in texts]

    def _forward(self, rows: Sequence[Row]) -> list[PassageVectors]:
        """Run rows of one passage each; in their order."""
        batches = plan_batches([len(row.ids) for row in rows], self._max_batch_tokens, padded=self._pads)
        tickets = []
        vectors: dict[int, PassageVectors] = {}
        try:
            for batch in batches:
                tickets.append(self._scheduler.submit_query([rows[n] for n in batch]))
            for batch, ticket in zip(batches, tickets, strict=True):
                vectors.update({n: passages[0] for n, passages in zip(batch, ticket.result(), strict=True)})
        finally:
            for ticket in tickets:
                ticket.cancel()
        return [vectors[n] for n in range(len(rows))]

    def _cached(self, prompt: _Prompt, text: str) -> EmbeddedQuery | None:
        with self._lock:
            query = self._cache.get((prompt, text))
            if query is not None:
                self._cache.move_to_end((prompt, text))
            return query

    def _remember(self, prompt: _Prompt, texts: Sequence[str], queries: Sequence[EmbeddedQuery]) -> None:
        with self._lock:
            for text, query in zip(texts, queries, strict=True):
                if (prompt, text) not in self._cache:  # two callers may have asked at once
                    self._cache[(prompt, text)] = query
                    self._cached_bytes += _bytes((prompt, text), query)
            while self._cached_bytes > CACHE_BYTES:
                self._cached_bytes -= _bytes(*self._cache.popitem(last=False))


def _bytes(key: _Key, query: EmbeddedQuery) -> int:
    """About how much memory a cached query holds."""
    (_, shots), text = key
    arrays: list[NDArray[Any] | None] = [query.dense, query.multi]
    if query.sparse is not None:
        arrays += [query.sparse.ids, query.sparse.weights]
    characters = len(text) + sum(len(part) for shot in shots for part in shot)
    return ENTRY_BYTES + 2 * characters + sum(array.nbytes for array in arrays if array is not None)


def _query(read: Input, vectors: PassageVectors) -> EmbeddedQuery:
    dense = vectors.dense.astype(np.float32)  # a copy: the cached query must not keep its whole batch alive
    dense.flags.writeable = False
    multi = None if vectors.multi is None else vectors.multi.astype(np.float32)
    return EmbeddedQuery(dense, vectors.sparse, read.tokens, read.dropped, multi)
