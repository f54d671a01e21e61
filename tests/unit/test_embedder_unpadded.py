"""Networks without padding give the states that they give with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import embedder.model
from embedder.checkpoint import open_checkpoint, recipe_for
from embedder.model import Model
from embedder.tokens import load_tokenizer
from tests.support import tiny_architectures

LENGTHS = (40, 17, 17, 5, 30, 1, 17)


def load(folder: Path, **changes: object) -> Model:
    checkpoint = open_checkpoint(str(folder), folder)
    recipe = recipe_for(checkpoint).overlaid({"pooling": "mean", **changes})
    tokenizer = load_tokenizer(checkpoint, recipe)
    return Model(checkpoint, recipe, device="cpu", dtype="float32", tokenizer=tokenizer)


def states(model: Model, lengths: tuple[int, ...] = LENGTHS) -> torch.Tensor:
    generator = np.random.default_rng(0)
    rows = [generator.integers(10, 300, size=length).astype(np.int32) for length in lengths]
    with torch.inference_mode():
        return model._states(rows, lambda: None).states


@pytest.mark.parametrize("attention", ["causal", "bidirectional"])
@pytest.mark.parametrize("sliding_window", [True, False])
@pytest.mark.parametrize("model_type", ["llama", "mistral", "qwen2", "qwen3", "gemma2", "opt"])
def test_texts_in_one_row_do_not_see_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model_type: str, sliding_window: bool, attention: str
) -> None:
    folder = tiny_architectures.save(tmp_path, model_type)
    found = load(folder, attention=attention, sliding_window=sliding_window)
    monkeypatch.setattr(embedder.model, "unpad", lambda *_, **__: False)
    padded = load(folder, attention=attention, sliding_window=sliding_window)
    torch.testing.assert_close(states(found), states(padded), atol=1e-5, rtol=0)
    window_looks_both_ways = model_type == "mistral" and sliding_window and attention == "bidirectional"
    assert found.pads == (model_type in ("gemma2", "opt") or window_looks_both_ways)


@pytest.mark.parametrize("model_type", ["bert", "xlm-roberta"])
def test_encoders_run_unpadded_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model_type: str) -> None:
    folder = tiny_architectures.save(tmp_path, model_type)
    for faster in ("read_bert", "pack_bert"):  # but they know BERT on a CPU only
        monkeypatch.setattr(embedder.model, faster, lambda *_, **__: None)
    found = load(folder)
    monkeypatch.setattr(embedder.model, "unpad", lambda *_, **__: False)
    torch.testing.assert_close(states(found), states(load(folder)), atol=1e-5, rtol=0)
    assert not found.pads


def test_a_network_that_answers_otherwise_without_padding_keeps_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny_architectures.save(tmp_path, "llama")
    expected = states(load(folder, attention="causal"))

    def leaky(module: object, query: torch.Tensor, *_: object, **__: object) -> tuple[torch.Tensor, None]:
        return query.transpose(1, 2).flip(1), None

    monkeypatch.setattr("embedder.unpadded._attend", leaky)
    model = load(folder, attention="causal")
    assert model.pads
    torch.testing.assert_close(states(model), expected, atol=1e-5, rtol=0)
