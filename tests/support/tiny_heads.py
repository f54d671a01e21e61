"""Tiny random checkpoints with the heads that published ones bring along; see ``tiny_models`` for the backbones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from torch import Tensor, nn
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    BertConfig,
    BertForMaskedLM,
    Gemma2Config,
    GteConfig,
    GteForTokenClassification,
    JinaEmbeddingsV3Config,
    JinaEmbeddingsV3Model,
    MistralConfig,
    MistralModel,
    MixtralConfig,
    ModernBertConfig,
    ModernBertModel,
    OlmoeConfig,
    PreTrainedTokenizerFast,
    Qwen2MoeConfig,
    XLMRobertaConfig,
    XLMRobertaModel,
)

from tests.support.tiny_models import save_tokenizer

HIDDEN = 16
SIZES: dict[str, Any] = {
    "vocab_size": 300,  # enough for the tokenizers of tiny_models and of tiny_systems
    "hidden_size": HIDDEN,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 130,
    "initializer_range": 0.2,  # large, so that every token matters
}
LATENT_NAMES = {
    "latents": (4, HIDDEN),
    "cross_attend_blocks.0.norm.weight": (HIDDEN,),
    "cross_attend_blocks.0.norm.bias": (HIDDEN,),
    "cross_attend_blocks.0.norm_context.weight": (HIDDEN,),
    "cross_attend_blocks.0.norm_context.bias": (HIDDEN,),
    "cross_attend_blocks.0.fn.to_q.weight": (24, HIDDEN),
    "cross_attend_blocks.0.fn.to_kv.weight": (48, HIDDEN),
    "cross_attend_blocks.0.fn.to_out.weight": (HIDDEN, 24),
    "cross_attend_blocks.1.norm.weight": (HIDDEN,),
    "cross_attend_blocks.1.norm.bias": (HIDDEN,),
    "cross_attend_blocks.1.fn.net.0.weight": (128, HIDDEN),
    "cross_attend_blocks.1.fn.net.0.bias": (128,),
    "cross_attend_blocks.1.fn.net.2.weight": (HIDDEN, 64),
    "cross_attend_blocks.1.fn.net.2.bias": (HIDDEN,),
}


def save_bge_m3(folder: Path, seed: int = 0) -> Path:
    """XLM-R with BGE-M3's two linear heads, converted to safetensors."""
    torch.manual_seed(seed)
    XLMRobertaModel(XLMRobertaConfig(**SIZES, pad_token_id=0)).save_pretrained(folder)
    sparse, multi = nn.Linear(HIDDEN, 1), nn.Linear(HIDDEN, HIDDEN)
    nn.init.constant_(sparse.bias, 0.3)
    save_file(sparse.state_dict(), folder / "sparse_linear.safetensors")
    save_file(multi.state_dict(), folder / "colbert_linear.safetensors")
    save_tokenizer(folder, template="<s> $A </s>")
    return folder


def save_splade(folder: Path, seed: int = 0) -> Path:
    """A BERT masked-language model, with a table of inverse document frequencies of some letters."""
    torch.manual_seed(seed)
    BertForMaskedLM(BertConfig(**SIZES)).save_pretrained(folder)
    (folder / "idf.json").write_text(json.dumps({letter: 1 + i / 10 for i, letter in enumerate("abcdefgh")}))
    save_tokenizer(folder, template="[CLS] $A [SEP]")
    return folder


def save_mgte(folder: Path, seed: int = 0) -> Path:
    """GTE with a token classifier of one label."""
    torch.manual_seed(seed)
    GteForTokenClassification(GteConfig(**SIZES, num_labels=1, pad_token_id=0)).save_pretrained(folder)
    save_tokenizer(folder, template="<s> $A </s>")
    return folder


def save_causal_lm(folder: Path, kind: str = "mistral", *, positions: int = 130, seed: int = 0) -> Path:
    """A causal language model with an output layer of its own."""
    torch.manual_seed(seed)
    sizes = SIZES | {"max_position_embeddings": positions}
    if kind == "gemma2":
        config: Any = Gemma2Config(**sizes, num_key_value_heads=1, head_dim=8, final_logit_softcapping=0.5)
    else:
        config = MistralConfig(**sizes, num_key_value_heads=1, tie_word_embeddings=False)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    save_tokenizer(folder, template="<s> $A")
    return folder


def save_nv_embed(folder: Path, seed: int = 0) -> tuple[MistralModel, dict[str, Tensor]]:
    """NV-Embed's files: a class of its own, the backbone nested. Returns the backbone, and the head's tensors."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    config = MistralConfig(**SIZES | {"max_position_embeddings": 1024}, num_key_value_heads=1, sliding_window=2)
    backbone = MistralModel(config).eval()
    latent = {"latent_attention_model." + name: torch.randn(shape) / 4 for name, shape in LATENT_NAMES.items()}
    weights = {"embedding_model." + name: tensor for name, tensor in backbone.state_dict().items()}
    save_file(weights | latent, folder / "model.safetensors", metadata={"format": "pt"})
    described = {
        "architectures": ["NVEmbedModel"],
        "auto_map": {"AutoModel": "modeling_nvembed.NVEmbedModel"},
        "model_type": "nvembed",
        "text_config": config.to_dict() | {"model_type": "bidir_mistral"},
        "latent_attention_config": {"model_type": "latent_attention", "num_cross_heads": 2},
    }
    (folder / "config.json").write_text(json.dumps(described))
    save_tokenizer(folder, template="<s> $A")
    return backbone, latent


def save_jina_v3(
    folder: Path, adapters: tuple[str, ...] = ("retrieval_query", "retrieval_passage"), seed: int = 0
) -> Path:
    """jina-embeddings-v3 in transformers' own form, with its task adapters."""
    torch.manual_seed(seed)
    network = JinaEmbeddingsV3Model(JinaEmbeddingsV3Config(**SIZES, pad_token_id=0))
    network.save_pretrained(folder)
    save_tokenizer(folder, template="<s> $A </s>")
    for number, side in enumerate(dict.fromkeys(adapters)):
        fresh = JinaEmbeddingsV3Model.from_pretrained(folder)
        save_adapter(fresh, folder / side, ["q_proj", "up_proj", "word_embeddings"], seed=number + 1)
    return folder


def save_adapter(network: Any, folder: Path, targets: list[str], *, seed: int, **options: Any) -> Path:
    """A random LoRA adapter of the network, written by peft. The network itself is changed: give a fresh one."""
    torch.manual_seed(seed)
    settings = {"r": 4, "lora_alpha": 8, "init_lora_weights": False} | options
    get_peft_model(network, LoraConfig(target_modules=targets, **settings)).save_pretrained(folder)
    return folder


def save_mixture(folder: Path, kind: str, seed: int = 0) -> Path:
    """A mixture of experts: "olmoe", "qwen2_moe" or "mixtral"."""
    torch.manual_seed(seed)
    sizes = SIZES | {"num_key_value_heads": 1, "num_experts_per_tok": 2}
    config: Any = {
        "olmoe": lambda: OlmoeConfig(**sizes, num_experts=4),
        "qwen2_moe": lambda: Qwen2MoeConfig(
            **sizes, num_experts=4, moe_intermediate_size=8, shared_expert_intermediate_size=8
        ),
        "mixtral": lambda: MixtralConfig(**sizes, num_local_experts=4),
    }[kind]()
    AutoModel.from_config(config).save_pretrained(folder)
    save_tokenizer(folder)
    return folder


def save_cde(folder: Path, seed: int = 0) -> tuple[dict[str, ModernBertModel], dict[str, nn.Sequential]]:
    """CDE's files with two ModernBERT networks. Returns them by stage, and the heads by name."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    special = {"pad_token_id": 0, "bos_token_id": 4, "eos_token_id": 5, "cls_token_id": 2, "sep_token_id": 3}
    config = ModernBertConfig(**SIZES | {"max_position_embeddings": 1024}, **special, local_attention=16)
    networks = {stage: ModernBertModel(config).eval() for stage in ("first", "second")}
    heads = {
        "first_stage_model.mlp": _two_layers(nn.GELU(), HIDDEN),
        "second_stage_model.prompt_projection": _two_layers(nn.ReLU(), 8 * HIDDEN),
        "second_stage_model.output_projection": _two_layers(nn.ReLU(), HIDDEN),
    }
    places = {"first": "first_stage_model.embedder.", "second": "second_stage_model.backbone."}
    tensors = {
        places[s] + name: tensor.clone() for s, net in networks.items() for name, tensor in net.state_dict().items()
    }
    tensors |= {
        f"{head}.{name}": tensor for head, layers in heads.items() for name, tensor in layers.state_dict().items()
    }
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    described = config.to_dict() | {"model_type": "transductive", "embedder": "tiny", "architectures": ["Transductive"]}
    (folder / "config.json").write_text(json.dumps(described))
    save_byte_tokenizer(folder, "[CLS] $A [SEP]")
    return networks, heads


def _two_layers(between: nn.Module, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(HIDDEN, HIDDEN), between, nn.Linear(HIDDEN, width)).requires_grad_(False)


SPECIAL = (
    *("<pad>", "<unk>", "<s>", "</s>", "[CLS]", "[SEP]"),
    *("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
)
BYTES = {token: i for i, token in enumerate((*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())))}


def save_byte_tokenizer(folder: Path, template: str) -> None:
    """A tokenizer that reads any text, one token a byte: a prompt that is off by one character is another input."""
    backend = Tokenizer(models.BPE(vocab=BYTES, merges=[], unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(list(SPECIAL))
    special = [(token, BYTES[token]) for token in SPECIAL]
    backend.post_processor = processors.TemplateProcessing(single=template, special_tokens=special)
    names = {"unk_token": "<unk>", "pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
    PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=1024, **names).save_pretrained(folder)
