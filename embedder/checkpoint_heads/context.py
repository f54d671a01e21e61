"""How is a text read in the context of its collection?

Contextual document embeddings (CDE, Morris and Rush 2024) have two networks. The first gives each of some documents of the
collection a vector; the second reads those vectors, eight learned ones, and then the text, and the mean of the text's states
goes through two dense layers:

    [context vectors][learned prompt][token embeddings] -> network -> mean over the text -> W2 relu(W1 x + b1) + b2

Queries and documents must be read with the same context vectors. They are drawn once (``contextual.contextualise``) and are
weights of the model from then on, so another context is another model with another fingerprint.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from embedder.checkpoint_heads.files import Linear, read_tensors
from embedder.errors import ModelLoadFailed
from embedder.heads import Projection, pool_spans

Untyped: TypeAlias = Any  # transformers' models

CONTEXT = "context.vectors"  # in a tuned model's tensors
# Of the checkpoints: the module tree of cde's model.py. Each head is two layers, a Sequential's 0 and 2.
FIRST_BACKBONE = "first_stage_model.embedder."
FIRST_HEAD = "first_stage_model.mlp"
PROMPT_HEAD = "second_stage_model.prompt_projection"
OUTPUT_HEAD = "second_stage_model.output_projection"
PROMPT_TOKENS = 8


@dataclass(frozen=True, slots=True, eq=False)
class ContextualNetwork:
    """The second network, called as if it read the text alone.

    Attributes:
        network: a native encoder.
        context: [n, h], the context vectors and after them the learned prompt.
        n_unplaced: how many inputs come before position 1: the context vectors in NomicBERT, which are not rotated, so
            that the prompt and the text count from 0; 0 in ModernBERT, where all inputs count.
    """

    network: Untyped
    context: Tensor
    n_unplaced: int

    @property
    def config(self) -> Untyped:
        """The network's settings."""
        return self.network.config

    def get_input_embeddings(self) -> nn.Module:
        """The table of token embeddings."""
        table: nn.Module = self.network.get_input_embeddings()
        return table

    def __call__(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, *, output_hidden_states: bool = False
    ) -> SimpleNamespace:
        """Read texts [b, t]; ``last_hidden_state`` [b, t, h], and all hidden states if asked for, are the text's only."""
        rows, length = input_ids.shape
        text = _embedded(self.network, input_ids)
        before = self.context[None].expand(rows, -1, -1)
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        seen = torch.cat((mask.new_ones(rows, len(self.context)), mask), dim=1)
        places = torch.arange(len(self.context) + length, device=input_ids.device) - self.n_unplaced
        output = self.network(
            inputs_embeds=torch.cat((before, text), dim=1),
            attention_mask=seen,
            position_ids=places.clamp(min=0)[None],
            output_hidden_states=output_hidden_states,
        )
        after = len(self.context)
        deep = tuple(states[:, after:] for states in output.hidden_states) if output_hidden_states else None
        return SimpleNamespace(last_hidden_state=output.last_hidden_state[:, after:], hidden_states=deep)


def with_context(network: Untyped, folder: Path, vectors: Tensor) -> tuple[ContextualNetwork, list[Projection]]:
    """The second network with the context vectors float[n, h] before every text, and the layers after the pooling.

    Raises:
        ModelLoadFailed: the checkpoint lacks a head, or the vectors are not of its width.
    """
    table = network.get_input_embeddings().weight
    prompt = _layers(folder, PROMPT_HEAD, table)
    output = _layers(folder, OUTPUT_HEAD, table)
    width = table.shape[1]
    if vectors.shape[1:] != (width,):
        raise ModelLoadFailed(str(folder), f"its context vectors are of shape {tuple(vectors.shape)}, not [n, {width}]")
    learned = prompt[1](torch.relu(prompt[0](table.new_ones(1, width)))).view(PROMPT_TOKENS, width)
    before = torch.cat((vectors.to(table.device, table.dtype), learned))
    rotary_after_context = network.config.model_type == "nomic_bert"
    types = getattr(network.embeddings, "token_type_embeddings", None)
    if types is not None:
        before = before - types.weight[0]  # transformers adds it to all inputs, the reference to tokens only
    contextual = ContextualNetwork(network, before, len(vectors) if rotary_after_context else 0)
    steps = [
        Projection(layer.weight, layer.bias, name) for layer, name in zip(output, ("ReLU", "Identity"), strict=True)
    ]
    return contextual, steps


def first_stage(network: Untyped, folder: Path, rows: Sequence[NDArray[np.int32]]) -> Tensor:
    """The context vectors float32[n, h] of documents given by their ids, by the first network.

    Raises:
        ModelLoadFailed: the checkpoint lacks the first network's head.
    """
    inner, outer = _layers(folder, FIRST_HEAD, network.get_input_embeddings().weight)
    pooled = []
    with torch.inference_mode():
        for ids in rows:  # a few hundred documents, once
            row = torch.from_numpy(ids.astype(np.int64))[None].to(inner.weight.device)
            states = network(input_ids=row).last_hidden_state[0]
            pooled.append(pool_spans(states, np.array([[0, len(ids)]], np.int64)))
        hidden = nn.functional.gelu(inner(torch.cat(pooled)))
        return outer(hidden).float().cpu()


def draw(n_documents: int, count: int, seed: int) -> list[int]:
    """Which of the collection's documents make the context: ``count`` numbers, each once if there are enough."""
    generator = np.random.default_rng(seed)
    chosen: list[int] = generator.choice(n_documents, size=count, replace=n_documents < count).tolist()
    return chosen


def _embedded(network: Untyped, ids: Tensor) -> Tensor:
    """What the reference puts after the context: ModernBERT's normalised embeddings, NomicBERT's words alone.

    transformers normalises all of them once more; the reference does too.
    """
    if network.config.model_type == "nomic_bert":
        words: Tensor = network.get_input_embeddings()(ids)
        return words
    embedded: Tensor = network.embeddings(input_ids=ids)
    return embedded


def _layers(folder: Path, name: str, like: Tensor) -> list[Linear]:
    """The two layers of a head, in the dtype and on the device of ``like``."""
    names = {f"{part}.{kind}": f"{name}.{part}.{kind}" for part in ("0", "2") for kind in ("weight", "bias")}
    tensors: dict[str, Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        tensors |= read_tensors(path, names)
    if missing := [names[part] for part in names if part not in tensors]:
        raise ModelLoadFailed(str(folder), f"it lacks {', '.join(missing)}")
    moved = {part: tensor.to(like.device, like.dtype) for part, tensor in tensors.items()}
    return [Linear(moved[f"{part}.weight"], moved[f"{part}.bias"]) for part in ("0", "2")]
