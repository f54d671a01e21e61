"""Debater's chain of deliberation as a recipe: thinking tokens follow documents only, and the last one's state is the vector."""

from dataclasses import replace

import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from embedder.embedder import Embedder
from embedder.recipe import Recipe
from embedder.values import DocumentInput
from tests.support import tiny_models

THINKING = ("birds", "sang", "far")  # a checkpoint's own added tokens
RECIPE = Recipe(
    name="debater",
    query_template="{text}",
    document_template="{text}",
    prepend=("<s>",),
    append=(*THINKING, "</s>"),
    query_append=("</s>",),
    attention="causal",
    pooling="last",
    max_tokens=64,
    window_tokens=64,
    passage_tokens=32,
)
TEXTS = ["the cat sat on the mat", "a dog"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_models.save_qwen3(tmp_path_factory.mktemp("decoder"))


def reference(folder, text, after):
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)
    words = tokenizer(text, add_special_tokens=False)["input_ids"]
    ids = [tiny_models.VOCABULARY[token] for token in ("<s>",)] + words
    ids += [tiny_models.VOCABULARY[token] for token in after]
    with torch.inference_mode():
        state = model(torch.tensor([ids]), use_cache=False).last_hidden_state[0, -1]
    return (state / state.norm()).numpy()


def test_documents_think_and_queries_do_not(folder):
    with Embedder.load(str(folder), device="cpu", recipe=RECIPE) as embedder:
        documents = embedder.embed_documents([DocumentInput("", text) for text in TEXTS])
        queries = embedder.embed_queries(TEXTS)
    for text, document, query in zip(TEXTS, documents, queries, strict=True):
        (passage,) = document.passages
        assert passage.vectors.dense @ reference(folder, text, (*THINKING, "</s>")) >= 0.9999
        assert query.dense @ reference(folder, text, ("</s>",)) >= 0.9999


def test_another_number_of_thinking_tokens_is_another_model(folder):
    with (
        Embedder.load(str(folder), device="cpu", recipe=RECIPE) as embedder,
        Embedder.load(str(folder), device="cpu", recipe=replace(RECIPE, append=(*THINKING[:2], "</s>"))) as other,
    ):
        assert embedder.fingerprint.digest != other.fingerprint.digest
