from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from embedder.catalogue import refer
from embedder.checkpoint import locate, open_checkpoint, recipe_for
from embedder.errors import InvalidRecipe, ModelLoadFailed, ModelNotFound, UnsafeWeights
from embedder.recipe import Recipe
from embedder.tokens import load_tokenizer
from tests.support import tiny_models


def derive(folder: Path, name: str | None = None) -> Recipe:
    name = name or str(folder)
    return recipe_for(open_checkpoint(name, folder), *refer(name).tables)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.save_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def qwen3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.save_qwen3(tmp_path_factory.mktemp("qwen3"))


def test_a_plain_encoder_pools_the_mean_and_looks_both_ways(bert: Path) -> None:
    recipe = derive(bert)
    assert (recipe.pooling, recipe.attention, recipe.sparse_head) == ("mean", "bidirectional", "none")
    assert (recipe.max_tokens, recipe.passage_tokens, recipe.normalise) == (128, 128, True)


def test_a_decoder_pools_an_end_token_of_ours_and_looks_back(qwen3: Path) -> None:
    recipe = derive(qwen3)
    assert (recipe.pooling, recipe.attention, recipe.landmark) == ("last", "causal", "end_token")
    tokenizer = load_tokenizer(open_checkpoint("tiny", qwen3), recipe)
    assert tokenizer.append.tolist() == [tiny_models.VOCABULARY["</s>"]]


def test_a_decoder_saved_as_not_causal_looks_both_ways(tmp_path: Path) -> None:
    recipe = derive(tiny_models.save_llama(tmp_path, is_causal=False))
    assert (recipe.pooling, recipe.attention) == ("mean", "bidirectional")


def test_a_masked_language_model_gives_sparse_vectors(tmp_path: Path) -> None:
    recipe = derive(tiny_models.save_masked_lm(tmp_path))
    assert (recipe.sparse_head, recipe.has_dense) == ("mlm_max", False)


def test_the_files_of_sentence_transformers_are_followed(tmp_path: Path) -> None:
    folder = tiny_models.save_bert(tmp_path)
    tiny_models.add_sentence_transformers_files(
        folder,
        pooling={"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False, "include_prompt": False},
        prompts={"query": "ask: ", "document": "tell: "},
        max_seq_length=64,
        normalise=False,
    )
    recipe = derive(folder)
    assert (recipe.pooling, recipe.pooled, recipe.normalise, recipe.max_tokens) == ("cls", "after_prompt", False, 64)
    assert recipe.query_text("{text}?", None) == "ask: {text}?"
    assert recipe.document_prefix("T") == "tell: T "
    assert recipe.document_prefix(" ") == "tell: "


def test_the_new_form_of_the_pooling_file_is_read(tmp_path: Path) -> None:
    folder = tiny_models.save_qwen3(tmp_path)
    tiny_models.add_sentence_transformers_files(folder, pooling={"pooling_mode": "lasttoken"})
    assert derive(folder).pooling == "last"


@pytest.mark.parametrize("mode", ["max", "mean_sqrt_len"])
def test_a_pooling_that_is_not_supported_is_refused(tmp_path: Path, mode: str) -> None:
    folder = tiny_models.save_bert(tmp_path)
    tiny_models.add_sentence_transformers_files(folder, pooling={"pooling_mode": mode})
    with pytest.raises(InvalidRecipe, match=mode):
        derive(folder)


def test_a_module_that_is_not_supported_is_refused(tmp_path: Path) -> None:
    folder = tiny_models.save_bert(tmp_path)
    (folder / "modules.json").write_text(json.dumps([{"path": "", "type": "sentence_transformers.models.LSTM"}]))
    with pytest.raises(InvalidRecipe, match="LSTM"):
        derive(folder)


def test_a_module_path_outside_the_folder_is_refused(tmp_path: Path) -> None:
    folder = tiny_models.save_bert(tmp_path / "model")
    entry = {"path": "../../etc", "type": "sentence_transformers.models.Transformer"}
    (folder / "modules.json").write_text(json.dumps([entry]))
    with pytest.raises(ModelLoadFailed, match="outside"):
        open_checkpoint("x", folder)


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x02")
    with pytest.raises(UnsafeWeights, match=r"pytorch_model\.bin"):
        open_checkpoint("x", tmp_path)


@pytest.mark.parametrize("config", [None, "[]", "{", "\x00"])
def test_a_folder_without_a_usable_config_is_refused(tmp_path: Path, config: str | None) -> None:
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    with pytest.raises(ModelLoadFailed, match=r"config\.json"):
        open_checkpoint("x", tmp_path)


def test_an_encoder_decoder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"is_encoder_decoder": true, "architectures": ["T5Model"]}')
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(InvalidRecipe, match="T5Model"):
        derive(tmp_path)


@pytest.mark.parametrize("name", ["./missing", "/no/such/folder", "a/b/c", "~/none"])
def test_a_missing_folder_is_not_looked_for_on_the_hub(name: str) -> None:
    with pytest.raises(ModelNotFound, match="no such folder"):
        locate(name)


def test_qwen3_embedding_has_no_space_after_query_and_its_own_end_token(qwen3: Path) -> None:
    recipe = derive(qwen3, "Qwen/Qwen3-Embedding-0.6B")
    assert recipe.query_text("q", "a task") == "Instruct: a task\nQuery:q"
    assert recipe.document_prefix("") == ""
    assert (recipe.append, recipe.pooling, recipe.attention) == (("<|endoftext|>",), "last", "causal")
    assert 1024 in recipe.matryoshka_dims


def test_e5_and_bge_have_their_prompts(bert: Path) -> None:
    e5 = derive(bert, "intfloat/e5-small-v2")
    assert e5.query_text("q", None) == "query: q"
    assert e5.document_prefix("T") == "passage: T "
    bge = derive(bert, "BAAI/bge-small-en-v1.5")
    assert bge.query_text("q", None).endswith("relevant passages: q")
    assert bge.pooling == "cls"


@pytest.mark.parametrize("name", ["e5-mistral-7b-instruct", "Qwen/Qwen3-0.6B", "builtin", "my-bge-small-en"])
def test_a_name_that_only_resembles_a_known_one_is_its_own(name: str) -> None:
    known = refer(name).system
    assert known is None or name == "e5-mistral-7b-instruct"


def test_a_title_in_braces_is_not_expanded() -> None:
    assert Recipe(name="x").document_prefix("{text}") == "{text} "


def test_a_special_token_that_the_vocabulary_lacks_is_refused(qwen3: Path) -> None:
    recipe = replace(derive(qwen3), append=("<|nothing|>",))
    with pytest.raises(InvalidRecipe, match="nothing"):
        load_tokenizer(open_checkpoint("tiny", qwen3), recipe)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("query_template", "no text"),
        ("document_template", "{title}"),
        ("document_template", ()),
        ("pooled", "some"),
        ("hidden_layer", -3),
        ("query_tokens", 2000),
        ("sparse_terms", -1),
        ("max_tokens", 3),
        ("window_tokens", 1000),
        ("passage_tokens", 0),
        ("landmark", "end_token"),
    ],
)
def test_a_field_with_a_wrong_value_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(InvalidRecipe) as caught:
        replace(Recipe(name="x"), **{field: value})
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("table", "sizes"),
    [
        ({}, (256, None, 256, 128)),
        ({"max_tokens": 8192}, (256, None, 256, 256)),
        ({"max_tokens": 100}, (100, None, 100, 100)),
        ({"query_tokens": 300}, (256, 256, 256, 128)),
        ({"passage_tokens": 400}, (256, None, 256, 256)),
        ({"window_tokens": 200}, (256, None, 200, 200)),
        ({"window_tokens": 200, "passage_tokens": 50}, (256, None, 200, 50)),
    ],
)
def test_the_sizes_of_a_table_are_those_that_the_checkpoint_allows(
    table: dict[str, object], sizes: tuple[int | None, ...]
) -> None:
    base = Recipe(name="x", max_tokens=256, window_tokens=256, passage_tokens=128)
    found = base.overlaid(table)
    assert (found.max_tokens, found.query_tokens, found.window_tokens, found.passage_tokens) == sizes


@pytest.mark.parametrize(
    ("table", "landmark"),
    [
        ({"pooling": "last", "attention": "causal"}, "end_token"),
        ({"pooling": "last", "attention": "bidirectional"}, "none"),
        ({"pooling": "last", "attention": "causal", "document_template": '"{text}"'}, "none"),
        ({"pooling": "last", "attention": "causal", "pooled": "text_to_end"}, "none"),
        ({"normalise": False}, "span_mean"),
        ({"pooling": "cls"}, "none"),
        ({"cleanup": "sentence"}, "none"),
    ],
)
def test_passages_share_windows_as_far_as_the_changed_recipe_allows(table: dict[str, object], landmark: str) -> None:
    assert Recipe(name="x", landmark="span_mean").overlaid(table).landmark == landmark
    blended = "blend" if landmark == "span_mean" else landmark
    assert Recipe(name="x", landmark="blend").overlaid(table).landmark == blended


@pytest.mark.parametrize(
    "table",
    [
        {"nothing": 1},
        {"max_tokens": "8"},
        {"max_tokens": True},
        {"normalise": 1},
        {"append": "</s>"},
        {"append": ["</s>", 1]},
        {"query_template": ["{text}", "none"]},
        {"matryoshka_dims": ["64"]},
    ],
)
def test_a_table_with_a_wrong_field_or_value_is_refused_by_name(table: dict[str, object]) -> None:
    with pytest.raises(InvalidRecipe) as caught:
        Recipe(name="x").overlaid(table)
    assert caught.value.field == next(iter(table))


def test_the_arrays_of_a_table_become_tuples() -> None:
    found = Recipe(name="x").overlaid({"append": ["</s>"], "query_template": ["a {text}", "b {text}"]})
    assert (found.append, found.query_templates) == (("</s>",), ("a {text}", "b {text}"))
