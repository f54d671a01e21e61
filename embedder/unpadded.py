"""How do texts of different lengths run through a network of transformers without padding?

All rows of a batch lie in one row of the network, one after another, with positions that begin again at each text. Only
the attention must know where a text begins, and it is replaced by one that keeps the texts apart, causal or not. On a GPU
in half precision torch's variable-length kernel does it in one call; elsewhere texts of the same length share a call.

A network is used so only if it then gives a probe the states that it gave with padding: transformers passes our settings
through many hands, and what it does with them changes between versions and architectures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cosine_similarity, scaled_dot_product_attention

Untyped: TypeAlias = Any  # transformers' modules

ATTENTION = "landmark_unpadded"
# Their attention has no cap, bias or sink of its own.
MODEL_TYPES = ("bert", "llama", "mistral", "phi3", "qwen2", "qwen3", "roberta", "xlm-roberta")
_NUMBERED_AFTER_PADDING = ("roberta", "xlm-roberta")  # the first position is pad_token_id + 1
_PROBES = ([4, 5, 6], [4, 5, 6, 7, 8, 9, 10], [6, 5, 4], [5])
_AGREEMENT = 0.99  # least cosine of a probe's states; half precision alone costs less than 0.001


@dataclass(frozen=True, slots=True, eq=False)
class Texts:
    """Where the texts lie in the one row: ``lengths`` in tokens, ``starts`` int32[n + 1] on the device."""

    lengths: tuple[int, ...]
    starts: Tensor
    causal: bool


def unpadded(network: Untyped, inputs: Sequence[NDArray[np.int32]], *, device: str, causal: bool) -> dict[str, Any]:
    """The arguments with which an unpadded network runs the inputs: ids and positions int64[1, t]."""
    lengths = tuple(len(ids) for ids in inputs)
    first = int(network.config.pad_token_id) + 1 if network.config.model_type in _NUMBERED_AFTER_PADDING else 0
    ids = np.concatenate(inputs).astype(np.int64)
    positions = np.concatenate([np.arange(first, first + length) for length in lengths])
    starts = np.cumsum([0, *lengths], dtype=np.int32)
    return {
        "input_ids": _moved(ids, device)[None],
        "position_ids": _moved(positions, device)[None],
        "texts": Texts(lengths, _moved(starts, device), causal),
        "use_cache": False,
    }


def _moved(array: NDArray[Any], device: str) -> Tensor:
    """An array on the device; the copy to a GPU does not wait for the work before it."""
    tensor = torch.from_numpy(array)
    return tensor if device == "cpu" else tensor.pin_memory().to(device, non_blocking=True)


def unpad(network: Untyped, states: Callable[[list[NDArray[np.int32]]], Tensor], *, device: str, causal: bool) -> bool:
    """Let a network run without padding from now on, if it can.

    Args:
        network: its attention is replaced.
        states: gives the flat states [t, h] of inputs, with padding.
        device: where the network is.
        causal: whether a token sees only what precedes it.

    Returns:
        Whether the network now takes the arguments of ``unpadded``, and no others.
    """
    config = network.config
    window = getattr(config, "sliding_window", None)
    if config.model_type not in MODEL_TYPES or (window is not None and not causal):
        return False
    from transformers import AttentionInterface

    probes = [np.asarray(ids, np.int32) for ids in _PROBES]
    expected = states(probes)
    earlier = config._attn_implementation
    AttentionInterface.register(ATTENTION, _attend)
    try:
        network.set_attn_implementation(ATTENTION)
        with torch.inference_mode():
            found = network(**unpadded(network, probes, device=device, causal=causal)).last_hidden_state[0]
        agrees = bool((cosine_similarity(found.float(), expected.float(), dim=1) > _AGREEMENT).all())
    except (RuntimeError, TypeError, ValueError, AttributeError, ImportError):
        agrees = False
    if not agrees:
        network.set_attn_implementation(earlier)
    return agrees


def _attend(
    _module: Untyped,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    texts: Texts,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **_: object,
) -> tuple[Tensor, None]:
    """Attention of each text on itself, as transformers calls it: [1, heads, t, d] each to [1, t, heads, d]."""
    if attention_mask is not None:
        raise ValueError("an unpadded batch has no mask")
    causal = texts.causal
    window = sliding_window if sliding_window is not None and sliding_window < max(texts.lengths) else None
    if query.is_cuda and query.dtype in (torch.float16, torch.bfloat16):
        from torch.nn.attention.varlen import varlen_attn

        longest = max(texts.lengths)
        q, k, v = (part[0].transpose(0, 1).contiguous() for part in (query, key, value))
        left = -1 if window is None else window - 1
        mixed = varlen_attn(
            q,
            k,
            v,
            texts.starts,
            texts.starts,
            longest,
            longest,
            scale=scaling,
            window_size=(left, 0 if causal else -1),
            enable_gqa=key.shape[1] != query.shape[1],
        )
        assert isinstance(mixed, Tensor)
        return mixed[None], None
    mixed = torch.empty_like(query.transpose(1, 2))
    start = 0
    for length, group in groupby(texts.lengths):
        n = len(list(group))
        end = start + n * length
        q, k, v = (
            part[0, :, start:end].view(-1, n, length, part.shape[-1]).transpose(0, 1) for part in (query, key, value)
        )
        mask = None if window is None or length <= window else _band(length, window, query.device)
        states = scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=mask,
            is_causal=causal and mask is None,
            scale=scaling,
            enable_gqa=key.shape[1] != query.shape[1],
        )
        mixed[0, start:end] = states.transpose(1, 2).reshape(n * length, *mixed.shape[2:])
        start = end
    return mixed, None


def _band(length: int, window: int, device: torch.device) -> Tensor:
    """bool[length, length]: a token sees itself and the ``window - 1`` tokens before it."""
    ones = torch.ones(length, length, dtype=torch.bool, device=device)
    return ones.tril().triu(1 - window)
