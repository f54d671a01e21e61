"""What do the engines of ``benchmarks.peers`` index and answer? Real passages, cheap real vectors, held-out real queries.

A vector is the idf-weighted mean of the built-in model's static word-piece embeddings, less the mean of the collection, at
unit length: 384 dimensions of real text without a forward pass. No passage is repeated.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from embedder.builtin import model_folder

MIN_WORDS, MAX_WORDS = 50, 150
# The passages that answer the queries stand among the first rows, so that a smaller set still holds them.
ANSWER_ROWS = 2_000
MIN_QUERY_WORDS = 4
CHUNK = 4_096


@dataclass(frozen=True)
class DataSet:
    """Passages with unit vectors; queries with theirs and, if it is known, the row of the passage that each was written for."""

    texts: list[str]
    vectors: np.ndarray
    queries: list[str]
    query_vectors: np.ndarray
    answers: list[int]

    def head(self, n_rows: int) -> DataSet:
        """The first passages only; the queries stay answerable."""
        if n_rows < min(ANSWER_ROWS, len(self.texts)):
            raise ValueError(f"at least {ANSWER_ROWS} passages are needed to answer the queries")
        vectors = self.vectors[:n_rows].copy()
        return DataSet(self.texts[:n_rows], vectors, self.queries, self.query_vectors, self.answers)

    def exact(self, limit: int) -> list[set[int]]:
        """The rows of the nearest passages of each query, by a float32 scan."""
        scans = (self.vectors @ vector for vector in self.query_vectors)
        return [set(np.argpartition(-scores, limit)[:limit].tolist()) for scores in scans]


def load_scale(folder: Path, n_passages: int, n_queries: int) -> DataSet:
    """The first passages and queries of the folder that ``benchmarks.scale_corpus`` made, with the vectors in it."""
    from benchmarks.scale_data import load

    scale = load(folder, n_passages)
    vectors = scale.dense.astype(np.float32)
    return DataSet(scale.texts(), vectors, scale.queries.texts[:n_queries], scale.queries.dense[:n_queries], [])


def load(data: Path, folders: list[Path], n_passages: int, n_queries: int, seed: int) -> DataSet:
    """The data set, made once and kept in ``data``."""
    key = hashlib.sha256(repr((sorted(map(str, folders)), n_passages, n_queries, seed)).encode()).hexdigest()[:12]
    path = data / f"set-{key}.pickle"
    if not path.exists():
        made = _make(folders, n_passages, n_queries, seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pickle.dumps(made, protocol=5))
    found: DataSet = pickle.loads(path.read_bytes())
    return found


def _make(folders: list[Path], n_passages: int, n_queries: int, seed: int) -> DataSet:
    chance = random.Random(seed)
    positives, pairs = _read(folders, n_passages)
    if len(positives) < n_passages:
        raise ValueError(f"{len(positives)} distinct passages in {folders}, {n_passages} asked; nothing is repeated")
    chosen: dict[str, str] = {}
    taken: set[str] = set()
    chance.shuffle(pairs)
    for query, positive in pairs:
        if positive in positives and positive not in taken and query not in chosen:
            chosen[query] = positive
            taken.add(positive)
        if len(chosen) == n_queries:
            break
    wanted = set(chosen.values())
    others = [text for text in positives if text not in wanted]
    chance.shuffle(others)
    first = sorted(wanted) + others[: max(0, ANSWER_ROWS - len(wanted))]
    chance.shuffle(first)
    texts = (first + others[max(0, ANSWER_ROWS - len(wanted)) :])[:n_passages]
    rows = {text: row for row, text in enumerate(texts)}
    encode = StaticEncoder(texts)
    queries = list(chosen)
    answers = [rows[chosen[query]] for query in queries]
    return DataSet(texts, encode(texts), queries, encode(queries), answers)


def _read(folders: list[Path], n_passages: int) -> tuple[dict[str, None], list[tuple[str, str]]]:
    """Distinct passages in the order of the files, and the pairs whose query does not stand in its passage."""
    passages: dict[str, None] = {}
    pairs: list[tuple[str, str]] = []
    for path in sorted((p for f in folders for p in f.glob("*.jsonl.zst")), key=lambda p: ("_" in p.name, p.name)):
        for row in _rows(path):
            positive = row.get("positive")
            for text in [positive] if positive else row.get("text", "").split("\n"):
                if len(passages) < n_passages and MIN_WORDS <= len(text.split()) <= MAX_WORDS:
                    passages.setdefault(text)
            query = row.get("query", "")
            if positive in passages and len(query.split()) >= MIN_QUERY_WORDS and query.lower() not in positive.lower():
                pairs.append((query, positive))
    return passages, pairs


def _rows(path: Path) -> Iterator[dict[str, str]]:
    import zstandard

    with path.open("rb") as file:
        for line in io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(file), encoding="utf-8"):
            yield json.loads(line)


class StaticEncoder:
    """Texts to unit vectors, with the idf and the mean of the texts it was made for."""

    def __init__(self, texts: list[str]) -> None:
        from safetensors.numpy import load_file
        from tokenizers import Tokenizer

        folder = model_folder()
        weights = load_file(folder / "model.safetensors")
        self._table = next(v for k, v in weights.items() if k.endswith("embeddings.word_embeddings.weight"))
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        df = np.zeros(len(self._table), np.int64)
        for start in range(0, len(texts), CHUNK):
            for ids in self._ids(texts[start : start + CHUNK]):
                df[np.unique(ids)] += 1
        idf = np.log1p((len(texts) - df + 0.5) / (df + 0.5)).astype(np.float32)
        self._weighted = self._table * idf[:, None]
        self._mean = np.zeros(self._table.shape[1], np.float32)
        self._mean = self(texts[: 5 * CHUNK]).mean(axis=0)

    def __call__(self, texts: list[str]) -> np.ndarray:
        """float32[n, 384], unit rows."""
        vectors = np.empty((len(texts), self._table.shape[1]), np.float32)
        for start in range(0, len(texts), CHUNK):
            for place, ids in enumerate(self._ids(texts[start : start + CHUNK]), start):
                vectors[place] = self._weighted[ids].sum(axis=0)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors -= self._mean
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors

    def _ids(self, texts: list[str]) -> list[list[int]]:
        return [e.ids for e in self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
