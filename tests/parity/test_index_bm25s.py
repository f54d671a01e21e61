"""BM25 against an independent implementation, bm25s, on the same terms."""

import bm25s
import numpy as np
import pytest

from index.analyzer import Analyzer
from index.bm25 import Bm25
from index.sparse import SparseIndex
from index.sparse_rows import SparseQuery

WORDS = ["river", "stone", "light", "harbor", "winter", "garden", "copper", "signal", "orchard", "meadow", "lantern"]


@pytest.mark.parametrize(("k1", "b"), [(1.2, 0.75), (1.5, 0.75), (0.9, 0.4)])
def test_every_score_equals_bm25s(k1, b):
    rng = np.random.default_rng(7)
    weights = 1.0 / np.arange(1, len(WORDS) + 1)
    texts = [" ".join(rng.choice(WORDS, rng.integers(1, 30), p=weights / weights.sum())) for _ in range(300)]
    analyzer = Analyzer("english")
    reference = bm25s.BM25(method="lucene", k1=k1, b=b)
    reference.index([analyzer.terms(text) for text in texts], show_progress=False)
    index = SparseIndex.build(analyzer.count(texts), bm25=Bm25(k1, b))
    for text in ("river winter", "harbor signal orchard lantern", "stone"):
        terms, counts = analyzer.count([text]).row(0)
        query = SparseQuery(terms, index.bm25.idf(len(texts), index.doc_freq(terms)) * counts)
        ours = index.score(query, np.arange(len(texts)))
        theirs = reference.get_scores(analyzer.terms(text)) * (k1 + 1.0)  # Lucene dropped the constant factor
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-6)
