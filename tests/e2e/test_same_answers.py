"""Sealing, merging, vacuuming, rebuilding and reopening change no answer: not a score, a passage, a term or a place."""

import shutil

import numpy as np
import pytest

from engine import open_engine
from engine.values import Query

DIM, MULTI_DIM, VOCABULARY = 24, 8, 40
WORDS = [f"{first}{second}ko" for first in "bcdfgk" for second in "aeiou"]


def documents(numbers, version=0):
    for n in numbers:
        rng = np.random.default_rng([n, version])
        terms = rng.choice(VOCABULARY, 6, replace=False)
        yield {
            "doc_id": f"d{n:04d}",
            "title": str(rng.choice(WORDS)),
            "text": " ".join(rng.choice(WORDS, 12)),
            "vector": rng.normal(size=DIM),
            "sparse": dict(zip(terms.tolist(), (rng.random(6) + 0.1).tolist(), strict=True)),
            "multi": rng.normal(size=(3, MULTI_DIM)),
            "metadata": {"n": n, "even": n % 2 == 0},
        }


def queries():
    for n, options in enumerate(
        (
            {},
            {"mode": "dense"},
            {"mode": "sparse"},
            {"mode": "bm25"},
            {"mode": "multi"},
            {"fusion": "rrf"},
            {"fusion": "dbsf"},
            {"filter": "even == true and n >= 100"},
            {"filter": "n < 5"},
            {"limit": 40, "offset": 20},
        )
        * 3
    ):
        rng = np.random.default_rng([n, 77])
        yield Query(
            text=" ".join(rng.choice(WORDS, 3)),
            vector=rng.normal(size=DIM),
            sparse={int(term): 1.0 for term in rng.choice(VOCABULARY, 5, replace=False)},
            multi=rng.normal(size=(2, MULTI_DIM)),
            **options,
        )


def answers(collection):
    """Everything that a caller sees but times and the plan; scores to nine digits, for sums are taken in another order."""

    def rounded(value):
        return value if value is None else round(value, 9)

    return [
        [
            (
                hit.doc_id,
                rounded(hit.score),
                hit.title,
                dict(hit.metadata),
                [(p.text, p.start, p.end, rounded(p.score)) for p in hit.passages],
                [rounded(getattr(hit.score_detail, leg)) for leg in ("dense", "sparse", "bm25", "multi")],
                dict(hit.score_detail.ranks),
                [(term.term, term.leg, rounded(term.contribution)) for term in hit.score_detail.terms],
            )
            for hit in result.hits
        ]
        for result in collection.query_batch(list(queries()))
    ]


def opened(folder):
    return open_engine(folder, model=None)


@pytest.fixture
def folder(tmp_path):
    """Two sealed segments and a head, with documents replaced and deleted in each."""
    with opened(tmp_path / "data") as engine:
        collection = engine.create_collection("c", dim=DIM, sparse=True, multi=True, multi_dim=MULTI_DIM)
        for start in (0, 200):
            collection.upsert(documents(range(start, start + 200)))
            collection.optimize()
        collection.upsert(documents(range(380, 460)))
        collection.upsert(documents(range(150, 170), version=1))
        collection.delete([f"d{n:04d}" for n in range(190, 210)])
    return tmp_path / "data"


def test_a_reopened_collection_answers_the_same(folder):
    with opened(folder) as engine:
        before = answers(engine.get_collection("c"))
        assert any(before)
    with opened(folder) as engine:
        assert answers(engine.get_collection("c")) == before


def test_sealing_and_merging_change_no_answer(folder):
    with opened(folder) as engine:
        collection = engine.get_collection("c")
        before = answers(collection)
        assert len(collection.stats().segments) > 1, "nothing can be merged; the test proves nothing"
        collection.optimize()
        assert len(collection.stats().segments) == 1
        assert answers(collection) == before
        collection.upsert(documents(range(500, 600)))
        collection.optimize()
        collection.delete([f"d{n:04d}" for n in range(500, 600)])
        assert answers(collection) == before


def test_a_vacuum_changes_no_answer_and_leaves_nothing_deleted(folder):
    with opened(folder) as engine:
        collection = engine.get_collection("c")
        collection.delete([f"d{n:04d}" for n in range(0, 60)])
        before = answers(collection)
        collection.optimize()
        assert sum(segment.deleted for segment in collection.stats().segments) < 60
        assert answers(collection) == before


def test_a_collection_rebuilt_from_the_store_answers_the_same(folder):
    with opened(folder) as engine:
        before = answers(engine.get_collection("c"))
    shutil.rmtree(folder / "collections" / "c" / "segments")
    with opened(folder) as engine:
        assert answers(engine.get_collection("c")) == before
