"""A model without a network: a text's vector is decided by its words' hashes and the model's name, in no time."""

from types import SimpleNamespace

import numpy as np
import xxhash

from embedder.splitter import split_text
from embedder.values import EmbeddedDocument, EmbeddedPassage, EmbeddedQuery, PassageVectors
from engine.encoding import Model

DIM = 16


class HashModel(Model):
    """Stands for ``Model`` where the engine, and not the network, is tested."""

    def embedder(self):
        return _HashEmbedder(self.name)

    @property
    def recorded_name(self):
        return self.name

    def sibling(self, name):
        return HashModel(name)

    def close(self):
        pass


class _HashEmbedder:
    has_sparse, has_dense, dim, coarse_dim, matryoshka = False, True, DIM, DIM, True

    def __init__(self, name):
        self.name = name
        parts = {"weights": name, "sparse": "none"}
        self.fingerprint = SimpleNamespace(as_dict=lambda: parts, digest=f"digest of {name}")

    def embed_documents(self, documents):
        return [self._document(document) for document in documents]

    def embed_queries(self, texts):
        return [EmbeddedQuery(self._vector(text), None, len(text.split())) for text in texts]

    def _document(self, document):
        text = document.text
        spans = split_text(text, hard_boundaries=document.hard_boundaries) or [(0, len(text))]
        passages = tuple(
            EmbeddedPassage(
                start,
                end,
                xxhash.xxh3_128_digest(text[start:end].encode()),
                PassageVectors(self._vector(f"{document.title} {text[start:end]}")),
                len(text[start:end].split()),
            )
            for start, end in spans
        )
        tokens = len(f"{document.title} {text}".split())
        return EmbeddedDocument(passages, tokens, tokens, 0, 0)

    def _vector(self, text):
        seeds = [xxhash.xxh3_64_intdigest(f"{self.name} {word}".encode()) for word in text.split()]
        total = sum((np.random.default_rng(seed).normal(size=DIM) for seed in seeds), np.full(DIM, 1e-3))
        return (total / np.linalg.norm(total)).astype(np.float32)
