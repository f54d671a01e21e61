"""How many passages a filter leaves is counted, remembered, and said in the plan with what each leg did about it."""

import numpy as np
import pytest

from engine import open_engine
from engine.columns import MASKS, Columns
from engine.filters import Filter

N, DIM = 5_000, 16
FILTERS = {"n < 7": 7, "n < 900": 900, "n < 3000": 3_000, "n >= 0": N, "n < 0": 0}


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(N, DIM)).astype(np.float32)
    with open_engine(tmp_path_factory.mktemp("data"), model=None) as engine:
        made = engine.create_collection("c", dim=DIM)
        documents = (
            {"doc_id": f"d{i}", "text": f"word{i % 50} common", "vector": vectors[i], "metadata": {"n": i}}
            for i in range(N)
        )
        assert all(answer.status == "added" for answer in made.ingest(documents))
        made.optimize()
        yield made


@pytest.mark.parametrize("filter", FILTERS)
def test_a_filtered_search_finds_what_a_scan_of_the_matches_finds(collection, filter):
    vector = np.random.default_rng(1).normal(size=DIM)
    found, scanned = (
        collection.query("common word3", vector=vector, filter=filter, exact=exact, passages=0)
        for exact in (False, True)
    )
    assert [(hit.doc_id, hit.score) for hit in found.hits] == [(hit.doc_id, hit.score) for hit in scanned.hits]
    assert len(found.hits) == min(10, FILTERS[filter])
    assert all(Filter.parse(filter).evaluate(Columns.build([hit.metadata]))[0] for hit in found.hits)


@pytest.mark.parametrize(
    ("filter", "matching", "dense", "bm25"),
    [
        (None, N, "scan", "postings"),
        ("n < 7", 7, "scan of matches", "scores of matches"),
        ("n < 3000", 3_000, "scan of matches", "postings"),
    ],
)
def test_the_plan_says_how_many_passages_match_and_what_each_leg_did(collection, filter, matching, dense, bm25):
    plan = collection.query("common", vector=np.ones(DIM), filter=filter).plan
    assert plan["matching"] == matching
    assert plan["search"] == {"dense": {dense: 1}, "bm25": {bm25: 1}}


def test_deleted_documents_do_not_match(tmp_path):
    with open_engine(tmp_path, model=None) as engine:
        made = engine.create_collection("c", dim=2)
        made.upsert({"doc_id": f"d{i}", "vector": [1.0, i], "metadata": {"n": i}} for i in range(10))
        made.delete(["d3"])
        assert made.query(vector=[1.0, 0.0], filter="n < 5").plan["matching"] == 4
        assert made.query(vector=[1.0, 0.0]).plan["matching"] == 9


def test_a_filter_is_evaluated_once_and_forgotten_when_others_came():
    columns, calls = Columns.build([{"a": 1}, {"a": 2}]), []

    def evaluated(number):
        calls.append(number)
        return np.array([True, False])

    for _ in range(2):
        assert columns.mask("first", lambda: evaluated(0)).tolist() == [True, False]
    assert calls == [0]
    for number in range(1, MASKS + 1):
        columns.mask(str(number), lambda number=number: evaluated(number))
    columns.mask("first", lambda: evaluated(0))
    assert calls == [0, *range(1, MASKS + 1), 0]


def test_parameters_of_different_types_are_different_filters():
    columns = Columns.build([{"a": 1}, {"a": True}, {"a": "1"}])
    masks = [Filter.parse("a == $x", {"x": x}).evaluate(columns).tolist() for x in (1, True, "1", 1.0)]
    assert masks == [[True, False, False], [False, True, False], [False, False, True], [True, False, False]]
