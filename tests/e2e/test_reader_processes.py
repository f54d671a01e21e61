"""Processes that read a data folder beside the one that writes it see every acknowledged write, and nothing by halves."""

import threading

import pytest

from engine import open_engine, open_reader
from engine.errors import DataFolderReadOnly, InvalidArgument
from engine.migration import migrate
from tests.support.beside import ReaderProcess
from tests.support.hash_model import HashModel

IDS_OF = "[h.doc_id for h in c().query({!r}, mode='bm25', limit=50).hits]"


@pytest.fixture
def engine(tmp_path):
    with open_engine(tmp_path / "data", model=None) as opened:
        opened._model = HashModel("first")
        yield opened


@pytest.fixture
def collection(engine):
    made = engine.create_collection("c")
    made.upsert({"doc_id": f"d{n}", "text": f"cat number {n}", "metadata": {"n": n}} for n in range(50))
    return made


@pytest.fixture
def reader(engine, collection):
    with ReaderProcess(engine.path) as process:
        yield process


def test_every_acknowledged_write_is_seen_by_the_next_query_of_another_process(collection, reader):
    assert sorted(reader.call(IDS_OF.format("cat"))) == sorted(f"d{n}" for n in range(50))
    collection.upsert([{"doc_id": "new", "text": "a dog"}])
    assert reader.call(IDS_OF.format("dog")) == ["new"]
    collection.upsert([{"doc_id": "new", "text": "a bird"}])
    assert reader.call(IDS_OF.format("dog")) == []
    assert reader.call(IDS_OF.format("bird")) == ["new"]
    collection.update_metadata("new", {"kind": "bird"})
    assert reader.call("c().count(filter=\"kind == 'bird'\")") == 1
    assert reader.call("dict(c().get(['new'])[0].metadata)") == {"kind": "bird"}
    collection.delete(filter="n < 40")
    assert reader.call("c().count()") == 11
    assert reader.call("len(c().scroll(limit=100).documents)") == 11


def test_answers_are_the_same_after_the_writer_sealed_merged_and_reopened(engine, collection, reader):
    shown = "[(h.doc_id, round(h.score, 6)) for h in c().query('cat number 7', mode='bm25', limit=50).hits]"
    before = reader.call(shown)
    collection.optimize()
    assert reader.call("[s.name != 'head' for s in c().stats().segments]") == [True]
    assert reader.call(shown) == before
    collection.delete([f"d{n}" for n in range(20, 40)])
    expected = [[h.doc_id, round(h.score, 6)] for h in collection.query("cat number 7", mode="bm25", limit=50).hits]
    assert reader.call(shown) == expected
    collection.optimize()
    assert reader.call(shown) == expected
    engine.close()
    with open_engine(engine.path, model=None):
        assert reader.call(shown) == expected


def test_a_migrated_collection_is_followed_to_its_new_generation(engine, collection, reader):
    assert reader.call("c().info().model") == "first"
    migrate(engine, "c", model="second")
    assert reader.call("c().info().model") == "second"
    shown = "[(h.doc_id, round(h.score, 5)) for h in c().query('cat number 7', mode='dense', limit=5).hits]"
    hits = collection.query("cat number 7", mode="dense", limit=5).hits
    assert reader.call(shown) == [[hit.doc_id, round(hit.score, 5)] for hit in hits]
    collection.upsert([{"doc_id": "new", "text": "a dog"}])
    assert reader.call(IDS_OF.format("dog")) == ["new"]


def test_a_dropped_collection_is_gone_and_one_of_the_same_name_is_another(engine, reader):
    assert reader.call("c().count()") == 50
    engine.drop_collection("c")
    assert reader.call("c().count()").startswith("raises CollectionNotFound")
    assert reader.call("engine.list_collections()") == []
    engine.create_collection("c").upsert([{"doc_id": "only", "text": "a dog"}])
    assert reader.call("c().count()") == 1
    assert reader.call(IDS_OF.format("dog")) == ["only"]


def test_a_query_while_another_process_writes_and_merges_never_fails_or_shows_half_a_commit(engine, collection, reader):
    """Every commit replaces all documents by ones of its own round, so a query that sees two rounds saw half a commit."""
    done = threading.Event()
    seen, wrong = set(), []

    def ask():
        while not done.is_set():
            hits = reader.call("[(h.doc_id, h.metadata['n']) for h in c().query('cat', mode='bm25', limit=50).hits]")
            if isinstance(hits, str) or len(hits) != 50 or len({n for _, n in hits}) != 1:
                wrong.append(hits)
            else:
                seen.add(hits[0][1])

    collection.upsert({"doc_id": f"d{n}", "text": "cat", "metadata": {"n": 0}} for n in range(50))
    assert reader.call("c().count()") == 50
    asking = threading.Thread(target=ask)
    asking.start()
    for number in range(1, 120):
        collection.upsert({"doc_id": f"d{n}", "text": "cat", "metadata": {"n": number}} for n in range(50))
        if number % 10 == 0:
            collection.optimize()
    done.set()
    asking.join()
    assert not wrong
    assert len(seen) > 3


def test_a_killed_reader_leaves_nothing_that_the_writer_keeps_pages_for(engine, collection):
    with ReaderProcess(engine.path) as process:
        process.call("c().count()")
        process.call("kept.append(c().reading().__enter__().view())")
        process.call("kept.append(kept[0].__enter__())")
    store = collection._generation.store
    assert store.release_dead_readers() == 1
    with ReaderProcess(engine.path) as process:
        process.call("kept.append(c().reading().__enter__().view())")
        process.call("kept.append(kept[0].__enter__())")
    collection.upsert([{"doc_id": "new", "text": "a dog"}])
    assert store.release_dead_readers() == 0


def test_what_would_change_something_is_refused(engine, collection):
    calls = [
        "c().upsert([])",
        "c().ingest([])",
        "c().delete(['d1'])",
        "c().update_metadata('d1', {'a': 1})",
        "c().optimize()",
        "engine.create_collection('d')",
        "engine.drop_collection('c')",
    ]
    with ReaderProcess(engine.path) as process:
        for call in calls:
            assert process.call(call).startswith(f"raises {DataFolderReadOnly.__name__}"), call
    assert collection.count() == 50


def test_a_reader_needs_a_data_folder(tmp_path):
    with pytest.raises(InvalidArgument, match="no data folder"):
        open_reader(tmp_path / "nothing")
