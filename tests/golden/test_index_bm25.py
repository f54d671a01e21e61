"""BM25 scores of a collection small enough to be worked out with a pocket calculator."""

import numpy as np
import pytest

from index.analyzer import Analyzer
from index.bm25 import Bm25
from index.sparse import SparseIndex
from index.sparse_rows import SparseQuery

# Lengths 2, 4, 3 (mean 3), k1 1.2, b 0.75: the norms k1 (1 - b + b length / mean) are 0.9, 1.5 and 1.2.
TEXTS = ["apple pear", "pear plum pear quince", "apple fig olive"]


@pytest.fixture
def analyzer():
    return Analyzer("none")


@pytest.fixture
def index(analyzer):
    return SparseIndex.build(analyzer.count(TEXTS), bm25=Bm25())


def test_idf_is_lucenes(index):
    # ln(1 + (3 - 1 + 0.5) / (1 + 0.5)) = ln 2.66667; ln(1 + 1.5 / 2.5) = ln 1.6; ln(1 + 0.5 / 3.5) = ln 1.142857
    assert index.bm25.idf(3, np.array([1, 2, 3])).tolist() == pytest.approx([0.980829, 0.470004, 0.133531], abs=1e-6)


def test_scores_are_those_worked_out_by_hand(analyzer, index):
    terms, counts = analyzer.count(["pear apple"]).row(0)
    query = SparseQuery(terms, index.bm25.idf(3, index.doc_freq(terms)) * counts)
    hits = index.search(query, 10)
    # Row 0: 2 * 0.470004 * 2.2 / 1.9 = 1.088430; row 1: 0.470004 * 4.4 / 3.5 = 0.590862; row 2: 0.470004 * 2.2 / 2.2
    assert hits.rows.tolist() == [0, 1, 2]
    assert hits.scores.tolist() == pytest.approx([1.088430, 0.590862, 0.470004], abs=1e-6)
    assert index.contributions(query, 0).tolist() == pytest.approx([0.544215, 0.544215], abs=1e-6)


def test_saturation_limit_bounds_a_term(index):
    many = np.array([1e6], np.float32)
    part = index.bm25.tf_part(many, np.array([3.0], np.float32), 3.0)[0]
    assert index.bm25.saturation_limit == pytest.approx(2.2)
    assert 2.19 < part < 2.2
