"""An engine that was prepared has loaded what its collections' first queries need, and nothing else."""

import pytest

from engine import open_engine, open_reader
from tests.support.tiny_models import save_bert


@pytest.fixture
def model(tmp_path):
    return str(save_bert(tmp_path / "model"))


def loaded(engine):
    return engine._model._embedder is not None


@pytest.mark.parametrize("opened", [open_engine, open_reader])
def test_the_model_of_a_collection_is_loaded(tmp_path, model, opened):
    with open_engine(tmp_path / "data", model=model) as engine:
        engine.create_collection("texts").upsert([{"doc_id": "a", "text": "a cat"}])
    with opened(tmp_path / "data", model=model) as engine:
        assert not loaded(engine)
        engine.prepare()
        assert loaded(engine)


def test_no_model_is_loaded_for_vectors_of_the_callers_own(tmp_path, model):
    with open_engine(tmp_path / "data", model=model) as engine:
        engine.create_collection("own", dim=4)
        engine.prepare()
        assert not loaded(engine)


def test_a_collection_of_another_model_is_named_before_it_is_asked(tmp_path, model, caplog):
    with open_engine(tmp_path / "data", model=str(save_bert(tmp_path / "other", seed=1))) as engine:
        engine.create_collection("theirs").upsert([{"doc_id": "a", "text": "a cat"}])
    with open_engine(tmp_path / "data", model=model) as engine:
        engine.prepare()
    assert "'theirs' is not ready" in caplog.text
    assert "another model" in caplog.text


def test_a_collection_that_is_not_ready_is_logged_and_the_others_are_prepared(tmp_path, model, caplog):
    with open_engine(tmp_path / "data", model=model) as engine:
        for name in ("a", "b"):
            engine.create_collection(name).upsert([{"doc_id": "a", "text": "a cat"}])
    next((tmp_path / "data" / "collections" / "a" / "store").glob("data.mdb")).write_bytes(b"no store")
    with open_engine(tmp_path / "data", model=model) as engine:
        engine.prepare()
        assert loaded(engine)
    assert "'a' is not ready" in caplog.text
