"""The remote engine does what the engine behind it does, with the same values and the same errors."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from engine import errors
from engine.api import CollectionApi, EngineApi
from engine.client import connect
from engine.values import Document, Query
from engine.wire.failures import known_errors
from tests.support.serving import LOCAL, Served, served
from tests.unit.test_server_status import BASES
from tests.unit.test_wire_failures import sample

DOCUMENTS = [
    {
        "doc_id": "a",
        "text": "red fox",
        "title": "Fox",
        "metadata": {"lang": "en", "year": 2020, "score": 1.0, "ok": True},
    },
    {"doc_id": "b", "text": "red dog", "metadata": {"lang": "de", "tags": ["x", "y"]}},
    {"doc_id": "c", "text": "blue fox", "vector": [1.0, 0.0, 0.0, 0.0], "sparse": {7: 0.5}},
]


@pytest.fixture(scope="module")
def remote():
    with served() as running:
        yield running


@pytest.fixture
def docs(remote: Served):
    remote.fake.collections.clear()
    remote.fake.error = None
    collection = remote.engine.create_collection("docs")
    collection.upsert(DOCUMENTS)
    return collection


def test_the_client_satisfies_the_protocols(remote: Served, docs: CollectionApi):
    assert isinstance(remote.engine, EngineApi)
    assert isinstance(docs, CollectionApi)


def test_collections_are_created_listed_described_and_dropped(remote: Served):
    remote.fake.collections.clear()
    engine = remote.engine
    created = engine.create_collection(
        "own", dim=8, sparse=True, language="german", dense_kind="hnsw", weights={"dense": 0.25, "bm25": 0.75}
    )
    info = created.info()
    assert (info.name, info.dim, info.model, info.language) == ("own", 8, None, "german")
    assert info.legs == ("dense", "sparse", "bm25")
    assert info.weights == {"dense": 0.25, "bm25": 0.75}
    engine.create_collection("another")
    assert [one.name for one in engine.list_collections()] == ["another", "own"]
    assert engine.get_collection("own").info() == info
    with pytest.raises(errors.CollectionExists):
        engine.create_collection("own")
    engine.drop_collection("own")
    with pytest.raises(errors.CollectionNotFound) as caught:
        engine.get_collection("own")
    assert caught.value.name == "own"
    with pytest.raises(errors.CollectionNotFound):
        created.count()


def test_documents_come_back_as_they_went(docs: CollectionApi):
    found = docs.get(["a", "nothing", "c"], vectors=True)
    assert found[0] == Document(doc_id="a", text="red fox", title="Fox", metadata=DOCUMENTS[0]["metadata"])
    assert type(found[0].metadata["year"]) is int
    assert type(found[0].metadata["score"]) is float
    assert found[0].metadata["ok"] is True
    assert found[1] is None
    assert np.array_equal(found[2].vector, [1, 0, 0, 0])
    assert found[2].sparse == {7: 0.5}
    assert docs.get(["c"])[0].vector is None
    assert docs.get([]) == []


def test_upsert_acknowledges_in_order(docs: CollectionApi):
    answers = docs.upsert([Document(doc_id="a", text="one two three"), {"doc_id": "z", "text": "new"}])
    assert [(one.doc_id, one.status) for one in answers] == [("a", "updated"), ("z", "added")]
    assert answers[0].tokens.read == 3
    assert answers[1].sequence > answers[0].sequence
    assert docs.upsert([]) == []


def test_delete_by_id_by_filter_and_not_by_both(docs: CollectionApi):
    assert docs.delete(["a", "nothing"]) == 1
    assert docs.delete(filter="lang == $l", params={"l": "de"}) == 1
    assert docs.delete([]) == 0
    assert docs.count() == 1
    with pytest.raises(errors.InvalidArgument, match="one of the two"):
        docs.delete()
    with pytest.raises(errors.InvalidArgument, match="one of the two"):
        docs.delete(["a"], filter="lang == $l", params={"l": "de"})


def test_metadata_is_merged_removed_and_replaced(docs: CollectionApi):
    first = docs.update_metadata("a", {"year": 2021, "ok": None})
    assert docs.get(["a"])[0].metadata == {"lang": "en", "year": 2021, "score": 1.0}
    assert docs.update_metadata("a", {"only": ["x", 1, 2.0]}, replace=True) > first
    assert docs.get(["a"])[0].metadata == {"only": ["x", 1, 2.0]}
    with pytest.raises(errors.DocumentNotFound):
        docs.update_metadata("nothing", {})


def test_scroll_visits_everything_once(docs: CollectionApi):
    page = docs.scroll(limit=2)
    assert [one.doc_id for one in page.documents] == ["a", "b"]
    rest = docs.scroll(limit=2, after=page.next_after)
    assert [one.doc_id for one in rest.documents] == ["c"]
    assert rest.next_after is None
    assert [one.doc_id for one in docs.scroll(filter="lang == $l", params={"l": "de"}).documents] == ["b"]


def test_a_query_answers_as_the_engine_itself(remote: Served, docs: CollectionApi):
    local = remote.fake.get_collection("docs")
    for given in (
        {"text": "red fox"},
        {"text": "fox", "limit": 1, "offset": 1},
        {"vector": [1.0, 0.5, 0.0, 0.0]},
        {"text": "red", "filter": "lang == $l", "params": {"l": "en"}, "weights": {"dense": 0.0}, "explain": False},
        {"text": "red", "mode": "bm25", "fusion": "rrf", "depth": {"bm25": 50}, "exact": True, "passages": 0},
        {"text": "nothing like it"},
    ):
        assert docs.query(**given) == local.query(**given)


def test_a_batch_answers_in_order(remote: Served, docs: CollectionApi):
    queries = [Query(text="fox"), Query(text="dog"), Query(text="fox", limit=1)]
    assert docs.query_batch(queries) == remote.fake.get_collection("docs").query_batch(queries)
    assert docs.query_batch([]) == []


def test_embed_returns_dense_sparse_and_landmarks(remote: Served, docs: CollectionApi):
    found = remote.engine.embed(["hello there", "x"], query=True)
    assert np.array_equal(found[0].dense, [1.0, 11.0])
    assert found[0].sparse == {"letter": 1.5}
    start, end, vector = found[0].landmarks[0]
    assert (start, end) == (0, 11)
    assert np.array_equal(vector, [0.5, 0.25])
    assert remote.engine.embed(["x"], task="no-sparse")[0].sparse is None
    assert len(remote.engine.embed(["x"] * 150)) == 150
    assert remote.engine.embed([]) == []


def test_info_and_stats(remote: Served, docs: CollectionApi):
    assert remote.engine.info() == remote.fake.info()
    assert docs.stats() == remote.fake.get_collection("docs").stats()


@pytest.mark.parametrize("name", sorted(set(known_errors()) - set(BASES)))
def test_every_typed_error_is_raised_again_by_the_client(remote: Served, docs: CollectionApi, name: str):
    sent = sample(known_errors()[name])
    remote.fake.error = sent
    with pytest.raises(type(sent)) as caught:
        docs.count()
    assert type(caught.value) is type(sent)
    assert str(caught.value) == str(sent)


def test_calls_after_close_raise_engine_closed():
    with served() as running:
        engine = connect(running.server.address)
        engine.info()
        engine.close()
        for call in (engine.info, engine.list_collections, lambda: engine.get_collection("x")):
            with pytest.raises(errors.EngineClosed):
                call()


def test_a_server_that_is_not_there_is_a_remote_failure():
    with served() as running:
        address = running.server.address
    with connect(address, timeout_s=5) as engine, pytest.raises(errors.RemoteFailure) as caught:
        engine.info()
    assert caught.value.code == "UNAVAILABLE"


def test_a_call_that_takes_too_long_is_a_remote_failure():
    with served() as running, connect(running.server.address, timeout_s=0.2) as impatient:
        running.fake.gate.clear()
        with pytest.raises(errors.RemoteFailure) as caught:
            impatient.info()
        running.fake.gate.set()
        assert caught.value.code == "DEADLINE_EXCEEDED"


@pytest.mark.parametrize(
    ("address", "key", "timeout_s"),
    [("", None, 1), ("nowhere", None, 1), ("h:1", "é", 1), ("h:1", "a\nb", 1), ("h:1", None, 0)],
)
def test_connect_refuses_what_cannot_work(address: str, key: str | None, timeout_s: float):
    with pytest.raises(errors.InvalidArgument):
        connect(address, api_key=key, timeout_s=timeout_s)


def test_one_client_serves_many_threads(remote: Served, docs: CollectionApi):
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda word: docs.query(word).hits[0].doc_id, ["dog", "blue"] * 40))
    assert found == ["b", "c"] * 40


def test_importing_the_client_loads_no_model_and_no_store():
    code = (
        "import sys, engine.client; "
        "print([name for name in ('torch', 'transformers', 'numba', 'faiss', 'hnswlib', 'lmdb') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_message_that_the_server_does_not_take_is_refused_before_it_is_sent():
    with served(replace(LOCAL, max_message_mb=1)) as running:
        docs = running.engine.create_collection("docs")
        with pytest.raises(errors.InvalidArgument, match="Use ingest"):
            docs.upsert([{"doc_id": f"d{i}", "text": "x" * 300_000} for i in range(4)])
        answers = list(
            docs.ingest([{"doc_id": f"d{i}", "text": "x" * n} for i, n in enumerate((300_000, 2_000_000, 10))])
        )
        assert [one.status for one in answers] == ["added", "failed", "added"]
        assert "1,048,576" in answers[1].error
