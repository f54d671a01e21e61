"""A collection gets a model that read some of its documents, and is bound to it."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from cli.main import main
from engine import contextual, open_engine
from engine.contextual import contextual_model, sampled_texts
from engine.errors import CollectionNotFound, FingerprintMismatch, InvalidArgument
from engine.migration import migrate
from tests.support import tiny_heads
from tests.support.tiny_models import save_bert

TEXTS = {"a": "the old cat sat on a mat", "b": "birds sang near the river", "c": "a dog ran far over the hill"}


@pytest.fixture
def drawn(monkeypatch):
    """What was read as a context; the "contextual model" is a tiny one with weights of its own."""
    calls = []

    def contextualise(model, texts, folder, *, name, seed):
        calls.append((model, list(texts), name, seed))
        return save_bert(folder, seed=7)

    monkeypatch.setattr("embedder.contextual.contextualise", contextualise)
    return calls


@pytest.fixture
def data(tmp_path):
    with open_engine(tmp_path / "data", model=str(save_bert(tmp_path / "old"))) as engine:
        engine.create_collection("default").upsert([{"doc_id": d, "title": d, "text": t} for d, t in TEXTS.items()])
        engine.create_collection("empty")
    return tmp_path / "data"


def test_migrate_draws_the_context_and_binds_the_collection_to_it(data, drawn):
    old = data.parent / "old"
    arguments = ["migrate", "--contextual", "--data", data, "--model", old, "--json"]
    result = CliRunner().invoke(main, [*map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    own = (data / "models" / "default-context-1").resolve()
    assert json.loads(result.stdout)["model"] == str(own)
    assert drawn == [(str(old), [f"{doc_id} {text}" for doc_id, text in TEXTS.items()], own.name, 42)]
    found = CliRunner().invoke(main, ["query", "birds", "--data", str(data), "--json"], catch_exceptions=False)
    assert json.loads(found.stdout)["hits"][0]["doc_id"] == "b"
    with open_engine(data, model=str(own)) as engine:
        assert contextual_model(engine, "default", "cde").name == "default-context-2"


def test_a_collection_is_searched_in_the_context_that_it_was_embedded_in(tmp_path):
    tiny_heads.save_cde(tmp_path / "cde")
    name = f"cde:{tmp_path / 'cde'}"
    with open_engine(tmp_path / "data", model=None) as engine:
        engine.create_collection("c").upsert([{"doc_id": d, "text": t} for d, t in TEXTS.items()])
        own = contextual_model(engine, "c", name)
        other = contextual_model(engine, "c", name, seed=3)
        migrate(engine, "c", model=str(own))
    with open_engine(tmp_path / "data", model=str(own)) as engine:
        collection = engine.get_collection("c")
        assert len(collection.query("the cat", mode="dense").hits) == 3
        for stored, made in zip(
            collection.get(list(TEXTS), vectors=True), engine.embed(list(TEXTS.values())), strict=True
        ):
            assert np.dot(stored.vector, made.dense) == pytest.approx(1.0, abs=1e-3)
    with open_engine(tmp_path / "data", model=str(other)) as engine, pytest.raises(FingerprintMismatch):
        engine.get_collection("c").query("the cat", mode="dense")


def test_a_collection_without_text_has_no_context(data, drawn):
    with open_engine(data, model=str(data.parent / "old")) as engine:
        with pytest.raises(InvalidArgument, match="no text to draw a context from"):
            contextual_model(engine, "empty", "cde")
        with pytest.raises(CollectionNotFound):
            contextual_model(engine, "nowhere", "cde")
    assert drawn == []


def test_of_many_documents_some_are_drawn_evenly_and_the_same_again(tmp_path, monkeypatch):
    monkeypatch.setattr(contextual, "SAMPLE", 40)
    with open_engine(tmp_path / "data", model=None) as engine:
        collection = engine.create_collection("c")
        collection.upsert([{"doc_id": f"{i:04}", "text": f"text {i:04}"} for i in range(400)])
        drawn = sampled_texts(collection, 1)
        assert drawn == sampled_texts(collection, 1) == sorted(drawn)
        assert len(set(drawn)) == 40
        assert drawn != sampled_texts(collection, 2)
        halves = [sum(text < "text 0200" for text in sampled_texts(collection, seed)) for seed in range(30)]
        assert 520 < sum(halves) < 680  # of 1,200 draws
