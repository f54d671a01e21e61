"""A collection whose model has a learned sparse head: its leg searches, fuses, and says which terms the model added."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from embedder.checkpoint import open_checkpoint, recipe_for
from embedder.embedder import Embedder
from embedder.errors import InvalidRecipe
from embedder.fingerprint import weights_digest
from embedder.sparse_heads import build_sparse_head
from embedder.tuned import TunedModel, write_tuned
from engine import open_engine
from tests.support import tiny_models

DOCUMENTS = [
    {"doc_id": "mat", "title": "Mat", "text": "the cat sat on the mat"},
    {"doc_id": "hill", "title": "Hill", "text": "the dog ran far over the hill"},
    {"doc_id": "tree", "title": "Tree", "text": "birds sang near the old tree while the dog slept"},
]


@pytest.fixture
def model(tmp_path: Path) -> str:
    """A tiny encoder whose tokens stand for themselves, and "cat" and "dog" for each other too."""
    base = tiny_models.save_bert(tmp_path / "bert")
    checkpoint = open_checkpoint(str(base), base)
    n_terms = len(tiny_models.VOCABULARY)
    sizes = {"kind": "neighbours", "hidden": 16, "vocabulary": n_terms, "neighbours": 2, "query_neighbours": 2}
    head = build_sparse_head({**sizes, "units": 4}, torch.arange(6))
    for parameter in head.parameters():
        parameter.data.zero_()
    cat, dog = (tiny_models.VOCABULARY[word] for word in ("cat", "dog"))
    head.candidates.copy_(torch.arange(n_terms)[:, None].expand(-1, 2))
    head.candidates[cat, 1], head.candidates[dog, 1] = dog, cat
    head.frequency.data[:] = 2.0
    for side in (head.document, head.query):
        side.threshold.data.fill_(-2.0)  # below every cosine: only the candidates decide
        side.gain.data.fill_(1.0)
    tensors = {f"sparse.{name}": tensor for name, tensor in head.state_dict().items()}
    digest = weights_digest(checkpoint, recipe_for(checkpoint))
    tuned = TunedModel(name="tiny", base=str(base), base_weights=digest, sparse_head={**sizes, "units": 4})
    write_tuned(tmp_path / "tuned", tuned, tensors, card="made by a test")
    return str(tmp_path / "tuned")


def test_a_learned_sparse_leg_finds_by_expansion_and_marks_it(tmp_path: Path, model: str) -> None:
    with open_engine(tmp_path / "data", model=model) as engine:
        collection = engine.create_collection("c")
        collection.upsert(DOCUMENTS)
        assert collection.info().legs == ("dense", "sparse", "bm25")
        hits = collection.query("cat", mode="sparse").hits
        terms = {hit.doc_id: {t.term: t.expansion for t in hit.score_detail.terms} for hit in hits}
        # The passages with a dog hold the term "cat" because the model added it, and the query the term "dog".
        assert terms == {
            "mat": {"cat": False, "dog": True},
            "hill": {"cat": True, "dog": True},
            "tree": {"cat": True, "dog": True},
        }
        assert collection.query("cat", mode="bm25").hits[0].doc_id == "mat"
        assert len(collection.query("cat", mode="bm25").hits) == 1


def test_a_sparse_score_counts_relative_to_the_norms_of_query_and_passages(tmp_path: Path, model: str) -> None:
    with open_engine(tmp_path / "data", model=model) as engine:
        collection = engine.create_collection("c")
        collection.upsert(DOCUMENTS)
        weights = {"dense": 0.0, "bm25": 0.0, "sparse": 1.0}
        fused = {hit.doc_id: hit for hit in collection.query("cat", weights=weights).hits}
        norms = []
        for document in DOCUMENTS:
            (embedding,) = engine.embed([f"{document['title']} {document['text']}"])
            norms.append(sum(weight**2 for weight in embedding.sparse.values()) ** 0.5)
        (query,) = engine.embed(["cat"], query=True)
        query_norm = sum(weight**2 for weight in query.sparse.values()) ** 0.5
        scale = query_norm * sum(norms) / len(norms)
        assert fused["mat"].score == pytest.approx(fused["mat"].score_detail.sparse / scale, rel=1e-4)


def test_a_model_can_leave_the_inverse_document_frequencies_to_the_index(tmp_path: Path, model: str) -> None:
    folder = Path(model)
    described = json.loads((folder / "landmark.json").read_text())
    (folder / "landmark.json").write_text(json.dumps({**described, "recipe": {"sparse_idf": True}}))
    with open_engine(tmp_path / "data", model=model) as engine:
        collection = engine.create_collection("c")
        collection.upsert(DOCUMENTS)
        (query,) = engine.embed(["cat mat"], query=True)
        vectors = {d["doc_id"]: engine.embed([f"{d['title']} {d['text']}"])[0].sparse for d in DOCUMENTS}
        hits = collection.query("cat mat", mode="sparse").hits
        assert len(hits) == 3
        for hit in hits:
            expected = 0.0
            for term, weight in query.sparse.items():
                df = sum(term in vector for vector in vectors.values())
                idf = math.log(1 + (3 - df + 0.5) / (df + 0.5))
                expected += weight * idf * vectors[hit.doc_id].get(term, 0.0)
            assert hit.score_detail.sparse == pytest.approx(expected, rel=2e-3)
            parts = [term.contribution for term in hit.score_detail.terms]
            assert sum(parts) == pytest.approx(hit.score_detail.sparse, rel=1e-5)


def test_characters_that_the_vocabulary_lacks_are_found_and_named(tmp_path: Path, model: str) -> None:
    folder = Path(model)
    described = json.loads((folder / "landmark.json").read_text())
    recipe = {"sparse_idf": True, "sparse_unknown": True}
    (folder / "landmark.json").write_text(json.dumps({**described, "recipe": recipe}))
    with open_engine(tmp_path / "data", model=model) as engine:
        collection = engine.create_collection("c")
        collection.upsert([*DOCUMENTS, {"doc_id": "tea", "text": "茶 cat 茶"}, {"doc_id": "rice", "text": "米 cat"}])
        hits = collection.query("茶", mode="sparse").hits
        assert [hit.doc_id for hit in hits] == ["tea"]
        assert [(term.term, term.expansion) for term in hits[0].score_detail.terms] == [("茶", False)]
        (embedding,) = engine.embed(["米 茶"])
        assert {"米", "茶"} <= set(embedding.sparse)


def test_a_model_whose_head_cannot_count_unknown_characters_is_refused(tmp_path: Path) -> None:
    base = tiny_models.save_bert(tmp_path / "bert")
    recipe = replace(recipe_for(open_checkpoint(str(base), base)), sparse_unknown=True)
    with pytest.raises(InvalidRecipe, match="neighbours"):
        Embedder.load(str(base), recipe=recipe)


def test_terms_that_callers_brought_are_never_called_expansions(tmp_path: Path) -> None:
    with open_engine(tmp_path, model=None) as engine:
        collection = engine.create_collection("c", dim=2, sparse=True)
        collection.upsert([{"doc_id": "a", "text": "text", "vector": [1.0, 0.0], "sparse": {7: 0.5}}])
        (hit,) = collection.query(sparse={7: 1.0}, mode="sparse").hits
        assert [(term.term, term.expansion) for term in hit.score_detail.terms] == [("7", False)]
