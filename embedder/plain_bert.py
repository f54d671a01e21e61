"""How is a BERT checkpoint read without transformers?

``PackedBert`` needs a BERT's tensors and three of its settings, and a query in a new process should not wait for the seconds
that the import of transformers takes. What is unusual in any way is left to transformers (None is returned).
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from embedder.checkpoint import Checkpoint
from embedder.packed import is_packable

SETTINGS = {
    "hidden_size",
    "layer_norm_eps",
    "num_attention_heads",
    "num_hidden_layers",
}  # defaults are transformers' matter
_PREFIX = "bert."  # of checkpoints that were saved with a head


class BertWeights(nn.Module):
    """The parameters of a BERT under the names that transformers gives them. It computes nothing.

    Attributes:
        config: the settings of config.json.
    """

    def __init__(self, config: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        super().__init__()
        self.config = SimpleNamespace(**config)
        for name, tensor in tensors.items():
            *path, leaf = name.split(".")
            parent: nn.Module = self
            for part in path:
                if part not in parent._modules:
                    parent.add_module(part, nn.Module())
                parent = parent.get_submodule(part)
            parent.register_parameter(leaf, nn.Parameter(tensor, requires_grad=False))

    @property
    def base_model(self) -> BertWeights:
        """Itself: it has no head."""
        return self

    def get_input_embeddings(self) -> nn.Module:
        """The table of word embeddings."""
        return self.get_submodule("embeddings.word_embeddings")


def read_bert(checkpoint: Checkpoint, dtype: torch.dtype) -> BertWeights | None:
    """The weights of a BERT that ``PackedBert`` can run, in a dtype; None: transformers has to read this checkpoint."""
    config = checkpoint.config
    if not config.keys() >= SETTINGS or not is_packable(SimpleNamespace(**config)):
        return None
    try:
        tensors = load_file(checkpoint.folder / "model.safetensors")
    except (OSError, SafetensorError):
        return None
    tensors = {
        name.removeprefix(_PREFIX): tensor.to(dtype) for name, tensor in tensors.items() if tensor.is_floating_point()
    }
    wanted = _names(int(config["num_hidden_layers"]))
    if not wanted <= tensors.keys():
        return None
    return BertWeights(config, {name: tensors[name] for name in sorted(wanted)})


def _names(n_layers: int) -> set[str]:
    """The parameters of an encoder of so many layers."""
    tables = [f"embeddings.{kind}_embeddings.weight" for kind in ("word", "position", "token_type")]
    dense = ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense")
    parts = [*dense, "attention.output.LayerNorm", "intermediate.dense", "output.dense", "output.LayerNorm"]
    modules = ["embeddings.LayerNorm", *(f"encoder.layer.{n}.{part}" for n in range(n_layers) for part in parts)]
    return {*tables, *(f"{module}.{kind}" for module in modules for kind in ("weight", "bias"))}
