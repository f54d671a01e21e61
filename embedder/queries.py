"""How does a query become vectors, ahead of all ingest and at most once?"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from embedder.batching import plan_batches
from embedder.inputs import Input, InputBuilder
from embedder.recipe import Recipe
from embedder.scheduler import Scheduler
from embedder.tokens import TextTokenizer
from embedder.values import EmbeddedQuery, PassageVectors
from embedder.windows import Row

CACHE_SIZE = 4096  # queries; at 384 dimensions about 8 MB


class QueryPipeline:
    """Embeds queries through the scheduler, with a cache of the least recently used. Thread-safe."""

    def __init__(
        self, recipe: Recipe, tokenizer: TextTokenizer, scheduler: Scheduler, *, max_batch_tokens: int, pads: bool
    ) -> None:
        self._builder = InputBuilder(recipe, tokenizer)
        self._scheduler = scheduler
        self._max_batch_tokens = max_batch_tokens
        self._pads = pads
        self._cache: OrderedDict[tuple[object, str], EmbeddedQuery] = OrderedDict()
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

    def _cached(self, prompt: object, text: str) -> EmbeddedQuery | None:
        with self._lock:
            query = self._cache.get((prompt, text))
            if query is not None:
                self._cache.move_to_end((prompt, text))
            return query

    def _remember(self, prompt: object, texts: Sequence[str], queries: Sequence[EmbeddedQuery]) -> None:
        with self._lock:
            for text, query in zip(texts, queries, strict=True):
                self._cache[(prompt, text)] = query
            while len(self._cache) > CACHE_SIZE:
                self._cache.popitem(last=False)


def _query(read: Input, vectors: PassageVectors) -> EmbeddedQuery:
    dense = vectors.dense.astype(np.float32)  # a copy: the cached query must not keep its whole batch alive
    dense.flags.writeable = False
    multi = None if vectors.multi is None else vectors.multi.astype(np.float32)
    return EmbeddedQuery(dense, vectors.sparse, read.tokens, read.dropped, multi)
