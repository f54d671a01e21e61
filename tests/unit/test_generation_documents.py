"""What a generator writes about passages becomes vectors: against the means and keys written out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from embedder.errors import InvalidInput
from embedder.generation.answers import AnswerCache, CachedGenerator
from embedder.generation.documents import DocumentExpander, mean_vector
from embedder.generation.prompts import Prompt
from embedder.generation.queries import QueryExpander
from embedder.values import DocumentInput, EmbeddedDocument
from tests.support.generators import FakeGenerator
from tests.support.hash_model import HashModel

DOCUMENTS = [
    DocumentInput("Lighthouses", "They warn ships. " * 40 + "\n\n" + "Keepers light them. " * 40),
    DocumentInput("", "Harbours shelter ships."),
]


def unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def questions(prompt: Prompt) -> str:
    passage = prompt.text.rsplit("\n\n", 1)[0]
    return f"1. What of {len(passage)}?\n2. Why {passage[-9:-1]}?\n3. Too many?"


def rewrites(prompt: Prompt) -> str:
    return f"{prompt.turns[0][0][:12]} {prompt.text[:40]}"


class Counting:
    """The hash model's documents, counted; ``known`` vectors are kept as the embedder keeps them."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.model = HashModel("hash").embedder()

    def __call__(self, documents) -> list[EmbeddedDocument]:
        self.texts += [document.text for document in documents]
        return [
            replace(one, passages=tuple(replace(p, vectors=document.known.get(p.key, p.vectors)) for p in one.passages))
            for document, one in zip(documents, self.model.embed_documents(documents), strict=True)
        ]


def expander(answer, **options) -> tuple[DocumentExpander, Counting, FakeGenerator]:
    embed, generator = Counting(), FakeGenerator(answer)
    settings = {"method": "questions", "n": 2, "use": "fuse", "lexical": False, **options}
    return DocumentExpander(embed, CachedGenerator(generator, AnswerCache(None)), **settings), embed, generator


def vector(text: str, title: str = "") -> np.ndarray:
    (one,) = HashModel("hash").embedder().embed_documents([DocumentInput(title, text)])
    return unit(np.mean([p.vectors.dense for p in one.passages], axis=0))


def test_fused_questions_are_the_mean_of_the_passage_and_of_each_question_with_it():
    expand, embed, generator = expander(questions)
    plain = embed(DOCUMENTS)
    embed.texts.clear()
    found = expand.embed_documents(DOCUMENTS)
    assert [len(one.passages) for one in found] == [len(one.passages) for one in plain]
    assert len(generator.asked) == sum(one.generated for one in found) == sum(len(one.passages) for one in plain)
    for document, one, before in zip(DOCUMENTS, found, plain, strict=True):
        for passage, own in zip(one.passages, before.passages, strict=True):
            text = document.text[passage.start : passage.end]
            shown = f"{document.title}\n{text}" if document.title else text
            asked = next(prompt for prompt in generator.asked if f"\n\n{shown}\n\n" in prompt.text)
            written = [line[3:] for line in questions(asked).splitlines()[:2]]
            expected = unit(own.vectors.dense + sum(vector(f"{line}\n{text}", document.title) for line in written))
            assert passage.vectors.dense @ expected == pytest.approx(1.0, abs=1e-5)
            assert (passage.start, passage.end, passage.key) == (own.start, own.end, own.key)
            assert passage.generated == ""


def test_fused_rewrites_are_embedded_as_they_are():
    expand, embed, _ = expander(rewrites, method="rewrites", n=3, lexical=True)
    (plain,) = embed(DOCUMENTS[1:])
    (found,) = expand.embed_documents(DOCUMENTS[1:])
    text = DOCUMENTS[1].text
    written = [f"{start} {text}" for start in ("Paraphrase t", "Rewrite the ", "Create a sen")]
    expected = unit(plain.passages[0].vectors.dense + sum(map(vector, written)))
    assert found.passages[0].vectors.dense @ expected == pytest.approx(1.0, abs=1e-5)
    assert found.passages[0].generated == "\n".join(written)
    assert found.generated == 3


def test_vectors_of_questions_are_rows_behind_their_passage():
    expand, embed, _ = expander(questions, use="vectors", lexical=True)
    (plain,) = embed(DOCUMENTS[1:])
    (found,) = expand.embed_documents(DOCUMENTS[1:])
    own, *others = found.passages
    assert own.vectors is not None
    np.testing.assert_array_equal(own.vectors.dense, plain.passages[0].vectors.dense)
    assert [(row.start, row.end) for row in others] == [(own.start, own.end)] * 2
    assert len({row.key for row in found.passages}) == 3
    text = DOCUMENTS[1].text
    for row, line in zip(others, own.generated.splitlines(), strict=True):
        assert row.vectors.dense @ vector(f"{line}\n{text}") == pytest.approx(1.0, abs=1e-5)
        assert row.generated == own.generated


@pytest.mark.parametrize("use", ["fuse", "vectors"])
def test_an_unchanged_passage_keeps_its_vectors_and_nothing_is_embedded_again(use: str):
    expand, embed, generator = expander(questions, use=use)
    (first,) = expand.embed_documents(DOCUMENTS[1:])
    known = {row.key: row.vectors for row in first.passages}
    embed.texts.clear()
    (again,) = expand.embed_documents([replace(DOCUMENTS[1], known=known)])
    assert embed.texts == [DOCUMENTS[1].text]
    assert len(generator.asked) == 1
    assert again.generated == 0
    assert [row.key for row in again.passages] == [row.key for row in first.passages]
    for row, before in zip(again.passages, first.passages, strict=True):
        assert row.vectors is before.vectors


def test_a_generator_with_nothing_to_say_leaves_the_passage_as_it_is():
    for use in ("fuse", "vectors"):
        expand, embed, _ = expander(lambda prompt: " \n--", use=use)
        (plain,) = embed(DOCUMENTS[1:])
        (found,) = expand.embed_documents(DOCUMENTS[1:])
        np.testing.assert_array_equal(found.passages[0].vectors.dense, plain.passages[0].vectors.dense)
        assert len(found.passages) == 1


def test_a_document_of_a_title_alone_is_not_asked_about():
    expand, _, generator = expander(questions)
    (found,) = expand.embed_documents([DocumentInput("Only a title", "")])
    assert (len(found.passages), generator.asked) == (1, [])


@pytest.mark.parametrize("wrong", [{"method": "poems"}, {"use": "both"}, {"n": 0}, {"n": 51}])
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(InvalidInput, match=next(iter(wrong))):
        expander(questions, **wrong)


def test_opposite_vectors_have_no_mean_but_an_answer():
    one = unit(np.array([1.0, 2.0, 2.0], np.float32))
    np.testing.assert_allclose(mean_vector([one, -one]), one, atol=1e-6)


def queries(answer) -> tuple[QueryExpander, FakeGenerator]:
    model, generator = HashModel("hash").embedder(), FakeGenerator(answer)
    cached = CachedGenerator(generator, AnswerCache(None))
    return QueryExpander(model.embed_queries, model.embed_documents, cached, task="find ships"), generator


def dense(expand: QueryExpander, query: str, method, n: int, weight: float = 0.2) -> np.ndarray:
    return expand.dense(query, vector(query), expand.write(query, method, n), method, weight)


def test_hyde_mixes_a_fifth_of_the_hypothetical_answers_in():
    expand, generator = queries(lambda prompt: f"They warn {prompt.draw}.")
    answers = unit(sum(vector(f"Generate the topic about this passage: They warn {i}.") for i in range(2)))
    found = dense(expand, "lights at sea", "hyde", 2)
    assert found @ unit(0.8 * vector("lights at sea") + 0.2 * answers) == pytest.approx(1.0, abs=1e-6)
    assert all("Task: find ships\n\nQuery: lights at sea" in prompt.text for prompt in generator.asked)
    np.testing.assert_allclose(
        dense(expand, "lights at sea", "hyde", 2, weight=0.0), vector("lights at sea"), atol=1e-6
    )


def test_thoughts_are_embedded_behind_the_query_and_averaged():
    expand, _ = queries(lambda prompt: f"towers {prompt.draw}")
    expected = unit(sum(vector(f"lights\ntowers {i}") for i in range(3)))
    assert dense(expand, "lights", "thoughts", 3) @ expected == pytest.approx(1.0, abs=1e-6)


def test_rewrites_of_a_query_are_averaged_with_it():
    expand, _ = queries(rewrites)
    expected = unit(vector("lights") + vector("Paraphrase t lights") + vector("Rewrite the  lights"))
    assert dense(expand, "lights", "rewrites", 2) @ expected == pytest.approx(1.0, abs=1e-6)


def test_a_silent_generator_leaves_the_query_as_it_is():
    expand, _ = queries(lambda prompt: "<think>what?")
    for method in ("hyde", "thoughts", "rewrites"):
        np.testing.assert_array_equal(dense(expand, "lights", method, 2), vector("lights"))
