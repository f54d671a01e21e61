"""The real engine behind the server answers over the wire as it does in the process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from engine import errors, open_engine
from engine.api import CollectionApi, EngineApi
from engine.client import connect
from engine.values import Hit, Query, ScoreDetail
from tests.support.serving import serving

TEXTS = {
    "fox": "The quick brown fox jumps over the lazy dog near the river bank.",
    "engine": "A search engine keeps an inverted index from terms to documents, and ranks them by BM25.",
    "vector": "Dense vectors place texts with a similar meaning close to each other.",
    "bread": "Knead the dough for ten minutes, let it rise, and bake the bread until its crust is brown.",
    "rain": "Heavy rain flooded the valley, and the river rose above its banks in the night.",
}


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[EngineApi, EngineApi]]:
    """The same engine twice: in the process, and through a server."""
    with (
        open_engine(tmp_path_factory.mktemp("data")) as local,
        serving(local) as server,
        connect(server.address) as remote,
    ):
        docs = remote.create_collection("docs")
        documents = [
            {
                "doc_id": name,
                "title": name.title(),
                "text": text,
                "metadata": {"length": len(text), "short": len(text) < 80},
            }
            for name, text in TEXTS.items()
        ]
        assert [one.status for one in docs.ingest(documents)] == ["added"] * len(TEXTS)
        yield local, remote


@pytest.fixture(scope="module")
def vectors(both: tuple[EngineApi, EngineApi]) -> CollectionApi:
    made = both[1].create_collection("own", dim=8, sparse=True)
    rng = np.random.default_rng(0)
    made.upsert(
        {"doc_id": f"v{i}", "vector": rng.normal(size=8), "sparse": {i: 1.0, 100: 0.5}, "metadata": {"n": i}}
        for i in range(20)
    )
    return made


QUERIES = {
    "hybrid": Query(text="flooding of rivers"),
    "dense": Query(text="flooding of rivers", mode="dense", limit=2),
    "bm25": Query(text="river bank", mode="bm25", explain=True),
    "rrf": Query(text="bread", fusion="rrf"),
    "dbsf": Query(text="bread", fusion="dbsf"),
    "weights": Query(text="river", weights={"dense": 0.1, "bm25": 0.9}),
    "filter": Query(text="river", filter="length >= $n and short == true", params={"n": 60}),
    "offset": Query(text="river", limit=2, offset=1, passages=1),
    "exact": Query(text="meaning of texts", exact=True, depth={"dense": 3, "bm25": 3}),
    "threshold": Query(text="meaning of texts", score_threshold=0.3, explain=False),
    "recall": Query(text="meaning of texts", recall_target=0.9),
    "some fields": Query(text="river bank", fields=("title", "plan")),
    "no fields": Query(text="river bank", fields=(), passages=0),
}


@pytest.mark.parametrize("name", QUERIES)
def test_a_query_answers_alike(both: tuple[EngineApi, EngineApi], name: str):
    local, remote = (engine.get_collection("docs").query_batch([QUERIES[name]])[0] for engine in both)
    assert local.hits
    assert [hit.doc_id for hit in remote.hits] == [hit.doc_id for hit in local.hits]
    for there, here in zip(remote.hits, local.hits, strict=True):
        assert there == here
    assert remote.plan.keys() == local.plan.keys()
    assert remote.timings_ms.keys() == local.timings_ms.keys()


@pytest.mark.parametrize("side", [0, 1])
def test_fields_that_were_not_asked_for_are_empty_and_change_no_score(both: tuple[EngineApi, EngineApi], side: int):
    docs = both[side].get_collection("docs")
    everything = docs.query("river bank")
    trimmed = docs.query("river bank", fields=("metadata",), passages=0)
    assert [(hit.doc_id, hit.score) for hit in trimmed.hits] == [(hit.doc_id, hit.score) for hit in everything.hits]
    assert trimmed.hits[0] == Hit(trimmed.hits[0].doc_id, trimmed.hits[0].score, metadata=everything.hits[0].metadata)
    assert everything.hits[0].title
    assert everything.hits[0].score_detail != ScoreDetail()
    assert (trimmed.plan, trimmed.timings_ms) == ({}, {})


def test_the_first_answer_is_the_right_one(both: tuple[EngineApi, EngineApi]):
    docs = both[1].get_collection("docs")
    result = docs.query("how is a loaf baked", limit=1)
    assert result.hits[0].doc_id == "bread"
    hit = docs.query("river", mode="bm25").hits[0]
    passage = hit.passages[0]
    assert TEXTS[hit.doc_id][passage.start : passage.end] == passage.text
    assert [term.leg for term in hit.score_detail.terms] == ["bm25"]


def test_descriptions_are_alike(both: tuple[EngineApi, EngineApi]):
    local, remote = both
    assert remote.info() == local.info()
    assert remote.list_collections() == local.list_collections()
    here, there = local.get_collection("docs"), remote.get_collection("docs")
    assert there.info() == here.info()
    assert there.stats() == here.stats()
    assert there.count() == here.count() == len(TEXTS)
    assert there.count(filter="short == true") == here.count(filter="short == true")


def test_documents_are_alike(both: tuple[EngineApi, EngineApi]):
    here, there = (engine.get_collection("docs") for engine in both)
    assert there.get(["fox", "nothing"]) == here.get(["fox", "nothing"])
    assert there.scroll(limit=3) == here.scroll(limit=3)
    page = there.scroll(limit=3)
    assert there.scroll(limit=3, after=page.next_after) == here.scroll(limit=3, after=page.next_after)


def test_embeddings_are_alike(both: tuple[EngineApi, EngineApi]):
    local, remote = (engine.embed([TEXTS["fox"], "another text"]) for engine in both)
    for there, here in zip(remote, local, strict=True):
        assert np.allclose(there.dense, here.dense, atol=1e-6)
        assert (there.sparse, there.tokens) == (here.sparse, here.tokens)
        assert len(there.landmarks) == len(here.landmarks) >= 1


def test_own_vectors_are_searched(vectors: CollectionApi):
    document = vectors.get(["v7"], vectors=True)[0]
    assert vectors.query(vector=document.vector, mode="dense").hits[0].doc_id == "v7"
    assert vectors.query(sparse={3: 1.0}, mode="sparse").hits[0].doc_id == "v3"
    assert document.sparse == pytest.approx({7: 1.0, 100: 0.5})
    both = vectors.query(vector=document.vector, sparse={3: 1.0})
    assert {"v3", "v7"} <= {hit.doc_id for hit in both.hits}


def test_writing_is_alike(both: tuple[EngineApi, EngineApi]):
    docs = both[1].create_collection("scratch")
    first = docs.upsert([{"doc_id": "a", "text": TEXTS["fox"]}, {"doc_id": "b", "text": TEXTS["rain"]}])
    assert [one.status for one in first] == ["added", "added"]
    assert first[0].tokens.read == first[0].tokens.embedded > 10
    assert docs.upsert([{"doc_id": "a", "text": TEXTS["fox"]}])[0].status == "unchanged"
    assert docs.upsert([{"doc_id": "a", "text": TEXTS["bread"]}])[0].status == "updated"
    assert docs.update_metadata("a", {"k": [1, 2.5, "x", True]}) > first[0].sequence
    assert docs.get(["a"])[0].metadata == {"k": [1, 2.5, "x", True]}
    assert docs.delete(filter="k == 1") == 1
    assert docs.delete(["b", "b2"]) == 1
    both[1].drop_collection("scratch")
    with pytest.raises(errors.CollectionNotFound):
        docs.count()


INVALID = {
    "NaN vector": lambda docs, own: own.query(vector=[float("nan")] * 8),
    "infinite vector": lambda docs, own: own.query(vector=[float("inf")] * 8),
    "wrong dimension": lambda docs, own: own.query(vector=[1.0] * 7),
    "NaN document vector": lambda docs, own: own.upsert([{"doc_id": "x", "vector": [float("nan")] * 8}]),
    "wrong document dimension": lambda docs, own: own.upsert([{"doc_id": "x", "vector": [1.0], "sparse": {1: 1.0}}]),
    "empty text": lambda docs, own: docs.upsert([{"doc_id": "x", "text": " "}]),
    "id of 512 bytes": lambda docs, own: docs.upsert([{"doc_id": "x" * 512, "text": "t"}]),
    "unknown field": lambda docs, own: docs.upsert([{"doc_id": "x", "txt": "t"}]),
    "malformed filter": lambda docs, own: docs.query("x", filter="a ==== b"),
    "unbound parameter": lambda docs, own: docs.query("x", filter="a == $missing"),
    "limit of 10^9": lambda docs, own: docs.query("x", limit=10**9),
    "unknown mode": lambda docs, own: docs.query("x", mode="fuzzy"),
    "unknown fusion": lambda docs, own: docs.query("x", fusion="borda"),
    "empty query": lambda docs, own: docs.query(""),
    "missing leg": lambda docs, own: docs.query("x", mode="multi"),
    "neither ids nor filter": lambda docs, own: docs.delete(),
    "unknown document": lambda docs, own: docs.update_metadata("nothing", {"a": 1}),
    "nested metadata": lambda docs, own: docs.upsert([{"doc_id": "x", "text": "t", "metadata": {"a": {"b": 1}}}]),
}


@pytest.mark.parametrize("name", INVALID)
def test_bad_input_raises_the_same_error_on_both_sides(
    both: tuple[EngineApi, EngineApi], vectors: CollectionApi, name: str
):
    raised = []
    for engine in both:
        with pytest.raises(errors.EngineError) as caught:
            INVALID[name](engine.get_collection("docs"), engine.get_collection("own"))
        raised.append(caught.value)
    here, there = raised
    assert not isinstance(there, errors.RemoteFailure)
    assert isinstance(there, type(here)) or isinstance(here, type(there))


def test_an_id_of_511_bytes_is_taken(both: tuple[EngineApi, EngineApi], vectors: CollectionApi):
    name = "é" * 255 + "x"
    assert vectors.upsert([{"doc_id": name, "vector": [1.0] * 8, "sparse": {1: 1.0}}])[0].doc_id == name
    assert vectors.delete([name]) == 1


def test_a_served_folder_is_stopped_by_a_signal_and_opens_with_everything_acknowledged(tmp_path: Path):
    program = (
        "import sys\n"
        "from engine import open_engine\n"
        "from engine.server import ServerConfig, serve\n"
        "serve(open_engine(sys.argv[1], model=None), ServerConfig(address='127.0.0.1:0'),"
        " on_ready=lambda server: print(server.address, flush=True))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout is not None
    with connect(process.stdout.readline().strip(), timeout_s=30) as remote:
        docs = remote.create_collection("docs", dim=2)
        answers = list(docs.ingest({"doc_id": f"d{i:04}", "vector": [1.0, i]} for i in range(1500)))
        assert {one.status for one in answers} == {"added"}
        with pytest.raises(errors.DataFolderLocked):
            open_engine(tmp_path, model=None)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    assert process.returncode == 0
    with open_engine(tmp_path, model=None) as engine:
        assert engine.get_collection("docs").count() == 1500
