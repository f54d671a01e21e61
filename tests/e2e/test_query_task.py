"""What queries ask for: by the call, by the collection, over gRPC and on the command line."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.main import main
from engine import open_engine
from engine.client import connect
from engine.errors import InvalidArgument, InvalidQuery
from engine.migration import migrate
from tests.support import tiny_models
from tests.support.serving import serving
from tests.support.system_files import system_file

TASKS = system_file(
    'query_template = "{task} : {text}"\ndefault_task = "the old tree"\n',
    name="asked",
    published=(),
    more="""
[recipe.tasks]
animals = "the dog ran far"
birds = "birds sang near the river"
""",
)
DOCUMENTS = [
    {"doc_id": "mat", "text": "the cat sat on the mat ."},
    {"doc_id": "hill", "text": "the dog ran far over the hill ."},
    {"doc_id": "river", "text": "birds sang near the river ."},
]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    root = tmp_path_factory.mktemp("models")
    (root / "asked.toml").write_text(TASKS)
    return f"{root / 'asked.toml'}:{tiny_models.save_bert(root / 'bert')}"


@pytest.fixture(scope="module")
def bare(tmp_path_factory) -> str:
    return str(tiny_models.save_bert(tmp_path_factory.mktemp("bare") / "bert"))


def scores(collection, **options) -> dict[str, float]:
    return {hit.doc_id: hit.score for hit in collection.query("cat", mode="dense", **options).hits}


def test_the_call_comes_before_the_collection_and_the_collection_before_the_recipe(tmp_path: Path, model: str):
    with open_engine(tmp_path, model=model) as engine:
        plain = engine.create_collection("plain")
        asked = engine.create_collection("asked", task="animals")
        for collection in (plain, asked):
            collection.upsert(DOCUMENTS)
        assert (plain.info().task, asked.info().task) == (None, "animals")
        assert scores(asked) == scores(plain, task="the dog ran far") == scores(plain, task="animals")
        assert scores(asked, task="birds") == scores(plain, task="birds")
        assert scores(plain) == scores(asked, task="the old tree")
        assert len({tuple(scores(plain, task=task).items()) for task in (None, "animals", "birds")}) == 3
    with open_engine(tmp_path, model=model) as engine:
        assert engine.get_collection("asked").info().task == "animals", "it is kept"


def test_queries_of_one_batch_have_their_own_tasks_over_grpc(tmp_path: Path, model: str):
    with (
        open_engine(tmp_path, model=model) as local,
        serving(local) as server,
        connect(server.address, timeout_s=60) as remote,
    ):
        collection = remote.create_collection("c", task="birds")
        collection.upsert(DOCUMENTS)
        assert collection.info().task == "birds"
        here = local.get_collection("c")
        for task in (None, "animals", "the old tree"):
            assert scores(collection, task=task) == scores(here, task=task)


def test_a_task_that_nothing_reads_is_refused(tmp_path: Path, model: str, bare: str):
    with open_engine(tmp_path / "asked", model=model) as engine:
        collection = engine.create_collection("c")
        with pytest.raises(InvalidQuery, match="here none does"):
            collection.query("cat", mode="bm25", task="animals")
        with pytest.raises(InvalidQuery, match="blank"):
            collection.query("cat", task=" ")
        with pytest.raises(InvalidQuery, match="must be a string"):
            collection.query("cat", task=3)
        with pytest.raises(InvalidArgument, match="no task of this name"):
            engine.create_collection("d", task="plants")
        with pytest.raises(InvalidArgument, match="this collection has none"):
            engine.create_collection("own", dim=4, task="animals")
    with open_engine(tmp_path / "bare", model=bare) as engine, pytest.raises(InvalidArgument, match="have no task"):
        engine.create_collection("c", task="the dog")


def test_a_migration_keeps_the_task_if_the_new_model_takes_it(tmp_path: Path, model: str, bare: str, caplog):
    with open_engine(tmp_path, model=model) as engine:
        engine.create_collection("c", task="animals").upsert(DOCUMENTS)
        other = Path(model.partition(":")[0]).with_name("other.toml")
        other.write_text(TASKS.replace('"asked"', '"other"').replace("{task} :", "{task} ,"))
        migrate(engine, "c", model=model.replace("asked.toml", "other.toml"))
        assert engine.get_collection("c").info().task == "animals"
        migrate(engine, "c", model=bare)
        assert engine.get_collection("c").info().task is None
    assert "loses its task" in caplog.text


def test_the_command_line_asks_for_a_task(tmp_path: Path, model: str):
    def run(*arguments: str, code: int = 0):
        result = CliRunner().invoke(main, [*arguments, "--data", str(tmp_path / "data"), "--model", model, "--json"])
        assert result.exit_code == code, result.output
        return json.loads(result.stdout)

    folder = tmp_path / "set"
    folder.mkdir()
    rows = [json.dumps({"_id": each["doc_id"], "text": each["text"]}) for each in DOCUMENTS]
    (folder / "corpus.jsonl").write_text("\n".join(rows))
    (folder / "queries.jsonl").write_text(json.dumps({"_id": "q", "text": "cat"}))
    (folder / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\nq\tmat\t1\n")
    run("index", str(folder / "corpus.jsonl"), "--task", "animals")
    assert run("collections", "info")["task"] == "animals"
    by_default = run("query", "cat", "--mode", "dense")
    assert run("query", "cat", "--mode", "dense", "--task", "the dog ran far")["hits"] == by_default["hits"]
    assert run("query", "cat", "--mode", "dense", "--task", "birds")["hits"] != by_default["hits"]
    assert "no task of this name" in run("query", "cat", "--task", "plants", code=1)["error"]["message"]
    assert "Give --task with each query" in run("index", str(folder), "--task", "birds", code=1)["error"]["message"]
    report = run("eval", str(folder), "--task", "animals")
    assert report["modes"]["dense"] is not None
    assert report["modes"]["bm25"]["ndcg_at_10"] == 1.0
    vectors = [run("embed", "cat", "--query", "--task", task)[0]["dense"] for task in ("animals", "the dog ran far")]
    assert vectors[0] == vectors[1]
    assert "have no task" in run("embed", "cat", "--task", "animals", code=1)["error"]["message"]
