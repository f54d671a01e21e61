"""A collection and a query that a generator has enriched: from the call to the hits, and after a restart."""

import numpy as np
import pytest

from embedder.errors import InvalidInput
from engine import open_engine
from engine.errors import GeneratorMismatch, InvalidArgument, InvalidQuery
from engine.migration import migrate
from engine.values import Expansion, Query, QueryExpansion
from tests.support.generators import FakeGenerator, FakeGenerators
from tests.support.hash_model import HashModel

TEXTS = {
    "lighthouse": " ".join(
        [*(f"A tower with a lamp warns ship {i} at night." for i in range(60)), "\n\n"]
        + [f"Its keeper trims the wick {i} times." for i in range(60)]
    ),
    "harbour": "Basins shelter boats from the swell.",
    "baker": "Bread rises before dawn.",
}


def questions(prompt):
    """Two questions about a passage, with words that no document has."""
    passage = prompt.text.rsplit("\n\n", 1)[0]
    return f"- pharos zephyr {len(passage)}\n- umbra {passage[-12:-1]}"


def write(prompt):
    return questions(prompt) if "Questions:" in prompt.text else f"written {len(prompt.text)} {prompt.draw}"


class Engines:
    """Opens the same folder again and again, with the hash model and the fake generators."""

    def __init__(self, folder):
        self.folder = folder
        self.made = {"one": FakeGenerator(write, "1"), "two": FakeGenerator(write, "2")}
        self.opened = []

    def open(self, generator="one"):
        engine = open_engine(self.folder, model=None)
        engine._generators = FakeGenerators(engine.path, generator, self.made)
        engine._model = HashModel("hash", generators=engine._generators)
        self.opened.append(engine)
        return engine

    def asked(self):
        return sum(len(generator.asked) for generator in self.made.values())


@pytest.fixture
def engines(tmp_path):
    found = Engines(tmp_path / "data")
    yield found
    for engine in found.opened:
        engine.close()


def documents(texts=TEXTS):
    return [{"doc_id": doc_id, "title": doc_id.title(), "text": text} for doc_id, text in texts.items()]


def vector(text, title=""):
    from embedder.values import DocumentInput

    (one,) = HashModel("hash").embedder().embed_documents([DocumentInput(title, text)])
    mean = np.mean([passage.vectors.dense for passage in one.passages], axis=0)
    return mean / np.linalg.norm(mean)


def test_fused_questions_are_in_the_passages_vector(engines):
    collection = engines.open().create_collection("c", expansion=Expansion(n=2))
    (answer,) = collection.upsert(documents({"harbour": TEXTS["harbour"]}))
    text = TEXTS["harbour"]
    written = [line[2:] for line in questions(engines.made["one"].asked[0]).splitlines()]
    parts = [vector(text, "Harbour"), *(vector(f"{line}\n{text}", "Harbour") for line in written)]
    expected = np.sum(parts, axis=0) / np.linalg.norm(np.sum(parts, axis=0))
    stored = np.array(collection.get(["harbour"], vectors=True)[0].vector)
    assert stored @ expected == pytest.approx(1.0, abs=1e-3)
    assert (answer.passages, answer.tokens.generated) == (1, 1)
    assert collection.info().expansion == Expansion(n=2)
    assert collection.info().generator == "one"


def test_a_passage_with_vectors_of_questions_is_one_passage_of_the_answer(engines):
    engine = engines.open()
    plain = engine.create_collection("plain")
    plain.upsert(documents())
    collection = engine.create_collection("c", expansion=Expansion(n=2, use="vectors"))
    answers = collection.upsert(documents())
    assert sum(answer.passages for answer in answers) == 3 * plain.info().passages
    collection.optimize()
    for mode in ("hybrid", "dense", "bm25"):
        result = collection.query("lamp keeper tower swell bread", limit=3, passages=9, mode=mode)
        for hit in result.hits:
            spans = [(passage.start, passage.end) for passage in hit.passages]
            assert len(spans) == len(set(spans))
    asked = "pharos zephyr of the passage\n" + TEXTS["harbour"]
    (best,) = collection.query(asked, limit=1, mode="dense").hits
    (other,) = plain.query(asked, limit=1, mode="dense").hits
    assert best.doc_id == other.doc_id == "harbour"
    assert best.score_detail.dense > other.score_detail.dense + 0.05


def test_a_documents_score_counts_each_passage_once(engines):
    """The blend of a document's best passages must not take one passage's many vectors for many passages."""
    engine = engines.open()
    collection = engine.create_collection("c", expansion=Expansion(n=2, use="vectors"))
    collection.upsert(documents({"lighthouse": TEXTS["lighthouse"]}))
    (hit,) = collection.query("lamp at night", mode="dense", passages=9).hits
    scores = sorted((passage.score for passage in hit.passages), reverse=True)
    assert len(scores) > 1
    assert hit.score == pytest.approx(0.7 * scores[0] + 0.3 * np.mean(scores[:3]), abs=1e-6)


@pytest.mark.parametrize("use", ["fuse", "vectors"])
def test_bm25_finds_the_words_of_questions_when_asked(engines, use):
    engine = engines.open()
    without = engine.create_collection("without", expansion=Expansion(n=2, use=use))
    collection = engine.create_collection("c", expansion=Expansion(n=2, use=use, bm25=True))
    for one in (without, collection):
        one.upsert(documents())
    assert not without.query("pharos zephyr", mode="bm25").hits
    assert len(collection.query("pharos zephyr", mode="bm25").hits) == 3


def test_a_passage_too_long_for_the_generator_fails_its_document_alone(engines):
    def write_short(prompt):
        if "wick" in prompt.text:
            raise InvalidInput("prompt", "9000 tokens", "it does not fit into the context")
        return write(prompt)

    engines.made["one"] = FakeGenerator(write_short, "1")
    collection = engines.open().create_collection("c", expansion=Expansion(n=2))
    answers = list(collection.ingest(documents()))
    assert [(answer.doc_id, answer.status) for answer in answers] == [
        ("lighthouse", "failed"),
        ("harbour", "added"),
        ("baker", "added"),
    ]
    assert "does not fit into the context" in answers[0].error
    assert [answer.error for answer in answers[1:]] == [None, None]
    assert collection.count() == 2
    with pytest.raises(InvalidInput):
        collection.upsert(documents())
    assert collection.count() == 2, "an upsert is all or nothing"


def test_a_second_run_generates_nothing(engines):
    collection = engines.open().create_collection("c", expansion=Expansion(n=2, use="vectors", bm25=True))
    collection.upsert(documents())
    asked = engines.asked()
    assert asked == collection.info().passages // 3
    assert {answer.status for answer in collection.upsert(documents())} == {"unchanged"}
    assert engines.asked() == asked
    engines.opened.pop().close()
    # The answers are kept on the disk: another collection of the same documents asks nothing, after a restart.
    again = engines.open().create_collection("again", expansion=Expansion(n=2))
    answers = again.upsert(documents())
    assert engines.asked() == asked
    assert {answer.tokens.generated for answer in answers} == {0}


@pytest.mark.parametrize("use", ["fuse", "vectors"])
def test_a_changed_document_is_as_if_it_were_new(engines, use):
    engine = engines.open()
    changed = {**TEXTS, "lighthouse": TEXTS["lighthouse"].replace("wick", "lamp")}
    collections = [engine.create_collection(name, expansion=Expansion(n=2, use=use)) for name in "ab"]
    collections[0].upsert(documents())
    for collection in collections:
        collection.upsert(documents(changed))
    first, second = (
        [(hit.doc_id, hit.score) for hit in collection.query("the keeper trims", mode="dense").hits]
        for collection in collections
    )
    assert first == second


def test_a_later_ingest_goes_on_with_the_collections_own_generator(engines):
    engines.open().create_collection("c", expansion=Expansion(n=2)).upsert(documents())
    engines.opened.pop().close()
    collection = engines.open(generator=None).get_collection("c")
    assert collection.upsert([{"doc_id": "new", "text": "A new text."}])[0].tokens.generated == 1
    assert [prompt.text for prompt in engines.made["one"].asked if "A new text." in prompt.text]


def test_a_later_ingest_with_another_generator_is_refused(engines):
    engines.open().create_collection("c", expansion=Expansion(n=2)).upsert(documents())
    engines.opened.pop().close()
    collection = engines.open(generator="two").get_collection("c")
    with pytest.raises(GeneratorMismatch, match="'c' were expanded by the generator one, and two is another"):
        collection.upsert([{"doc_id": "new", "text": "A new text."}])
    assert collection.get(["new"]) == [None]
    assert len(collection.query("keeper").hits) == 3
    engines.opened.pop().close()
    engines.made["one"].identity = "changed"
    with pytest.raises(GeneratorMismatch):
        engines.open(generator=None).get_collection("c").upsert([{"doc_id": "new", "text": "A new text."}])


def test_a_migration_keeps_the_expansion(engines):
    engine = engines.open()
    collection = engine.create_collection("c", expansion=Expansion(n=2, use="vectors", bm25=True))
    collection.upsert(documents())
    asked, passages = engines.asked(), collection.info().passages
    engine._models["other"] = HashModel("other", generators=engine._generators)
    migrate(engine, "c", model="other")
    info = collection.info()
    assert (info.model, info.passages, info.expansion.use, info.generator) == ("other", passages, "vectors", "one")
    assert engines.asked() == asked
    assert len(collection.query("pharos zephyr", mode="bm25").hits) == 3


def test_hyde_mixes_a_written_answer_into_the_querys_vector(engines):
    collection = engines.open().create_collection("c")
    collection.upsert(documents())
    expansion = QueryExpansion(method="hyde", n=2, weight=0.5)
    (result,) = collection.query_batch([Query(text="lamp", mode="dense", expansion=expansion, limit=3)])
    answers = np.sum(
        [vector(f"Generate the topic about this passage: {write(p)}") for p in engines.made["one"].asked], axis=0
    )
    mixed = 0.5 * vector("lamp") + 0.5 * answers / np.linalg.norm(answers)
    direct = collection.query(vector=mixed, mode="dense", limit=3)
    assert [hit.doc_id for hit in result.hits] == [hit.doc_id for hit in direct.hits]
    for hit, other in zip(result.hits, direct.hits, strict=True):
        assert hit.score == pytest.approx(other.score, abs=1e-5)
    assert result.timings_ms["generate"] > 0
    asked = engines.asked()
    collection.query_batch([Query(text="lamp", expansion=expansion)])
    assert engines.asked() == asked == 2


@pytest.mark.parametrize("method", ["thoughts", "rewrites"])
def test_other_expansions_change_the_dense_leg_and_no_other(engines, method):
    collection = engines.open().create_collection("c")
    collection.upsert(documents())
    plain, expanded = collection.query_batch(
        [Query(text="swell"), Query(text="swell", expansion=QueryExpansion(method=method, n=3))]
    )
    before, after = ({hit.doc_id: hit.score_detail for hit in result.hits} for result in (plain, expanded))
    assert before["harbour"].bm25 == after["harbour"].bm25 > 0
    assert before["harbour"].dense != after["harbour"].dense


def test_a_query_without_expansion_generates_nothing(engines):
    collection = engines.open().create_collection("c")
    collection.upsert(documents())
    assert "generate" not in collection.query("lamp").timings_ms
    assert engines.asked() == 0


def test_without_a_generator_expansions_are_refused(engines):
    engine = engines.open(generator=None)
    with pytest.raises(InvalidArgument, match="needs a generator"):
        engine.create_collection("c", expansion=Expansion())
    collection = engine.create_collection("c")
    with pytest.raises(InvalidQuery, match="needs a generator"):
        collection.query_batch([Query(text="lamp", expansion=QueryExpansion())])


def test_without_dense_vectors_of_a_model_there_is_nothing_to_expand(engines):
    engine = engines.open()
    with pytest.raises(InvalidArgument, match="needs a model with dense vectors"):
        engine.create_collection("own", dim=4, expansion=Expansion())
    collection = engine.create_collection("c")
    for query in (
        Query(text="lamp", mode="bm25", expansion=QueryExpansion()),
        Query(text="lamp", vector=[1.0] * 16, expansion=QueryExpansion()),
        Query(vector=[1.0] * 16, expansion=QueryExpansion()),
    ):
        with pytest.raises(InvalidQuery, match="expansion"):
            collection.query_batch([query])


@pytest.mark.parametrize(
    "wrong", [{"method": "poems"}, {"use": "both"}, {"n": 0}, {"n": 51}, {"n": True}, {"bm25": "yes"}]
)
def test_expansions_out_of_range_are_refused(engines, wrong):
    with pytest.raises(InvalidArgument, match=rf"expansion\.{next(iter(wrong))}"):
        engines.open().create_collection("c", expansion=Expansion(**wrong))


@pytest.mark.parametrize(
    "wrong",
    [
        {"expansion": QueryExpansion(method="poem")},
        {"expansion": QueryExpansion(n=0)},
        {"expansion": QueryExpansion(n=17)},
        {"expansion": QueryExpansion(weight=float("nan"))},
        {"expansion": QueryExpansion(weight=1.5)},
        {"expansion": "hyde"},
        {"examples": [("only one",)]},
        {"examples": [("a", 2)]},
        {"examples": [("a", "b")] * 65},
    ],
)
def test_queries_out_of_range_are_refused(engines, wrong):
    collection = engines.open().create_collection("c")
    with pytest.raises(InvalidQuery, match=next(iter(wrong))):
        collection.query_batch([Query(text="lamp", **wrong)])
