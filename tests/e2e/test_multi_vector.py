"""Token vectors rank what the other legs find: exactly, the same through every change of storage, locally and remotely."""

import json
import shutil

import numpy as np
import pytest
from click.testing import CliRunner

from cli.main import main
from engine import open_engine
from engine.client import connect
from engine.errors import DimensionMismatch, InvalidArgument, InvalidDocument, InvalidQuery, LegMissing
from engine.maintenance import check, restore_snapshot, snapshot_engine
from engine.migration import migrate
from engine.values import FUSIONS, Query
from index.multi import TokenRows
from tests.support.hash_model import MULTI_DIM, HashModel, word_vector
from tests.support.serving import serving
from tests.support.tiny_models import WORDS

QUESTIONS = ("old cat", "birds sang near the river", "tree", "dog over hill far")


def documents(numbers):
    for n in numbers:
        words = [WORDS[(n * 7 + i * (1 + n % 5)) % len(WORDS)] for i in range(3 + n % 30)]
        yield {"doc_id": f"d{n:03d}", "title": "a title", "text": " ".join(words) + ".", "metadata": {"n": n}}


@pytest.fixture
def engine(tmp_path):
    """An engine whose models have no network, and give token vectors."""
    with opened(tmp_path / "data") as one:
        yield one


def opened(folder, name="first"):
    engine = open_engine(folder, model=None)
    engine._model = HashModel(name, multi=True)
    return engine


@pytest.fixture
def collection(engine):
    made = engine.create_collection("c", multi=True)
    made.upsert(documents(range(150)))
    return made


def answers(collection, fusions=("convex",)):
    """Every hit with its scores to the bit. Convex scores are absolute; the others depend on the order of equal candidates."""
    return [
        [
            (hit.doc_id, hit.score, hit.score_detail.multi)
            for hit in collection.query(question, mode=mode, fusion=fusion, limit=150).hits
        ]
        for question in QUESTIONS
        for mode in ("hybrid", "multi", "dense")
        for fusion in fusions
    ]


def naive(question, passage, model="first"):
    """The weighted mean of the greatest cosines, in plain numpy, on what is stored."""
    tokens = np.array([word_vector(model, word) for word in passage.split()])
    stored = TokenRows.from_vectors([tokens], MULTI_DIM).row(0).astype(np.float64)
    query = np.array([(i + 1) * word_vector(model, word) for i, word in enumerate(question.split())], np.float64)
    return (query @ stored.T).max(axis=1).sum() / np.linalg.norm(query, axis=1).sum()


def test_every_hit_has_the_score_of_naive_max_sim(collection):
    for question in QUESTIONS:
        for mode in ("hybrid", "multi"):
            for hit in collection.query(question, mode=mode, limit=50).hits:
                found = hit.score_detail.multi
                assert found == pytest.approx(naive(question, hit.passages[0].text), abs=1e-5)
                assert found <= 1 + 1 / 127


def test_the_mode_multi_ranks_what_the_other_legs_find_by_the_token_vectors_alone(collection):
    result = collection.query("old cat", mode="multi", limit=150)
    assert result.plan["legs"] == ["multi"]
    assert set(result.plan["depth"]) == {"dense", "bm25"}
    assert [hit.score for hit in result.hits] == pytest.approx([hit.score_detail.multi for hit in result.hits])
    assert [hit.score for hit in result.hits] == sorted((hit.score for hit in result.hits), reverse=True)
    assert len(result.hits) == 150
    shallow = collection.query("old cat", mode="multi", limit=1, depth={"dense": 3, "bm25": 3})
    assert shallow.hits[0].score_detail.multi <= result.hits[0].score_detail.multi


def test_the_leg_enters_the_fusion_with_its_weight(collection):
    with_it = collection.query("old cat", weights={"dense": 1.0, "bm25": 0.0, "multi": 2.0}).hits[0]
    detail = with_it.score_detail
    assert detail.weights == {"dense": 1.0, "bm25": 0.0, "multi": 2.0}
    assert with_it.score == pytest.approx(detail.dense + 2 * detail.multi, abs=1e-5)
    assert set(detail.ranks) >= {"dense", "multi"}
    without = collection.query("old cat", weights={"dense": 1.0, "multi": 0.0}).hits[0]
    assert without.score_detail.multi is not None
    assert set(collection.info().weights) == {"dense", "bm25", "multi"}


def test_scores_are_the_same_to_the_bit_through_every_change_of_storage(engine, collection, tmp_path):
    before = answers(collection)
    collection.optimize()  # sealed and memory-mapped
    assert collection.stats().segments[0].name != "head"
    assert answers(collection) == before
    for n in range(3):  # more segments, deletions in each: merges and vacuums
        collection.upsert(documents(range(200 + 40 * n, 240 + 40 * n)))
        collection.optimize()
    collection.delete([f"d{n:03d}" for n in range(200, 320)])
    collection.update_metadata("d007", {"touched": True})
    collection.optimize()
    assert answers(collection) == before
    snapshot_engine(engine, tmp_path / "copy")
    engine.close()
    with opened(tmp_path / "data") as again:
        assert answers(again.get_collection("c")) == before
    restore_snapshot(tmp_path / "copy", tmp_path / "restored")
    with opened(tmp_path / "restored") as restored:
        assert answers(restored.get_collection("c")) == before


@pytest.mark.parametrize("file", ["codes.npy", "scales.npy", "indptr.npy"])
def test_damaged_token_vectors_are_found_and_rebuilt_from_the_store(engine, collection, tmp_path, file):
    collection.optimize()
    before = answers(collection)
    engine.close()
    (path,) = (tmp_path / "data").rglob(f"multi/{file}")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    report = check(tmp_path / "data")
    assert report.is_sound
    assert "do not match the manifest" in report.collections[0].repaired[0]
    with opened(tmp_path / "data") as again:
        assert answers(again.get_collection("c")) == before


def test_a_migration_keeps_token_vectors_of_the_new_model(engine, collection, tmp_path):
    engine._models["second"] = HashModel("second", multi=True)
    migrate(engine, "c", model="second")
    engine._model = HashModel("second", multi=True)
    assert collection.info().multi_dim == MULTI_DIM
    hit = collection.query("old cat", mode="multi").hits[0]
    assert hit.score == pytest.approx(naive("old cat", hit.passages[0].text, "second"), abs=1e-5)
    with opened(tmp_path / "fresh", "second") as other:
        fresh = other.create_collection("c", multi=True)
        fresh.upsert(documents(range(150)))
        assert answers(collection) == answers(fresh)


def test_a_migration_to_a_model_without_token_vectors_ends_the_leg(engine, collection):
    engine._models["second"] = HashModel("second")
    migrate(engine, "c", model="second")
    assert collection.info().legs == ("dense", "bm25")


def test_an_edited_document_keeps_the_token_vectors_of_its_other_passages(engine):
    collection = engine.create_collection("long", multi=True)
    paragraphs = [" ".join(WORDS[(i * 5 + j) % len(WORDS)] for j in range(400)) + ".\n\n" for i in range(4)]
    collection.upsert([{"doc_id": "a", "text": "".join(paragraphs)}])
    collection.upsert([{"doc_id": "a", "text": "".join(paragraphs[:-1]) + "the old cat"}])
    hit = collection.query("the old cat", mode="multi", passages=10).hits[0]
    assert len(hit.passages) > 1
    assert hit.score_detail.multi == pytest.approx(naive("the old cat", hit.passages[0].text), abs=1e-5)


def test_a_collection_keeps_token_vectors_only_when_asked(engine):
    plain = engine.create_collection("plain")
    plain.upsert(documents(range(5)))
    assert plain.info().legs == ("dense", "bm25")
    assert plain.stats().segments[0].multi_bytes == 0
    assert plain.query("old cat").hits[0].score_detail.multi is None
    with pytest.raises(LegMissing, match="keeps no token vectors"):
        plain.query("old cat", mode="multi")
    engine._model = HashModel("first")
    with pytest.raises(InvalidArgument, match="gives no token vectors"):
        engine.create_collection("asked", multi=True)


def test_statistics_say_what_the_token_vectors_cost(collection):
    tokens = sum(len(document["text"].split()) for document in documents(range(150)))
    assert sum(segment.multi_bytes for segment in collection.stats().segments) == tokens * (MULTI_DIM + 2)
    collection.optimize()
    assert sum(segment.multi_bytes for segment in collection.stats().segments) == tokens * (MULTI_DIM + 2)


OWN = [
    {"doc_id": "a", "text": "one", "multi": [[1.0, 0.0], [0.0, 3.0]]},
    {"doc_id": "b", "text": "one two", "multi": [[-1.0, 0.0]]},
]


@pytest.fixture(params=["embedded", "remote"])
def own(request, tmp_path):
    """A collection of the caller's own token vectors, here or behind a server."""
    with open_engine(tmp_path / "data", model=None) as local:
        if request.param == "embedded":
            yield local.create_collection("own", multi_dim=2)
            return
        with serving(local) as server, connect(server.address, timeout_s=20) as remote:
            yield remote.create_collection("own", multi_dim=2)


def test_callers_may_bring_their_own_token_vectors(own):
    own.upsert(OWN)
    assert own.info().legs == ("bm25", "multi")
    assert own.info().multi_dim == 2
    hits = own.query("one", multi=[[2.0, 0.0], [0.0, 1.0]], mode="multi").hits
    assert [(hit.doc_id, hit.score_detail.multi) for hit in hits] == [
        ("a", pytest.approx(1.0, abs=1e-3)),
        ("b", pytest.approx(-2 / 3, abs=1e-3)),
    ]
    assert own.query("one").hits[0].score_detail.multi is None  # there is no model to make the query's
    (found,) = own.get(["a"], vectors=True)
    assert np.allclose(found.multi, [[1, 0], [0, 1]], atol=1e-3)
    assert own.upsert(OWN)[0].status == "unchanged"
    changed = {**OWN[0], "multi": [[1.0, 0.0], [0.0, -3.0]]}
    assert own.upsert([changed])[0].status == "updated"
    batch = own.query_batch([Query(text="one", multi=[[0.0, -1.0]], mode="multi")])
    assert batch[0].hits[0].score == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize(
    ("multi", "error", "says"),
    [
        (None, InvalidDocument, "is missing"),
        ([], InvalidArgument, "one vector a token"),
        ([1.0, 2.0], InvalidArgument, "one vector a token"),
        ([[1.0], [1.0, 2.0]], InvalidArgument, "one width"),
        ([["a", "b"]], InvalidArgument, "one width"),
        ([[1.0, 2.0, 3.0]], DimensionMismatch, "expected 2 dimensions, got 3"),
        ([[1.0, 0.0], [float("nan"), 1.0]], InvalidArgument, "finite|nan at token 1"),
        ([[1.0, 1e39]], InvalidArgument, "finite|inf at token 0"),
        ([[1.0, 0.0], [0.0, 0.0]], InvalidArgument, "all zero at token 1"),
        (np.ones((8193, 2)), InvalidArgument, "8,193 token vectors"),
    ],
)
def test_bad_token_vectors_of_a_document_are_refused(own, multi, error, says):
    with pytest.raises(error, match=says):
        own.upsert([{"doc_id": "x", "text": "one", "multi": multi}])
    assert own.count() == 0


@pytest.mark.parametrize(
    ("query", "error", "says"),
    [
        (Query(text="one", mode="multi"), InvalidQuery, "multi: is missing"),
        (Query(multi=[[1.0, 0.0]]), InvalidQuery, "to find what multi then ranks"),
        (Query(text="one", multi=[[1.0]]), DimensionMismatch, "expected 2 dimensions, got 1"),
        (Query(text="one", multi=[[float("inf"), 0.0]]), InvalidQuery, "finite|inf at token"),
        (Query(text="one", multi=np.ones((1025, 2))), InvalidQuery, "1,025 token vectors"),
        (Query(text="one", multi=[[1.0, 0.0]], depth={"multi": 5}), InvalidQuery, "no leg 'multi' finds"),
    ],
)
def test_bad_token_vectors_of_a_query_are_refused(own, query, error, says):
    own.upsert(OWN)
    with pytest.raises(error, match=says):
        own.query_batch([query])


def test_token_vectors_that_a_collection_does_not_keep_are_refused(engine):
    plain = engine.create_collection("plain")
    with pytest.raises(InvalidQuery, match="keeps no token vectors"):
        plain.query("one", multi=[[1.0]])
    with pytest.raises(InvalidDocument, match="multi=True"):
        plain.upsert([{"doc_id": "a", "text": "one", "vector": [1.0] * 16, "multi": [[1.0]]}])


def test_the_width_of_own_token_vectors_is_needed_without_a_model_and_refused_with_one(engine, tmp_path):
    with pytest.raises(InvalidArgument, match="is the model's"):
        engine.create_collection("x", multi_dim=4)
    with pytest.raises(InvalidArgument, match="multi_dim: is needed"):
        engine.create_collection("x", dim=4, multi=True)
    with pytest.raises(InvalidArgument, match="multi_dim: must be between"):
        engine.create_collection("x", dim=4, multi_dim=0)


def test_a_collection_that_was_made_before_there_were_token_vectors_opens_as_it_was(tmp_path):
    with opened(tmp_path / "data") as engine:
        made = engine.create_collection("c")
        made.upsert(documents(range(20)))
        made.optimize()
        before = answers_without(made)
        folder = made._generation.segments_folder
        assert not list(folder.rglob("multi"))
    shutil.rmtree(folder)  # rebuilt from records of the first format
    with opened(tmp_path / "data") as engine:
        assert answers_without(engine.get_collection("c")) == before


def answers_without(collection):
    return [(hit.doc_id, hit.score) for hit in collection.query("old cat", limit=20).hits]


def test_a_server_ranks_by_the_token_vectors_of_its_model(engine, collection):
    with serving(engine) as server, connect(server.address, timeout_s=20) as remote:
        assert answers(remote.get_collection("c"), FUSIONS) == answers(collection, FUSIONS)
        assert remote.create_collection("other", multi=True).info().multi_dim == MULTI_DIM
        assert remote.info().multi_dim == MULTI_DIM


def test_the_command_line_says_when_token_vectors_cannot_be_kept(tmp_path):
    (tmp_path / "a.txt").write_text("the old cat")
    data = ["--data", str(tmp_path / "data"), "--model", "none"]
    run = CliRunner().invoke
    without_model = run(main, ["index", str(tmp_path / "a.txt"), "--multi", *data])
    assert without_model.exit_code == 2
    assert "there is no model whose token vectors could be kept" in without_model.output
    assert run(main, ["index", str(tmp_path / "a.txt"), *data]).exit_code == 0
    too_late = run(main, ["index", str(tmp_path / "a.txt"), "--multi", *data])
    assert too_late.exit_code == 1
    assert "was created without token vectors" in too_late.output


def test_the_command_line_makes_and_describes_a_collection_with_token_vectors(tmp_path):
    data = ["--data", str(tmp_path / "data"), "--model", "none"]
    run = CliRunner().invoke
    made = json.loads(run(main, ["collections", "create", "own", "--multi-dim", "2", *data, "--json"]).stdout)
    assert (made["legs"], made["multi_dim"]) == (["bm25", "multi"], 2)
    with open_engine(tmp_path / "data", model=None) as engine:
        engine.get_collection("own").upsert(OWN)
    assert "token vectors 0.0 MB" in run(main, ["collections", "stats", "own", *data]).output
    refused = run(main, ["query", "one", "--mode", "multi", "--collection", "own", *data])
    assert "no model that could make it from the text" in " ".join(refused.output.split())
