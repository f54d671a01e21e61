"""Laws of a lexical query over many segments: what one leaves out for the sake of another is not among the best of all."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.rescoring import LexicalQuery
from index import sparse
from index.bm25 import Bm25
from index.sparse import SparseIndex
from tests.support.index_data import random_query, random_rows


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.integers(0, 120), min_size=1, max_size=4),
    st.integers(1, 50),
    st.booleans(),
    st.booleans(),
)
def test_every_row_that_may_be_among_the_best_of_all_segments_is_found(seed, sizes, depth, counts, filtered):
    rng = np.random.default_rng(seed)
    leg = "bm25" if counts else "sparse"
    indexes = [
        SparseIndex.build(
            random_rows(seed + i, size, counts=counts), bm25=Bm25() if counts else None, avg_len=9.0 if counts else None
        )
        for i, size in enumerate(sizes)
    ]
    segments = [SimpleNamespace(n_rows=index.n_rows, lexical=lambda _, index=index: index) for index in indexes]
    allowed = [rng.random(size) < 0.5 if filtered else None for size in sizes]
    query = LexicalQuery(leg, random_query(seed + 9), (), 9.0 if counts else None, 1.0)
    with pytest.MonkeyPatch.context() as patch:
        for few in ("FEW_ROWS", "FEW_ALLOWED"):
            patch.setattr(sparse, few, -1 if seed % 2 else getattr(sparse, few))
        found = query.search(segments, allowed, depth, exact=False)
        alone = [
            index.search(query.query, depth, allow=allow, avg_len=query.avg_len)
            for index, allow in zip(indexes, allowed, strict=True)
        ]
    # Rows that tie with the last of the best may all be among them: which ones, their versions say.
    every = np.sort(np.concatenate([hits.scores for hits in alone]))[::-1]
    kth = every[depth - 1] if len(every) >= depth else 0.0
    assert sum(map(len, found)) >= min(depth, len(every))
    for some, wanted in zip(found, alone, strict=True):
        assert some.rows[some.scores >= kth].tolist() == wanted.rows[wanted.scores >= kth].tolist()
        assert set(some.rows.tolist()) <= set(wanted.rows.tolist())
