"""Random sparse rows, clustered unit vectors, and the slow and obvious searches that the index is checked against."""

import numpy as np

from index.hits import Hits
from index.sparse_rows import SparseQuery, SparseRows


def random_rows(seed, n_rows, n_terms=60, max_nnz=20, counts=False):
    """Rows with a skewed choice of terms, many equal values, and some empty rows."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(n_rows):
        drawn = n_terms * rng.random(rng.integers(0, max_nnz + 1)) ** 2.5
        terms = np.unique(drawn.astype(np.uint64))
        values = rng.integers(1, 5, terms.size) if counts else rng.integers(1, 9, terms.size) / 8
        rows.append((terms, values.astype(np.float32)))
    return SparseRows.from_rows(rows)


def random_query(seed, n_terms=66, max_terms=10):
    """A query some of whose terms no row has."""
    rng = np.random.default_rng(seed)
    terms = np.unique(rng.integers(0, n_terms, rng.integers(0, max_terms + 1))).astype(np.uint64)
    return SparseQuery(terms, rng.integers(1, 4, terms.size).astype(np.float32))


def naive_sparse_scores(rows, query, bm25=None, avg_len=None):
    """Every row's score by a dictionary and a loop, summed in float64 by ascending term, rounded once to float32."""
    scores = np.zeros(rows.n_rows, np.float32)
    for i in range(rows.n_rows):
        terms, values = rows.row(i)
        held = dict(zip(terms.tolist(), values, strict=True))
        total = 0.0
        for term, weight in zip(query.terms.tolist(), query.weights, strict=True):
            if term in held:
                factor = float(held[term])
                if bm25 is not None:
                    norm = bm25.k1 * (1.0 - bm25.b + bm25.b * float(values.sum(dtype=np.float64)) / avg_len)
                    factor = (bm25.k1 + 1.0) * factor / (factor + norm)
                total += float(weight) * factor
        scores[i] = np.float32(total)
    return scores


def naive_best(scores, k, allow=None, above=None):
    """The best rows by a full sort: score descending, row ascending."""
    rows = np.arange(scores.size)
    kept = np.ones(scores.size, bool) if allow is None else allow.copy()
    if above is not None:
        kept &= scores > above
    rows = rows[kept]
    order = np.lexsort((rows, -scores[rows]))[:k]
    return Hits(rows[order], scores[rows[order]])


def clustered(seed, n, dim, n_clusters=40, spread=0.6):
    """Unit vectors in clusters, float16[n, dim]."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((n_clusters, dim)) / np.sqrt(dim)
    scale = 1.0 / np.sqrt(1.0 + np.arange(dim))  # energy falls off as in real embeddings
    noise = rng.standard_normal((n, dim)) * scale * spread
    vectors = centres[rng.integers(0, n_clusters, n)] + noise
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)


def same_hits(left, right):
    """Whether two hit lists are the same to the bit."""
    return np.array_equal(left.rows, right.rows) and np.array_equal(left.scores, right.scores)


def built_and_loaded(index, folder):
    """The index, and the index that its files give."""
    index.save(folder)
    return index, type(index).load(folder)
