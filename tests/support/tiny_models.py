"""Tiny random checkpoints, made on the spot: a word-level tokenizer and a network of a few thousand parameters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertModel,
    LlamaConfig,
    LlamaModel,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3Model,
)

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "<s>", "</s>")
WORDS = (
    "the",
    "a",
    "cat",
    "dog",
    "sat",
    "on",
    "mat",
    "ran",
    "far",
    "over",
    "hill",
    "and",
    "slept",
    "under",
    "old",
    "tree",
    "near",
    "river",
    "while",
    "birds",
    "sang",
)
PUNCTUATION = (".", ",", "!", "?", ":", ";")
VOCABULARY = {token: i for i, token in enumerate((*SPECIAL, *WORDS, *PUNCTUATION))}
_SIZES: dict[str, Any] = {
    "vocab_size": len(VOCABULARY),
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 128,
}


def save_tokenizer(folder: Path, *, template: str = "$A", max_length: int = 128) -> None:
    """A word-level tokenizer; ``template`` is its own opinion on special tokens, which a recipe may overrule."""
    backend = Tokenizer(models.WordLevel(VOCABULARY, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = [(token, VOCABULARY[token]) for token in SPECIAL]
    backend.post_processor = processors.TemplateProcessing(single=template, special_tokens=special)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        bos_token="<s>",
        eos_token="</s>",
        model_max_length=max_length,
    )
    tokenizer.save_pretrained(folder)


def save_bert(folder: Path, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    BertModel(BertConfig(**_SIZES)).save_pretrained(folder)
    save_tokenizer(folder, template="[CLS] $A [SEP]")
    return folder


def save_masked_lm(folder: Path, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    BertForMaskedLM(BertConfig(**_SIZES)).save_pretrained(folder)
    save_tokenizer(folder, template="[CLS] $A [SEP]")
    return folder


def save_qwen3(folder: Path, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    Qwen3Model(Qwen3Config(**_SIZES, num_key_value_heads=1, head_dim=8)).save_pretrained(folder)
    save_tokenizer(folder)
    return folder


def save_llama(folder: Path, *, is_causal: bool = True, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    config = LlamaConfig(**_SIZES, num_key_value_heads=1)
    if not is_causal:
        config.is_causal = False
    LlamaModel(config).save_pretrained(folder)
    save_tokenizer(folder, template="<s> $A")
    return folder


def add_sentence_transformers_files(
    folder: Path,
    *,
    pooling: dict[str, object],
    prompts: dict[str, str] | None = None,
    max_seq_length: int | None = None,
    normalise: bool = True,
) -> None:
    """The files that sentence-transformers puts beside a transformers checkpoint."""
    modules = [("", "Transformer"), ("1_Pooling", "Pooling"), *([("2_Normalize", "Normalize")] if normalise else [])]
    entries = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(modules)
    ]
    (folder / "modules.json").write_text(json.dumps(entries))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 16, **pooling}))
    if prompts is not None:
        (folder / "config_sentence_transformers.json").write_text(json.dumps({"prompts": prompts}))
    if max_seq_length is not None:
        (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": max_seq_length}))
