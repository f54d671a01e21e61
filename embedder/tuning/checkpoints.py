"""How does a training run survive a kill?

One safetensors file holds all that a run needs to continue, and is replaced atomically: the trained parameters
("weight."), AdamW's state of each ("exp_avg.", "exp_avg_sq.", "step."), and in its header a JSON text with the step, the
log so far, and what identifies the run. A run of other data, configuration or base refuses it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from embedder.errors import CheckpointMismatch

FILE = "checkpoint.safetensors"
MOMENTS = ("exp_avg", "exp_avg_sq", "step")  # AdamW's names


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands.

    Attributes:
        step: steps done, over all stages.
        identity: what the run is of, by name.
        reports: what it reported, step by step.
    """

    step: int
    identity: Mapping[str, str]
    reports: list[dict[str, Any]]


def save_checkpoint(
    folder: Path, parameters: Mapping[str, torch.nn.Parameter], optimizer: torch.optim.AdamW, progress: Progress
) -> None:
    """Write a checkpoint, replacing the earlier one at once; synced to the disk before it is named."""
    tensors: dict[str, Tensor] = {}
    for name, parameter in parameters.items():
        tensors[f"weight.{name}"] = parameter.detach()
        tensors |= {f"{key}.{name}": optimizer.state[parameter][key] for key in MOMENTS if parameter in optimizer.state}
    header = {
        "step": progress.step,
        "identity": dict(progress.identity),
        "reports": progress.reports,
    }
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f"{FILE}.draft"
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, draft, {"run": json.dumps(header)})
    with draft.open("rb") as file:
        os.fsync(file.fileno())
    draft.replace(folder / FILE)


def load_checkpoint(
    folder: Path, parameters: Mapping[str, torch.nn.Parameter], identity: Mapping[str, str]
) -> tuple[Progress, dict[str, Tensor]] | None:
    """Put a checkpoint's weights into the parameters; None when there is no checkpoint.

    Returns:
        Where the run stood, and AdamW's moments for ``restore_moments``.

    Raises:
        CheckpointMismatch: it is of another run, or damaged; nothing was changed.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads(file.metadata()["run"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is not a mapping)
        progress = Progress(header["step"], header["identity"], header["reports"])
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise CheckpointMismatch(str(path), f"it cannot be read ({error})") from error
    differing = sorted(name for name in identity if progress.identity.get(name) != identity[name])
    if differing:
        raise CheckpointMismatch(str(path), f"it was made with other {', '.join(differing)}")
    weights = {name.removeprefix("weight."): tensor for name, tensor in tensors.items() if name.startswith("weight.")}
    if {name: tensor.shape for name, tensor in weights.items()} != {name: p.shape for name, p in parameters.items()}:
        raise CheckpointMismatch(str(path), "it has other parameters")
    for name, parameter in parameters.items():
        parameter.data.copy_(weights[name])
    return progress, tensors


def restore_moments(
    optimizer: torch.optim.AdamW, parameters: Mapping[str, torch.nn.Parameter], tensors: Mapping[str, Tensor]
) -> None:
    """Put AdamW's state of a checkpoint back; parameters that had no gradient yet have none."""
    for name, parameter in parameters.items():
        if f"step.{name}" in tensors:
            state = {key: tensors[f"{key}.{name}"] for key in MOMENTS}
            optimizer.state[parameter] = {
                key: value if key == "step" else value.to(parameter.device) for key, value in state.items()
            }
