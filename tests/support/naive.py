"""A collection without an index: a dictionary, and scores computed for every document in plain numpy."""

import math
from collections import Counter
from dataclasses import replace

import numpy as np

from engine.fusion import MULTI_WEIGHT

K1, B = 1.2, 0.75


class NaiveCollection:
    def __init__(self, analyzer):
        self.analyzer = analyzer
        self.documents = {}

    def put(self, document):
        before = self.documents.get(document.doc_id)
        self.documents[document.doc_id] = document
        if before is None:
            return "added"
        same = (before.text, dict(before.metadata), before.vector, before.multi) == (
            document.text,
            dict(document.metadata),
            document.vector,
            document.multi,
        )
        return "unchanged" if same else "updated"

    def delete(self, doc_id):
        return int(self.documents.pop(doc_id, None) is not None)

    def update_metadata(self, doc_id, changes):
        document = self.documents[doc_id]
        merged = {key: value for key, value in {**document.metadata, **changes}.items() if value is not None}
        self.documents[doc_id] = replace(document, metadata=merged)

    def query(self, text, vector, mode, multi):
        """The score of every document that the mode can find."""
        bm25, scale = self._bm25(text)
        if mode == "bm25":
            return {doc_id: score for doc_id, score in bm25.items() if score > 0}
        dense = {doc_id: self._cosine(document.vector, vector) for doc_id, document in self.documents.items()}
        if mode == "dense":
            return dense
        tokens = {doc_id: self._max_sim(document.multi, multi) for doc_id, document in self.documents.items()}
        if mode == "multi":
            return tokens
        return {doc_id: self.fused(dense[doc_id], bm25[doc_id], scale, tokens[doc_id]) for doc_id in dense}

    def fused(self, dense, bm25, scale, tokens):
        return (dense + 0.4 * bm25 / scale + MULTI_WEIGHT * tokens) / (1.4 + MULTI_WEIGHT)

    @staticmethod
    def _max_sim(document, query):
        """The weighted mean of the greatest cosines, with the document's vectors as one byte a component holds them."""
        unit = (np.float64(document) / np.linalg.norm(np.float64(document), axis=1, keepdims=True)).astype(np.float32)
        exact = np.abs(unit).max(axis=1, keepdims=True).astype(np.float64) / 127
        step = exact.astype(np.float16)
        step = np.where(step < exact, np.nextafter(step, np.float16(1)), step).astype(np.float32)
        stored = np.float64(np.rint(unit / step)) * step
        query = np.float64(query)
        return float((query @ stored.T).max(axis=1).sum() / np.linalg.norm(query, axis=1).sum())

    @staticmethod
    def _cosine(a, b):
        stored = (np.float32(a) / np.linalg.norm(np.float64(a))).astype(np.float16).astype(np.float64)
        return float(stored @ (np.float64(b) / np.linalg.norm(np.float64(b))))

    def _bm25(self, text):
        counts = {doc_id: Counter(self.analyzer.terms(d.text)) for doc_id, d in self.documents.items()}
        n = len(counts)
        avg_len = max(1.0, sum(sum(c.values()) for c in counts.values()) / max(1, n))
        scores = dict.fromkeys(counts, 0.0)
        squares = 0.0
        for term, in_query in Counter(self.analyzer.terms(text)).items():
            df = sum(term in c for c in counts.values())
            weight = in_query * math.log(1 + (n - df + 0.5) / (df + 0.5))
            squares += weight**2 if df else 0.0
            for doc_id, c in counts.items():
                tf, length = c[term], sum(c.values())
                scores[doc_id] += weight * tf * (K1 + 1) / (tf + K1 * (1 - B + B * length / avg_len))
        return scores, (K1 + 1) * max(math.log(1 + n), math.sqrt(squares) / 3, 1e-9)
