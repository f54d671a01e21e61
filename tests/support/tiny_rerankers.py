"""Tiny random rerankers: a BERT with one logit, and a Qwen3 that can say yes and no."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from embedder.reranker import DEFAULT_TASK, PREFIX, SUFFIX
from tests.support.tiny_models import _SIZES, VOCABULARY, save_tokenizer

MARKS = ("<|im_start|>", "<|im_end|>", "<think>", "</think>")


def save_cross_encoder(folder: Path, *, labels: int = 1, seed: int = 0) -> Path:
    """``initializer_range`` is large, so that random scores differ."""
    torch.manual_seed(seed)
    config = BertConfig(**_SIZES, num_labels=labels, initializer_range=0.5)
    BertForSequenceClassification(config).save_pretrained(folder)
    save_tokenizer(folder, template="[CLS] $A [SEP]")
    # Let the tokenizer join pairs, as BERT's does.
    backend = Tokenizer.from_file(str(folder / "tokenizer.json"))
    special = [(token, VOCABULARY[token]) for token in ("[CLS]", "[SEP]")]
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=special
    )
    backend.save(str(folder / "tokenizer.json"))
    return folder


def save_yes_no(folder: Path, *, seed: int = 0, answers: tuple[str, ...] = ("yes", "no"), positions: int = 256) -> Path:
    """A word-level vocabulary with the words of the prompt, and ``answers``."""
    words = re.findall(r"\w+|[^\w\s]+", f"{PREFIX} {SUFFIX} {DEFAULT_TASK} <Instruct>: <Query>: <Document>:")
    known = dict.fromkeys((*VOCABULARY, *MARKS, *words))
    kept = [word for word in known if word not in ("yes", "no")] + list(answers)
    vocabulary = {word: i for i, word in enumerate(kept)}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token="[UNK]",
        pad_token="[PAD]",
        additional_special_tokens=list(MARKS),
        model_max_length=positions,
    )
    tokenizer.save_pretrained(folder)
    torch.manual_seed(seed)
    sizes = {**_SIZES, "vocab_size": len(tokenizer), "max_position_embeddings": positions}
    config = Qwen3Config(**sizes, num_key_value_heads=1, head_dim=8, initializer_range=0.4, tie_word_embeddings=True)
    Qwen3ForCausalLM(config).save_pretrained(folder)
    return folder
