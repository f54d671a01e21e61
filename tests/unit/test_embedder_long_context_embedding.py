"""A whole long document as one vector, through the embedder, by each kind of context extension."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import AutoModel, AutoTokenizer

from embedder.context_extension import ContextExtension, parallel_windows
from embedder.embedder import DocumentInput, Embedder
from embedder.errors import InvalidRecipe
from embedder.extensible import ExtensibleDecoder
from embedder.long_context import extend
from embedder.recipe import Recipe
from tests.support.tiny_models import WORDS, save_bert, save_llama, save_qwen3

LO, LT = 24, 100
LONG: dict[str, Any] = {"max_tokens": LT, "window_tokens": LT, "passage_tokens": LT}


def extension(method: str, **more: Any) -> ContextExtension:
    return ContextExtension(method=method, original_tokens=LO, target_tokens=LT, **more)  # type: ignore[arg-type]


def texts(*lengths: int) -> list[str]:
    rng = random.Random(0)
    return [" ".join(rng.choices(WORDS, k=length)) for length in lengths]


TEXTS = texts(90, 3, 23, 41, 60, 22)


def embedded(folder: Path, recipe: Recipe, documents: Sequence[str]) -> list[NDArray[np.float32]]:
    """One vector a document: of all in one call, each alone, and each as a query must be the same."""
    with Embedder.load(str(folder), recipe=recipe, device="cpu", workers=1) as embedder:
        together = embedder.embed_documents([DocumentInput(title="", text=text) for text in documents])
        alone = [embedder.embed_documents([DocumentInput(title="", text=text)])[0] for text in documents]
        queries = embedder.embed_queries(list(documents))
    assert all(len(document.passages) == 1 and document.dropped == 0 for document in together)
    vectors = [document.passages[0].vectors.dense for document in together]
    for vector, document, query in zip(vectors, alone, queries, strict=True):
        np.testing.assert_allclose(document.passages[0].vectors.dense, vector, atol=1e-5)
        np.testing.assert_allclose(query.dense, vector, atol=1e-5)
    return vectors


def ids_of(folder: Path, text: str, before: str, after: str) -> list[int]:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    bare = tokenizer(text, add_special_tokens=False)["input_ids"]
    special = [[tokenizer.convert_tokens_to_ids(token)] if token else [] for token in (before, after)]
    return [*special[0], *bare, *special[1]]


def unit(vector: torch.Tensor) -> NDArray[np.float32]:
    return (vector / vector.norm()).numpy()


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_parallel_windows_are_the_mean_of_unnormalised_windows(tmp_path: Path, pooling: str) -> None:
    if pooling == "last":
        folder, before, after = save_llama(tmp_path), "<s>", "</s>"
        recipe = Recipe(name="x", attention="causal", pooling="last", append=("</s>",), prepend=("<s>",), **LONG)
    else:
        folder, before, after = save_bert(tmp_path), "[CLS]", "[SEP]"
        recipe = Recipe(name="x", pooling=pooling, **LONG)  # type: ignore[arg-type]
    network = AutoModel.from_pretrained(folder).eval()
    found = embedded(folder, replace(recipe, context_extension=extension("parallel_windows")), TEXTS)
    for text, vector in zip(TEXTS, found, strict=True):
        ids = ids_of(folder, text, before, after)
        inner, room = ids[1:-1], LO - 2
        starts = [*range(0, len(inner) - room, room), max(0, len(inner) - room)]
        pooled = []
        for start in starts:
            window = torch.tensor([[ids[0], *inner[start : start + room], ids[-1]]])
            with torch.no_grad():
                states = network(input_ids=window).last_hidden_state[0]
            pooled.append({"mean": states.mean(0), "cls": states[0], "last": states[-1]}[pooling])
        assert len(starts) == max(1, -(-len(inner) // room))
        assert float(vector @ unit(torch.stack(pooled).mean(0))) == pytest.approx(1, abs=1e-5)


def test_windows_do_not_overlap_but_the_last_one_is_moved_back() -> None:
    ids = np.arange(23, dtype=np.int32)
    windows = parallel_windows(ids, (5, 23), (1, 2), 10)
    assert [part.tolist() for part, _ in windows] == [
        [0, 1, 2, 3, 4, 5, 6, 7, 21, 22],
        [0, 8, 9, 10, 11, 12, 13, 14, 21, 22],
        [0, 14, 15, 16, 17, 18, 19, 20, 21, 22],
    ]
    assert [pooled for _, pooled in windows] == [(5, 10), (1, 10), (1, 10)]
    assert [pooled for _, pooled in parallel_windows(ids, (0, 23), (1, 2), 10)] == [(0, 10)] * 3
    assert parallel_windows(ids[:10], (0, 10), (1, 2), 10)[0][1] == (0, 10)


@pytest.mark.parametrize("method", ["grouped", "recurrent"])
def test_an_encoder_without_padding_reads_the_extended_positions(tmp_path: Path, method: str) -> None:
    folder = save_bert(tmp_path)
    network = AutoModel.from_pretrained(folder).eval()
    recipe = Recipe(name="x", context_extension=extension(method), **LONG)
    s = -(-LT // LO)
    for text, vector in zip(TEXTS, embedded(folder, recipe, TEXTS), strict=True):
        ids = torch.tensor([ids_of(folder, text, "[CLS]", "[SEP]")])
        positions = [i // s if method == "grouped" else i % LO for i in range(ids.shape[1])]
        with torch.no_grad():
            states = network(input_ids=ids, position_ids=torch.tensor([positions])).last_hidden_state[0]
        assert float(vector @ unit(states.mean(0))) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("attention", ["causal", "bidirectional"])
def test_a_decoder_reads_the_extended_positions(tmp_path: Path, attention: str) -> None:
    # The network's own arithmetic is proved in test_embedder_long_context; here: that it is what the embedder runs.
    folder = save_qwen3(tmp_path)
    network = AutoModel.from_pretrained(folder).eval()
    network.config.rope_parameters = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 5.0}
    network.rotary_emb = type(network.rotary_emb)(config=network.config)
    network.config.is_causal = attention == "causal"
    recipe = Recipe(name="x", attention=attention, prepend=(), append=("</s>",), pooling="last", **LONG)  # type: ignore[arg-type]
    plain = embedded(folder, recipe, TEXTS)
    found = embedded(folder, replace(recipe, context_extension=extension("interpolation")), TEXTS)
    for text, vector in zip(TEXTS, found, strict=True):
        ids = torch.tensor([ids_of(folder, text, "", "</s>")])
        with torch.no_grad():
            states = network(input_ids=ids, use_cache=False).last_hidden_state[0]
        assert float(vector @ unit(states[-1])) == pytest.approx(1, abs=1e-5)
    assert min(float(a @ b) for a, b in zip(plain, found, strict=True)) < 1 - 1e-6


@pytest.mark.parametrize("attention", ["causal", "bidirectional"])
def test_self_extend_is_not_lost_on_the_way_to_the_network(tmp_path: Path, attention: str) -> None:
    folder = save_qwen3(tmp_path)
    chosen = extension("self_extend", group=6, window=8)
    network = AutoModel.from_pretrained(folder).eval()
    network.config.is_causal = attention == "causal"
    extend(network, chosen, causal=attention == "causal")
    recipe = Recipe(name="x", attention=attention, prepend=(), append=("</s>",), pooling="mean", **LONG)  # type: ignore[arg-type]
    found = embedded(folder, replace(recipe, context_extension=chosen), TEXTS)
    plain = embedded(folder, recipe, TEXTS)
    for text, vector in zip(TEXTS, found, strict=True):
        ids = torch.tensor([ids_of(folder, text, "", "</s>")])
        with torch.no_grad():
            states = network(input_ids=ids, use_cache=False).last_hidden_state[0]
        np.testing.assert_allclose(vector, unit(states.mean(0)), atol=1e-5)
    assert max(float(np.abs(a - b).max()) for a, b in zip(plain, found, strict=True)) > 1e-4


def test_an_extensible_decoder_serves_documents_and_queries(tmp_path: Path) -> None:
    folder = save_llama(tmp_path)
    chosen = ContextExtension(method="extensible", original_tokens=64, target_tokens=LT, group=4, window=16, layers=1)
    recipe = Recipe(name="x", attention="causal", pooling="last", prepend=("<s>",), append=("</s>",), **LONG)
    decoder = ExtensibleDecoder(AutoModel.from_pretrained(folder).eval(), chosen).eval()
    for text, vector in zip(TEXTS, embedded(folder, replace(recipe, context_extension=chosen), TEXTS), strict=True):
        ids = torch.tensor([ids_of(folder, text, "<s>", "</s>")])
        with torch.no_grad():
            states = decoder(ids).last_hidden_state[0]
        assert float(vector @ unit(states[-1])) == pytest.approx(1, abs=1e-5)


def test_passages_of_a_long_document_remain_possible(tmp_path: Path) -> None:
    folder = save_bert(tmp_path)
    recipe = Recipe(name="x", context_extension=extension("grouped"), **{**LONG, "passage_tokens": 20})
    with Embedder.load(str(folder), recipe=recipe, device="cpu", workers=1) as embedder:
        (document,) = embedder.embed_documents([DocumentInput(title="", text=TEXTS[0])])
    assert len(document.passages) >= 5


def test_the_extension_is_part_of_the_fingerprint(tmp_path: Path) -> None:
    folder = save_bert(tmp_path)
    recipe = Recipe(name="x", **LONG)
    digests = set()
    for chosen in (extension("grouped"), extension("recurrent"), replace(extension("grouped"), original_tokens=25)):
        with Embedder.load(str(folder), recipe=replace(recipe, context_extension=chosen), device="cpu") as embedder:
            digests.add(embedder.fingerprint.digest)
    assert len(digests) == 3


def test_a_method_for_one_vector_does_not_share_windows() -> None:
    fields: dict[str, Any] = {**LONG, "landmark": "span_mean", "passage_tokens": 20}
    with pytest.raises(InvalidRecipe, match="one vector"):
        Recipe(name="x", context_extension=extension("parallel_windows"), **fields)


@pytest.mark.parametrize(
    "name",
    ["parallel-windows", "grouped-positions", "recurrent-positions", "position-interpolation", "ntk", "self-extend"],
)
def test_a_system_by_name_extends_any_checkpoint_eightfold(tmp_path: Path, name: str) -> None:
    folder = save_qwen3(tmp_path)
    with Embedder.load(f"{name}:{folder}", device="cpu", workers=1) as embedder:
        assert (embedder.recipe.max_tokens, embedder.max_passage_tokens) == (8 * 128, 8 * 128)
        (document,) = embedder.embed_documents([DocumentInput(title="", text=texts(500)[0])])
    assert len(document.passages) == 1
    assert np.isfinite(document.passages[0].vectors.dense).all()
