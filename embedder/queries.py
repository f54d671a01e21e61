"""How does a query become vectors, ahead of all ingest and at most once?"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from embedder.batching import plan_batches
from embedder.recipe import Recipe
from embedder.scheduler import Scheduler
from embedder.tokens import TextTokenizer, TokenizedText
from embedder.values import EmbeddedQuery, PassageVectors
from embedder.windows import Row, WindowPacker

CACHE_SIZE = 4096  # queries; at 384 dimensions about 8 MB


class QueryPipeline:
    """Embeds queries through the scheduler, with a cache of the least recently used. Thread-safe."""

    def __init__(
        self, recipe: Recipe, tokenizer: TextTokenizer, scheduler: Scheduler, *, max_batch_tokens: int, pads: bool
    ) -> None:
        self._recipe = recipe
        self._tokenizer = tokenizer
        self._packer = WindowPacker(recipe, tokenizer)
        self._scheduler = scheduler
        self._max_batch_tokens = max_batch_tokens
        self._pads = pads
        self._room = recipe.max_tokens - tokenizer.n_special
        self._cache: OrderedDict[tuple[str | None, str], EmbeddedQuery] = OrderedDict()
        self._lock = threading.Lock()

    def embed(self, texts: Sequence[str], task: str | None) -> list[EmbeddedQuery]:
        """Embed queries in order; equal texts run once.

        Raises:
            SchedulerFull: too many queries wait.
            EmbedderClosed: the scheduler was closed.
        """
        found = {text: cached for text in texts if (cached := self._cached(task, text)) is not None}
        missing = [text for text in dict.fromkeys(texts) if text not in found]
        if missing:
            found.update(zip(missing, self._run(missing, task), strict=True))
        return [found[text] for text in texts]

    def _run(self, texts: Sequence[str], task: str | None) -> list[EmbeddedQuery]:
        """Embed texts that are not cached, and remember them."""
        prompt = self._recipe.query_text("\0", task).partition("\0")[0]
        bodies = [self._recipe.query_text(text, task).removeprefix(prompt) for text in texts]
        tokens = self._tokenizer.tokenize([prompt] * len(texts), bodies)
        rows = [self._row(tokenized) for tokenized in tokens]
        vectors = self._forward(rows)
        queries = [self._query(*pair) for pair in zip(tokens, vectors, strict=True)]
        self._remember(task, texts, queries)
        return queries

    def _row(self, tokens: TokenizedText) -> Row:
        ids = self._tokenizer.wrap(tokens.ids[: self._room])
        dense, sparse = self._packer.whole(len(ids), tokens.n_prefix)
        return Row(ids, dense, sparse, query=True)

    def _query(self, tokens: TokenizedText, vectors: PassageVectors) -> EmbeddedQuery:
        dense = vectors.dense.astype(np.float32)  # a copy: the cached query must not keep its whole batch alive
        dense.flags.writeable = False
        dropped = max(0, len(tokens.ids) - self._room)
        multi = None if vectors.multi is None else vectors.multi.astype(np.float32)
        return EmbeddedQuery(dense, vectors.sparse, len(tokens.ids) - tokens.n_prefix, dropped, multi)

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

    def _cached(self, task: str | None, text: str) -> EmbeddedQuery | None:
        with self._lock:
            query = self._cache.get((task, text))
            if query is not None:
                self._cache.move_to_end((task, text))
            return query

    def _remember(self, task: str | None, texts: Sequence[str], queries: Sequence[EmbeddedQuery]) -> None:
        with self._lock:
            for text, query in zip(texts, queries, strict=True):
                self._cache[(task, text)] = query
            while len(self._cache) > CACHE_SIZE:
                self._cache.popitem(last=False)
