"""A reranker orders the first hits by what it reads; the rest follows as it was. Locally, remotely, on the command line."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.main import main
from embedder.errors import ModelNotFound
from embedder.reranker import Reranker
from engine import open_engine
from engine.client import connect
from engine.errors import InvalidQuery, RerankerMissing
from engine.values import Query
from tests.support.hash_model import HashModel
from tests.support.serving import serving
from tests.support.tiny_models import WORDS
from tests.support.tiny_rerankers import save_cross_encoder, save_yes_no

QUESTION = "the old cat"


def documents():
    for n in range(40):
        words = [WORDS[(n * 7 + i * (1 + n % 5)) % len(WORDS)] for i in range(3 + n % 20)]
        yield {"doc_id": f"d{n:02d}", "title": "the tree" if n % 2 else "", "text": " ".join(words) + "."}


@pytest.fixture(scope="module", params=[save_cross_encoder, save_yes_no], ids=["cross-encoder", "yes-no"])
def reranker(request, tmp_path_factory):
    return str(request.param(tmp_path_factory.mktemp("reranker")))


@pytest.fixture(scope="module")
def engine(reranker, tmp_path_factory):
    with open_engine(tmp_path_factory.mktemp("data"), model=None, reranker=reranker) as opened:
        opened._model = HashModel("first")
        opened.create_collection("c").upsert(documents())
        yield opened


@pytest.fixture(scope="module", params=["embedded", "remote"])
def collection(request, engine):
    if request.param == "embedded":
        yield engine.get_collection("c")
        return
    with serving(engine) as server, connect(server.address, timeout_s=60) as remote:
        yield remote.get_collection("c")


def test_the_first_hits_are_ordered_by_the_reranker_and_the_rest_follows(collection, reranker):
    fused = collection.query(QUESTION, limit=30)
    result = collection.query(QUESTION, limit=30, rerank=10)
    before = {hit.doc_id: hit for hit in fused.hits}
    first, rest = result.hits[:10], result.hits[10:]
    assert {hit.doc_id for hit in first} == {hit.doc_id for hit in fused.hits[:10]}
    assert [hit.doc_id for hit in rest] == [hit.doc_id for hit in fused.hits[10:]]
    titles = {document["doc_id"]: document["title"] for document in documents()}
    texts = [f"{titles[hit.doc_id]} {hit.passages[0].text}".strip() for hit in first]
    expected = Reranker.load(reranker).score(QUESTION, texts).scores
    assert [hit.score for hit in first] == pytest.approx(expected, abs=1e-5)
    assert [hit.score for hit in first] == sorted((hit.score for hit in first), reverse=True)
    for hit in first:
        detail = hit.score_detail
        assert (detail.rerank, detail.fused) == (hit.score, before[hit.doc_id].score)
        assert detail.dense == before[hit.doc_id].score_detail.dense
    assert all(hit.score_detail.rerank is None and hit.score_detail.fused is None for hit in rest)
    assert result.plan["rerank"] == {"model": reranker, "passages": 10, "truncated": 0}
    assert result.timings_ms["rerank"] > 0
    assert "rerank" not in fused.plan


@pytest.mark.parametrize("mode", ["bm25", "hybrid"])
def test_a_task_is_told_to_a_reranker_that_reads_one_even_when_no_other_model_does(collection, reranker, mode):
    asked = {"mode": mode, "limit": 5, "rerank": 5, "task": "find the animal"}
    hits = collection.query(QUESTION, **asked).hits
    titles = {document["doc_id"]: document["title"] for document in documents()}
    texts = [f"{titles[hit.doc_id]} {hit.passages[0].text}".strip() for hit in hits]
    loaded = Reranker.load(reranker)
    told = loaded.score(QUESTION, texts, task="find the animal").scores
    assert [hit.score for hit in hits] == pytest.approx(told, abs=1e-5)
    reads_it = "ForCausalLM" in (Path(reranker) / "config.json").read_text()
    assert (told != loaded.score(QUESTION, texts).scores).any() == reads_it


def test_pages_of_a_reranked_answer_fit_together(collection):
    whole = [hit.doc_id for hit in collection.query(QUESTION, limit=12, rerank=8).hits]
    pages = [collection.query(QUESTION, limit=4, offset=offset, rerank=8).hits for offset in (0, 4, 8)]
    assert [hit.doc_id for page in pages for hit in page] == whole


def test_more_hits_can_be_reranked_than_are_returned(collection):
    best = collection.query(QUESTION, limit=40, rerank=40).hits
    assert len(best) == 40
    assert [hit.doc_id for hit in collection.query(QUESTION, limit=3, rerank=40).hits] == [h.doc_id for h in best[:3]]


def test_nothing_found_is_nothing_reranked(collection):
    result = collection.query("zebra", mode="bm25", rerank=5)
    assert result.hits in ([], ())
    assert result.plan["rerank"]["passages"] == 0


@pytest.mark.parametrize(
    ("query", "says"),
    [
        (Query(text="cat", rerank=0), "rerank: must be between 1 and 1,000, got 0"),
        (Query(text="cat", rerank=1001), "rerank: must be between"),
        (Query(vector=[1.0] * 16, rerank=5), "a reranker reads the query's text"),
    ],
)
def test_reranking_that_cannot_be_done_is_refused(collection, query, says):
    with pytest.raises(InvalidQuery, match=says):
        collection.query_batch([query])


def test_an_engine_without_a_reranker_says_how_to_get_one(tmp_path):
    with open_engine(tmp_path / "data", model=None) as engine:
        collection = engine.create_collection("c")
        collection.upsert([{"doc_id": "a", "text": "the cat"}])
        with pytest.raises(RerankerMissing, match="--reranker PATH"):
            collection.query("cat", rerank=3)
        with (
            serving(engine) as server,
            connect(server.address, timeout_s=20) as remote,
            pytest.raises(RerankerMissing, match="--reranker PATH"),
        ):
            remote.get_collection("c").query("cat", rerank=3)


def test_a_reranker_is_loaded_when_it_is_needed(tmp_path):
    with open_engine(tmp_path / "data", model=None, reranker=str(tmp_path / "nowhere")) as engine:
        collection = engine.create_collection("c")
        collection.upsert([{"doc_id": "a", "text": "the cat"}])
        assert collection.query("cat").hits
        assert engine.info().reranker == str(tmp_path / "nowhere")
        with pytest.raises(ModelNotFound):
            collection.query("cat", rerank=3)


def test_the_command_line_reranks_and_shows_both_scores(tmp_path):
    folder = save_cross_encoder(tmp_path / "reranker")
    (tmp_path / "a.txt").write_text("the old cat sat on the mat")
    (tmp_path / "b.txt").write_text("the dog ran far over the old hill")
    data = ["--data", str(tmp_path / "data"), "--model", "none"]
    run = CliRunner().invoke
    assert run(main, ["index", str(tmp_path / "a.txt"), str(tmp_path / "b.txt"), *data]).exit_code == 0
    options = ["--rerank", "5", "--reranker", str(folder)]
    answer = json.loads(run(main, ["query", "old", "cat", *data, *options, "--json"]).stdout)
    details = [hit["score_detail"] for hit in answer["hits"]]
    assert [detail["rerank"] for detail in details] == [hit["score"] for hit in answer["hits"]]
    assert all(detail["fused"] == pytest.approx(detail["bm25"]) for detail in details)
    shown = run(main, ["query", "old", "cat", *data, *options, "--explain"])
    assert "rerank" in shown.stdout
    without = run(main, ["query", "old", "cat", *data, "--rerank", "5"])
    assert without.exit_code == 1
    assert "no reranker" in without.output
    alone = run(main, ["query", "old", "cat", *data, "--reranker", str(folder)])
    assert alone.exit_code == 2
    assert "needs --rerank" in alone.output
