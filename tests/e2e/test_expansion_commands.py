"""The options of expansion on the command line and over gRPC, with a tiny language model that really writes."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.main import main
from embedder.generation import prompts
from engine import open_engine
from engine.client import connect
from engine.errors import InvalidArgument, InvalidQuery
from engine.values import Expansion, Query, QueryExpansion
from tests.support import tiny_models
from tests.support.generators import save_generator
from tests.support.serving import serving

TEXTS = ["the cat sat on the mat", "a dog ran far over the hill", "birds sang near the river"]


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    few_shot = tiny_models.save_bert(root / "model")
    return {
        "model": few_shot,
        "generator": save_generator(root / "generator"),
        "other": save_generator(root / "other", seed=1),
    }


@pytest.fixture(autouse=True)
def short_answers(monkeypatch):
    monkeypatch.setattr(prompts, "ANSWER_TOKENS", 16)
    monkeypatch.setattr(prompts, "QUESTION_TOKENS", 8)


@pytest.fixture
def engine(tmp_path: Path, models):
    """Runs a command on a data folder of its own."""
    for name, text in zip("abc", TEXTS, strict=True):
        (tmp_path / "docs").mkdir(exist_ok=True)
        (tmp_path / "docs" / f"{name}.txt").write_text(text)

    def run(*args, exit_code: int = 0, as_json: bool = True):
        common = ["--data", str(tmp_path / "data"), *(["--json"] if as_json else [])]
        result = CliRunner().invoke(main, [*map(str, args), *common], catch_exceptions=False)
        assert result.exit_code == exit_code, result.output
        return json.loads(result.stdout) if as_json and exit_code == 0 else result.output

    run.docs = tmp_path / "docs"
    return run


def test_index_writes_questions_once_and_goes_on_by_itself(engine, models):
    made = ["--model", models["model"], "--collection"]
    generator = ["--generator", models["generator"]]
    first = engine("index", engine.docs, *made, "c", *generator, "--questions", 2, "--expansion-use", "vectors")
    assert first["generated"] == 3
    assert first["documents"]["added"] == 3
    info = engine("collections", "info", "c")
    assert info["expansion"] == {"method": "questions", "n": 2, "use": "vectors", "bm25": False}
    assert info["generator"] == str(models["generator"])
    assert "method questions, n 2, use vectors" in engine("collections", "info", "c", as_json=False)
    # The answers are kept: another collection of the same files and the same choices writes nothing.
    again = engine("index", engine.docs, *made, "again", *generator, "--questions", 2, "--expansion-bm25")
    assert "generated" not in again
    # A later run needs no option: the collection knows its generator.
    (engine.docs / "d.txt").write_text("the old tree")
    later = engine("index", engine.docs, *made, "c")
    assert (later["generated"], later["documents"]["unchanged"]) == (1, 3)
    assert engine("query", "cat", *made, "c", "--mode", "dense")["hits"]


def test_index_refuses_what_the_collection_was_not_made_with(engine, models):
    made = ["--model", models["model"]]
    engine("index", engine.docs, *made, "--generator", models["generator"], "--rewrites", 1)
    (engine.docs / "d.txt").write_text("the old tree")
    refused = engine("index", engine.docs, *made, "--generator", models["generator"], "--rewrites", 2, exit_code=1)
    assert "index into another collection" in refused
    other = engine("index", engine.docs, *made, "--generator", models["other"], exit_code=1)
    assert "were expanded by the generator" in other
    assert engine("collections", "info", "default")["documents"] == 3


@pytest.mark.parametrize(
    "wrong", [["--questions", 1, "--rewrites", 1], ["--expansion-bm25"], ["--expansion-use", "fuse"]]
)
def test_index_options_that_make_no_sense_are_wrong_usage(engine, wrong):
    engine("index", engine.docs, "--model", "none", *wrong, exit_code=2)


def test_index_without_a_generator_says_what_is_missing(engine, models):
    assert "generator" in engine("index", engine.docs, "--model", models["model"], "--questions", 1, exit_code=2)


def test_a_generator_that_would_write_nothing_is_wrong_usage(engine, models, tmp_path, monkeypatch):
    made, generator = ["--model", models["model"]], ["--generator", models["generator"]]
    assert "has nothing to write" in engine("index", engine.docs, *made, *generator, exit_code=2)
    assert engine("collections") == [], "no collection was made"
    engine("index", engine.docs, *made)
    assert "has nothing to write" in engine("index", engine.docs, *made, *generator, exit_code=2)
    assert "--generator needs --expand" in engine("query", "cat", *made, *generator, exit_code=2)
    # In the environment it is there for whoever needs it.
    monkeypatch.setenv("LANDMARK_GENERATOR", str(models["generator"]))
    engine("index", engine.docs, *made)
    assert engine("query", "cat", *made)["hits"]


@pytest.mark.parametrize("method", ["hyde", "thoughts", "rewrites"])
def test_query_expands_with_the_generator(engine, models, method):
    made = ["--model", models["model"]]
    engine("index", engine.docs, *made)
    plain = engine("query", "cat", *made, "--mode", "dense")
    with_it = ["--generator", models["generator"], "--expand", method, "--expansion-texts", 2]
    found = engine("query", "cat", *made, "--mode", "dense", *with_it)
    assert found["timings_ms"]["generate"] > 0
    assert ", generator " in engine("query", "cat", *made, *with_it, "--expansion-texts", 1, as_json=False)
    scores = [{hit["doc_id"]: hit["score"] for hit in result["hits"]} for result in (plain, found)]
    assert scores[0].keys() == scores[1].keys()
    assert scores[0] != scores[1]
    assert engine("query", "cat", *made, "--mode", "dense", *with_it)["hits"] == found["hits"]


def test_query_shows_the_model_examples_only_if_it_takes_them(engine, models, tmp_path):
    made = ["--model", models["model"]]
    engine("index", engine.docs, *made)
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text(json.dumps({"query": "where is the cat", "positive": TEXTS[0]}))
    assert "takes no examples" in engine("query", "the cat", *made, "--examples", pairs, exit_code=1)
    assert engine("query", "the cat", *made, "--examples", pairs, "--shots", 0)["hits"]


def test_a_server_writes_for_its_clients(tmp_path, models):
    path, model = tmp_path / "data", str(models["model"])
    with (
        open_engine(path, model=model, generator=str(models["generator"])) as local,
        serving(local) as server,
        connect(server.address, timeout_s=60) as remote,
    ):
        collection = remote.create_collection("c", expansion=Expansion(n=1, use="vectors", bm25=True))
        answers = list(collection.ingest([{"doc_id": str(i), "text": text} for i, text in enumerate(TEXTS)]))
        assert sum(answer.tokens.generated for answer in answers) == 3
        assert collection.info().expansion == Expansion(n=1, use="vectors", bm25=True)
        query = Query(text="cat", mode="dense", expansion=QueryExpansion(method="hyde", weight=0.5))
        (over_the_wire,) = collection.query_batch([query])
        (here,) = local.get_collection("c").query_batch([query])
        assert [(hit.doc_id, hit.score) for hit in over_the_wire.hits] == [(hit.doc_id, hit.score) for hit in here.hits]
        with pytest.raises(InvalidQuery, match="not one of hyde, thoughts, rewrites"):
            collection.query_batch([Query(text="cat", expansion=QueryExpansion(method="poem"))])
        with pytest.raises(InvalidArgument, match=r"expansion\.n"):
            remote.create_collection("wrong", expansion=Expansion(n=0))


def test_a_server_without_a_generator_refuses_expansions(tmp_path, models):
    with (
        open_engine(tmp_path / "data", model=str(models["model"])) as local,
        serving(local) as server,
        connect(server.address, timeout_s=60) as remote,
    ):
        collection = remote.create_collection("c")
        collection.upsert([{"doc_id": "a", "text": TEXTS[0]}])
        with pytest.raises(InvalidQuery, match="needs a generator"):
            collection.query_batch([Query(text="cat", expansion=QueryExpansion())])


def test_any_causal_language_model_makes_its_own_expanded_collection(tmp_path, models):
    """One folder is the embedder and the generator: GenEOL needs no second model."""
    folder = str(models["generator"])
    with open_engine(tmp_path / "data", model=folder, generator=folder) as local:
        collection = local.create_collection("c", expansion=Expansion(method="rewrites", n=2))
        answers = collection.upsert([{"doc_id": str(i), "text": text} for i, text in enumerate(TEXTS)])
        assert sum(answer.tokens.generated for answer in answers) == 6
        query = Query(text="the cat", expansion=QueryExpansion(method="rewrites", n=2))
        assert len(collection.query_batch([query])[0].hits) == 3


def test_eval_measures_what_expansion_does(engine, models, tmp_path):
    folder = tmp_path / "toy"
    folder.mkdir()
    corpus = [{"_id": str(i), "text": text} for i, text in enumerate(TEXTS)]
    (folder / "corpus.jsonl").write_text("\n".join(map(json.dumps, corpus)))
    (folder / "queries.jsonl").write_text(json.dumps({"_id": "q", "text": "cat"}))
    (folder / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\nq\t0\t1\n")
    expanded = ["--generator", models["generator"], "--questions", 1, "--expansion-bm25", "--expand", "rewrites"]
    report = engine("eval", folder, "--model", models["model"], "--modes", "dense,bm25", "--keep", *expanded)
    assert report["modes"]["bm25"]["ndcg_at_10"] > 0
    info = engine("collections", "info", "eval-toy")
    assert info["expansion"] == {"method": "questions", "n": 1, "use": "fuse", "bm25": True}
