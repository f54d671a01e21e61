"""Tiny random checkpoints of the architectures of published embedding systems, with a byte-level BPE tokenizer.

Its merges are learnt from a few sentences, so that words are cut into several tokens, and what is tokenised together
differs from what is tokenised apart.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

SPECIAL = (
    *("<pad>", "<s>", "</s>", "<unk>", "<|endoftext|>", "<|begin_of_text|>"),
    *("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<instruct>", "<query>", "<response>"),
)
_SENTENCES = (
    "Given a web search query, retrieve relevant passages that answer the query",
    'This sentence : "A dog ran over the hill." means in one word:"',
    "Instruct: Represent the Wikipedia document for retrieval: Query: passage: the cat sat on the mat",
    "the old tree near the river, while birds sang; a cat slept under it. The dog ran far and the birds flew away!",
)
HIDDEN = 32
POSITIONS = 640
_DECODER: dict[str, Any] = {
    "hidden_size": HIDDEN,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": POSITIONS,
}
_GROUPED = {**_DECODER, "num_key_value_heads": 2, "head_dim": 8}
_CONFIGS: dict[str, dict[str, Any]] = {
    "mistral": {**_GROUPED, "sliding_window": 16},
    "llama": _GROUPED,
    "qwen2": {name: value for name, value in _GROUPED.items() if name != "head_dim"},
    "qwen3": _GROUPED,
    "gemma2": {**_GROUPED, "query_pre_attn_scalar": 8},
    "gemma3_text": {
        **_GROUPED,
        "query_pre_attn_scalar": 8,
        "use_bidirectional_attention": True,
        "sliding_window": 8,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    },
    "opt": {
        **{name: value for name, value in _DECODER.items() if name != "intermediate_size"},
        "ffn_dim": 48,
        "word_embed_proj_dim": HIDDEN,
    },
    "gpt_neo": {
        "hidden_size": HIDDEN,
        "num_layers": 2,
        "num_heads": 4,
        "attention_types": [[["global", "local"], 1]],
        "window_size": 16,
        "max_position_embeddings": POSITIONS,
    },
    "t5": {
        "d_model": HIDDEN,
        "d_ff": 48,
        "d_kv": 8,
        "num_layers": 2,
        "num_heads": 4,
        "feed_forward_proj": "gated-gelu",
    },
    "bert": _DECODER,
    "xlm-roberta": {**_DECODER, "type_vocab_size": 1, "max_position_embeddings": POSITIONS + 2},
}


@cache
def _backend() -> str:
    """The tokenizer as JSON."""
    backend = Tokenizer(models.BPE(unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=380, special_tokens=list(SPECIAL), initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(_SENTENCES, trainer)
    return str(backend.to_str())


def save(
    folder: Path, model_type: str, *, before: Sequence[str] = (), after: Sequence[str] = (), seed: int = 0
) -> Path:
    """A checkpoint of random weights, large ones, so that attention and position matter.

    ``before`` and ``after`` are what its own tokenizer puts around every text.
    """
    torch.manual_seed(seed)
    backend = Tokenizer.from_str(_backend())
    backend.post_processor = processors.TemplateProcessing(
        single=" ".join([*before, "$A", *after]), special_tokens=[(token, i) for i, token in enumerate(SPECIAL)]
    )
    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=POSITIONS, **names)
    config = transformers.AutoConfig.for_model(
        model_type, vocab_size=len(tokenizer), pad_token_id=0, bos_token_id=1, eos_token_id=2, **_CONFIGS[model_type]
    )
    kinds: dict[str, Any] = {"t5": transformers.T5EncoderModel}
    network = kinds[model_type](config) if model_type in kinds else transformers.AutoModel.from_config(config)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.dim() > 1:
                scale = 1.0 if "embed" in name or "wte" in name or "shared" in name else parameter.shape[1] ** -0.5
                parameter.copy_(torch.randn_like(parameter) * scale)
    network.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def add_dense(folder: Path, name: str = "2_Dense", *, width: int = 24) -> None:
    """A bias-free dense layer beside the checkpoint, as sentence-transformers saves it."""
    (folder / name).mkdir()
    settings = {
        "in_features": HIDDEN,
        "out_features": width,
        "bias": False,
        "activation_function": "torch.nn.modules.linear.Identity",
    }
    (folder / name / "config.json").write_text(json.dumps(settings))
    weight = torch.randn(width, HIDDEN) * HIDDEN**-0.5
    save_file({"linear.weight": weight}, folder / name / "model.safetensors")
