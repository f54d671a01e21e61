"""A collection is only ever used with the model that made its vectors."""

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from cli.main import main
from engine import open_engine
from engine.errors import FingerprintMismatch, LegMissing
from engine.migration import migrate
from tests.support.tiny_models import save_bert

BACKBONE = "builtin:all-MiniLM-L6-v2"
DOCUMENTS = [
    {"doc_id": "keys", "title": "Keys", "text": "Rotate the keys of the server once a year."},
    {"doc_id": "tea", "title": "Tea", "text": "Green tea is steeped for two minutes in hot water."},
]


def test_another_model_is_refused_with_what_differs_and_nothing_is_written(tmp_path):
    other = save_bert(tmp_path / "model")
    with open_engine(tmp_path / "data") as engine:
        collection = engine.create_collection("c")
        collection.upsert(DOCUMENTS)
        assert collection.query("changing keys").hits[0].doc_id == "keys"
    with open_engine(tmp_path / "data", model=str(other)) as engine:
        collection = engine.get_collection("c")
        with pytest.raises(FingerprintMismatch, match="weights: stored"):
            collection.query("changing keys")
        with pytest.raises(FingerprintMismatch):
            collection.upsert([{"doc_id": "new", "text": "text"}])
        # BM25 needs no model.
        assert collection.query("steeped", mode="bm25").hits[0].doc_id == "tea"
        assert collection.count() == 2
    with open_engine(tmp_path / "data") as engine:
        assert engine.get_collection("c").query("changing keys").hits[0].doc_id == "keys"


def test_a_collection_keeps_its_dtype_which_the_command_line_takes_from_it(tmp_path):
    folder, data = str(save_bert(tmp_path / "model")), tmp_path / "data"
    with open_engine(data, model=folder, dtype="int8") as engine:
        engine.create_collection("c").upsert([{"doc_id": "a", "text": "the cat sat on the mat"}])
        assert engine.get_collection("c").info().dtype == "int8"
    with (
        open_engine(data, model=folder) as engine,
        pytest.raises(FingerprintMismatch, match="dtype: stored 'int8', loaded 'float32'"),
    ):
        engine.get_collection("c").query("the cat")
    asked = ["query", "the cat", "--data", str(data), "--collection", "c", "--json"]
    answer = CliRunner().invoke(main, asked)
    assert answer.exit_code == 0, answer.output
    assert json.loads(answer.stdout)["hits"][0]["score_detail"]["dense"] > 0
    assert CliRunner().invoke(main, [*asked, "--dtype", "float32"]).exit_code == 1
    assert CliRunner().invoke(main, [*asked, "--dtype", "int4"]).exit_code == 1


def test_a_model_without_a_learned_sparse_head_says_so(tmp_path):
    with open_engine(tmp_path, model=BACKBONE) as engine:
        collection = engine.create_collection("c")
        assert collection.info().legs == ("dense", "bm25")
        with pytest.raises(LegMissing, match="no learned sparse head"):
            collection.query("keys", mode="sparse")


def test_a_collection_of_the_backbone_alone_is_refused_by_the_built_in_model_and_told_to_migrate(tmp_path):
    with open_engine(tmp_path, model=BACKBONE) as engine:
        engine.create_collection("c").upsert(DOCUMENTS)
    command = [sys.executable, "-m", "cli.main", "query", "changing keys", "--data", str(tmp_path), "--collection", "c"]
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert "engine migrate" in refused.stderr
    with open_engine(tmp_path) as engine:
        migrate(engine, "c")
        assert engine.get_collection("c").info().legs == ("dense", "sparse", "bm25")
        assert engine.get_collection("c").query("changing keys").hits[0].doc_id == "keys"


def test_unchanged_text_is_not_embedded_again(tmp_path):
    with open_engine(tmp_path) as engine:
        collection = engine.create_collection("c")
        collection.upsert(DOCUMENTS)
        assert [answer.status for answer in collection.upsert(DOCUMENTS)] == ["unchanged", "unchanged"]
        changed = {**DOCUMENTS[0], "metadata": {"year": 2026}}
        (answer,) = collection.upsert([changed])
        assert answer.status == "updated"
        assert answer.tokens.reused > 0
