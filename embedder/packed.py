"""How does a BERT encoder run on a CPU without wasting work?

The same mathematics as transformers' ``BertModel`` on the same weights (a parity test compares them), arranged for small
batches of rows of different lengths: the tokens of all rows lie one after another, so no padding is computed; query, key
and value are one matrix product; residuals and biases are added by the product that follows them; and the large
intermediate arrays are kept from batch to batch, since fresh ones cost page faults that are as slow as the arithmetic.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import layer_norm, scaled_dot_product_attention

from embedder.quantisation import Int8Linear

Untyped: TypeAlias = Any  # transformers' modules


@dataclass(frozen=True, slots=True, eq=False)
class _Norm:
    weight: Tensor
    bias: Tensor
    eps: float

    def __call__(self, x: Tensor) -> Tensor:
        return layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)


class _Dense:
    """One of a layer's products, y = x W + b, from the parameters that transformers keeps."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self._weight, self._bias = weight.t(), bias
        self.width = len(bias)

    def into(self, out: Tensor, x: Tensor) -> Tensor:
        """The product of x [t, in], in ``out`` [t, width]."""
        return torch.addmm(self._bias, x, self._weight, out=out)

    def added(self, residual: Tensor, x: Tensor) -> Tensor:
        """``residual`` [t, width], to which the product is added in place."""
        return residual.add_(self._bias).addmm_(x, self._weight)


class _Int8Dense(_Dense):
    """The same with the weight in int8, which makes an array of its own."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self._layer = Int8Linear(weight, bias)
        self.width = len(bias)

    def into(self, out: Tensor, x: Tensor) -> Tensor:
        """The product of x [t, in]; ``out`` is not used."""
        result: Tensor = self._layer(x)
        return result

    def added(self, residual: Tensor, x: Tensor) -> Tensor:
        """``residual`` [t, width], to which the product is added in place."""
        return residual.add_(self._layer(x))


@dataclass(frozen=True, slots=True, eq=False)
class _Layer:
    """The products and norms of one layer; ``qkv`` is the three projections side by side."""

    qkv: _Dense
    out: _Dense
    attention_norm: _Norm
    up: _Dense
    down: _Dense
    output_norm: _Norm


class _Workspace(threading.local):
    """The intermediate arrays of one thread; they grow to the largest batch and stay."""

    def __init__(self) -> None:
        self._arrays: dict[str, Tensor] = {}

    def take(self, name: str, rows: int, columns: int, like: Tensor) -> Tensor:
        """An uninitialised [rows, columns] array that the next ``take`` of this name in this thread overwrites."""
        array = self._arrays.get(name)
        if array is None or array.shape[0] < rows or array.shape[1] != columns:
            array = torch.empty((rows, columns), dtype=like.dtype)
            self._arrays[name] = array
        return array[:rows]


class PackedBert:
    """A BERT encoder over packed rows. May be called from several threads at once."""

    def __init__(self, network: Untyped, *, int8: bool = False) -> None:
        """Take the parameters of a network in the form of transformers' ``BertModel``; ``int8``: its products in int8."""
        config = network.config
        self._heads = int(config.num_attention_heads)
        table = network.embeddings
        self._words = table.word_embeddings.weight
        # Every token has type 0, so its vector is added to the positions once.
        self._positions = table.position_embeddings.weight + table.token_type_embeddings.weight[0]
        eps = float(config.layer_norm_eps)
        self._embedding_norm = _norm(table.LayerNorm, eps)
        self._layers = [
            _layer(layer, eps, _Int8Dense if int8 else _Dense) for layer in network.encoder.layer.children()
        ]
        self._workspace = _Workspace()

    def __call__(self, inputs: Sequence[NDArray[np.int32]], pause: Callable[[], None]) -> Tensor:
        """The last hidden states [t, h] of all rows' tokens, one row after another in the order given.

        ``pause`` is called between half layers, where only ``states`` is alive: it may run another batch in this thread.
        """
        order = sorted(range(len(inputs)), key=lambda i: len(inputs[i]))
        lengths = [len(inputs[i]) for i in order]
        ids = torch.from_numpy(np.concatenate([inputs[i] for i in order]).astype(np.int64))
        positions = torch.from_numpy(np.concatenate([np.arange(length) for length in lengths]))
        states = self._words.index_select(0, ids).add_(self._positions.index_select(0, positions))
        states = self._embedding_norm(states)
        # Rows of one length lie together, and share one attention call.
        groups = [(length, len(list(rows))) for length, rows in groupby(lengths)]
        for layer in self._layers:
            pause()
            states = self._mix_tokens(layer, states, groups)
            pause()
            states = self._transform(layer, states)
        return _in_order(states, order, lengths)

    def _mix_tokens(self, layer: _Layer, states: Tensor, groups: list[tuple[int, int]]) -> Tensor:
        """The first half of a layer: attention."""
        n_tokens, width = states.shape
        qkv = layer.qkv.into(self._workspace.take("qkv", n_tokens, 3 * width, states), states)
        mixed = self._attend(qkv, groups, width)
        return layer.attention_norm(layer.out.added(states, mixed))

    def _transform(self, layer: _Layer, states: Tensor) -> Tensor:
        """The second half of a layer: the two products that treat each token alone."""
        inner = layer.up.into(self._workspace.take("inner", len(states), layer.up.width, states), states)
        torch.ops.aten.gelu_(inner)  # the in-place form has no other name
        return layer.output_norm(layer.down.added(states, inner))

    def _attend(self, qkv: Tensor, groups: list[tuple[int, int]], width: int) -> Tensor:
        """Attention within each row: [t, 3h] to [t, h]."""
        mixed = self._workspace.take("mixed", len(qkv), width, qkv)
        start = 0
        for length, n_rows in groups:
            end = start + length * n_rows
            parts = qkv[start:end].view(n_rows, length, 3, self._heads, width // self._heads)
            query, key, value = parts.permute(2, 0, 3, 1, 4)
            states = scaled_dot_product_attention(query, key, value)
            mixed[start:end].view(n_rows, length, self._heads, -1).copy_(states.transpose(1, 2))
            start = end
        return mixed


def pack_bert(network: Untyped, *, int8: bool = False) -> PackedBert | None:
    """The packed form of a BERT encoder; None for any other network, or a BERT with unusual settings."""
    return PackedBert(network, int8=int8) if is_packable(network.config) else None


def is_packable(config: Untyped) -> bool:
    """Whether the settings are those of a usual BERT encoder."""
    usual = {"is_decoder": False, "add_cross_attention": False}
    return (
        getattr(config, "model_type", None) == "bert"
        and getattr(config, "hidden_act", "gelu") == "gelu"
        and all(getattr(config, name, value) == value for name, value in usual.items())
        and getattr(config, "position_embedding_type", None) in (None, "absolute")
    )


def _norm(module: Untyped, eps: float) -> _Norm:
    return _Norm(module.weight, module.bias, eps)


def _layer(module: Untyped, eps: float, dense: type[_Dense]) -> _Layer:
    attention, mixed = module.attention.self, module.attention.output
    parts = (attention.query, attention.key, attention.value)
    return _Layer(
        qkv=dense(torch.cat([part.weight for part in parts]), torch.cat([part.bias for part in parts])),
        out=dense(mixed.dense.weight, mixed.dense.bias),
        attention_norm=_norm(mixed.LayerNorm, eps),
        up=dense(module.intermediate.dense.weight, module.intermediate.dense.bias),
        down=dense(module.output.dense.weight, module.output.dense.bias),
        output_norm=_norm(module.output.LayerNorm, eps),
    )


def _in_order(states: Tensor, order: list[int], lengths: list[int]) -> Tensor:
    """Undo the sorting of the rows."""
    if order == sorted(order):
        return states
    parts: list[Tensor] = [states] * len(order)
    for i, part in zip(order, torch.split(states, lengths), strict=True):
        parts[i] = part
    return torch.cat(parts)
