"""Documents stream in, acknowledgements stream out, and what goes wrong in between is said."""

from __future__ import annotations

import threading
import time

import pytest

from engine import errors
from engine.client import ingest as client_ingest
from engine.values import Document
from tests.support.serving import Served, served


@pytest.fixture(scope="module")
def remote():
    with served() as running:
        yield running


@pytest.fixture
def docs(remote: Served):
    remote.fake.error = None
    remote.fake.gate.set()
    remote.fake.collections.clear()
    return remote.engine.create_collection("docs")


def test_every_document_is_acknowledged_in_order(remote: Served, docs):
    ids = [f"d{i}" for i in range(3000)]
    answers = list(docs.ingest({"doc_id": one, "text": "some words"} for one in ids))
    assert [one.doc_id for one in answers] == ids
    assert {one.status for one in answers} == {"added"}
    assert answers[0].tokens.read == 2
    assert docs.count() == 3000


def test_an_empty_stream_ends(docs):
    assert list(docs.ingest([])) == []


def test_bad_documents_fail_in_their_places_and_the_stream_goes_on(docs):
    given = [
        {"doc_id": "a", "text": "x"},
        {"doc_id": "", "text": "refused by the engine"},
        {"text": "no id"},
        "no document",
        {"doc_id": "b", "vector": [1.0, float("nan"), 0.0, 0.0]},
        {"doc_id": "c", "vector": [1.0]},
        {"doc_id": "d", "metadata": {"k": object()}},
        {"doc_id": "e", "text": "\ud800"},
        {"doc_id": "f", "colour": "red"},
        Document(doc_id="g", text="fine"),
        {"doc_id": "h", "text": None},
    ]
    answers = list(docs.ingest(given))
    assert [one.status for one in answers] == ["added", *["failed"] * 8, "added", "failed"]
    assert all((one.error is not None) == (one.status == "failed") for one in answers)
    assert [answers[i].doc_id for i in (0, 4, 5, 9)] == ["a", "b", "c", "g"]
    assert "NaN" in answers[4].error
    assert docs.count() == 2


def test_a_stream_of_only_bad_documents_ends(docs):
    answers = list(docs.ingest({"bad": i} for i in range(5000)))
    assert len(answers) == 5000
    assert {one.status for one in answers} == {"failed"}


def test_documents_are_written_while_the_source_waits(docs):
    def source():
        for i in range(5):
            yield {"doc_id": f"d{i}", "text": "x"}
            if i == 3:
                deadline = time.monotonic() + 5
                while docs.count() < 4 and time.monotonic() < deadline:
                    time.sleep(0.005)
                assert docs.count() == 4

    assert [answer.doc_id for answer in docs.ingest(source())] == [f"d{i}" for i in range(5)]


def test_the_source_is_pulled_on_the_callers_thread(docs):
    threads = set()

    def source():
        for i in range(300):
            threads.add(threading.get_ident())
            yield {"doc_id": f"d{i}", "text": "x"}

    list(docs.ingest(source()))
    assert threads == {threading.get_ident()}


def test_an_error_of_the_source_reaches_the_caller(docs):
    def source():
        yield {"doc_id": "a", "text": "x"}
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(docs.ingest(source()))


def test_an_error_of_the_engine_reaches_the_caller_after_what_was_acknowledged(remote: Served, docs):
    def source():
        for i in range(200):
            yield {"doc_id": f"d{i}", "text": "x"}
        deadline = time.monotonic() + 5
        while len(remote.fake.get_collection("docs").documents) < 200 and time.monotonic() < deadline:
            time.sleep(0.005)
        remote.fake.error = errors.StoreFull("/data", "no space left")
        for i in range(200):
            yield {"doc_id": f"e{i}", "text": "x"}

    answers = []
    with pytest.raises(errors.StoreFull, match="no space left"):
        answers.extend(answer.doc_id for answer in docs.ingest(source()))
    assert answers == [f"d{i}" for i in range(200)]


def test_an_unknown_collection_is_said(remote: Served, docs):
    remote.fake.collections.clear()
    with pytest.raises(errors.CollectionNotFound):
        list(docs.ingest([{"doc_id": "a", "text": "x"}]))


def test_leaving_early_ends_the_stream(remote: Served, docs):
    before = threading.active_count()
    stream = docs.ingest({"doc_id": f"d{i}", "text": "x"} for i in range(100_000))
    assert next(stream).doc_id == "d0"
    stream.close()
    deadline = time.monotonic() + 5
    while threading.active_count() > before + 6 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= before + 6
    assert docs.count() < 100_000
    assert len(list(docs.ingest([{"doc_id": "z", "text": "x"}]))) == 1


def test_a_slow_engine_holds_the_source_back(remote: Served, docs, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(client_ingest, "WINDOW_ITEMS", 100)
    pulled = []

    def source():
        for i in range(1000):
            pulled.append(i)
            yield {"doc_id": f"d{i}", "text": "x"}

    remote.fake.gate.clear()
    answers = []
    worker = threading.Thread(target=lambda: answers.extend(docs.ingest(source())))
    worker.start()
    time.sleep(0.3)
    assert len(pulled) <= 101
    remote.fake.gate.set()
    worker.join(20)
    assert len(answers) == 1000
