from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path

import pytest

from embedder.checkpoint import open_checkpoint, recipe_for
from embedder.context_extension import ContextExtension
from embedder.dtypes import Dtype
from embedder.fingerprint import NOT_COUNTED, Fingerprint, fingerprint_of
from embedder.recipe import Recipe
from tests.support import tiny_models


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    return tiny_models.save_bert(tmp_path / "bert")


def take(folder: Path, *, dtype: Dtype = "float32", **changes: object) -> Fingerprint:
    checkpoint = open_checkpoint(str(folder), folder)
    recipe: Recipe = replace(recipe_for(checkpoint), **changes)  # type: ignore[arg-type]
    return fingerprint_of(checkpoint, recipe, dtype=dtype, dim=16, special=([2], [3]))


def test_the_same_model_in_another_folder_has_the_same_fingerprint(bert: Path, tmp_path: Path) -> None:
    other = tiny_models.save_bert(tmp_path / "copy")
    assert take(other) == take(bert)
    assert take(other).digest == take(bert).digest


def test_other_weights_differ_in_weights_only(bert: Path, tmp_path: Path) -> None:
    other = tiny_models.save_bert(tmp_path / "other", seed=1)
    assert list(take(other).differences(take(bert).as_dict())) == ["weights"]


@pytest.mark.parametrize(
    ("part", "changes"),
    [
        ("pooling", {"pooling": "cls"}),
        ("pooling", {"normalise": False}),
        ("pooling", {"projections": ("2_Dense",)}),
        ("prompts", {"query_template": "query: {text}"}),
        ("prompts", {"document_template": "passage: {text}"}),
        ("sparse", {"sparse_head": "mlm_max"}),
        ("layout", {"passage_tokens": 64}),
        ("layout", {"landmark": "span_mean"}),
        ("dtype", {"dtype": "bfloat16"}),
    ],
)
def test_each_choice_shows_in_its_own_part(bert: Path, part: str, changes: dict[str, object]) -> None:
    base, other = take(bert), take(bert, **changes)  # type: ignore[arg-type]
    assert list(other.differences(base.as_dict())) == [part]
    assert other.digest != base.digest


# A value for every field that is not at its default, by the part of the fingerprint that must show it.
UNUSUAL: dict[str, tuple[str, object]] = {
    "query_template": ("prompts", "query: {text}"),
    "document_template": ("prompts", "passage: {text}"),
    "empty_title": ("prompts", "none"),
    "shot_template": ("prompts", "{query}"),
    "default_task": ("prompts", "other"),
    "default_document_task": ("prompts", "other"),
    "cleanup": ("prompts", "sentence"),
    "separate_pieces": ("prompts", True),
    "pooled": ("prompts", "text"),
    "kept_prompt_tokens": ("prompts", 1),
    "query_tokens": ("prompts", 64),
    "attention": ("pooling", "causal"),
    "hidden_layer": ("pooling", -2),
    "pooling": ("pooling", "weighted_mean"),
    "projections": ("pooling", ("2_Dense",)),
    "normalise": ("pooling", False),
    "token_head": ("pooling", "latent_attention"),
    "router_weight": ("pooling", 1.0),
    "context_documents": ("pooling", 4),
    "context_extension": ("pooling", ContextExtension(method="grouped", original_tokens=64, target_tokens=128)),
    "sparse_head": ("sparse", "mlm_max"),
    "sparse_activation": ("sparse", "relu"),
    "sparse_pooling": ("sparse", "sum"),
    "sparse_query": ("sparse", "binary"),
    "sparse_terms": ("sparse", 128),
    "sparse_scale": ("sparse", 100.0),
    "sparse_idf": ("sparse", True),
    "sparse_unknown": ("sparse", True),
    "sparse_expansion": ("sparse", 4),
    "multi_head": ("sparse", "token_linear"),
    "sliding_window": ("config", False),
    "adapters": ("config", ("adapter",)),
    "query_adapter": ("config", "adapter"),
    "document_adapter": ("config", "adapter"),
    "backbone": ("config", "bert"),
    "backbone_config": ("config", "text_config"),
    "weights_prefix": ("config", "model."),
    "max_tokens": ("max_tokens", 512),
    "window_tokens": ("layout", 96),
    "passage_tokens": ("layout", 64),
    "landmark": ("layout", "span_mean"),
}


def test_every_field_of_a_recipe_is_in_the_fingerprint_or_decides_no_vector(bert: Path) -> None:
    assert set(UNUSUAL) | set(NOT_COUNTED) == {field.name for field in fields(Recipe)}
    adapter = bert / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    base = take(bert, passage_tokens=64)
    for name, (part, value) in UNUSUAL.items():
        other = take(bert, **{"passage_tokens": 64, name: 32 if name == "passage_tokens" else value})  # type: ignore[arg-type]
        assert part in other.differences(base.as_dict()), name


def test_a_field_at_its_default_leaves_no_trace(bert: Path) -> None:
    assert "=" not in take(bert).pooling + take(bert).sparse


def test_a_changed_vocabulary_shows_in_the_tokenizer(bert: Path) -> None:
    before = take(bert)
    tokenizer = bert / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text().replace('"cat"', '"cow"'))
    assert list(take(bert).differences(before.as_dict())) == ["tokenizer"]


def test_who_wrote_the_config_does_not_matter_but_how_it_computes_does(bert: Path) -> None:
    before = take(bert)
    path = bert / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"transformers_version": "0.0", "_name_or_path": "x"}))
    assert take(bert) == before
    path.write_text(json.dumps(config | {"layer_norm_eps": 1e-3}))
    assert list(take(bert).differences(before.as_dict())) == ["config"]


def test_the_name_of_the_model_does_not_matter(bert: Path) -> None:
    assert take(bert, name="another") == take(bert)


def test_differences_name_parts_that_one_side_lacks(bert: Path) -> None:
    stored = take(bert).as_dict()
    dtype = stored.pop("dtype")
    stored["layer"] = -1
    assert take(bert).differences(stored) == {"dtype": (None, dtype), "layer": (-1, None)}
