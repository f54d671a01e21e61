"""How does NV-Embed turn token states into pooled ones?

Lee et al. 2024: every token state attends to learned latent vectors, then passes a feed-forward layer, both with residuals;
the mean over the tokens comes after. With x the states and L the latents [n, h]:

    a = x + W_o attention(W_q norm(x), W_k norm'(L), W_v norm'(L))
    y = a + W_2 (u * gelu(g)) + b_2,   (u, g) = the halves of W_1 norm''(a) + b_1

The latents are the same for every text, so a state's new value depends on nothing but itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import gelu, layer_norm, linear, scaled_dot_product_attention

from embedder.checkpoint_heads.files import read_tensors
from embedder.errors import InvalidRecipe, ModelLoadFailed

CHUNK = 512  # states at a time: at NV-Embed's sizes one state needs 32,768 values in each of three arrays
# Our names, and NV-Embed's: from the module tree of modeling_nvembed.py.
_PREFIX = "latent_attention_model."
NAMES = {
    "latents": "latents",
    "norm": "cross_attend_blocks.0.norm.weight",
    "norm_bias": "cross_attend_blocks.0.norm.bias",
    "latent_norm": "cross_attend_blocks.0.norm_context.weight",
    "latent_norm_bias": "cross_attend_blocks.0.norm_context.bias",
    "to_q": "cross_attend_blocks.0.fn.to_q.weight",
    "to_kv": "cross_attend_blocks.0.fn.to_kv.weight",
    "to_out": "cross_attend_blocks.0.fn.to_out.weight",
    "inner_norm": "cross_attend_blocks.1.norm.weight",
    "inner_norm_bias": "cross_attend_blocks.1.norm.bias",
    "up": "cross_attend_blocks.1.fn.net.0.weight",
    "up_bias": "cross_attend_blocks.1.fn.net.0.bias",
    "down": "cross_attend_blocks.1.fn.net.2.weight",
    "down_bias": "cross_attend_blocks.1.fn.net.2.bias",
}
HEADS = 8  # what modeling_nvembed.py's configuration has when config.json is silent
EPS = 1e-5


@dataclass(frozen=True, slots=True, eq=False)
class LatentAttention:
    """The head, ready to run: ``keys`` and ``values`` [heads, n, d] are computed once from the latents."""

    tensors: dict[str, Tensor]
    keys: Tensor
    values: Tensor

    def __call__(self, states: Tensor) -> Tensor:
        """[t, h] to [t, h], in the dtype of the weights."""
        weights = self.tensors
        states = states.to(weights["to_q"].dtype)
        return torch.cat([self._chunk(part) for part in torch.split(states, CHUNK)])

    def _chunk(self, states: Tensor) -> Tensor:
        weights = self.tensors
        heads, _, width = self.keys.shape
        normed = _norm(states, weights["norm"], weights["norm_bias"])
        queries = linear(normed, weights["to_q"]).view(len(states), heads, width).transpose(0, 1)
        read = scaled_dot_product_attention(queries[None], self.keys[None], self.values[None])[0]
        states = states + linear(read.transpose(0, 1).reshape(len(states), heads * width), weights["to_out"])
        normed = _norm(states, weights["inner_norm"], weights["inner_norm_bias"])
        up, gate = linear(normed, weights["up"], weights["up_bias"]).chunk(2, dim=-1)
        return states + linear(up * gelu(gate), weights["down"], weights["down_bias"])


def build_latent_attention(tensors: dict[str, Tensor], heads: int) -> LatentAttention:
    """The head made of the tensors of ``NAMES``.

    Raises:
        InvalidRecipe: the width of the attention is not divisible by the number of heads.
    """
    width = tensors["to_q"].shape[0]
    if width % heads:
        raise InvalidRecipe("token_head", heads, f"NV-Embed's attention of width {width} has no {heads} equal heads")
    normed = _norm(tensors["latents"], tensors["latent_norm"], tensors["latent_norm_bias"])
    keys, values = linear(normed, tensors["to_kv"]).chunk(2, dim=-1)
    split = [part.view(len(normed), heads, width // heads).transpose(0, 1).contiguous() for part in (keys, values)]
    return LatentAttention(tensors, *split)


def load_latent_attention(folder: Path, heads: int, *, device: str, dtype: torch.dtype) -> LatentAttention:
    """Read the head from the checkpoint's safetensors.

    Raises:
        ModelLoadFailed: a tensor is missing.
        InvalidRecipe: the number of heads does not fit.
    """
    tensors: dict[str, Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        tensors |= read_tensors(path, {ours: _PREFIX + theirs for ours, theirs in NAMES.items()})
    if missing := [_PREFIX + NAMES[name] for name in NAMES if name not in tensors]:
        raise ModelLoadFailed(str(folder), f"its latent attention lacks {', '.join(missing[:3])}")
    moved = {name: tensor.to(device, dtype) for name, tensor in tensors.items()}
    return build_latent_attention(moved, heads)


def _norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return layer_norm(x, weight.shape, weight, bias, EPS)
