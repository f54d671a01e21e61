"""What does ``benchmarks.hybrid_search`` index and ask? The first passages of the scale corpus, or made-up ones to try it out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine.api import CollectionApi
from engine.values import Document, Query
from index.recall import SAMPLE

DIM = 384
RANDOM = 1_000  # values of the metadata field that the filters select on, uniform and independent of everything else


@dataclass(frozen=True)
class Corpus:
    """Passages and held-out queries.

    Attributes:
        texts: of the passages.
        vectors: float16 or float32[n, 384], unit rows.
        queries, query_vectors: float32[m, 384].
        earlier: float32[<= recall.SAMPLE, 384], other queries, that were asked before.
    """

    texts: list[str]
    vectors: np.ndarray
    queries: list[str]
    query_vectors: np.ndarray
    earlier: np.ndarray

    @property
    def payload_bytes(self) -> int:
        """What a caller hands over: the texts and the vectors as stored, in float16."""
        return sum(map(len, self.texts)) + 2 * self.vectors.size

    def documents(self, start: int, stop: int, prefix: str = "") -> Iterator[Document]:
        """Passages start to stop, with their vectors and a random number from 0 to 999 as metadata."""
        numbers = np.random.default_rng(0).integers(0, RANDOM, len(self.texts))
        vectors = np.asarray(self.vectors)  # a row of a memory map costs as much as storing a document does
        for row in range(start, stop):
            yield Document(
                doc_id=f"{prefix}{row}",
                text=self.texts[row],
                vector=vectors[row].astype(np.float32),
                metadata={"n": int(numbers[row])},
            )

    def asked(self, **options: object) -> list[Query]:
        """The queries by text and vector."""
        return [
            Query(text=text, vector=vector, **options)  # type: ignore[arg-type]
            for text, vector in zip(self.queries, self.query_vectors, strict=True)
        ]

    def put_to_use(self, collection: CollectionApi) -> None:
        """Ask the earlier queries, and end all background work: recall is then measured with queries, as after some use."""
        for vector in self.earlier:
            collection.answer(Query(vector=vector, mode="dense", passages=0, explain=False))
        collection.optimize()


def load(scale: Path | None, n: int, n_queries: int, seed: int) -> Corpus:
    """The first ``n`` passages of the folder that ``benchmarks.scale_corpus`` made, and its first queries.

    Args:
        scale: the folder; None: passages and queries are made up, and only times mean something.
        n: passages.
        n_queries: at most as many as the folder has.
        seed: of what is made up.
    """
    if scale is None:
        return _made_up(n, n_queries, seed)
    from benchmarks.scale_data import load as load_scale

    data = load_scale(scale, n)
    texts, vectors = data.queries.texts, data.queries.dense
    return Corpus(data.texts(), data.dense, texts[:n_queries], vectors[:n_queries], vectors[n_queries:][-SAMPLE:])


def _made_up(n: int, n_queries: int, seed: int) -> Corpus:
    """Texts of words with Zipf's frequencies, and vectors around 200 centres."""
    rng = np.random.default_rng(seed)
    words = np.array([f"{chr(97 + i % 26)}{chr(97 + i // 26 % 26)}{chr(97 + i // 676)}ko" for i in range(17_576)])
    frequencies = 1.0 / np.arange(1, len(words) + 1)
    n_vectors = n + n_queries + SAMPLE
    drawn = rng.choice(len(words), (n + n_queries, 60), p=frequencies / frequencies.sum())
    centres = rng.standard_normal((200, DIM)).astype(np.float32)
    vectors = centres[rng.integers(0, 200, n_vectors)]
    vectors += 0.9 * rng.standard_normal(vectors.shape, np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    texts = [" ".join(words[row]) for row in drawn[:n]]
    queries = [" ".join(words[row[:6]]) for row in drawn[n:]]
    asked, earlier = np.split(vectors[n:], [n_queries])
    return Corpus(texts, vectors[:n].astype(np.float16), queries, asked, earlier)
