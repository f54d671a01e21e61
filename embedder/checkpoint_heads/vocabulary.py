"""Which word would the model say next, and how much is each of the text's own terms that word?

PromptReps (Zhuang et al. 2024) reads a sparse vector from the state that predicts the next token: ``log(1 + relu(logit))``,
for the terms of the text's content words only, the heaviest of them, as whole hundredths. Only those rows of the vocabulary
are multiplied, unless the text has no content word: then the heaviest ten of all terms stand for it.

SPLADE and Mistral-SPLADE, where every token is projected, are ``sparse_heads.vocabulary_weights``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from embedder.errors import InvalidRecipe
from embedder.sparse_heads import SparseActivation, activate
from embedder.values import SparseVector

WITHOUT_WORDS = 10  # terms of the whole vocabulary that stand for a text without content words


@dataclass(frozen=True, slots=True, eq=False)
class VocabularyLayer:
    """A language model's output layer: weight [v, h], bias [v] or None, and how it bends logits (0: not at all)."""

    weight: Tensor
    bias: Tensor | None
    softcap: float = 0.0


def vocabulary_layer(network: nn.Module) -> VocabularyLayer:
    """The output layer of a causal language model.

    Raises:
        InvalidRecipe: the network has none.
    """
    layer = network.get_output_embeddings()  # type: ignore[operator]
    if not isinstance(layer, nn.Linear):
        raise InvalidRecipe("sparse_head", type(network).__name__, "the checkpoint has no vocabulary layer")
    softcap = getattr(network.config, "final_logit_softcapping", None)
    return VocabularyLayer(layer.weight, layer.bias, float(softcap or 0.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class NextTokenOptions:
    """How many terms a vector has, and in which unit.

    Attributes:
        terms: the most terms of a text (128 in PromptReps); 0: all.
        scale: weights are rounded to whole ``1 / scale``, in that unit (100); 0: as they are.
        expansion: so many terms beside the text's own, among those that ``may_expand`` allows.
        activation: of the logits.
    """

    terms: int = 128
    scale: float = 100.0
    expansion: int = 0
    activation: SparseActivation = "log1p"


def next_token_vectors(
    states: Tensor,
    allowed: Sequence[NDArray[np.int64]],
    layer: VocabularyLayer,
    options: NextTokenOptions,
    expandable: NDArray[np.bool_] | None = None,
) -> list[SparseVector]:
    """The sparse vector of each state that predicts a next token.

    Args:
        states: [k, h], the last position of each prompt.
        allowed: for each the terms of its text's content words, distinct.
        layer: the model's output layer.
        options: see there.
        expandable: bool[v], which terms may be added; needed when ``options.expansion`` is not zero.
    """
    return [
        _next_token_vector(state, terms, layer, options, expandable)
        for state, terms in zip(states, allowed, strict=True)
    ]


def _next_token_vector(
    state: Tensor,
    terms: NDArray[np.int64],
    layer: VocabularyLayer,
    options: NextTokenOptions,
    expandable: NDArray[np.bool_] | None,
) -> SparseVector:
    if not len(terms):
        return _kept(*_heaviest(_weights(state, layer, None, options), WITHOUT_WORDS), options)
    ids = torch.from_numpy(terms).to(state.device)
    heaviest, weights = _heaviest(_weights(state, layer, ids, options), options.terms)
    chosen = ids[heaviest]
    if options.expansion:
        assert expandable is not None, "expansion needs to know which terms may be added"
        others = torch.from_numpy(expandable).to(state.device).index_fill(0, ids, False)
        added, more = _heaviest(_weights(state, layer, None, options) * others, options.expansion)
        chosen, weights = torch.cat((chosen, added)), torch.cat((weights, more))
    return _kept(chosen, weights, options)


def _weights(state: Tensor, layer: VocabularyLayer, ids: Tensor | None, options: NextTokenOptions) -> Tensor:
    """float32: the weights of the terms given, or of all."""
    rows = layer.weight if ids is None else layer.weight[ids]
    bias = layer.bias if ids is None or layer.bias is None else layer.bias[ids]
    return activate(nn.functional.linear(state, rows, bias).float(), options.activation, layer.softcap)


def _heaviest(weights: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Positions and values of the greatest weights; all of them when ``count`` is zero."""
    top = weights.topk(min(count or len(weights), len(weights)))
    return top.indices, top.values


def _kept(ids: Tensor, weights: Tensor, options: NextTokenOptions) -> SparseVector:
    """The vector of the terms that weigh anything, in the unit of ``options.scale``."""
    values = weights.float().cpu().numpy()
    if options.scale:
        values = np.rint(values * options.scale)
    terms = ids.cpu().numpy()
    order = np.argsort(terms)
    order = order[values[order] > 0]
    return SparseVector(terms[order].astype(np.uint32), values[order].astype(np.float32))
