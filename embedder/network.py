"""How does a checkpoint become a network?

By transformers' own classes: remote code is never run, and only safetensors are read. Imported when a model is loaded.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

from embedder import heads
from embedder.checkpoint import Checkpoint, has_text_encoder, is_decoder, read_json
from embedder.checkpoint_heads.vocabulary import VocabularyLayer, vocabulary_layer
from embedder.errors import InvalidRecipe, ModelLoadFailed
from embedder.hush import hushed
from embedder.long_context import extended
from embedder.recipe import Recipe

Untyped: TypeAlias = Any  # transformers' models, configs and loaders: their types do not survive the Auto classes


def load_network(checkpoint: Checkpoint, recipe: Recipe, dtype: torch.dtype) -> Untyped:
    """The transformers model in evaluation mode, with the recipe's attention."""
    import transformers

    logging: Untyped = transformers.logging
    logging.disable_progress_bar()  # a bar a model on stderr, even for a query
    try:
        with hushed():
            config = _config(checkpoint, recipe)
            _set_attention(config, recipe)
            network = _load(_loader(checkpoint, recipe), checkpoint, config, dtype, recipe.weights_prefix)
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, AttributeError) as error:
        raise ModelLoadFailed(
            checkpoint.name, (str(error).strip().splitlines() or [type(error).__name__])[0]
        ) from error
    if recipe.attention == "bidirectional" and is_decoder(network.config.model_type):
        # transformers 5: the config decides for sdpa and eager, the modules' own flag for flash attention; set both.
        for module in network.modules():
            if hasattr(module, "is_causal"):
                module.is_causal = False
    if recipe.context_extension is not None:
        network = extended(network, recipe, checkpoint.folder)
    return network.eval().requires_grad_(False)


def _config(checkpoint: Checkpoint, recipe: Recipe) -> Untyped:
    """The network's settings: config.json, or the part of it that describes the backbone of a class unknown here."""
    import transformers

    if not recipe.backbone:
        return transformers.AutoConfig.from_pretrained(
            checkpoint.folder, trust_remote_code=False, local_files_only=True
        )
    whole = checkpoint.config
    settings = whole.get(recipe.backbone_config) if recipe.backbone_config else whole
    if not isinstance(settings, dict):
        raise InvalidRecipe("backbone_config", recipe.backbone_config, "config.json has no such settings")
    named = ("model_type", "auto_map", "architectures", "_name_or_path", "transformers_version")
    kept = {name: value for name, value in settings.items() if name not in named}
    return transformers.AutoConfig.for_model(recipe.backbone, **kept)


def _set_attention(config: Untyped, recipe: Recipe) -> None:
    """Make a causal config bidirectional, and lift its sliding window, when the recipe says so."""
    looks_both_ways = getattr(config, "use_bidirectional_attention", False)  # Gemma 3: is_causal would lift its windows
    if recipe.attention == "bidirectional" and is_decoder(config.model_type) and not looks_both_ways:
        config.is_causal = False
    if not recipe.sliding_window and getattr(config, "sliding_window", None) is not None:
        mixed = "sliding_attention" in (getattr(config, "layer_types", None) or ())
        # An architecture that mixes layers with and without a window (Gemma) insists on one: it may hold everything.
        config.sliding_window = config.max_position_embeddings if mixed else None


def _load(loader: Untyped, checkpoint: Checkpoint, config: Untyped, dtype: torch.dtype, prefix: str) -> Untyped:
    """The network with sdpa attention, or eager for the architectures that lack it (gemma2, gptj)."""
    renamed = {"key_mapping": {"^" + re.escape(prefix): ""}} if prefix else {}
    for attention in ("sdpa", "eager"):
        try:
            network, report = loader.from_pretrained(
                checkpoint.folder,
                config=config,
                dtype=dtype,
                attn_implementation=attention,
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=True,
                output_loading_info=True,
                **renamed,
            )
        except ValueError as error:
            if attention == "eager" or "attention" not in str(error).lower():
                raise
            continue
        missing = sorted(key for key in report["missing_keys"] if "pooler" not in key)
        if missing:
            raise ModelLoadFailed(checkpoint.name, f"its weights lack {', '.join(missing[:5])}")
        return network
    raise AssertionError("unreachable: eager attention either loads or raises")


def _loader(checkpoint: Checkpoint, recipe: Recipe) -> Untyped:
    """The class of transformers that reads what the recipe's heads need."""
    import transformers

    if recipe.sparse_head == "mlm_max":
        return transformers.AutoModelForMaskedLM
    if recipe.sparse_head in ("lm_max", "next_token"):
        return transformers.AutoModelForCausalLM
    if has_text_encoder(checkpoint.config.get("model_type")):
        return transformers.AutoModelForTextEncoding
    return transformers.AutoModel


def output_layer(network: Untyped, recipe: Recipe) -> VocabularyLayer | None:
    """The layer that projects states to terms, for heads that do.

    Raises:
        InvalidRecipe: the checkpoint has no vocabulary layer.
    """
    if recipe.sparse_head in ("lm_max", "next_token"):
        return vocabulary_layer(network)
    if recipe.sparse_head != "mlm_max":
        return None
    layer = _detach_vocabulary_layer(network, recipe)
    return VocabularyLayer(layer.weight, layer.bias)


def _detach_vocabulary_layer(network: Untyped, recipe: Recipe) -> nn.Linear:
    """Take the vocabulary layer out of a masked-language model, so that its "logits" are that layer's input.

    Raises:
        InvalidRecipe: the checkpoint has no vocabulary layer.
    """
    layer = network.get_output_embeddings()
    if not isinstance(layer, nn.Linear):
        raise InvalidRecipe("sparse_head", recipe.sparse_head, "the checkpoint has no vocabulary layer")
    for name, module in network.named_modules():
        if module is layer:
            parent, _, leaf = name.rpartition(".")
            setattr(network.get_submodule(parent), leaf, nn.Identity())
            return layer
    raise InvalidRecipe("sparse_head", recipe.sparse_head, "the vocabulary layer is not part of the model")


def load_projection(folder: Path, dtype: torch.dtype, device: str) -> heads.Projection:
    """A sentence-transformers Dense module."""
    config = read_json(folder / "config.json") or {}
    activation = str(config.get("activation_function", "Tanh")).rsplit(".", 1)[-1]
    if activation not in heads.ACTIVATIONS:
        raise InvalidRecipe("projections", activation, f"supported activations: {', '.join(heads.ACTIVATIONS)}")
    try:
        tensors = load_file(folder / "model.safetensors")
        weight, bias = tensors["linear.weight"], tensors.get("linear.bias")
    except (OSError, KeyError) as error:
        raise ModelLoadFailed(str(folder), f"the dense layer has no usable model.safetensors ({error})") from error
    moved = None if bias is None else bias.to(device, dtype)
    return heads.Projection(weight.to(device, dtype), moved, activation)


@torch.inference_mode()
def check_bidirectional(states: Callable[[list[NDArray[np.int32]]], Tensor], name: str) -> None:
    """Change the last of eight tokens, beside a shorter row: the state of the first token must change.

    Some versions of transformers ignore the setting, all of them or only in padded batches, and say nothing.

    Args:
        states: gives the flat states of rows of token ids.
        name: of the model, for the error.

    Raises:
        ModelLoadFailed: the first token does not see the last one.
    """
    short, row, changed = (np.asarray(ids, np.int32) for ids in ([1, 2], range(1, 9), (1, 2, 3, 4, 5, 6, 7, 9)))
    for others in ([], [short]):
        if torch.equal(states([row, *others])[0], states([changed, *others])[0]):
            raise ModelLoadFailed(name, "its attention stays causal with this version of transformers; use 5 or later")
