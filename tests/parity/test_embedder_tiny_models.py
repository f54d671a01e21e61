"""What must hold for any network: what a state may see, that padding is invisible, and which positions are pooled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel, BertConfig, BertModel

from embedder import heads, sparse_heads
from embedder.checkpoint import open_checkpoint, recipe_for
from embedder.embedder import DocumentInput, Embedder
from embedder.model import Model
from embedder.packed import PackedBert, pack_bert
from embedder.recipe import Recipe
from embedder.tokens import load_tokenizer
from embedder.windows import Row
from tests.support import tiny_models

TEXTS = ["the dog ran far .", "a cat slept under the old tree , near the river !", "birds", "mat " * 30]
MAKERS: dict[str, Callable[[Path], Path]] = {
    "bert": tiny_models.save_bert,
    "qwen3": tiny_models.save_qwen3,
    "llama": tiny_models.save_llama,
    "masked": tiny_models.save_masked_lm,
}


def load(folder: Path, **changes: object) -> tuple[Model, Recipe]:
    checkpoint = open_checkpoint(str(folder), folder)
    recipe = replace(recipe_for(checkpoint), **changes)  # type: ignore[arg-type]
    tokenizer = load_tokenizer(checkpoint, recipe)
    return Model(checkpoint, recipe, device="cpu", dtype="float32", tokenizer=tokenizer), recipe


def row(ids: list[int], start: int, end: int) -> Row:
    span = np.array([[start, end]], dtype=np.int32)
    return Row(np.array(ids, dtype=np.int32), span, span)


def dense(model: Model, *rows: Row) -> list[np.ndarray]:
    return [passages[0].dense for passages in model.run(list(rows), lambda: None)]


@pytest.mark.parametrize("kind", MAKERS)
def test_padding_and_company_are_invisible(tmp_path: Path, kind: str) -> None:
    folder = MAKERS[kind](tmp_path)
    with Embedder.load(str(folder), threads=1) as embedder:
        together = embedder.embed_documents([DocumentInput("", text) for text in TEXTS])
        for text, document in zip(TEXTS, together, strict=True):
            (alone,) = embedder.embed_documents([DocumentInput("", text)])
            left, right = alone.passages[0].vectors, document.passages[0].vectors
            np.testing.assert_allclose(left.dense, right.dense, atol=1e-5)
            if left.sparse is not None and right.sparse is not None:
                np.testing.assert_array_equal(left.sparse.ids, right.sparse.ids)
                np.testing.assert_allclose(left.sparse.weights, right.sparse.weights, atol=1e-5)


def test_a_causal_state_does_not_see_what_follows(tmp_path: Path) -> None:
    model, _ = load(tiny_models.save_qwen3(tmp_path))
    first, second = (dense(model, row([7, 8, 9, last], 1, 2), row([7], 0, 1))[0] for last in (10, 11))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("maker", [tiny_models.save_qwen3, tiny_models.save_llama])
@pytest.mark.parametrize("company", [0, 1, 3])
def test_a_bidirectional_decoder_sees_what_follows_padded_or_not(
    tmp_path: Path, maker: Callable[[Path], Path], company: int
) -> None:
    model, _ = load(maker(tmp_path), attention="bidirectional", pooling="mean", landmark="none")
    others = [row([7, 8], 0, 1)] * company
    first, second = (dense(model, row([7, 8, 9, last], 1, 2), *others)[0] for last in (10, 11))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("maker", [tiny_models.save_qwen3, tiny_models.save_llama, tiny_models.save_bert])
def test_inputs_begin_and_end_with_the_recipes_tokens_also_when_they_are_cut(
    tmp_path: Path, maker: Callable[[Path], Path]
) -> None:
    folder = maker(tmp_path)
    checkpoint = open_checkpoint(str(folder), folder)
    vocabulary = tiny_models.VOCABULARY
    recipe = recipe_for(checkpoint)
    if recipe.pooling == "last":
        recipe = replace(recipe, prepend=("<s>",), append=("</s>",))
    expected = ("<s>", "</s>") if recipe.pooling == "last" else ("[CLS]", "[SEP]")
    tokenizer = load_tokenizer(checkpoint, recipe)
    room = recipe.max_tokens - tokenizer.n_special
    for text in ("dog", "dog " * 500):
        ids = tokenizer.wrap(tokenizer.tokenize([""], [text])[0].ids[:room])
        assert len(ids) <= recipe.max_tokens
        assert (ids[0], ids[-1]) == (vocabulary[expected[0]], vocabulary[expected[1]])


def test_the_last_token_pooled_is_the_end_token(tmp_path: Path) -> None:
    folder = tiny_models.save_qwen3(tmp_path)
    ids = [tiny_models.VOCABULARY[word] for word in ("the", "dog", "ran", "</s>")]
    with torch.inference_mode():
        states = AutoModel.from_pretrained(folder).eval()(torch.tensor([ids])).last_hidden_state[0]
    expected = torch.nn.functional.normalize(states[-1], dim=0).numpy()
    with Embedder.load(str(folder), threads=1) as embedder:
        (query,) = embedder.embed_queries(["the dog ran"])
    np.testing.assert_allclose(query.dense, expected, atol=1e-5)


def test_a_landmark_knows_the_passages_before_it_and_not_those_after(tmp_path: Path) -> None:
    folder = tiny_models.save_qwen3(tmp_path)
    words = [tiny_models.WORDS[i * 7 % len(tiny_models.WORDS)] for i in range(30)]
    with Embedder.load(str(folder), threads=1, passage_tokens=10, window_tokens=64) as embedder:
        base, early, late = embedder.embed_documents(
            [
                DocumentInput("", " ".join(words)),
                DocumentInput("", " ".join(["cat", *words[1:]])),
                DocumentInput("", " ".join([*words[:-1], "cat"])),
            ]
        )
    assert [len(document.passages) for document in (base, early, late)] == [3, 3, 3]
    assert not np.allclose(base.passages[1].vectors.dense, early.passages[1].vectors.dense, atol=1e-4)
    np.testing.assert_allclose(base.passages[1].vectors.dense, late.passages[1].vectors.dense, atol=1e-5)


def test_late_chunking_pools_each_passage_from_the_states_of_the_whole_window(tmp_path: Path) -> None:
    folder = tiny_models.save_bert(tmp_path)
    checkpoint = open_checkpoint(str(folder), folder)
    recipe = replace(recipe_for(checkpoint), landmark="span_mean", passage_tokens=10, window_tokens=64)
    words = [tiny_models.WORDS[i * 7 % len(tiny_models.WORDS)] for i in range(30)]
    ids = [tiny_models.VOCABULARY[word] for word in ("[CLS]", *words, "[SEP]")]
    with torch.inference_mode():
        states = AutoModel.from_pretrained(folder).eval()(torch.tensor([ids])).last_hidden_state[0]
    with Embedder.load(str(folder), threads=1, recipe=recipe) as embedder:
        (document,) = embedder.embed_documents([DocumentInput("", " ".join(words))])
    position = 1
    for passage in document.passages:
        expected = torch.nn.functional.normalize(states[position : position + passage.tokens].mean(0), dim=0)
        np.testing.assert_allclose(passage.vectors.dense, expected.numpy(), atol=1e-5)
        position += passage.tokens
    assert position == 31


@pytest.mark.parametrize("lengths", [[5], [3, 3, 3], [9, 1, 4, 9, 2]])
def test_the_packed_encoder_equals_the_padded_one(lengths: list[int]) -> None:
    torch.manual_seed(1)
    sizes = {"hidden_size": 24, "intermediate_size": 40, "num_attention_heads": 3, "num_hidden_layers": 3}
    network = BertModel(BertConfig(vocab_size=50, **sizes)).eval()
    packed = pack_bert(network)
    assert packed is not None
    inputs = [np.arange(length, dtype=np.int32) * 3 % 50 for length in lengths]
    with torch.inference_mode():
        got = packed(inputs, lambda: None)
        expected = [network(torch.from_numpy(ids[None].astype(np.int64))).last_hidden_state[0] for ids in inputs]
    torch.testing.assert_close(got, torch.cat(expected), atol=1e-5, rtol=1e-4)


def test_a_batch_that_runs_inside_the_pause_of_another_does_not_disturb_it() -> None:
    torch.manual_seed(1)
    network = BertModel(BertConfig(vocab_size=50, hidden_size=24, intermediate_size=40, num_attention_heads=3)).eval()
    packed = pack_bert(network)
    assert packed is not None
    inputs = [np.arange(9, dtype=np.int32), np.arange(4, dtype=np.int32)]

    def nested(model: PackedBert) -> None:
        model([np.arange(20, dtype=np.int32)], lambda: None)

    with torch.inference_mode():
        torch.testing.assert_close(packed(inputs, lambda: nested(packed)), packed(inputs, lambda: None))


def test_the_vocabulary_in_chunks_equals_the_vocabulary_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    states, weight, bias = torch.randn(9, 6), torch.randn(23, 6), torch.randn(23)
    counts = [4, 0, 5]
    monkeypatch.setattr(sparse_heads, "VOCABULARY_CHUNK", 5)
    whole = torch.log1p(torch.relu(states @ weight.T + bias))
    expected = torch.stack([whole[:4].amax(0), torch.zeros(23), whole[4:].amax(0)])
    torch.testing.assert_close(sparse_heads.vocabulary_weights(states, counts, weight, bias), expected)


def test_a_matryoshka_prefix_has_unit_length_again() -> None:
    short = heads.truncate_dim(np.array([[3.0, 4.0, 12.0], [0.0, 0.0, 1.0]], dtype=np.float32), 2)
    np.testing.assert_allclose(short, [[0.6, 0.8], [0, 0]], atol=1e-6)
    assert short.dtype == np.float32


def test_bfloat16_is_close_and_has_another_fingerprint(tmp_path: Path) -> None:
    folder = str(tiny_models.save_bert(tmp_path))
    with Embedder.load(folder, threads=1) as full, Embedder.load(folder, threads=1, dtype="bfloat16") as half:
        (left,), (right,) = full.embed_queries([TEXTS[1]]), half.embed_queries([TEXTS[1]])
        assert list(half.fingerprint.differences(full.fingerprint.as_dict())) == ["dtype"]
    assert right.dense.dtype == np.float32
    assert float(left.dense @ right.dense) > 0.99
