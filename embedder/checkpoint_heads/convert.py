"""How do pickled weights become safetensors?

For checkpoints that publish a head (or all weights) only as a pickle, such as BGE-M3. torch unpickles with
``weights_only=True``: tensors and containers are rebuilt, no other code runs. A person asks for this
(`engine models convert`); the embedder never does.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from embedder.errors import ModelLoadFailed

_RENAMED = {"pytorch_model.bin": "model.safetensors"}


def convert(folder: Path) -> list[Path]:
    """Write a safetensors file beside each pickled state dict (``*.pt``, ``*.bin``) that has none yet.

    Returns:
        The files written, in the order of their names.

    Raises:
        ModelLoadFailed: a pickle holds something else than tensors by name.
    """
    written = []
    for path in sorted([*folder.glob("*.pt"), *folder.glob("*.bin")]):
        target = folder / _RENAMED.get(path.name, path.with_suffix(".safetensors").name)
        if target.exists():
            continue
        save_file(_read(path), target, metadata={"format": "pt"})
        written.append(target)
    return written


def _read(path: Path) -> dict[str, Tensor]:
    try:
        value = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle raises what it likes
        raise ModelLoadFailed(str(path.parent), f"{path.name} holds more than weights, and is not opened") from error
    if not isinstance(value, dict) or not all(isinstance(tensor, Tensor) for tensor in value.values()):
        raise ModelLoadFailed(str(path.parent), f"{path.name} is no state dict")
    # safetensors refuses tensors that share memory, and pickles of tied weights do.
    return {str(name): tensor.clone().contiguous() for name, tensor in value.items()}
