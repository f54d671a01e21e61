"""How does what a generator writes about a query enter its dense vector?

    hyde        a hypothetical answer, embedded as a passage, is mixed into the query's vector (Reinforced-IR: 0.2 of it)
    thoughts    what a good answer must say, embedded behind the query; the mean over several (O1 Embedder)
    rewrites    the mean of the query and its paraphrases (GenEOL)

The learned sparse vector and the BM25 terms stay those of the query's own words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from embedder.generation import prompts
from embedder.generation.answers import CachedGenerator
from embedder.generation.documents import EmbedDocuments, mean_vector
from embedder.values import DocumentInput, EmbeddedQuery

QueryMethod = Literal["hyde", "thoughts", "rewrites"]
EmbedQueries = Callable[[Sequence[str]], list[EmbeddedQuery]]

MAX_QUERY_TEXTS = 16


class QueryExpander:
    """Gives queries vectors that a generator has enriched. Thread-safe.

    Args:
        embed_queries: embeds texts as queries.
        embed_documents: embeds texts as documents.
        generator: writes.
        task: what the queries ask for; None: a web search.
    """

    def __init__(
        self,
        embed_queries: EmbedQueries,
        embed_documents: EmbedDocuments,
        generator: CachedGenerator,
        *,
        task: str | None = None,
    ) -> None:
        self._embed_queries = embed_queries
        self._embed_documents = embed_documents
        self._generator = generator
        self._task = task

    def write(self, query: str, method: QueryMethod, n: int) -> list[str]:
        """Up to n different texts about the query; fewer when the generator repeats itself or says nothing.

        Raises:
            EmbedderError: the generator failed.
        """
        if method == "rewrites":
            asked = prompts.rewrites(query, n)
        elif method == "thoughts":
            asked = [prompts.thought(query, task=self._task, draw=draw) for draw in range(n)]
        else:
            asked = [prompts.hypothetical_answer(query, task=self._task, draw=draw) for draw in range(n)]
        answers = self._generator.answer(asked, max_new_tokens=prompts.ANSWER_TOKENS)
        return list(dict.fromkeys(answer.text for answer in answers if answer.text))

    def dense(
        self, query: str, own: np.ndarray, texts: Sequence[str], method: QueryMethod, weight: float
    ) -> np.ndarray:
        """The query's enriched vector, float32[dim] of unit length.

        Args:
            query: its text.
            own: float32[dim], the vector of the query alone; also the answer when there are no texts.
            texts: that were written about it.
            method: that they were written by.
            weight: for "hyde": how much the mean of the hypothetical answers counts, the query's vector has the rest.

        Raises:
            EmbedderError: the model failed.
        """
        if not texts:
            return own
        if method == "hyde":
            documents = self._embed_documents([DocumentInput("", prompts.TOPIC + text) for text in texts])
            answers = mean_vector([p.vectors.dense for document in documents for p in document.passages])
            return mean_vector([own, answers], [1 - weight, weight])
        if method == "thoughts":
            return mean_vector([one.dense for one in self._embed_queries([f"{query}\n{text}" for text in texts])])
        return mean_vector([own, *(one.dense for one in self._embed_queries(texts))])
