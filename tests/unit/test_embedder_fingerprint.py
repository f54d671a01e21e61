from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from embedder.checkpoint import open_checkpoint, recipe_for
from embedder.fingerprint import Fingerprint, fingerprint_of
from embedder.recipe import Dtype, Recipe
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
