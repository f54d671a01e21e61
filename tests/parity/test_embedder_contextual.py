"""Does a contextual model read every text after the vectors that were drawn from its collection?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import NomicBertConfig, NomicBertModel

from embedder.checkpoint_heads.context import ContextualNetwork, draw
from embedder.contextual import contextualise
from embedder.embedder import Embedder
from embedder.errors import InvalidInput, InvalidRecipe
from embedder.values import DocumentInput
from tests.parity.test_embedder_head_systems import CLS, SEP
from tests.parity.test_embedder_head_systems import ids_of as tokens_of
from tests.support import tiny_heads
from tests.support.tiny_models import VOCABULARY, WORDS

COUNT = 512
PROMPTS = {"document": "search_document: ", "query": "search_query: "}
TEXTS = ["the cat sat on the mat .", "birds sang", "a dog ran far over the hill", "old tree", "river " * 100]


@pytest.fixture
def cde(tmp_path: Path) -> tuple[str, Any, Any]:
    networks, heads = tiny_heads.save_cde(tmp_path / "cde")
    return f"cde:{tmp_path / 'cde'}", networks, heads


def ids_of(text: str, side: str) -> Tensor:
    return torch.tensor([[CLS, *tokens_of(PROMPTS[side] + text.strip())[:510], SEP]])


@torch.inference_mode()
def expected(networks: Any, heads: Any, drawn: list[str], ids: Tensor) -> Tensor:
    """Both stages for one text, step by step."""
    means = [networks["first"](input_ids=ids_of(text, "document")).last_hidden_state[0].mean(0) for text in drawn]
    vectors = heads["first_stage_model.mlp"](torch.stack(means))
    prompt = heads["second_stage_model.prompt_projection"](torch.ones(1, 16)).view(8, 16)
    second = networks["second"]
    inputs = torch.cat((vectors, prompt, second.embeddings(ids)[0]))[None]
    pooled = second(inputs_embeds=inputs).last_hidden_state[0, len(drawn) + 8 :].mean(0)
    out = heads["second_stage_model.output_projection"](pooled)
    return out / out.norm()


def test_documents_and_queries_are_read_after_the_same_vectors(cde: tuple[str, Any, Any], tmp_path: Path) -> None:
    name, networks, heads = cde
    model = contextualise(name, TEXTS, tmp_path / "mine")
    drawn = [TEXTS[i] for i in draw(len(TEXTS), COUNT, 42)]
    with Embedder.load(str(model)) as embedder:
        documents = embedder.embed_documents([DocumentInput("", text) for text in TEXTS[:4]])
        queries = embedder.embed_queries(TEXTS[:4])
        assert embedder.dim == 16
        alone = embedder.embed_documents([DocumentInput("", TEXTS[0])])[0].passages[0].vectors.dense
    for text, document, query in zip(TEXTS, documents, queries, strict=False):
        (passage,) = document.passages
        for got, side in ((passage.vectors.dense, "document"), (query.dense, "query")):
            wanted = expected(networks, heads, drawn, ids_of(text, side))
            np.testing.assert_allclose(got, wanted.numpy(), atol=1e-5)
    np.testing.assert_allclose(alone, documents[0].passages[0].vectors.dense, atol=1e-6)


def test_another_draw_is_another_model(cde: tuple[str, Any, Any], tmp_path: Path) -> None:
    name, _, _ = cde
    prints = []
    for folder, seed in (("one", 1), ("same", 1), ("two", 2)):
        model = contextualise(name, TEXTS, tmp_path / folder, name="mine", seed=seed)
        with Embedder.load(str(model)) as embedder:
            prints.append(embedder.fingerprint.digest)
    assert prints[0] == prints[1] != prints[2]


def test_a_small_collection_is_drawn_from_more_than_once() -> None:
    assert len(draw(2, 5, 0)) == 5
    assert sorted(draw(5, 5, 0)) == [0, 1, 2, 3, 4]


def test_a_contextual_checkpoint_alone_is_refused(cde: tuple[str, Any, Any]) -> None:
    with pytest.raises(InvalidRecipe, match="--contextual"):
        Embedder.load(cde[0])


def test_a_collection_without_text_gives_no_context(cde: tuple[str, Any, Any], tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="not blank"):
        contextualise(cde[0], ["", " "], tmp_path / "mine")


def test_in_nomic_bert_positions_begin_after_the_context_and_padding_is_invisible() -> None:
    torch.manual_seed(0)
    sizes = tiny_heads.SIZES | {"max_position_embeddings": 128}
    network = NomicBertModel(NomicBertConfig(**sizes, pad_token_id=0)).eval().requires_grad_(False)
    context = torch.randn(5, 16)
    ids = torch.tensor([[VOCABULARY[word] for word in WORDS[:6]]])
    contextual = ContextualNetwork(network, context, n_unplaced=3)
    got = contextual(ids).last_hidden_state
    inputs = torch.cat((context[None], network.embeddings.word_embeddings(ids)), dim=1)
    places = torch.tensor([[0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7]])
    wanted = network(inputs_embeds=inputs, position_ids=places).last_hidden_state[:, 5:]
    torch.testing.assert_close(got, wanted)
    padded, mask = torch.cat((ids, ids.new_zeros(1, 3)), dim=1), torch.tensor([[1] * 6 + [0] * 3])
    torch.testing.assert_close(contextual(padded, mask).last_hidden_state[:, :6], got, atol=1e-5, rtol=1e-5)
