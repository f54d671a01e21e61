"""How does a model become a student: what is frozen, what is trained, and with which weights does it begin?"""

from __future__ import annotations

import warnings
from dataclasses import asdict, replace
from importlib.util import find_spec
from typing import Any, TypeAlias

import torch
from torch import nn

from embedder.checkpoint import is_decoder
from embedder.errors import InvalidInput, InvalidRecipe, TuningFailed
from embedder.heads import Projection
from embedder.hush import hushed
from embedder.model import choose_device
from embedder.network import check_bidirectional, load_network, load_projection
from embedder.recipe import Recipe
from embedder.source import find_model
from embedder.sparse_heads import SparseHead, build_sparse_head
from embedder.tokens import TextTokenizer, load_tokenizer
from embedder.tuned_weights import TunedHeads, apply_tuned
from embedder.tuning.config import Lora, TuningConfig
from embedder.tuning.inputs import InputBuilder
from embedder.tuning.student import Parts, Student, hidden_width

Untyped: TypeAlias = Any  # transformers' and peft's networks

NEEDED = ("peft", "sentence_transformers")  # the extra "tune"


def load_student(model: str, config: TuningConfig, *, device: str | None = None) -> Student:
    """Load a model for training.

    Args:
        model: as for ``Embedder.load``: "builtin", a folder (also of a tuned model, whose heads are trained on), or a
            Hugging Face id.
        config: what is trained.
        device: None takes the first GPU when there is one.

    Raises:
        ModelNotFound, ModelLoadFailed, InvalidRecipe, DeviceUnavailable: as for ``Embedder.load``.
        InvalidInput: the configuration does not fit the model, or trains nothing.
        TuningFailed: the model cannot be tuned, or what tuning needs is not installed.
    """
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise TuningFailed(f'Tuning needs {", ".join(missing)}; run `pip install "landmark-engine[tune]"`.')
    source = find_model(model)
    source = replace(source, recipe=_overridden(source.recipe, config))
    checkpoint, recipe = source.checkpoint, source.recipe
    if recipe.sparse_head == "mlm_max":
        raise TuningFailed(
            f"{recipe.name} is a SPLADE checkpoint, whose vocabulary layer cannot be tuned. Tune it as an encoder with "
            'recipe = {"sparse_head": "none", "has_dense": True} and a sparse_head, or tune another model.'
        )
    if frozen := _untrainable(recipe):
        raise TuningFailed(f"{recipe.name} cannot be tuned: training does not know its {', '.join(frozen)}.")
    # A term beyond the vocabulary has nothing to learn; only the tuned model counts it.
    tokenizer = load_tokenizer(checkpoint, replace(recipe, sparse_unknown=False))
    where = torch.device(choose_device(device))
    # Weights that are not trained may be short; those that are trained must hold small changes.
    short = config.precision == "bfloat16" and not config.train_layers
    dtype = torch.bfloat16 if short else torch.float32
    network: Untyped = load_network(checkpoint, recipe, dtype).to(where).base_model
    added = TunedHeads(None, None)
    if source.tuned is not None:
        added = apply_tuned(network, *source.tuned, device=str(where), dtype=torch.float32)
    with torch.random.fork_rng(devices=[where] if where.type == "cuda" else []):
        torch.manual_seed(config.seed)  # for the adapters' and heads' first weights
        parts = Parts(
            network=_prepared(network, config),
            projections=[load_projection(checkpoint.root / path, dtype, str(where)) for path in recipe.projections],
            dense=_dense_head(network, recipe, config, added.projection, where),
            sparse=_sparse_head(network, config, added.sparse, tokenizer, where),
        )
    if not parts.trainable():
        raise InvalidInput("config", "nothing", "ask for lora, train_layers, dense_dim or a sparse_head to be trained")
    kind = None if parts.sparse is None else parts.sparse.config.kind
    counts = kind == "neighbours"
    recipe = replace(recipe, sparse_head="none" if kind is None else "tuned", sparse_idf=counts, sparse_unknown=counts)
    source = replace(source, recipe=recipe)
    limits = {"passage_tokens": config.passage_tokens, "query_tokens": config.query_tokens}
    student = Student(source, parts, InputBuilder(source.recipe, tokenizer, **limits), config)
    if recipe.attention == "bidirectional" and is_decoder(network.config.model_type):
        check_bidirectional(student.states, recipe.name)
    return student


def _untrainable(recipe: Recipe) -> list[str]:
    """What a recipe asks for between the network and the vector that the student's forward pass does not compute."""
    asked = {
        "several templates": len(recipe.query_templates) > 1 or len(recipe.document_templates) > 1,
        "hidden_layer": recipe.hidden_layer != -1,
        "token_head": recipe.token_head != "none",
        "router_weight": recipe.router_weight != 0,
        "context_documents": recipe.context_documents != 0,
        "context_extension": recipe.context_extension is not None,
        "adapters": bool(recipe.adapters or recipe.query_adapter or recipe.document_adapter),
        "sparse_head": recipe.sparse_head not in ("none", "tuned"),
        "multi_head": recipe.multi_head != "none",
    }
    return [name for name, is_asked in asked.items() if is_asked]


def _overridden(recipe: Recipe, config: TuningConfig) -> Recipe:
    """The base's recipe with the configuration's fields, and the prefixes that will be trained."""
    changes: dict[str, Any] = dict(config.recipe)
    if config.matryoshka_dims:
        changes["matryoshka_dims"] = tuple(sorted(config.matryoshka_dims, reverse=True))
    try:
        return replace(recipe, **changes)
    except TypeError as error:
        raise InvalidRecipe("recipe", sorted(changes), f"it names a field that does not exist ({error})") from error


def _prepared(network: Untyped, config: TuningConfig) -> Untyped:
    """The network with what is trained in it: adapters, or its last layers; everything else is frozen."""
    network.requires_grad_(False)
    trains = config.lora is not None or config.train_layers > 0
    if config.gradient_checkpointing and trains:
        try:
            enable = getattr(network, "activation_checkpointing_enable", None) or network.gradient_checkpointing_enable
            enable({"use_reentrant": False})  # transformers renamed the method in 5.23
        except ValueError as error:
            raise InvalidInput("gradient_checkpointing", True, str(error)) from error
    if config.lora is not None:
        return _with_adapters(network, config.lora).eval()
    if config.train_layers:
        _thaw(network, config.train_layers)
    return network.eval()


def blocks_of(network: Untyped) -> tuple[str, nn.ModuleList]:
    """The transformer blocks of an encoder or decoder, and the name of their list.

    Raises:
        TuningFailed: it has no list of as many modules as its configuration has layers.
    """
    n_layers = int(network.config.get_text_config().num_hidden_layers)
    for name, module in network.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == n_layers:
            return name, module
    raise TuningFailed(f"{type(network).__name__} has no list of {n_layers} blocks, so its layers cannot be trained")


def _thaw(network: Untyped, n_layers: int) -> None:
    """Train the last blocks, and the norm that follows them in decoders and some encoders."""
    name, blocks = blocks_of(network)
    if n_layers > len(blocks):
        raise InvalidInput("train_layers", n_layers, f"the model has {len(blocks)} layers")
    for block in blocks[len(blocks) - n_layers :]:
        block.requires_grad_(True)
    parent = network.get_submodule(name.rpartition(".")[0])
    last = list(parent.named_children()).index((name.rpartition(".")[2], blocks))
    for child_name, child in list(parent.named_children())[last + 1 :]:
        if "norm" in child_name:
            child.requires_grad_(True)


def _with_adapters(network: Untyped, lora: Lora) -> Untyped:
    """The network inside a peft model: an adapter at each linear layer of its blocks.

    Raises:
        InvalidInput: no layer has a name that ``lora.targets`` gives.
    """
    with hushed():
        from peft import LoraConfig, get_peft_model
    from transformers.pytorch_utils import Conv1D

    name, blocks = blocks_of(network)
    layers = {path for path, module in blocks[0].named_modules() if isinstance(module, nn.Linear | Conv1D)}
    chosen = sorted(path for path in layers if not lora.targets or path.rpartition(".")[2] in lora.targets)
    if not chosen:
        raise InvalidInput("lora.targets", lora.targets, f"the blocks have {', '.join(sorted(layers))}")
    pattern = "|".join(path.replace(".", r"\.") for path in chosen)
    adapters = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=rf"{name.replace('.', chr(92) + '.')}\.\d+\.({pattern})",
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in blocks.modules()),
    )
    with warnings.catch_warnings():
        # peft 0.21 reads an attribute that transformers 5.23 renamed.
        warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)
        return get_peft_model(network, adapters)


def _dense_head(
    network: Untyped, recipe: Recipe, config: TuningConfig, known: Projection | None, device: torch.device
) -> nn.Linear | None:
    """The trained projection: the one that the base has, or the identity (its first rows)."""
    if config.dense_dim is None and known is None:
        return None
    if known is not None:
        if config.dense_dim not in (None, known.weight.shape[0]):
            raise InvalidInput("dense_dim", config.dense_dim, f"the base projects to {known.weight.shape[0]} already")
        weight, bias = known.weight.float(), known.bias
    else:
        if recipe.projections:
            problem = "the checkpoint projects after the pooling already"
            raise InvalidInput("dense_dim", config.dense_dim, problem)
        width = hidden_width(network)
        weight, bias = torch.eye(config.dense_dim or width, width), None
    head = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    head.weight.data = weight.clone()
    if bias is not None:
        head.bias.data = bias.float().clone()
    return head.to(device).requires_grad_(config.weights.dense > 0)


def _sparse_head(
    network: Untyped,
    config: TuningConfig,
    known: SparseHead | None,
    tokenizer: TextTokenizer,
    device: torch.device,
) -> SparseHead | None:
    """The head that the base has, or a new one, whose first weights come when a run begins (``first_weights``)."""
    sizes: dict[str, Any]
    if config.sparse_head is not None:
        n_terms = int(network.get_input_embeddings().weight.shape[0])
        sizes = {"vocabulary": n_terms, "hidden": hidden_width(network), **config.sparse_head}
    elif known is not None:
        sizes = asdict(known.config)
    else:
        return None
    fresh = build_sparse_head(sizes, torch.tensor(tokenizer.special_ids, dtype=torch.long))
    if config.weights.sparse == 0:
        fresh.requires_grad_(False)
    if config.sparse_head is None and known is not None:
        fresh.load_state_dict(known.state_dict())
    return fresh.to(device).train()
