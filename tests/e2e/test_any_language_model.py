"""Any causal language model, untuned, gives a collection that works: dense and sparse through PromptReps, PromptEOL."""

from pathlib import Path

import numpy as np
import pytest

from engine import open_engine
from engine.errors import FingerprintMismatch
from tests.support import tiny_heads

DOCUMENTS = [
    {"doc_id": "mat", "title": "", "text": "the cat sat on the mat ."},
    {"doc_id": "hill", "title": "", "text": "the dog ran far over the hill ."},
    {"doc_id": "tree", "title": "", "text": "birds sang near the old tree ."},
]


@pytest.fixture
def language_model(tmp_path: Path) -> Path:
    """Nothing but a language model: config, weights and tokenizer."""
    folder = tiny_heads.save_causal_lm(tmp_path / "lm", positions=512)
    assert not (folder / "modules.json").exists()
    return folder


def test_promptreps_gives_dense_and_sparse_from_one_pass(tmp_path: Path, language_model: Path) -> None:
    with open_engine(tmp_path / "data", model=f"promptreps:{language_model}") as engine:
        collection = engine.create_collection("c")
        collection.upsert(DOCUMENTS)
        assert collection.info().legs == ("dense", "sparse", "bm25")
        for document in DOCUMENTS:
            # The tiny tokenizer knows no word of the prompts, so a query that says what a document says is read alike.
            best = collection.query(document["text"], mode="dense").hits[0]
            assert best.doc_id == document["doc_id"]
            assert best.score_detail.dense == pytest.approx(1.0, abs=1e-3)
        found = {}
        for word in ("cat", "mat", "dog", "hill", "birds", "tree"):
            hits = collection.query(f"the {word}", mode="sparse").hits
            found |= {(word, hit.doc_id): [term.term for term in hit.score_detail.terms] for hit in hits}
        assert found, "the example must weigh some word"
        for (word, doc_id), terms in found.items():
            assert terms == [word], "a text's terms are its own content words"
            assert word in next(each["text"] for each in DOCUMENTS if each["doc_id"] == doc_id)
        assert collection.query("the cat sat on the mat .").hits[0].doc_id == "mat"


def test_prompteol_gives_dense_vectors_and_a_collection_keeps_its_recipe(tmp_path: Path, language_model: Path) -> None:
    name = f"prompteol:{language_model}"
    with open_engine(tmp_path / "data", model=name) as engine:
        collection = engine.create_collection("c")
        collection.upsert(DOCUMENTS)
        assert collection.info().legs == ("dense", "bm25")
        before = collection.query("the cat sat on the mat .", mode="dense").hits
        assert before[0].doc_id == "mat"
    with open_engine(tmp_path / "data", model=name) as engine:
        after = engine.get_collection("c").query("the cat sat on the mat .", mode="dense").hits
        np.testing.assert_allclose([hit.score for hit in after], [hit.score for hit in before])
    with (
        pytest.raises(FingerprintMismatch),
        open_engine(tmp_path / "data", model=f"promptsum:{language_model}") as engine,
    ):
        engine.get_collection("c").query("cat")
