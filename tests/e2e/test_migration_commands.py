"""``engine migrate`` and ``engine serve --migrate-to``, as a user runs them."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.main import main
from engine import open_engine
from tests.support.tiny_models import save_bert

REPOSITORY = Path(__file__).resolve().parents[2]
TEXTS = {"a": "the old cat sat on a mat", "b": "birds sang near the river", "c": "a dog ran far over the hill"}


@pytest.fixture
def data(tmp_path):
    """A data folder whose collection has the vectors of one tiny model; another one lies beside it."""
    save_bert(tmp_path / "new", seed=1)
    with open_engine(tmp_path / "data", model=str(save_bert(tmp_path / "old"))) as engine:
        engine.create_collection("default").upsert([{"doc_id": d, "text": t} for d, t in TEXTS.items()])
    return tmp_path / "data"


def run(*args):
    return CliRunner().invoke(main, [*map(str, args)], catch_exceptions=False)


def value_of(result, exit_code=0):
    assert result.exit_code == exit_code, result.output
    return json.loads(result.stdout)


def test_migrate_embeds_again_and_later_commands_load_the_new_model(data):
    new = data.parent / "new"
    report = value_of(run("migrate", "--data", data, "--model", new, "--json"))
    assert {key: report[key] for key in ("collection", "model", "documents", "embedded")} == {
        "collection": "default",
        "model": str(new),
        "documents": 3,
        "embedded": 3,
    }
    for doc_id, text in TEXTS.items():
        hits = value_of(run("query", text, "--mode", "dense", "--data", data, "--json"))["hits"]
        assert hits[0]["doc_id"] == doc_id
    again = run("migrate", "--data", data, "--model", new)
    assert again.exit_code == 0
    assert "nothing was embedded" in again.stdout
    refused = run("query", "x", "--mode", "dense", "--data", data, "--model", data.parent / "old")
    assert refused.exit_code == 1
    assert "run `engine migrate --collection default`" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--server", "127.0.0.1:1"), "leave --server out"),
        (("--data", "/does/not/exist"), "There is no data folder"),
    ],
)
def test_migrate_needs_the_data_folder_itself(arguments, message):
    for command in ("migrate", "tune"):
        result = run(command, *arguments, "--json")
        assert value_of(result, 2)["error"]["type"] == "WrongUsage"
        assert message in result.stderr


def test_migrate_without_a_model_or_without_texts_says_why(data):
    assert "name the model to migrate to" in run("migrate", "--data", data, "--model", "none").stderr
    with open_engine(data, model=None) as engine:
        engine.create_collection("own", dim=2).upsert([{"doc_id": "x", "vector": [1, 0]}])
    result = run("migrate", "--data", data, "--collection", "own", "--model", data.parent / "new", "--json")
    assert "document 'x' came with a vector and without text" in value_of(result, 2)["error"]["message"]


def test_a_server_changes_the_model_while_it_answers(data):
    new = data.parent / "new"
    args = ("serve", "--address", "127.0.0.1:0", "--data", str(data), "--migrate-to", str(new), "--json")
    process = subprocess.Popen(
        [sys.executable, "-m", "cli.main", *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    )
    try:
        assert process.stdout is not None
        server = ("--server", json.loads(process.stdout.readline())["address"], "--json")
        deadline = time.monotonic() + 60
        while value_of(run("collections", "info", *server))["model"] != str(new):
            assert value_of(run("query", TEXTS["b"], *server))["hits"][0]["doc_id"] == "b"
            assert time.monotonic() < deadline, "the collection was not migrated"
        assert value_of(run("query", TEXTS["b"], "--mode", "dense", *server))["hits"][0]["doc_id"] == "b"
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 0, stderr
    assert "3 documents embedded" in stderr
    assert "Traceback" not in stderr
