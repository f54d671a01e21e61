"""A model without a network: a text's vector is decided by its words' hashes and the model's name, in no time."""

from types import SimpleNamespace

import numpy as np
import xxhash

from embedder.recipe import Recipe
from embedder.splitter import split_text
from embedder.values import EmbeddedDocument, EmbeddedPassage, EmbeddedQuery, PassageVectors
from engine.encoding import Model

DIM = 16
MULTI_DIM = 8


class HashModel(Model):
    """Stands for ``Model`` where the engine, and not the network, is tested; ``multi``: it gives token vectors too."""

    def __init__(self, name, *, multi=False, generators=None):
        super().__init__(name, generators=generators)
        self._multi = multi

    def embedder(self):
        return _HashEmbedder(self.name, self._multi)

    @property
    def recorded_name(self):
        return self.name

    def sibling(self, name):
        return HashModel(name, multi=self._multi, generators=self.generators)

    def close(self):
        pass


class _HashEmbedder:
    has_sparse, has_dense, dim, coarse_dim, matryoshka = False, True, DIM, DIM, True
    sparse_idf = False
    recipe = Recipe(name="hash")
    device, max_passage_tokens = "cpu", 512

    def __init__(self, name, multi):
        self.name = name
        self.multi_dim = MULTI_DIM if multi else 0
        parts = {"weights": name, "sparse": "none"}
        self.fingerprint = SimpleNamespace(as_dict=lambda: parts, digest=f"digest of {name}")

    def embed_documents(self, documents):
        return [self._document(document) for document in documents]

    def embed_queries(self, texts, *, task=None, shots=()):
        return [self._query(text) for text in texts]

    def _query(self, text):
        tokens = self._tokens(text)
        if tokens is not None:
            tokens = tokens * np.arange(1, len(tokens) + 1, dtype=np.float32)[:, None]  # later words weigh more
        return EmbeddedQuery(self._vector(text), None, len(text.split()), 0, tokens)

    def _document(self, document):
        text = document.text
        spans = split_text(text, hard_boundaries=document.hard_boundaries) or [(0, len(text))]
        passages = tuple(
            EmbeddedPassage(
                start,
                end,
                xxhash.xxh3_128_digest(text[start:end].encode()),
                PassageVectors(
                    self._vector(f"{document.title} {text[start:end]}"), None, self._tokens(text[start:end])
                ),
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

    def _tokens(self, text):
        """float32[words, MULTI_DIM], a unit vector a word."""
        if not self.multi_dim:
            return None
        return np.array([word_vector(self.name, word) for word in text.split()], np.float32).reshape(-1, MULTI_DIM)


def word_vector(name, word):
    """The token vector of a word by the model of this name."""
    vector = np.random.default_rng(xxhash.xxh3_64_intdigest(f"{name} token {word}".encode())).normal(size=MULTI_DIM)
    return (vector / np.linalg.norm(vector)).astype(np.float32)
