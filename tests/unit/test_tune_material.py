"""What a model learns comes from the collection, what judges it is not learned, and negatives are no answers."""

import itertools
import json

import numpy as np
import pytest

from engine import open_engine
from engine.errors import InvalidArgument
from engine.tuning.material import gather, read_material, search, source_documents, write_material
from engine.tuning.options import TuneOptions
from tests.support.generators import FakeGenerator
from tests.support.hash_model import HashModel

SUBJECTS = ["harbour", "lantern", "orchard", "glacier", "violin", "compass", "furnace", "meadow", "anchor", "beacon"]
VERBS = ["guards", "follows", "covers", "remembers", "outshines", "repairs"]


def prose(rng, n_sentences):
    sentences = [
        f"The old {rng.choice(SUBJECTS)} number {rng.integers(1000)} quietly {rng.choice(VERBS)} a distant "
        f"{rng.choice(SUBJECTS)} near the {rng.choice(SUBJECTS)}."
        for _ in range(n_sentences)
    ]
    return " ".join(sentences)


@pytest.fixture
def collection(tmp_path):
    rng = np.random.default_rng(2)
    with open_engine(tmp_path / "data", model=None) as engine:
        engine._model = HashModel("hash")
        made = engine.create_collection("c")
        made.upsert(
            [{"doc_id": f"{i:03d}", "title": f"About {SUBJECTS[i % 10]} {i}", "text": prose(rng, 5)} for i in range(40)]
        )
        made.upsert(
            [{"doc_id": "code.py", "text": 'def add(a, b):\n    """Give the sum of two numbers."""\n    return a'}]
        )
        made.upsert([{"doc_id": "title only", "title": "A title"}])
        yield made


def test_documents_are_read_page_by_page_and_those_without_text_are_left_out(collection, monkeypatch):
    monkeypatch.setattr("engine.tuning.material.PAGE", 7)
    found = list(source_documents(collection))
    assert [document.source for document in found] == [*(f"{i:03d}" for i in range(40)), "code.py"]


def test_documents_alone_give_examples_of_which_none_that_judges_is_learned(collection):
    material = gather(collection, TuneOptions(held_out=0.3, negatives=2))
    ((name, learned),) = material.stages
    assert name == "corpus"
    assert {"title", "ict"} <= {example.source for example in learned}
    asked = {example.query for example in material.held_out}
    assert asked
    assert not asked & {example.query for example in learned}
    assert not {example.positive for example in material.held_out} & {example.positive for example in learned}
    with_negatives = [example for example in learned if example.negatives]
    assert with_negatives
    assert all(example.positive not in example.negatives for example in with_negatives)


def test_pairs_are_learned_last_and_judge_alone(collection, tmp_path):
    document = collection.get(["003"])[0]
    rows = [{"query": f"question {i}", "positive": f"{document.text} {i}"} for i in range(20)]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    material = gather(collection, TuneOptions(pairs=tmp_path / "pairs.jsonl", held_out=0.5, negatives=0))
    assert [name for name, _ in material.stages] == ["corpus", "pairs"]
    queries = {example.query for example in material.held_out}
    assert len(queries) == 10
    assert {example.query for example in material.stages[1][1]} == {f"question {i}" for i in range(20)} - queries


def test_a_language_model_writes_queries_for_the_passages(collection, monkeypatch):
    number = itertools.count()

    def load(model, *, sampling):
        assert model == "writer"
        return FakeGenerator(lambda prompt: json.dumps({"query": f"written question {next(number)}"}))

    monkeypatch.setattr("embedder.generation.generator.LocalGenerator", load)
    material = gather(collection, TuneOptions(generator="writer", negatives=0))
    assert [name for name, _ in material.stages] == ["corpus", "synthetic"]
    assert all(example.query.startswith("written question") for example in material.held_out)


def test_the_search_gives_passages_in_the_order_of_the_collections_own_answer(collection):
    (hits,) = search(collection, ["the old harbour"], 5)
    expected = collection.query("the old harbour", limit=5)
    assert [(hit.text, hit.score) for hit in hits] == [(hit.passages[0].text, hit.score) for hit in expected.hits]


def test_what_was_written_down_is_read_as_it_was(collection, tmp_path):
    material = gather(collection, TuneOptions())
    write_material(tmp_path, material)
    assert read_material(tmp_path) == material


def test_a_collection_without_text_asks_for_pairs(tmp_path):
    with open_engine(tmp_path / "data", model=None) as engine:
        engine._model = HashModel("hash")
        collection = engine.create_collection("c")
        collection.upsert([{"doc_id": "a", "text": "short"}])
        with pytest.raises(InvalidArgument, match="no examples can be made from its documents; give pairs"):
            gather(collection, TuneOptions())
