"""A collection is only ever used with the model that made its vectors."""

import pytest

from engine import open_engine
from engine.errors import FingerprintMismatch, LegMissing
from tests.support.tiny_models import save_bert

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


def test_the_built_in_model_says_that_it_has_no_learned_sparse_head(tmp_path):
    with open_engine(tmp_path) as engine:
        collection = engine.create_collection("c")
        assert collection.info().legs == ("dense", "bm25")
        with pytest.raises(LegMissing, match="no learned sparse head"):
            collection.query("keys", mode="sparse")


def test_unchanged_text_is_not_embedded_again(tmp_path):
    with open_engine(tmp_path) as engine:
        collection = engine.create_collection("c")
        collection.upsert(DOCUMENTS)
        assert [answer.status for answer in collection.upsert(DOCUMENTS)] == ["unchanged", "unchanged"]
        changed = {**DOCUMENTS[0], "metadata": {"year": 2026}}
        (answer,) = collection.upsert([changed])
        assert answer.status == "updated"
        assert answer.tokens.reused > 0
