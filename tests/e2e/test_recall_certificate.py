"""Every answer says what recall its dense search has: measured when a segment was sealed, kept with it, told in statistics."""

import json
import shutil
import time

import numpy as np
import pytest
from click.testing import CliRunner

from cli.main import main
from engine import open_engine, sealing, segment
from engine.client import connect
from engine.maintenance import check
from engine.recent import CAPACITY, RecentQueries
from index.recall import ENOUGH
from tests.support.index_data import clustered
from tests.support.serving import serving

N, DIM = 3_000, 160


@pytest.fixture(scope="module")
def vectors():
    return clustered(0, N + 100, DIM).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, vectors):
    """A collection whose first 2,500 documents were sealed after 70 queries, and the others are in memory."""
    folder = tmp_path_factory.mktemp("data")
    with open_engine(folder, model=None) as engine, pytest.MonkeyPatch.context() as patch:
        patch.setattr(segment, "HEAD_CODED_ROWS", 2_500)
        made = engine.create_collection("c", dim=DIM)
        made.upsert({"doc_id": f"d{i:04d}", "text": f"number {i}", "vector": vectors[i]} for i in range(2_500))
        before = dense_plan(made, vectors[0])
        assert (before["recall"], before["lower"], before["unmeasured"]) == (None, None, 2_500)
        for vector in vectors[N : N + 70]:
            made.query(vector=vector, mode="dense")
        made.optimize()
        made.upsert({"doc_id": f"d{i:04d}", "text": f"number {i}", "vector": vectors[i]} for i in range(2_500, N))
    return folder


@pytest.fixture
def collection(folder):
    with open_engine(folder, model=None) as engine:
        yield engine.get_collection("c")


def dense_plan(collection, vector, **options):
    return collection.query(vector=vector, mode="dense", **options).plan["dense"]


def test_a_response_states_the_recall_of_its_dense_search(collection, vectors):
    plan = dense_plan(collection, vectors[N])
    assert (plan["k"], plan["sample"], plan["scanned"], plan["measured"]) == (10, 512, 500, 2_500)
    assert 0.98 <= plan["lower"] < plan["recall"] <= 1.0


def test_it_holds_for_queries_that_were_not_sampled(collection, vectors):
    found = []
    for vector in vectors[N + 70 :]:
        near = [hit.doc_id for hit in collection.query(vector=vector, mode="dense", recall_target=0.9).hits]
        exact = [hit.doc_id for hit in collection.query(vector=vector, mode="dense", exact=True).hits]
        found.append(np.isin(exact, near).mean())
    assert np.mean(found) >= dense_plan(collection, vectors[N], recall_target=0.9)["lower"]


def test_a_target_that_no_setting_reaches_scans_every_vector(collection, vectors):
    plan = dense_plan(collection, vectors[N], recall_target=0.999)
    assert (plan["recall"], plan["lower"], plan["scanned"]) == (1.0, 1.0, N)
    assert dense_plan(collection, vectors[N], exact=True)["scanned"] == N


def test_a_search_without_the_dense_leg_has_no_certificate(collection):
    assert "dense" not in collection.query("number 7", mode="bm25").plan


def test_statistics_show_it_locally_remotely_and_on_the_command_line(folder):
    with open_engine(folder, model=None) as engine:
        local = engine.get_collection("c").stats()
        sealed = next(segment for segment in local.segments if segment.name != "head")
        assert sealed.recall.sample == 512
        assert 0.98 <= sealed.recall.lower < sealed.recall.recall
        with serving(engine) as server, connect(server.address) as client:
            remote = client.get_collection("c")
            assert remote.stats() == local
            assert remote.query(vector=np.eye(DIM)[0], mode="dense").plan["dense"]["sample"] == 512
    result = CliRunner().invoke(main, ["--data", str(folder), "collections", "stats", "c"])
    assert result.exit_code == 0, result.output
    assert "recall@10" in result.output
    assert "(≥ 0.9" in result.output


@pytest.fixture
def asked():
    return clustered(3, ENOUGH + 20, DIM).astype(np.float32)


def sealed(collection):
    return next(segment for segment in collection.stats().segments if segment.name != "head")


def answers(collection, queries):
    return [[(h.doc_id, h.score) for h in collection.query(vector=q, mode="dense", exact=True).hits] for q in queries]


def test_enough_queries_measure_what_was_sealed_before_them(folder, tmp_path, vectors, asked):
    copy = shutil.copytree(folder, tmp_path / "copy")
    with open_engine(copy, model=None) as engine:
        collection = engine.get_collection("c")
        collection.optimize()
        collection.delete(["d0000", "d0007"])
        before, expected = sealed(collection), answers(collection, vectors[:20])
        assert before.recall.asked == 0
        for vector in asked:
            dense_plan(collection, vector)
        collection.optimize()
        after = sealed(collection)
        assert (after.name != before.name, after.deleted, after.passages) == (True, 2, before.passages)
        assert after.recall.sample == after.recall.asked == dense_plan(collection, vectors[N])["asked"] >= len(asked)
        assert answers(collection, vectors[:20]) == expected
        collection.optimize()
        assert sealed(collection) == after
    with open_engine(copy, model=None) as engine:
        assert sealed(engine.get_collection("c")).recall == after.recall
        assert answers(engine.get_collection("c"), vectors[:20]) == expected
    assert check(copy).is_sound


def test_a_collection_that_is_only_asked_is_measured_once_it_is_idle(folder, tmp_path, monkeypatch, asked):
    monkeypatch.setattr(sealing, "IDLE_S", 0.05)
    copy = shutil.copytree(folder, tmp_path / "copy")
    with open_engine(copy, model=None) as engine:
        collection = engine.get_collection("c")
        for vector in asked:
            dense_plan(collection, vector)
        while sealed(collection).recall.asked < ENOUGH:
            time.sleep(0.02)


def test_a_certificate_is_measured_with_what_was_asked_before_the_engine_was_opened(folder, tmp_path, vectors):
    copy = shutil.copytree(folder, tmp_path / "copy")
    asked = np.random.default_rng(1).standard_normal((CAPACITY + 44, DIM)).astype(np.float32)
    with open_engine(copy, model=None) as engine:
        for vector in asked:
            dense_plan(engine.get_collection("c"), vector)
    with open_engine(copy, model=None) as engine:
        again = ({"doc_id": f"d{i:04d}", "text": "again", "vector": vectors[i]} for i in range(2_500))
        engine.get_collection("c").upsert(again)
        engine.get_collection("c").optimize()
    certificates = [json.loads(path.read_text(encoding="utf-8")) for path in copy.rglob("recall.json")]
    assert max(certificate["queries"] for certificate in certificates) == CAPACITY


def test_recent_queries_are_distinct_and_the_last():
    recent = RecentQueries(2, capacity=3)
    assert recent.vectors().shape == (0, 2)
    for x in (1, 2, 3, 1, 4):
        recent.add(np.array([x, 0], np.float32))
    assert recent.vectors()[:, 0].tolist() == [3.0, 1.0, 4.0]


def test_who_waits_for_enough_queries_is_told_when_there_are_and_when_there_is_no_room_for_more():
    recent, calls = RecentQueries(2), []
    recent.when_enough(lambda: calls.append(len(recent)))
    for x in range(CAPACITY + 10):
        recent.add(np.array([x, 1], np.float32))
        recent.add(np.array([x, 1], np.float32))
    assert calls == [ENOUGH, CAPACITY]
    again = RecentQueries(2, known=recent.vectors())
    again.when_enough(lambda: calls.append(len(again)))
    assert calls == [ENOUGH, CAPACITY, CAPACITY]
