"""How are the weights of a tuned model put into its base?"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from embedder.checkpoint_heads.context import CONTEXT
from embedder.errors import ModelLoadFailed
from embedder.heads import Projection
from embedder.hush import hushed
from embedder.sparse_heads import NeighbourHead, SparseHead, build_sparse_head
from embedder.tuned import ADAPTER, TENSORS, TunedModel

Untyped: TypeAlias = Any  # transformers' models

BACKBONE = "backbone."
SPARSE = "sparse."


@dataclass(frozen=True, slots=True)
class TunedHeads:
    """The heads of a tuned model, on the model's device; ``context``: the vectors of a contextual one, on the CPU."""

    projection: Projection | None
    sparse: SparseHead | None
    context: Tensor | None = None


def apply_tuned(network: Untyped, folder: Path, tuned: TunedModel, *, device: str, dtype: torch.dtype) -> TunedHeads:
    """Merge the adapter, replace the tuned parameters in place, and load the heads.

    Args:
        network: the base's body, without any head of its own.
        folder: of the tuned model.
        tuned: what its landmark.json says.
        device: where the heads go.
        dtype: of the heads, but on a CPU of none of kind ``neighbours``, which is float32; sums are float32 anyway.

    Raises:
        ModelLoadFailed: the tensors do not fit the base, or the adapter needs peft and it is not installed.
    """
    try:
        tensors = load_file(folder / TENSORS)
    except (OSError, SafetensorError) as error:
        raise ModelLoadFailed(str(folder), f"{TENSORS} cannot be read: {error}") from error
    if (folder / ADAPTER).is_dir():
        _merge_adapter(network, folder / ADAPTER)
    _replace_parameters(network, _under(tensors, BACKBONE), folder)
    projection = None
    if "dense.weight" in tensors:
        bias = tensors.get("dense.bias")
        moved = None if bias is None else bias.to(device, dtype)
        projection = Projection(tensors["dense.weight"].to(device, dtype), moved, "Identity")
    sparse = None
    if tuned.sparse_head is not None:
        sparse = build_sparse_head(dict(tuned.sparse_head), torch.empty(0, dtype=torch.long))
        weights = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
        _load(sparse, _under(weights, SPARSE), folder)
        exact = device == "cpu" and isinstance(sparse, NeighbourHead)  # its products are fast in float32 there
        sparse = sparse.to(device, torch.float32 if exact else dtype).eval().requires_grad_(False)
    return TunedHeads(projection, sparse, tensors.get(CONTEXT))


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _replace_parameters(network: Untyped, tensors: dict[str, Tensor], folder: Path) -> None:
    parameters: dict[str, Tensor] = dict(network.named_parameters())
    for name, tensor in tensors.items():
        if name not in parameters or parameters[name].shape != tensor.shape:
            raise ModelLoadFailed(str(folder), f"the base has no parameter {name} of shape {tuple(tensor.shape)}")
        parameters[name].data.copy_(tensor)


def _load(head: SparseHead, tensors: dict[str, Tensor], folder: Path) -> None:
    try:
        head.load_state_dict(tensors)
    except RuntimeError as error:
        raise ModelLoadFailed(str(folder), f"the sparse head does not fit its description: {error}") from error


def _merge_adapter(network: Untyped, folder: Path) -> None:
    """Add a LoRA adapter to the weights that it belongs to (W + B A scale), so that it costs nothing afterwards."""
    try:
        with hushed():
            from peft import PeftModel
    except ImportError as error:
        raise ModelLoadFailed(
            str(folder), 'it has a LoRA adapter, and peft is not installed; run `pip install "landmark-engine[tune]"`'
        ) from error
    with warnings.catch_warnings():
        # peft 0.21 reads an attribute that transformers 5.23 renamed.
        warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)
        merged: Untyped = PeftModel.from_pretrained(network, str(folder))
    merged.merge_and_unload()
