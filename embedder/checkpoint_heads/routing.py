"""What does a mixture-of-experts model say of a text by the experts it chooses?

MoEE (Li and Zhou 2024) reads two vectors from an untuned model: the hidden state of the last token, and the routing weights,
the softmax of every layer's router logits at that token, one layer after another. Similarity is the weighted sum of the two
cosines, ``cos(state) + alpha cos(routing)``. It is the cosine of one vector, up to the factor 1 + alpha:

    [unit(state) ; sqrt(alpha) unit(routing)] / sqrt(1 + alpha)

The authors' code standardises every dimension over the batch, which makes a vector depend on its neighbours. Here the means
and deviations are constants, measured once on a sample and stored beside the checkpoint (``embedder.standards``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import normalize

from embedder.checkpoint_heads.files import read_tensors
from embedder.errors import ModelLoadFailed

_NAMES = {name: name for name in ("state.mean", "state.deviation", "routing.mean", "routing.deviation")}


@dataclass(frozen=True, slots=True, eq=False)
class Standards:
    """Means and deviations float32[1, h] of the states, and float32[1, e] of the routing weights."""

    state: tuple[Tensor, Tensor]
    routing: tuple[Tensor, Tensor]


def routing_weights(router_logits: Sequence[Tensor], positions: Tensor) -> Tensor:
    """float32[k, layers * experts]: at each position, every layer's softmax over its experts.

    Args:
        router_logits: a layer's raw logits [t, experts], over the real tokens.
        positions: int64[k].
    """
    return torch.cat([torch.softmax(logits[positions].float(), dim=-1) for logits in router_logits], dim=1)


def combine(states: Tensor, routing: Tensor, alpha: float, standards: Standards | None = None) -> Tensor:
    """One unit vector of both, so that a cosine is ``(cos(state) + alpha cos(routing)) / (1 + alpha)``.

    Args:
        states: float32[k, h].
        routing: float32[k, e], from ``routing_weights``.
        alpha: the weight of the routing, greater than 0.
        standards: the constants to standardise with; None: vectors as they are.

    Returns:
        float32[k, h + e].
    """
    if standards is not None:
        states, routing = _standardised(states, *standards.state), _standardised(routing, *standards.routing)
    parts = (normalize(states, dim=1), alpha**0.5 * normalize(routing, dim=1))
    return torch.cat(parts, dim=1) / (1 + alpha) ** 0.5


def measure_standards(states: Tensor, routing: Tensor) -> Standards:
    """The constants of a sample of at least two texts; a dimension that never changes gets the deviation 1."""
    return Standards(_moments(states), _moments(routing))


def write_standards(path: Path, standards: Standards) -> None:
    """Store constants as a safetensors file, for a recipe to name."""
    values = (*standards.state, *standards.routing)
    save_file({name: value.contiguous() for name, value in zip(_NAMES, values, strict=True)}, path)


def read_standards(path: Path, device: str) -> Standards:
    """Read constants that ``write_standards`` stored.

    Raises:
        ModelLoadFailed: the file is missing, damaged, or holds something else.
    """
    tensors = {name: tensor.to(device) for name, tensor in read_tensors(path, _NAMES).items()}
    if missing := [name for name in _NAMES if name not in tensors]:
        raise ModelLoadFailed(str(path.parent), f"{path.name} lacks {', '.join(missing)}")
    mean, deviation, routing_mean, routing_deviation = (tensors[name] for name in _NAMES)
    return Standards((mean, deviation), (routing_mean, routing_deviation))


def _moments(values: Tensor) -> tuple[Tensor, Tensor]:
    deviation = values.float().std(dim=0, keepdim=True, correction=0)
    return values.float().mean(dim=0, keepdim=True), torch.where(deviation > 1e-12, deviation, 1.0)


def _standardised(values: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    return (values - mean) / deviation
