"""How does a network run with the weights of its linear layers in 8 bits?

int8 on a CPU by oneDNN's operators in torch, on plain tensors; int8 and float8 on a GPU by torchao, which is optional. In both
a weight has one step for each output, and an activation one step for each token: a token's result does not depend on the tokens
beside it, so a text's vector is the same in any batch. (torch's own dynamic quantisation takes one step for the whole
batch.) docs/adr/0015 has what this costs and brings.

Embeddings, norms, heads, fused experts and the vocabulary layer stay as they are.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from embedder.dtypes import Dtype, Quantised, is_quantised
from embedder.errors import DeviceUnavailable, InvalidInput

Untyped: TypeAlias = Any  # transformers' models and torchao's configurations

WEIGHT_LEVELS = 127
# 7 bits: a CPU without VNNI adds two products of uint8 and int8 in 16 bits, which 8 bits of activation would overflow
# without a word. 6 bits and a sign on every CPU, so that the vectors do not depend on which one it is.
ACTIVATION_LEVELS = 63
ZERO = 64  # the code of an activation of 0
FLOAT8_CAPABILITY = (8, 9)  # of CUDA: Ada and Hopper

_TORCH_DTYPES: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


def computing_dtype(dtype: Dtype, device: str) -> torch.dtype:
    """What a network of this dtype computes in, and its weights are loaded as.

    Raises:
        DeviceUnavailable: the device has no arithmetic of this kind.
    """
    if dtype == "float8" and device == "cpu":
        raise DeviceUnavailable(device, "float8 weights need a GPU; a CPU has int8")
    if is_quantised(dtype):
        return torch.float32 if device == "cpu" else torch.bfloat16
    return _TORCH_DTYPES[dtype]


def quantise(network: nn.Module, dtype: Quantised, device: str) -> None:
    """Quantise the weights of a network's linear layers in place; nothing may be merged into them afterwards.

    Args:
        network: on its device, in ``computing_dtype``.
        dtype: of the weights.
        device: "cpu" or "cuda:0".

    Raises:
        DeviceUnavailable: the GPU has no arithmetic of this kind.
        InvalidInput: the dtype needs torchao, and it is not installed.
    """
    if device == "cpu":
        _replace_layers(network)
    else:
        _quantise_by_torchao(network, dtype, device)


class Int8Linear(nn.Module):
    """A linear layer with int8 weights, on a CPU: y = (codes of x / ‖x‖∞ times codes of W) * steps * ‖x‖∞ + b, token by token."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        """Quantise a layer's float weight [out, in]; the bias [out] stays as it is."""
        super().__init__()
        weight = weight.detach().float()
        self._steps = weight.abs().amax(1).clamp_min(torch.finfo(torch.float32).tiny) / WEIGHT_LEVELS
        codes = torch.round(weight / self._steps[:, None]).to(torch.int8)
        self.weight = torch.ops.onednn.qlinear_prepack(codes, None)  # T5 asks for its dtype
        self._zeros = torch.zeros(len(codes), dtype=torch.int32)
        self._bias = None if bias is None else bias.detach()
        self.out_features, self.in_features = weight.shape

    def forward(self, x: Tensor) -> Tensor:
        """float32[..., in] to float32[..., out]."""
        rows = x.reshape(-1, self.in_features)
        greatest = rows.abs().amax(1, keepdim=True).clamp_min_(torch.finfo(torch.float32).tiny)
        # The conversion to uint8 cuts: adding a half before it rounds.
        codes = rows.mul(ACTIVATION_LEVELS / greatest).add_(ZERO + 0.5).to(torch.uint8)
        result: Tensor = torch.ops.onednn.qlinear_pointwise(
            *(codes, 1 / ACTIVATION_LEVELS, ZERO),
            *(self.weight, self._steps, self._zeros),
            *(None, 1.0, 0, torch.float32, "none", [], ""),  # no bias, output scale and zero, no operation after it
        )
        result.mul_(greatest)
        if self._bias is not None:
            result.add_(self._bias)
        return result.view(*x.shape[:-1], self.out_features)


def _replace_layers(network: nn.Module) -> None:
    """Put an ``Int8Linear`` in the place of every linear layer; what is hooked to a layer moves along."""
    for parent in list(network.modules()):
        for name, layer in list(parent.named_children()):
            if type(layer) is nn.Linear:
                replacement = Int8Linear(layer.weight, layer.bias)
                for hook in layer._forward_hooks.values():
                    replacement.register_forward_hook(hook)
                setattr(parent, name, replacement)


def _quantise_by_torchao(network: nn.Module, dtype: Quantised, device: str) -> None:
    try:
        from torchao import quantization as torchao
    except ImportError as error:
        problem = f'on {device} it needs torchao; run `pip install "landmark-engine[quantised]"`'
        raise InvalidInput("dtype", dtype, problem) from error
    configuration: Untyped
    if dtype == "int8":
        configuration = torchao.Int8DynamicActivationInt8WeightConfig()
    else:
        if torch.cuda.get_device_capability(device) < FLOAT8_CAPABILITY:
            raise DeviceUnavailable(device, "float8 weights need a GPU of compute capability 8.9 or later; it has int8")
        configuration = torchao.Float8DynamicActivationFloat8WeightConfig(granularity=torchao.PerRow())
    torchao.quantize_(network, configuration)
