"""Views can be lost and come back the same; snapshots are whole; a running query sees one moment."""

import shutil
import threading

import numpy as np
import pytest

from engine import open_engine
from engine.collection import Collection
from engine.encoding import Model
from engine.errors import CorruptData, InvalidArgument, UnsupportedFormat
from engine.maintenance import check, create_snapshot, restore_snapshot, snapshot_engine

DIM = 16
RNG = np.random.default_rng(11)
WORDS = [
    "landmark",
    "vector",
    "query",
    "lock",
    "fsync",
    "segment",
    "passage",
    "window",
    "rank",
    "tree",
    "river",
    "stone",
]


def documents(numbers, version=0):
    for n in numbers:
        rng = np.random.default_rng([n, version])
        text = " ".join(rng.choice(WORDS, 8)) + f" number{n}"
        yield {
            "doc_id": f"d{n:05d}",
            "text": text,
            "vector": rng.normal(size=DIM),
            "metadata": {"n": n, "version": version},
        }


def answers(collection):
    found = []
    for n in range(20):
        rng = np.random.default_rng([n, 99])
        result = collection.query(" ".join(rng.choice(WORDS, 3)), vector=rng.normal(size=DIM), limit=15, exact=True)
        found.append([(hit.doc_id, round(hit.score, 5)) for hit in result.hits])
    return found


@pytest.fixture
def folder(tmp_path):
    with open_engine(tmp_path / "data", model=None) as engine:
        collection = engine.create_collection("c", dim=DIM)
        collection.upsert(documents(range(600)))
        collection.optimize()
        collection.upsert(documents(range(500, 700), version=1))
        collection.delete(filter="n < 50")
    return tmp_path / "data"


def opened(folder):
    return open_engine(folder, model=None)


@pytest.mark.parametrize("damage", ["flip", "truncate", "folder"])
def test_a_damaged_segment_is_rebuilt_with_the_same_answers(folder, damage):
    with opened(folder) as engine:
        before = answers(engine.get_collection("c"))
    (segment,) = (folder / "collections" / "c" / "segments").iterdir()
    if damage == "folder":
        shutil.rmtree(segment)
    else:
        path = max(segment.rglob("*.npy"), key=lambda p: p.stat().st_size)
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(bytes(data if damage == "flip" else data[:-8]))
    report = check(folder, repair=False)
    assert not report.is_sound
    assert "segment" in report.collections[0].problems[0]
    with opened(folder) as engine:
        assert answers(engine.get_collection("c")) == before
    assert check(folder).is_sound


@pytest.mark.parametrize("healthy", [0, 1], ids=["the only segment", "one of two"])
def test_what_a_damaged_segment_held_is_found_at_every_later_open_too(tmp_path, healthy):
    folder = tmp_path / "data"
    with opened(folder) as engine:
        collection = engine.create_collection("c", dim=DIM)
        for start, stop in ((0, 300), (300, 325))[: 1 + healthy]:  # too little is new in the second to merge them
            collection.upsert(documents(range(start, stop)))
            collection.optimize()
        collection.upsert(documents(range(250, 320), version=1))
        before = answers(collection)
    segments = folder / "collections" / "c" / "segments"
    held = sorted(segments.iterdir(), key=lambda path: path.stat().st_mtime)
    assert len(held) == 1 + healthy
    shutil.rmtree(held[0])
    for _ in range(3):  # too few passages to be sealed when the collection is closed
        with opened(folder) as engine:
            assert answers(engine.get_collection("c")) == before
    with opened(folder) as engine:
        collection = engine.get_collection("c")
        collection.upsert(documents(range(900, 910)))
        after = answers(collection)
        collection.optimize()
        assert answers(collection) == after
    with opened(folder) as engine:
        assert answers(engine.get_collection("c")) == after


def test_check_repairs_a_damaged_segment_and_says_so(folder):
    (segment,) = (folder / "collections" / "c" / "segments").iterdir()
    shutil.rmtree(segment)
    report = check(folder)
    assert report.is_sound
    assert len(report.collections[0].repaired) == 1
    assert check(folder).collections[0].repaired == ()


def test_answers_do_not_depend_on_how_segments_are_cut(folder):
    with opened(folder) as engine:
        collection = engine.get_collection("c")
        before = answers(collection)
        collection.optimize()
        assert answers(collection) == before
        for doc in documents(range(500, 510), version=1):
            collection.delete([doc["doc_id"]])
            collection.upsert([doc])
        assert answers(collection) == before
    with opened(folder) as engine:
        assert answers(engine.get_collection("c")) == before


def test_what_a_crash_left_unfinished_is_swept(folder):
    stray = folder / "collections" / "c" / "segments" / "0123456789ab"
    stray.mkdir()
    (stray / "vectors.npy").write_bytes(b"half")
    (folder / "collections" / ".new-123").mkdir()
    with opened(folder) as engine:
        assert engine.get_collection("c").count() == 650
        assert [info.name for info in engine.list_collections()] == ["c"]
    assert not stray.exists()


def test_a_snapshot_taken_under_writes_is_one_moment(folder, tmp_path):
    with opened(folder) as engine:
        collection = engine.get_collection("c")
        stop = threading.Event()

        def write():
            version = 2
            while not stop.is_set():
                collection.upsert(documents(range(100, 130), version))
                version += 1

        writer = threading.Thread(target=write)
        writer.start()
        try:
            for n in range(3):
                snapshot_engine(engine, tmp_path / f"snapshot-{n}")
        finally:
            stop.set()
            writer.join()
    for n in range(3):
        restored = tmp_path / f"restored-{n}"
        assert restore_snapshot(tmp_path / f"snapshot-{n}", restored).collections == ("c",)
        with opened(restored) as engine:
            copy = engine.get_collection("c")
            versions = {d.metadata["version"] for d in copy.get([f"d{i:05d}" for i in range(100, 130)])}
            assert len(versions) == 1
            assert copy.count() == 650
        assert check(restored).is_sound


def test_a_damaged_snapshot_is_not_restored(folder, tmp_path):
    create_snapshot(folder, tmp_path / "snapshot")
    with pytest.raises(InvalidArgument, match="exists already"):
        create_snapshot(folder, tmp_path / "snapshot")
    with pytest.raises(InvalidArgument, match="holds collections already"):
        restore_snapshot(tmp_path / "snapshot", folder)
    path = tmp_path / "snapshot" / "collections" / "c" / "store" / "data.mdb"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(CorruptData):
        restore_snapshot(tmp_path / "snapshot", tmp_path / "restored")
    assert not (tmp_path / "restored").exists()


def test_a_collection_of_another_format_is_refused_untouched(folder):
    from engine.storage.kv import Store, Table

    store = Store(folder / "collections" / "c" / "store")
    with store.write() as transaction:
        schema = transaction.get(Table.META, b"schema").replace(b'"format":1', b'"format":9')
        transaction.put(Table.META, b"schema", schema)
    store.close()
    with opened(folder) as engine, pytest.raises(UnsupportedFormat, match="format 9; this version reads 1"):
        engine.get_collection("c")


def test_background_work_changes_no_answer_and_loses_no_write(tmp_path):
    from engine.schema import CollectionSchema
    from index.analyzer import ANALYZER_VERSION

    facts = dict(dim=DIM, coarse_dim=DIM, rotate=True, sparse=False, model=None, fingerprint=None, language="english")
    Collection.create(tmp_path / "c", CollectionSchema(name="c", analyzer_version=ANALYZER_VERSION, **facts))
    collection = Collection(tmp_path / "c", Model(None), seal_rows=100)
    failures = []

    def read():
        while not done.is_set():
            hits = collection.query("landmark vector", limit=50).hits
            if len({hit.doc_id for hit in hits}) != len(hits):
                failures.append("a document twice in one answer")

    done = threading.Event()
    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        for round_number in range(12):
            acknowledged = list(
                collection.ingest(documents(range(round_number * 50, round_number * 50 + 150), round_number))
            )
            assert all(answer.error is None for answer in acknowledged)
            # Read your writes: the last acknowledged document is found at once.
            last = acknowledged[-1].doc_id
            assert collection.query(f"number{int(last[1:])}", mode="bm25", limit=1).hits[0].doc_id == last
            collection.delete([f"d{round_number * 50:05d}"])
    finally:
        done.set()
        for reader in readers:
            reader.join()
    assert not failures
    names = {segment.name for segment in collection.stats().segments}
    assert names - {"head"}, "nothing was sealed; the test proves nothing"
    before, count = answers(collection), collection.count()
    collection.close()
    collection = Collection(tmp_path / "c", Model(None), seal_rows=100)
    assert collection.count() == count
    assert answers(collection) == before
    collection.close()


def test_dead_versions_leave_the_store(tmp_path):
    from engine.storage.kv import Table
    from engine.storage.store import dead_versions

    with opened(tmp_path) as engine:
        collection = engine.create_collection("c", dim=DIM)
        for version in range(5):
            collection.upsert(documents(range(20), version))
        collection.delete(["nothing"])
        with collection.reading() as generation, generation.store.read() as transaction:
            assert transaction.count(Table.PASSAGES) == 20
        collection.optimize()
        with collection.reading() as generation, generation.store.read() as transaction:
            assert dead_versions(transaction) == []


def test_a_version_that_a_query_holds_is_not_reaped(tmp_path):
    from engine.storage.kv import Table
    from engine.storage.store import read_document

    with opened(tmp_path) as engine:
        collection = engine.create_collection("c", dim=DIM)
        collection.upsert(documents(range(5)))
        with collection.reading() as generation, generation.writer.reading() as snapshot:
            collection.upsert(documents(range(5), version=1))
            collection.upsert(documents(range(5, 6)))
            held = snapshot.segments[0].segment.doc_nos.tolist()
            with generation.store.read() as transaction:
                assert [read_document(transaction, n).metadata["version"] for n in held] == [0] * 5
        collection.upsert(documents(range(6, 7)))
        with collection.reading() as generation, generation.store.read() as transaction:
            assert transaction.count(Table.PASSAGES) == 7
