from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from embedder.checkpoint import locate, open_checkpoint, recipe_for
from embedder.errors import InvalidRecipe, ModelLoadFailed, ModelNotFound, UnsafeWeights
from embedder.recipe import Recipe, known_for
from embedder.tokens import load_tokenizer
from tests.support import tiny_models


def derive(folder: Path, name: str | None = None) -> Recipe:
    return recipe_for(open_checkpoint(name or str(folder), folder))


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
    assert (recipe.pooling, recipe.pool_prompt, recipe.normalise, recipe.max_tokens) == ("cls", False, False, 64)
    assert recipe.query_text("{text}?", None) == "ask: {text}?"
    assert recipe.document_prefix("T") == "tell: T "
    assert recipe.document_prefix(" ") == "tell: "


def test_the_new_form_of_the_pooling_file_is_read(tmp_path: Path) -> None:
    folder = tiny_models.save_qwen3(tmp_path)
    tiny_models.add_sentence_transformers_files(folder, pooling={"pooling_mode": "lasttoken"})
    assert derive(folder).pooling == "last"


@pytest.mark.parametrize("mode", ["max", "mean_sqrt_len", "weightedmean"])
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
    assert recipe.query_text("q", "T") == "Instruct: T\nQuery:q"
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
    known = known_for(name)
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
        ("document_template", "{text} {title}"),
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
