"""Tiny random checkpoints with a tokenizer that reads any text, one token a byte.

A prompt that is off by one character is another input, and a part of a line has the same ids as it has in the line.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertModel,
    LlamaConfig,
    LlamaModel,
    MistralConfig,
    MistralModel,
    NomicBertConfig,
    NomicBertModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

SPECIAL = ("<pad>", "<unk>", "<s>", "</s>", "[CLS]", "[SEP]", "<|endoftext|>", "<|begin_of_text|>")
VOCABULARY = {token: i for i, token in enumerate((*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())))}
POSITIONS = 1024
_ENCODER: dict[str, Any] = {
    "vocab_size": len(VOCABULARY),
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": POSITIONS,
    "pad_token_id": 0,
}
_DECODER = {**_ENCODER, "num_key_value_heads": 1}


def save(folder: Path, kind: str, seed: int = 0) -> PreTrainedModel:
    """Save a checkpoint: "bert", "nomic_bert", "llama" or "mistral"; returns its network."""
    torch.manual_seed(seed)
    network = _network(kind).eval()
    network.save_pretrained(folder)
    backend = Tokenizer(models.BPE(vocab=VOCABULARY, merges=[], unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.add_special_tokens(list(SPECIAL))
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]" if "bert" in kind else "<s> $A",
        special_tokens=[(token, VOCABULARY[token]) for token in SPECIAL],
    )
    names = {"unk_token": "<unk>", "pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
    PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=POSITIONS, **names).save_pretrained(folder)
    return network


def _network(kind: str) -> PreTrainedModel:
    if kind == "bert":
        return BertModel(BertConfig(**_ENCODER))
    if kind == "nomic_bert":
        return NomicBertModel(NomicBertConfig(**_ENCODER))
    if kind == "mistral":
        return MistralModel(MistralConfig(**_DECODER, sliding_window=24))  # a recipe that lifts it must be seen to
    return LlamaModel(LlamaConfig(**_DECODER))
