"""A collection moves to another model: same answers as a fresh index, nothing lost on the way, one moment of change."""

import itertools
import threading
import time
from contextlib import contextmanager

import pytest

from engine import open_engine
from engine.errors import EngineClosed, FingerprintMismatch, InvalidArgument
from engine.maintenance import check, restore_snapshot, snapshot_engine
from engine.migration import Migration, migrate
from engine.storage.layout import next_folder
from tests.support.hash_model import HashModel
from tests.support.tiny_models import WORDS, save_bert, save_masked_lm

QUESTIONS = ["the old cat", "birds sang near the river", "a dog ran over the hill", "tree"]
CODE = "def cat():\n    sat\n\n\ndef dog():\n    ran far over the hill\n"


def documents(numbers, version=0):
    for n in numbers:
        words = [WORDS[(n * 7 + version * 3 + i * (1 + n % 5)) % len(WORDS)] for i in range(3 + n % 40)]
        yield {
            "doc_id": f"d{n:04d}",
            "title": "the old tree" if n % 3 else "",
            "text": " ".join(words) + ".",
            "metadata": {"n": n, "tags": ["a", str(n % 2)]},
        }


def answers(collection, **options):
    return [
        [
            (hit.doc_id, round(hit.score, 6), [(p.start, p.end) for p in hit.passages], dict(hit.metadata))
            for hit in result.hits
        ]
        for result in (
            collection.query(question, mode=mode, limit=20, **options)
            for question in QUESTIONS
            for mode in ("hybrid", *collection.info().legs)
        )
    ]


@pytest.fixture
def engine(tmp_path):
    """An engine whose models have no network."""
    with open_engine(tmp_path / "data", model=None) as opened:
        opened._model = HashModel("first")
        yield opened


@pytest.fixture
def collection(engine):
    made = engine.create_collection("c")
    made.upsert(documents(range(300)))
    return made


class _Stop(Exception):
    pass


def stop_at(count):
    def notice(done, total):
        if done >= count:
            raise _Stop

    return notice


def test_the_answers_are_those_of_a_fresh_index_with_the_new_model(tmp_path):
    old, new = save_bert(tmp_path / "old"), save_masked_lm(tmp_path / "new", seed=3)
    given = [*documents(range(120)), {"doc_id": "code", "text": CODE, "boundaries": [0, CODE.index("def dog")]}]
    given.append({"doc_id": "title", "title": "a dog sat on the mat"})
    with open_engine(tmp_path / "data", model=str(old)) as engine:
        collection = engine.create_collection("c", language="none", weights={"dense": 0.7, "bm25": 0.3})
        collection.upsert(given)
        collection.upsert(documents(range(30), version=1))
        collection.delete([f"d{n:04d}" for n in range(40, 50)])
        sequence = collection.info().sequence
        assert collection.info().legs == ("dense", "bm25")
        report = migrate(engine, "c", model=str(new))
        assert (report.documents, report.embedded, report.model) == (112, 112, str(new))
        migrated, passages = answers(collection), collection.get(["d0001", "code"])
        assert collection.info().legs == ("sparse", "bm25")
        assert collection.info().sequence >= sequence
        assert [a.status for a in collection.upsert([given[-2], given[-1]])] == ["unchanged", "unchanged"]
    with open_engine(tmp_path / "fresh", model=str(new)) as engine:
        fresh = engine.create_collection("c", language="none", weights={"bm25": 0.3})
        fresh.upsert(
            [*documents(range(30), version=1), *(d for d in given[30:] if not "d0040" <= d["doc_id"] < "d0050")]
        )
        assert answers(fresh) == migrated
        assert fresh.get(["d0001", "code"]) == passages
    with open_engine(tmp_path / "data", model=str(new)) as engine:
        assert answers(engine.get_collection("c")) == migrated
    with (
        open_engine(tmp_path / "data", model=str(old)) as engine,
        pytest.raises(FingerprintMismatch, match="run `engine migrate --collection c`"),
    ):
        engine.get_collection("c").query("tree")


@contextmanager
def in_background(*works):
    """Runs each work again and again until the block ends; what one raises fails the test."""
    done, failures = threading.Event(), []

    def run(work):
        try:
            while not done.is_set():
                work()
        except Exception as error:  # reported below
            failures.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert not failures


def test_queries_go_on_and_each_is_answered_by_one_model_wholly(engine, collection):
    collection.optimize()
    before, seen = answers(collection), []
    with in_background(*[lambda: seen.append(answers(collection))] * 2):
        migrate(engine, "c", model="second")
    after = answers(collection)
    assert before != after
    # A dozen queries make one of these lists, so the switch may fall between two of them, but not within one.
    mixed = [found for found in seen if found not in (before, after)]
    assert len(mixed) <= 2
    for found in mixed:
        assert all(one in (old, new) for one, old, new in zip(found, before, after, strict=True))
    assert before in seen, "no query ran during the migration; the test proves nothing"


def test_writes_go_on_and_none_is_lost(engine, collection):
    expected = {document.doc_id: document.metadata for document in _all(collection)}
    number = itertools.count()

    def write():
        doc_id = f"w{next(number)}"
        collection.upsert([{"doc_id": doc_id, "text": f"{doc_id} was written meanwhile"}])
        expected[doc_id] = {}
        if doc_id.endswith("3"):
            collection.update_metadata(doc_id, {"touched": True})
            expected[doc_id] = {"touched": True}
        if doc_id.endswith("7"):
            assert collection.delete([doc_id]) == 1
            del expected[doc_id]

    with in_background(write):
        migrate(engine, "c", model="second")
        migrate(engine, "c", model="third")
    assert len(expected) > 310, "hardly anything was written; the test proves nothing"
    assert {document.doc_id: document.metadata for document in _all(collection)} == expected
    assert collection.query("w1", mode="bm25").hits[0].doc_id == "w1"


def test_a_stream_of_documents_goes_on_over_the_switch_with_every_acknowledgement_in_order(engine, collection):
    migrated = threading.Event()
    number = itertools.count()

    def endless():
        while not migrated.is_set():
            time.sleep(0.001)
            yield {"doc_id": f"s{next(number)}", "text": 50 * "streamed"}  # long, for small batches

    acknowledged = []
    thread = threading.Thread(target=lambda: acknowledged.extend(collection.ingest(endless())))
    thread.start()
    migrate(engine, "c", model="second")
    migrate(engine, "c", model="third")
    migrated.set()
    thread.join()
    assert [answer.doc_id for answer in acknowledged] == [f"s{n}" for n in range(next(number))]
    assert collection.count() == 300 + len(acknowledged)
    assert collection.info().model == "third"


def _all(collection):
    page = collection.scroll(limit=1000)
    yield from page.documents
    while page.next_after is not None:
        page = collection.scroll(limit=1000, after=page.next_after)
        yield from page.documents


def test_a_stopped_migration_goes_on_where_it_was(engine, collection):
    with pytest.raises(_Stop):
        migrate(engine, "c", model="second", on_progress=stop_at(200))
    assert collection.info().model == "first"
    collection.upsert([{"doc_id": "d0007", "text": "changed meanwhile"}])
    collection.delete(["d0008"])
    report = migrate(engine, "c", model="second")
    assert 0 < report.embedded <= 101
    assert report.documents == 299
    assert collection.get(["d0007", "d0008"])[1] is None
    assert collection.query("changed meanwhile", mode="bm25").hits[0].doc_id == "d0007"


def test_an_unfinished_migration_to_another_model_is_begun_anew_and_to_the_own_model_removed(engine, collection):
    for model in ("second", "third"):
        with pytest.raises(_Stop):
            migrate(engine, "c", model=model, on_progress=stop_at(100))
    with Migration(engine, "c", model="second") as migration:
        assert migration.target.count() == 0
    assert next_folder(collection.folder).exists()
    report = migrate(engine, "c")
    assert (report.embedded, report.model) == (0, "first")
    assert not next_folder(collection.folder).exists()


def test_nothing_of_the_old_generation_stays_and_a_reopened_engine_serves_the_new_one(engine, collection):
    migrate(engine, "c", model="second")
    assert sorted(path.name for path in collection.folder.iterdir()) == ["CURRENT", "generation-2"]
    migrate(engine, "c", model="first")
    assert sorted(path.name for path in collection.folder.iterdir()) == ["CURRENT", "generation-3"]
    found = answers(collection)
    collection.close()
    del engine._open["c"]
    reopened = engine.get_collection("c")
    assert answers(reopened) == found
    reopened.upsert(documents([1], version=5))


def test_a_snapshot_has_the_new_vectors_and_nothing_of_an_unfinished_migration(engine, collection, tmp_path):
    migrate(engine, "c", model="second")
    with Migration(engine, "c", model="third") as migration:
        migration.fill()
        snapshot_engine(engine, tmp_path / "snapshot")
    restore_snapshot(tmp_path / "snapshot", tmp_path / "restored")
    assert check(tmp_path / "restored").is_sound
    with open_engine(tmp_path / "restored", model=None) as restored:
        restored._model = HashModel("second")
        assert answers(restored.get_collection("c")) == answers(collection)
        names = {path.name for path in restored.get_collection("c").folder.iterdir()}
    assert names == {"store", "segments"}


def test_an_engine_with_the_new_model_alone_can_tend_and_migrate_the_old_collection(engine, collection, tmp_path):
    collection.close()
    del engine._open["c"]
    engine._model = HashModel("second")
    reopened = engine.get_collection("c")
    reopened.optimize()
    assert reopened.query("cat", mode="bm25").hits
    with pytest.raises(FingerprintMismatch):
        reopened.query("cat")
    assert migrate(engine, "c").embedded == 300
    assert reopened.query("cat").hits


def test_what_a_crash_left_of_an_old_generation_is_swept(engine, collection, monkeypatch):
    monkeypatch.setattr("engine.collection.sweep_generations", lambda folder: None)
    migrate(engine, "c", model="second")
    assert (collection.folder / "store").exists()
    monkeypatch.undo()
    collection.close()
    del engine._open["c"]
    engine._model = HashModel("second")
    assert engine.get_collection("c").query("tree").hits
    assert not (collection.folder / "store").exists()


def test_a_switch_that_fails_leaves_everything_as_it_was(engine, collection):
    found = answers(collection)
    with Migration(engine, "c", model="second") as migration:
        migration.fill()
        migration.target.close()
        with pytest.raises(EngineClosed):
            migration.switch()
    assert answers(collection) == found
    assert collection.upsert([{"doc_id": "new", "text": "goes on"}])[0].status == "added"
    assert migrate(engine, "c", model="second").documents == 301


def test_a_collection_is_migrated_once_at_a_time(engine, collection):
    with Migration(engine, "c", model="second"), pytest.raises(InvalidArgument, match="being migrated already"):
        migrate(engine, "c", model="third")
    assert migrate(engine, "c", model="third").documents == 300


def test_a_discarded_migration_leaves_nothing(engine, collection):
    with Migration(engine, "c", model="second") as migration:
        migration.fill()
        assert migration.target.query("tree").hits
        migration.discard()
    assert not next_folder(collection.folder).exists()
    assert collection.info().model == "first"


def test_supplied_vectors_give_way_to_the_models_where_there_is_text(engine):
    supplied = engine.create_collection("own", dim=4)
    supplied.upsert([{"doc_id": "a", "text": "the old cat", "vector": [1, 2, 3, 4]}])
    supplied.upsert([{"doc_id": "b", "title": "river", "vector": [1, 2, 3, 4]}])
    migrate(engine, "own")
    assert (supplied.info().model, supplied.info().dim) == ("first", 16)
    assert supplied.query("old cat", mode="dense").hits[0].doc_id == "a"


def test_supplied_vectors_without_text_are_refused_before_anything_is_done(engine):
    supplied = engine.create_collection("own", dim=4)
    supplied.upsert([{"doc_id": "a", "text": "the old cat", "vector": [1, 2, 3, 4]}])
    supplied.upsert([{"doc_id": "b", "vector": [1, 2, 3, 4]}])
    with pytest.raises(InvalidArgument, match="document 'b' came with a vector and without text"):
        migrate(engine, "own")
    assert not next_folder(supplied.folder).exists()
    assert supplied.query(vector=[1, 2, 3, 4], mode="dense").hits


def test_an_engine_without_a_model_asks_for_one(tmp_path):
    with open_engine(tmp_path, model=None) as engine:
        engine.create_collection("c", dim=4)
        with pytest.raises(InvalidArgument, match="name the model to migrate to"):
            migrate(engine, "c")
