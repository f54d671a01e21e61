"""How does a loaded network read more tokens than it was trained for?

``extend`` changes what the network does with positions, as a ``ContextExtension`` says; the weights stay as they are.
Three of the methods are one map from a token's position to the position that is read. A model with a table of positions
gets a longer table; a rotary model gets the map in front of its angles, where the code that masks and packs, which also
reads positions, does not see it.

"parallel_windows" needs nothing here: it cuts inputs before they reach the network (``windows``). "extensible" reads them
through another network, of which this one becomes a part (``extensible``).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from embedder.context_extension import ContextExtension
from embedder.errors import InvalidRecipe
from embedder.extensible import extensible
from embedder.recipe import Recipe

Untyped: TypeAlias = Any  # transformers' models and configs

ATTENTION = "landmark_self_extend"  # the name of our attention in transformers' registry
QUERY_BLOCK = 256  # queries whose scores exist at once: memory grows with the length, not with its square


def extended(network: Untyped, recipe: Recipe, folder: Path) -> Untyped:
    """The network that reads as far as the recipe's ``context_extension`` says: the same one changed, or one around it.

    Args:
        network: with or without a head, on the CPU.
        recipe: one with an extension.
        folder: of the checkpoint, for what the extension was trained to.

    Raises:
        InvalidRecipe: the method does not exist for this kind of network.
        ModelLoadFailed: what was trained belongs to another network.
    """
    extension = recipe.context_extension
    assert extension is not None
    extend(network.base_model, extension, causal=recipe.attention == "causal")
    if extension.method != "extensible":
        return network
    if network.base_model is not network:
        raise _unsupported(extension, "it gives states, and the sparse head needs the model's own output layer")
    return extensible(network, extension, folder)


def extend(network: Untyped, extension: ContextExtension, *, causal: bool) -> None:
    """Change a network in place.

    Args:
        network: a base model (without a head) on the CPU, before anything is derived from its tables.
        extension: what is to be done.
        causal: whether the network's tokens see only what precedes them.

    Raises:
        InvalidRecipe: the method does not exist for this kind of positions.
    """
    if extension.method in ("parallel_windows", "extensible"):
        return
    config = network.config
    if getattr(config, "sliding_window", None) is not None and not getattr(config, "layer_types", None):
        config.sliding_window = None  # a window on every layer would hide what the extension is to show
    rotary = getattr(network, "rotary_emb", None)
    if rotary is None:
        _extend_table(network, extension)
        return
    if getattr(rotary, "inv_freq", None) is None:
        raise _unsupported(extension, f"{config.model_type} models have different angles in different layers")
    if extension.method == "ntk":
        _raise_base(network, extension)
    elif extension.method == "self_extend":
        _install_self_extend(network, extension, causal=causal)
    else:
        rotary.register_forward_pre_hook(_reading(extension), with_kwargs=True)


def read_positions(positions: Tensor, extension: ContextExtension) -> Tensor:
    """The positions as which the given ones are read: "grouped", "recurrent" or "interpolation" (then floats)."""
    if extension.method == "grouped":
        return positions // extension.factor
    if extension.method == "recurrent":
        return positions % extension.original_tokens
    return positions / extension.factor


def _reading(extension: ContextExtension) -> Callable[..., tuple[tuple[Any, ...], dict[str, Any]]]:
    """A forward pre-hook that maps the positions which a rotary module is called with."""

    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if "position_ids" in kwargs:
            return args, {**kwargs, "position_ids": read_positions(kwargs["position_ids"], extension)}
        return (args[0], read_positions(args[1], extension), *args[2:]), kwargs

    return hook


def _raise_base(network: Untyped, extension: ContextExtension) -> None:
    """Rebuild the rotary module with a higher base."""
    parameters = network.config.rope_parameters
    width = 2 * len(network.rotary_emb.inv_freq)
    base = extension.theta or parameters["rope_theta"] * extension.factor ** (width / (width - 2))
    network.config.rope_parameters = {**parameters, "rope_theta": base}
    network.rotary_emb = type(network.rotary_emb)(config=network.config)


def _extend_table(network: Untyped, extension: ContextExtension) -> None:
    """Replace a table of learned positions: row i of the new one is the old one's row ``read_positions(i)``.

    Between two rows it is linear; past the last one it is the last one.
    """
    module: Untyped = getattr(network, "embeddings", None)
    table = getattr(module, "position_embeddings", None)
    if not isinstance(table, nn.Embedding):
        raise _unsupported(extension, f"{network.config.model_type} models have no table of positions that can grow")
    if extension.method not in ("grouped", "recurrent", "interpolation"):
        raise _unsupported(extension, "it needs rotary positions, and this model has a table")
    # The RoBERTa family numbers positions from padding_idx + 1.
    first = 0 if table.padding_idx is None else table.padding_idx + 1
    if extension.original_tokens > table.num_embeddings - first:
        raise InvalidRecipe(
            "context_extension.original_tokens",
            extension.original_tokens,
            f"the model has {table.num_embeddings - first} positions",
        )
    trained = table.weight.detach()[first : first + extension.original_tokens]
    read = read_positions(torch.arange(extension.target_tokens), extension)
    lower = read.long()
    upper = (lower + 1).clamp(max=extension.original_tokens - 1)
    rows = torch.lerp(trained[lower].float(), trained[upper].float(), (read - lower).float()[:, None])
    weight = torch.cat((table.weight.detach()[:first], rows.to(trained.dtype)))
    longer = nn.Embedding(len(weight), weight.shape[1], table.padding_idx, _weight=weight, _freeze=True)
    module.position_embeddings = longer
    for name, values in (
        ("position_ids", torch.arange(len(weight))),
        ("token_type_ids", torch.zeros(len(weight), dtype=torch.long)),
    ):
        if getattr(module, name, None) is not None:
            setattr(module, name, values[None])
    network.config.max_position_embeddings = len(weight)


@dataclass(frozen=True, eq=False)
class SelfExtend:
    """Attention that reads far distances on a coarser scale (Jin et al. 2024).

    A query at position i and a key at j attend with the angle of i - j when they are nearer than ``window``; otherwise
    with that of i // group - j // group + window - window // group. For models that look both ways the keys after the
    query mirror this. Queries and keys arrive turned by their own positions, and turning is additive, so the far
    distances cost one more turn.

    Attributes:
        extension: group, window and scaling.
        causal: whether keys after the query are hidden by the mask.
        turn: ``turn(x, positions)`` turns x [b, heads, n, d] by the model's own angles.
    """

    extension: ContextExtension
    causal: bool
    turn: Callable[[Tensor, Tensor], Tensor]

    def __call__(
        self,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        *,
        scaling: float | None = None,
        position_ids: Tensor | None = None,
        **_: object,
    ) -> tuple[Tensor, None]:
        """Attend, by the interface of transformers: [b, heads, n, d] to [b, n, heads, d]."""
        if position_ids is None:
            raise _unsupported(self.extension, "this architecture does not tell its attention the positions")
        repeats = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(repeats, 1), value.repeat_interleave(repeats, 1)
        scaled = query * (query.shape[-1] ** -0.5 if scaling is None else scaling)
        parts = []
        for start, scores in self.scores(scaled, key, position_ids):
            if attention_mask is not None:
                allowed = attention_mask[:, :, start : start + scores.shape[2], : scores.shape[3]]
                masked = allowed.dtype == torch.bool
                scores = scores.masked_fill(~allowed, torch.finfo(scores.dtype).min) if masked else scores + allowed
            weights = scores.softmax(-1, dtype=torch.float32).to(value.dtype)
            parts.append(weights @ value)
        return torch.cat(parts, 2).transpose(1, 2).contiguous(), None

    def scores(self, query: Tensor, key: Tensor, positions: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Unmasked scores in blocks of queries: (the first query, [b, heads, queries, n])."""
        group, window = self.extension.group, self.extension.window
        shift = window - window // group
        coarse = positions // group - positions
        if self.extension.log_scaling:
            query = query * self._sharpening(positions).to(query.dtype)[:, None, :, None]
        far_key = self.turn(key, coarse).transpose(2, 3)
        far = [self.turn(query, coarse + shift)] + ([] if self.causal else [self.turn(query, coarse - shift)])
        near_key = key.transpose(2, 3)
        for start in range(0, query.shape[2], QUERY_BLOCK):
            rows = slice(start, start + QUERY_BLOCK)
            distance = (positions[:, rows, None] - positions[:, None, :])[:, None]
            scores = torch.where(distance < window, query[:, :, rows] @ near_key, far[0][:, :, rows] @ far_key)
            if not self.causal:
                scores = torch.where(distance > -window, scores, far[1][:, :, rows] @ far_key)
            yield start, scores

    def _sharpening(self, positions: Tensor) -> Tensor:
        """max(1, log(i + 1) / log(Lo)), float32 like ``positions``."""
        trained = torch.tensor(float(self.extension.original_tokens), device=positions.device)
        return (torch.log(positions.float() + 1) / torch.log(trained)).clamp(min=1.0)


def _install_self_extend(network: Untyped, extension: ContextExtension, *, causal: bool) -> None:
    """Give every attention module of a rotary model a ``SelfExtend``, and let transformers call it."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import eager_mask

    config = network.config
    # The model's own functions know its layout: halves or pairs, the whole head or a part of it.
    apply = getattr(sys.modules[type(network).__module__], "apply_rotary_pos_emb", None)
    rotary = network.rotary_emb
    if apply is None or rotary.rope_type in ("dynamic", "longrope") or rotary.attention_scaling != 1.0:
        raise _unsupported(extension, f"the rotary angles of this {config.model_type} model cannot be turned further")
    if getattr(config, "attn_logit_softcapping", None):
        raise _unsupported(extension, "this model caps its attention scores")

    def turn(x: Tensor, positions: Tensor) -> Tensor:
        cos, sin = rotary(x, positions)
        turned: Tensor = apply(x, x, cos, sin)[0]
        return turned

    AttentionInterface.register(ATTENTION, _attend)
    AttentionMaskInterface.register(ATTENTION, eager_mask)
    config._attn_implementation = ATTENTION
    attention = SelfExtend(extension, causal, turn)
    for module in network.modules():
        if hasattr(module, "is_causal"):
            module.self_extend = attention


def _attend(module: Untyped, *args: Tensor, **kwargs: Untyped) -> tuple[Tensor, None]:
    """The registered function: every network has its own parameters, on its modules."""
    attended: tuple[Tensor, None] = module.self_extend(module, *args, **kwargs)
    return attended


def _unsupported(extension: ContextExtension, problem: str) -> InvalidRecipe:
    return InvalidRecipe("context_extension.method", extension.method, problem)
