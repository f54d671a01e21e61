"""How does a LoRA adapter change the backbone?

An adapter (Hu et al. 2021) is a folder that peft wrote: for some layers two narrow matrices A [r, in] and B [out, r], which
stand for ``W + scale B A``. Two ways to use it:

    merge_adapter   add it to the weights, for good: LLM2Vec merges the one of its first training, then that of its second
    SideAdapters    add its share at run time, another adapter for queries than for documents: jina-embeddings-v3 has one
                    backbone and r = 4, so the addition costs next to nothing and no second set of weights is held

peft is not needed to run them. What an adapter of another kind has (DoRA, trained biases, saved modules) is refused.
"""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import embedding, linear

from embedder.checkpoint import read_json
from embedder.checkpoint_heads.paths import ADAPTER_CONFIG, ADAPTER_TENSORS
from embedder.errors import ModelLoadFailed

Side = Literal["query", "document"]
# "base_model.model.layers.0.q_proj.lora_A.weight"; an embedding's pair has no ".weight".
_PART = re.compile(r"^(?:base_model\.model\.)?(.+)\.lora_(?:embedding_)?([AB])(?:\.default)?(?:\.weight)?$")
_BASE = re.compile(r"^(?:base_model\.model\.)?(.+)\.base_layer\.weight$")
_REFUSED = ("use_dora", "modules_to_save", "alpha_pattern", "lora_bias", "layer_replication", "trainable_token_indices")


@dataclass(frozen=True, slots=True, eq=False)
class LowRank:
    """One layer's addition: ``B A`` with the scale in B. ``down`` is A [r, in], ``up`` is B [out, r], scaled."""

    down: Tensor
    up: Tensor

    def __call__(self, layer: nn.Module, inputs: Tensor) -> Tensor:
        """What the adapter adds to the layer's output for these inputs (token ids, for an embedding)."""
        if isinstance(layer, nn.Embedding):
            return linear(embedding(inputs, self.down.T), self.up)
        return linear(linear(inputs.to(self.down.dtype), self.down), self.up)


def read_adapter(folder: Path, network: nn.Module) -> dict[str, LowRank]:
    """The additions of an adapter by the names of the network's layers, in the layers' dtype and on their device.

    An adapter that was trained on a model with a head names its layers with more components in front; they are left out.

    Raises:
        ModelLoadFailed: it is no LoRA adapter, uses a variant that is not supported, or does not fit the network.
    """
    config = read_json(folder / ADAPTER_CONFIG)
    if config is None or config.get("peft_type") != "LORA":
        raise ModelLoadFailed(str(folder), f"{ADAPTER_CONFIG} describes no LoRA adapter")
    used = [name for name in _REFUSED if config.get(name)]
    if used or config.get("bias", "none") != "none":
        raise ModelLoadFailed(str(folder), f"its adapter uses {', '.join(used or ['bias'])}, which is not supported")
    try:
        tensors = load_file(folder / ADAPTER_TENSORS)
    except OSError as error:
        raise ModelLoadFailed(str(folder), f"{ADAPTER_TENSORS} cannot be read: {error}") from error
    layers = dict(network.named_modules())
    pairs: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if base := _BASE.match(name):
            _check_base(folder, layers, base.group(1), tensor)
            continue
        match = _PART.match(name)
        if match is None:
            raise ModelLoadFailed(str(folder), f"{ADAPTER_TENSORS} has {name}, which is no part of a LoRA adapter")
        pairs.setdefault(match.group(1), {})[match.group(2)] = tensor
    alpha, root = float(config["lora_alpha"]), bool(config.get("use_rslora"))
    return dict(_fit(folder, layers, name, pair, alpha, root) for name, pair in pairs.items())


def _fit(
    folder: Path, layers: dict[str, nn.Module], name: str, pair: dict[str, Tensor], alpha: float, root: bool
) -> tuple[str, LowRank]:
    """The network's name of a layer, and its addition."""
    found = _layer_name(layers, name)
    layer = layers.get(found)
    if not isinstance(layer, nn.Linear | nn.Embedding) or set(pair) != {"A", "B"}:
        raise ModelLoadFailed(str(folder), f"its adapter changes {name}, and the model has no such layer")
    down, up = pair["A"], pair["B"]
    wide = layer.weight.T if isinstance(layer, nn.Embedding) else layer.weight
    if (up.shape[0], down.shape[1]) != tuple(wide.shape):
        raise ModelLoadFailed(
            str(folder), f"its adapter's {name} is {up.shape[0]} by {down.shape[1]}, not as the layer"
        )
    assert isinstance(layer.weight, Tensor)
    rank = down.shape[0]
    scaled = up.float() * (alpha / (math.sqrt(rank) if root else rank))
    device, dtype = layer.weight.device, layer.weight.dtype
    return found, LowRank(down.to(device, dtype), scaled.to(device, dtype))


def _layer_name(layers: dict[str, nn.Module], name: str) -> str:
    """The longest end of a dotted name that the network has; "" when it has none."""
    parts = name.split(".")
    return next((".".join(parts[i:]) for i in range(len(parts)) if ".".join(parts[i:]) in layers), "")


def _check_base(folder: Path, layers: dict[str, nn.Module], name: str, saved: Tensor) -> None:
    """Accept an embedding table beside an adapter, where peft may write one, only when it is the network's own."""
    layer = layers.get(_layer_name(layers, name))
    own = getattr(layer, "weight", None)
    if own is None or own.shape != saved.shape or not torch.equal(own.cpu(), saved.to(own.dtype)):
        raise ModelLoadFailed(str(folder), f"its adapter was trained on other weights of {name}")


def merge_adapter(network: nn.Module, folder: Path) -> None:
    """Add an adapter to the network's weights; it costs nothing afterwards.

    Raises:
        ModelLoadFailed: as ``read_adapter``.
    """
    layers = dict(network.named_modules())
    for name, addition in read_adapter(folder, network).items():
        layer = layers[name]
        assert isinstance(layer.weight, Tensor)
        product = addition.up.float() @ addition.down.float()
        change = product.T if isinstance(layer, nn.Embedding) else product
        layer.weight.data = (layer.weight.data.float() + change).to(layer.weight.dtype)


class _Active(threading.local):
    """The side that the calling thread runs."""

    side: Side | None = None


class SideAdapters:
    """One adapter for each side, added while a batch of that side runs. Threads may run different sides at once."""

    def __init__(self, network: nn.Module, folders: dict[Side, Path]) -> None:
        """Put the adapters beside the network's layers.

        Raises:
            ModelLoadFailed: as ``read_adapter``.
        """
        self._active = _Active()
        layers = dict(network.named_modules())
        additions: dict[str, dict[Side, LowRank]] = {}
        for side, folder in folders.items():
            for name, addition in read_adapter(folder, network).items():
                additions.setdefault(name, {})[side] = addition
        for name, by_side in additions.items():
            self._attach(layers[name], by_side)

    @contextmanager
    def of(self, side: Side) -> Iterator[None]:
        """Run the network with this side's adapter, in this thread."""
        self._active.side = side
        try:
            yield
        finally:
            self._active.side = None

    def _attach(self, layer: nn.Module, by_side: dict[Side, LowRank]) -> None:
        active = self._active

        def add(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            addition = None if active.side is None else by_side.get(active.side)
            return output if addition is None else output + addition(layer, inputs[0])

        layer.register_forward_hook(add)


def merge_all(network: nn.Module, folders: list[Path]) -> None:
    """Merge adapters in order: each was trained on the sum of those before it."""
    with torch.no_grad():
        for folder in folders:
            merge_adapter(network, folder)
