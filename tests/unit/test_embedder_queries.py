"""Does the cache of queries hold what was asked last, within its bytes?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from embedder import queries
from embedder.embedder import Embedder
from tests.support import tiny_models


@pytest.fixture
def embedder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Embedder]:
    monkeypatch.setattr(queries, "CACHE_BYTES", 12 * (queries.ENTRY_BYTES + 16 * 4 + 20))
    with Embedder.load(str(tiny_models.save_bert(tmp_path)), device="cpu", workers=1, threads=1) as loaded:
        yield loaded


def test_the_last_queries_come_from_the_cache_and_the_first_have_left_it(embedder: Embedder) -> None:
    texts = [f"{n} cats sat" for n in range(10, 60)]
    first = embedder.embed_queries(texts)
    cached = embedder._queries._cache
    assert 10 <= len(cached) <= 12
    assert embedder._queries._cached_bytes == sum(queries._bytes(*entry) for entry in cached.items())
    assert embedder._queries._cached_bytes <= queries.CACHE_BYTES
    assert embedder.embed_queries(texts[-1:])[0] is first[-1]
    assert embedder.embed_queries(texts[:1])[0] is not first[0]


def test_long_texts_and_examples_take_the_room_of_many_short_ones(embedder: Embedder) -> None:
    embedder.embed_queries([f"{n} cats sat" for n in range(10, 60)])
    embedder.embed_queries(["cat " * 5000])
    assert not embedder._queries._cache, "it alone is greater than the cache"
    assert embedder._queries._cached_bytes == 0
    query = embedder.embed_queries(["a cat"])[0]
    with_examples = queries._bytes(((None, (("dog", "x" * 100),)), "a cat"), query)
    assert with_examples == queries._bytes(((None, ()), "a cat"), query) + 2 * 103


def test_asking_again_keeps_a_query_and_counts_it_once(embedder: Embedder) -> None:
    kept = embedder.embed_queries(["the cat"])[0]
    for n in range(10, 60):
        embedder.embed_queries([f"{n} cats sat"])
        assert embedder.embed_queries(["the cat"])[0] is kept
    assert embedder._queries._cached_bytes == sum(queries._bytes(*entry) for entry in embedder._queries._cache.items())
