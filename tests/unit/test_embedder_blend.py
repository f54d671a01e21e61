"""Blended passages: the mean of what a passage is in a shared window and alone."""

from dataclasses import replace

import numpy as np
import pytest

from embedder.embedder import DocumentInput, Embedder
from embedder.source import find_model

NOUNS = ("ferry", "harbour", "ticket", "storm", "captain", "island", "market", "winter", "engine", "rope", "sailor")
SENTENCES = [f"The {NOUNS[i % 11]} waits for the {NOUNS[i * 5 % 11]}, says number {i}." for i in range(40)]
TEXT = " ".join(SENTENCES)


def embedder_with(landmark):
    recipe = replace(find_model("builtin").recipe, landmark=landmark, passage_tokens=48, window_tokens=200)
    return Embedder.load("builtin", recipe=recipe, threads=1)


@pytest.fixture(scope="module")
def blending():
    with embedder_with("blend") as embedder:
        yield embedder


def passages_of(embedder, text, known=None):
    (document,) = embedder.embed_documents([DocumentInput("", text, known or {})])
    return document


def test_a_blended_vector_is_the_mean_of_both_and_the_rest_is_of_the_passage_alone(blending):
    blended = passages_of(blending, TEXT).passages
    with embedder_with("span_mean") as late, embedder_with("none") as naive:
        shared, alone = passages_of(late, TEXT).passages, passages_of(naive, TEXT).passages
    assert len(blended) == len(shared) == len(alone) > 5
    for both, one, other in zip(blended, shared, alone, strict=True):
        mean = one.vectors.dense + other.vectors.dense
        np.testing.assert_allclose(both.vectors.dense, mean / np.linalg.norm(mean), atol=2e-6)
        assert both.vectors.sparse.ids.tolist() == other.vectors.sparse.ids.tolist()
        assert float(one.vectors.dense @ other.vectors.dense) < 0.99


def test_a_passage_alone_in_its_document_is_not_read_twice(blending):
    with embedder_with("none") as naive:
        alone = passages_of(naive, SENTENCES[0]).passages[0].vectors.dense
    np.testing.assert_allclose(passages_of(blending, SENTENCES[0]).passages[0].vectors.dense, alone, atol=2e-6)


def test_after_an_edit_what_is_known_is_kept_to_the_bit_and_the_rest_is_as_if_embedded_anew(blending):
    before = passages_of(blending, TEXT)
    known = {passage.key: passage.vectors for passage in before.passages}
    same = passages_of(blending, TEXT, known)
    assert same.reused == same.embedded
    for old, new in zip(before.passages, same.passages, strict=True):
        assert np.array_equal(old.vectors.dense, new.vectors.dense)
    edited = " ".join([*SENTENCES[:20], "A gull steals the sandwich.", *SENTENCES[20:]])
    again, anew = passages_of(blending, edited, known), passages_of(blending, edited)
    assert 0 < again.reused < again.embedded
    for one, other in zip(again.passages, anew.passages, strict=True):
        assert one.key == other.key
        np.testing.assert_allclose(one.vectors.dense, other.vectors.dense, atol=2e-6)
